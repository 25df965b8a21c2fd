"""The speech LLM, for fit(): audio and a prompt in, text out; what is frozen is neither copied nor saved.

Also the language model alone, trained on cuts without audio.
"""

import hashlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from egrecho_inner.data.audio.features import SAMPLING_RATE
from egrecho_inner.data.batches.cut_list import CutList
from egrecho_inner.data.batches.speech_prompts import NoAudio, Noise, SpeechTextBatches, SpeechWindows
from egrecho_inner.data.batches.tensors import LoadedBatch
from egrecho_inner.decoding.options import DecodeOptions
from egrecho_inner.decoding.speech_text import SpeechTranscriber
from egrecho_inner.errors import ConfigError
from egrecho_inner.model.audio_encoder import AudioEncoder, AudioShape, empty_encoder
from egrecho_inner.model.speech_llm import SpeechLlm
from egrecho_inner.model.speech_loading import (
    DTYPES,
    SpeechConfig,
    digests_of,
    is_new,
    save_speech_llm,
    trained_weights,
)
from egrecho_inner.results.utterance import Hypothesis
from egrecho_inner.text.prompts import PromptEncoder
from egrecho_inner.training.checkpoints.resume import add_weights
from egrecho_inner.training.options import TrainOptions

CONTEXT = 2048
"""Of a language model whose config names none."""
MOST_TEXT = 512
"""Tokens of prompt and text at most; the rest of the context is the audio's."""


