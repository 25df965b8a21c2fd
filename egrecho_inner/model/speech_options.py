"""The options of a speech LLM, apart from the code that uses them: a command line is read without torch or Lhotse."""

from dataclasses import dataclass, field
from typing import Literal

from egrecho_inner.config_types import NonNegativeFloat, Options, PositiveFloat, PositiveInt, ShareBelowOne
from egrecho_inner.model.options import Attention

ProjectorKind = Literal["linear", "cov1d", "q-former", "mlp", "swiglu"]
Dtype = Literal["auto", "float32", "bfloat16", "float16"]


@dataclass(frozen=True)
class ProjectorOptions(Options, group="projector"):
    """What joins the encoder to the language model."""

    kind: ProjectorKind = "linear"
    """linear and cov1d: SLAM-ASR's; q-former: a fixed number of vectors; mlp: Icefall's; swiglu: Ultravox's."""
    stride: PositiveInt = 5
    """Encoder frames to a vector; Icefall's mlp and Ultravox's swiglu have 8."""
    hidden: PositiveInt = 2048
    """Width of the hidden layer; of swiglu behind its gate."""
    norm: bool = False
    """Bring the vectors to the size of the language model's own embeddings with a norm at the end."""
    layers: PositiveInt = 8
    """Of the q-former."""
    queries: PositiveInt = 64
    """Vectors that the q-former makes of a window of up to 30 s."""


@dataclass(frozen=True)
class SpeechModelOptions(Options, group="model"):
    """Which encoder and which language model."""

    llm: str
    """Folder or hub id of any causal language model of Transformers, with its tokenizer."""
    encoder: str | None = None
    """Folder or hub id of a Whisper, WavLM, HuBERT or wav2vec 2.0; null trains the language model on text alone."""
    start: str | None = None
    """Folder of a trained speech LLM (exp/NAME/final), or SLAM-LLM's model.pt: its trained parts are what training
    begins with."""
    normalize: bool | None = None
    """Whether waves are brought to mean 0 and variance 1; null reads it from the encoder's preprocessor_config.json,
    and a value that contradicts it is refused."""
    attention: Attention = "sdpa"
    """Kernel of the language model's attention."""
    frozen_dtype: Dtype = "auto"
    """Type of the weights that are not trained; auto is bfloat16 on a GPU, float32 elsewhere. Trained ones are
    float32."""
    random_llm: bool = False
    """Random weights for the language model: of its folder only config and tokenizer are used."""
    dropout: ShareBelowOne = 0.0
    """Of the language model's attention, where it has one."""


@dataclass(frozen=True)
class SpeechLossOptions(Options, group="loss"):
    """What is learned beside the next token of the text."""

    kl_weight: NonNegativeFloat = 0.0
    """Weight of the divergence from the same language model given the transcript in the audio's place (Ultravox)."""
    temperature: PositiveFloat = 2.0
    """Both distributions are flattened by it before they are compared."""
    ctc_weight: NonNegativeFloat = 0.0
    """Weight of a CTC loss that reads the projector's vectors by the language model's own embeddings: it learns where
    words are before the language model can show it."""


@dataclass(frozen=True)
class LlmLoraOptions(Options, group="lora"):
    """The adapter of the language model."""

    r: PositiveInt = 8
    """Rank."""
    alpha: PositiveInt = 32
    """The adapter's output is scaled by alpha / r."""
    dropout: ShareBelowOne = 0.05
    """On the adapter's input."""
    target_modules: list[str] = field(default_factory=lambda: ["q_proj", "v_proj"])
    """Linear layers that are adapted, by the last part of their name; all seven of Llama's and Qwen's for stronger
    ones."""
