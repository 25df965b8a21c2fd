"""The options of this room, apart from the code that uses them: a command line is read without torch or Lhotse."""

from dataclasses import dataclass, field
from typing import Literal

from egrecho_inner.config_types import (
    ClosedUnitInterval,
    NonNegativeFloat,
    NonPositiveFloat,
    Options,
    PositiveFloat,
    PositiveInt,
    Seed,
)
from egrecho_inner.errors import ConfigError
from egrecho_inner.model.options import Attention
from egrecho_inner.text.constants import WINDOW_SECONDS
from egrecho_inner.text.languages import Task, language_code


@dataclass(frozen=True)
class DecodeOptions(Options, group="decode"):
    """How hypotheses are searched for."""

    num_beams: PositiveInt = 1
    """Width of the beam search; 1 is greedy."""
    length_penalty: float = 1.0
    """Exponent of the length that a beam's log probability is divided by."""
    language: str | None = None
    """Language of cuts that name none; null detects it."""
    force_language: bool = False
    """Take `language` for every cut, whatever it names."""
    task: Task = "transcribe"
    """Transcribe, or translate to English."""
    window: Literal["auto", "longest", "30s", "30s-zeros", "both"] = "auto"
    """Pad to the longest cut of a batch, or to 30 s; auto does as the model was trained, 30s if nothing is known; both
    decodes twice, with longest and 30s, and prints the pair (egrecho eval only).
    30s-zeros puts zeros behind the log-mel, as openai-whisper and faster-whisper do, not silence."""
    timestamps: bool = False
    """Ask the model for timestamps; they are left out of the text."""
    long_form: Literal["auto", "silences", "timestamps"] = "auto"
    """Way through audio over 30 s: cut at silences, or follow the model's timestamps. auto takes the timestamps if the
    model's config has `timestamps: true`, else the silences, which suit every model."""
    max_new_tokens: PositiveInt | None = None
    """Tokens per cut (or part of a long one) at most; null allows 16 + 30 per second of audio."""
    no_speech_threshold: ClosedUnitInterval | None = None
    """Take an unlikely text (mean log probability under -1) for silence where <|nospeech|> is likelier than this."""
    temperatures: list[NonNegativeFloat] = field(default_factory=lambda: [0.0])
    """Where a text is unlikely or repeats itself, decode again at the next of these; 0 takes the likeliest tokens."""
    compression_ratio_threshold: PositiveFloat | None = 2.4
    """With several temperatures: a text that zlib makes smaller than by this factor repeats itself."""
    logprob_threshold: NonPositiveFloat | None = -1.0
    """With several temperatures, and of silence: a mean log probability under this is unlikely."""
    seed: Seed = 0
    """Of what is drawn at temperatures above 0; what is drawn for a cut depends on no other."""
    initial_prompt: str | None = None
    """Text that the decoder takes as spoken before: names, spelling, style."""
    hotwords: str | None = None
    """Words to expect, put before the prompt of every window."""
    previous_text: bool = False
    """With long_form timestamps: prompt each window with the text of those before it."""
    max_part_seconds: PositiveFloat | None = None
    """Longest part of a recording; null takes the durations that the model's config says it learned, at most 30 s."""
    backend: Literal["auto", "torch", "ctranslate2", "ctranslate2-int8"] = "auto"
    """What computes: PyTorch, or CTranslate2 (extra egrecho[ct2]), which takes utterances of one length at a time and
    can compute in 8-bit integers. auto is torch, the faster one in 32 bits; ctranslate2-int8 was faster with 5 beams,
    but its text differs (docs/speed.md)."""
    attention: Attention = "sdpa"
    """Kernel of attention, of the torch backend."""
    batch_seconds: PositiveFloat = 240.0
    """Padded seconds of a batch at most, divided by the beams; less where memory runs out."""
    batch_size: PositiveInt = 64
    """Cuts of a batch at most."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.language is not None:
            object.__setattr__(self, "language", language_code(self.language))
        elif self.force_language:
            raise ConfigError("decode.force_language needs decode.language")
        if not self.temperatures or sorted(self.temperatures) != list(self.temperatures):
            raise ConfigError(f"decode.temperatures is {self.temperatures}, expected one or more, rising")
        if self.max_part_seconds is not None and not 1 <= self.max_part_seconds <= WINDOW_SECONDS:
            raise ConfigError(f"decode.max_part_seconds is {self.max_part_seconds:g}, expected 1 to 30")
        only_torch = len(self.temperatures) > 1 or self.temperatures[0] > 0 or self.initial_prompt or self.hotwords
        if self.backend.startswith("ctranslate2") and (only_torch or self.previous_text):
            raise ConfigError("decode: prompts, hotwords and temperatures need the backend torch")