class SlamFamily:
    """A speech LLM as fit() trains it; `training/family.py` has what each member is for.

    Args:
        model: Encoder, projector and language model.
        tokenizer: Of the language model.
        config: What the model is made of.
        noise: Which cuts are replaced by noise in training.
    """

    name = "Speech LLM"
    ties: frozenset[str] = frozenset()
    extras: tuple[str, ...] = ()

    def __init__(
        self, model: SpeechLlm, tokenizer: PreTrainedTokenizerBase, config: SpeechConfig, noise: Noise = Noise()
    ):
        context = int(getattr(model.config, "max_position_embeddings", None) or CONTEXT)
        self.config = config
        self.labels = PromptEncoder(tokenizer, config.prompt, min(MOST_TEXT, context // 2))
        self.inputs = self.clean = NoAudio()
        if model.encoder is not None:
            seconds = longest(model.shape, context - self.labels.max_tokens)
            self.inputs = SpeechWindows(model.shape, seconds, noise)
            self.clean = SpeechWindows(model.shape, seconds)

    def prepare(self, model: SpeechLlm, train: TrainOptions) -> None:
        """Give what is not trained its type.

        Raises:
            ConfigError: An option is Whisper's alone.
        """
        if train.ctc_weight or train.chunked_loss:
            raise ConfigError("train.ctc_weight and train.chunked_loss are Whisper's; a speech LLM has loss.ctc_weight")
        dtype = frozen_dtype(self.config.model.frozen_dtype)
        if model.encoder is not None and "encoder" in train.freeze:
            model.encoder.to(dtype)
        if "llm" in train.freeze or self.config.lora is not None:
            for name, weight in model.llm.named_parameters():
                if not is_new(f"llm.{name}"):
                    weight.requires_grad_(False)
                    weight.data = weight.data.to(dtype)

    def parts(self, model: nn.Module) -> dict[str, list[nn.Module]]:
        """Name encoder, projector, language model and its adapter."""
        llm: list[nn.Module] = [model.llm]
        adapter = [module for name, module in model.llm.named_modules() if name.split(".")[-1].startswith("lora_")]
        if adapter:  # the language model's own layers, for what is frozen with the whole would be frozen in the adapter
            named = model.llm.named_modules()
            llm = [module for name, module in named if not is_new(f"llm.{name}.") and module._parameters]
        found = {"encoder": [model.encoder], "projector": [model.projector], "llm": llm, "lora": adapter}
        return {name: modules for name, modules in found.items() if modules and modules[0] is not None}

    def encoder(self, model: nn.Module) -> nn.Module | None:
        """Return the encoder, where every cut is one window of it."""
        return model.encoder

    def cost(self, model: nn.Module) -> Callable[[LoadedBatch], float]:
        """Count two operations a weight and position, and as many again or twice backward."""
        sizes = {name: weigh(part) for name, part in model.named_children()}
        last = "llm" if sizes["llm"][1] else "projector"

        def count(batch: LoadedBatch) -> float:
            seconds = batch.padded_seconds
            positions = {"encoder": 50 * seconds, "projector": 10 * seconds}
            positions["llm"] = batch.rows * batch.tokens + positions["projector"]
            total = 0.0
            for name, (size, trained) in sizes.items():
                through = name == "llm" or (name == "projector" and last == "llm")
                passes = 3 if trained == size else 2 if trained or through else 1
                total += 2 * size * positions[name] * passes
            return total

        return count

    def scored(self, cuts: CutList) -> SpeechTextBatches:
        """Make inputs and targets with the first prompt and without noise."""
        return SpeechTextBatches(cuts, self.labels, self.clean)

    def loss_sum(self, model: nn.Module, inputs: dict[str, Any]) -> Tensor:
        """Return the cross-entropy summed over the targets."""
        return model(**inputs).loss

    def recognize(
        self, model: nn.Module, cuts: CutList, positions: Iterable[int], batch_seconds: float | None = None
    ) -> Iterable[Hypothesis] | None:
        """Decode as `egrecho eval` does; a language model alone has nothing to decode from."""
        if isinstance(self.clean, NoAudio):
            return None
        given = {} if batch_seconds is None else {"batch_seconds": batch_seconds}
        return SpeechTranscriber(model, self.labels, self.clean, DecodeOptions(**given))(cuts, list(positions))

    def kept(self, model: nn.Module) -> frozenset[str]:
        """Keep what is trained, and projector and adapter in any case: what a result holds."""
        return frozenset(name for name, weight in model.named_parameters() if weight.requires_grad or is_new(name))

    def plain(self, module: nn.Module) -> nn.Module | None:
        """Build an encoder; a whole model of 7 B and more is not copied: the loss decides."""
        if isinstance(module, AudioEncoder):
            with torch.random.fork_rng(devices=[]):
                return empty_encoder(module.config, module.shape.normalize)
        return None

    def digest(self, model: nn.Module) -> str:
        """Hash prompt, tokenizer, the tensors' names and shapes, and 64 values of each tensor."""
        found = hashlib.sha256(self.labels.digest().encode())
        add_weights(model, found, self.extras)
        return found.hexdigest()[:16]

    def facts(self, model: nn.Module) -> dict[str, Any]:
        """Return what the model is made of, and how much of it is trained."""
        trained = {name: weigh(part)[1] for name, part in model.named_children()}
        return {"encoder": self.config.model.encoder, "llm": self.config.model.llm, "trained_parameters": trained}

    def save(self, model: SpeechLlm, folder: Path, made: Mapping[str, Any]) -> None:
        """Save the trained parts, or a language model that was trained alone as any other."""
        self.save_kept(model, trained_weights(model), folder)

    def save_kept(self, model: SpeechLlm, state: Mapping[str, Tensor], folder: Path) -> None:
        """Save the trained parts, which are all that a folder has of them."""
        if model.encoder is None:
            own = {name.removeprefix("llm."): value for name, value in state.items()}
            model.llm.save_pretrained(folder, state_dict=own)
            self.labels.tokenizer.save_pretrained(folder)
            return
        config = SpeechConfig(
            self.config.model, self.config.projector, self.config.prompt, self.config.lora,
            digests_of(self.config, self.labels),
        )  # fmt: skip
        save_speech_llm(state, config, folder)


def longest(shape: AudioShape, vectors: int) -> float:
    """Return the longest audio, in seconds, that makes at most so many vectors."""
    full = shape.vectors(shape.window)
    rate = 100 if shape.kind == "mel" else SAMPLING_RATE
    return shape.window / rate * max(vectors // full, min(vectors / full, 1.0))


def frozen_dtype(name: str) -> torch.dtype:
    """Return the type of weights that are not trained."""
    if name == "auto":
        return torch.bfloat16 if torch.cuda.is_available() else torch.float32
    return DTYPES[name]


def weigh(part: nn.Module | None) -> tuple[int, int]:
    """Return how many parameters a part has, and how many are trained."""
    weights = [] if part is None else list(part.parameters())
    return sum(w.numel() for w in weights), sum(w.numel() for w in weights if w.requires_grad)
