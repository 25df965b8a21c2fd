"""The options of this room, apart from the code that uses them: a command line is read without torch or Lhotse."""

from dataclasses import dataclass
from typing import Literal

from egrecho_inner.config_types import ClosedUnitInterval, Options, PositiveFloat, PositiveInt
from egrecho_inner.errors import ConfigError
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
    window: Literal["auto", "longest", "30s"] = "auto"
    """Pad to the longest cut of a batch, or to 30 s; auto does as the model was trained, 30s if it does not say."""
    timestamps: bool = False
    """Ask the model for timestamps; they are left out of the text."""
    long_form: Literal["auto", "silences", "timestamps"] = "auto"
    """Way through audio over 30 s: cut at silences, or follow the model's timestamps. auto takes the timestamps if the
    model's config says `timestamps: true`, else the silences, which suit every model."""
    max_new_tokens: PositiveInt | None = None
    """Tokens per cut (or part of a long one) at most; null allows 16 + 30 per second of audio."""
    no_speech_threshold: ClosedUnitInterval | None = None
    """Take an unlikely text (mean log probability under -1) for silence where <|nospeech|> is likelier than this."""
    backend: Literal["auto", "torch", "ctranslate2", "ctranslate2-int8"] = "auto"
    """What computes: PyTorch, or CTranslate2 (extra egrecho[ct2]), which takes utterances of one length at a time and
    can compute in 8-bit integers. auto is torch, the faster one in 32 bits; ctranslate2-int8 was faster with 5 beams,
    but its text differs (docs/speed.md)."""
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
