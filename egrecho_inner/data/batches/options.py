"""The options of this room, apart from the code that uses them: a command line is read without torch or Lhotse."""

import re
from dataclasses import dataclass, field
from typing import Literal

from egrecho_inner.config_types import (
    ClosedUnitInterval,
    NonNegativeFloat,
    NonNegativeInt,
    NonPositiveFloat,
    Options,
    PositiveFloat,
    PositiveInt,
)
from egrecho_inner.errors import ConfigError
from egrecho_inner.text.constants import WINDOW_SECONDS
from egrecho_inner.text.languages import Task, language_code

Kind = Literal["noise", "music", "babble"]
Source = Literal["reference", "teacher"]
SET_NAME = re.compile(r"[A-Za-z0-9-]+")
"""Of a development set: it stands in the names of scores, between underscores."""


@dataclass(frozen=True)
class DataOptions(Options, group="data"):
    """What is trained on."""

    train: list[str] | str
    """Manifests of training cuts; or Lhotse Shar folders, read in a stream."""
    dev: list[str] | dict[str, list[str] | str] | str | None = None
    """Manifests of development cuts: for the loss, the error rate, the best checkpoint. Sets with names of their own,
    {ted: ..., vox: ...}, are scored one by one, eval_wer_ted, and their mean decides."""
    language: str | None = None
    """Language of cuts that name none."""
    task: Task = "transcribe"
    """What the text is: a transcript or an English translation."""
    max_seconds: PositiveFloat = 30.0
    """Train on cuts up to this length only, by choice; what Whisper's 30 s forbid is counted as skipped."""
    max_tokens: PositiveInt | None = None
    """Train on cuts with at most this many label tokens only, by choice; what the decoder's 448 forbid is skipped."""
    max_skip_ratio: ClosedUnitInterval = 0.01
    """Share of training cuts that may be unusable (over 30 s, over 448 tokens, without text or language, broken audio)
    before it is an error."""
    no_speech: bool = False
    """Learn <|nospeech|> from cuts whose text is empty; otherwise they count as unusable."""
    dev_limit: PositiveInt | None = 500
    """At most this many development cuts, drawn once by seed."""
    features: Literal["workers", "device"] = "workers"
    """Where log-mel is computed: in the loader's processes (or read, if stored), or beside the model on its GPU."""
    normalizer: str = "auto"
    """What the development error rate is computed on; auto is the language's default."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.language is not None:
            object.__setattr__(self, "language", language_code(self.language))
        for name in self.dev if isinstance(self.dev, dict) else ():
            if not SET_NAME.fullmatch(name):
                raise ConfigError(f"data.dev: {name!r} is no name of a set; take letters, digits and -")

    @property
    def dev_sets(self) -> dict[str, list[str] | str]:
        """The development sets by name; one without a name as the empty one."""
        return self.dev if isinstance(self.dev, dict) else {} if self.dev is None else {"": self.dev}


@dataclass(frozen=True)
class BatchOptions(Options, group="batch"):
    """How cuts are put together."""

    max_duration: PositiveFloat | None = 120.0
    """Padded seconds of a batch on one process: its size times its longest cut."""
    batch_size: PositiveInt | None = None
    """Cuts of a batch on one process; instead of max_duration, which is then to be null."""
    quadratic_duration: PositiveFloat | None = None
    """Count a cut of d seconds as d + d^2 / this, for attention's cost; 15 to 40 where long cuts run out of memory."""
    short_first: bool = False
    """Go through the first epoch from short to long; helps random weights to begin (Amodei et al. 2016, 1512.02595)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.max_duration is None) == (self.batch_size is None):
            raise ConfigError(
                "batch.max_duration and batch.batch_size: give one and set the other to null "
                f"(now {self.max_duration} and {self.batch_size})"
            )


@dataclass(frozen=True)
class TargetOptions(Options, group="targets"):
    """What is learned for a cut."""

    text: Source = "reference"
    """The true transcript, or the teacher's."""
    timestamps: ClosedUnitInterval = 0.0
    """Probability that a cut is learned with timestamps: of its timed parts, or of its beginning and end. A teacher's
    text has them where it was decoded with timestamps."""
    previous: ClosedUnitInterval = 0.0
    """Probability that a cut with a known previous text has it as a prompt."""
    no_speech: ClosedUnitInterval = 0.0
    """Probability that a cut is replaced by silence or noise of its length, from which <|nospeech|> is learned."""


@dataclass(frozen=True)
class SpeedOptions(Options, group="augment.speed"):
    """Play utterances faster or slower."""

    factors: tuple[PositiveFloat, ...] = (0.9, 1.0, 1.1)
    """One is drawn per utterance and epoch. An utterance that would become longer than 30 s keeps its speed."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.factors or not all(0.5 <= factor <= 2 for factor in self.factors):
            raise ConfigError(f"augment.speed.factors is {list(self.factors)}, expected numbers from 0.5 to 2")


@dataclass(frozen=True)
class MusanOptions(Options, group="augment.musan"):
    """Mix noise into utterances."""

    cuts: str
    """Manifest of noise cuts, made by prepare.sh --musan DIR."""
    probability: ClosedUnitInterval = 0.5
    snr: tuple[float, float] = (10.0, 20.0)
    """Lowest and highest ratio of signal to noise in dB."""
    kinds: tuple[Kind, ...] = ("noise", "music", "babble")
    """One is drawn; babble is the sum of three to seven voices."""
    stored: bool = False
    """Mix features instead of waves: for stored features, which then stay in use. See docs/features.md."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.snr[0] > self.snr[1]:
            raise ConfigError(f"augment.musan.snr is {list(self.snr)}, expected the lower ratio first")
        if not self.kinds:
            raise ConfigError("augment.musan.kinds is empty, expected at least one of noise, music, babble")


@dataclass(frozen=True)
class VolumeOptions(Options, group="augment.volume"):
    """Make utterances louder or softer."""

    probability: ClosedUnitInterval = 0.5
    decibels: tuple[float, float] = (-15.0, 6.0)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.decibels[0] > self.decibels[1]:
            raise ConfigError(f"augment.volume.decibels is {list(self.decibels)}, expected the lower gain first")


@dataclass(frozen=True)
class TelephoneOptions(Options, group="augment.telephone"):
    """Send utterances through a telephone line: 8 kHz, 300-3400 Hz."""

    probability: ClosedUnitInterval = 0.1
    mu_law: bool = True
    """With the 8-bit levels of G.711."""


@dataclass(frozen=True)
class ReverbOptions(Options, group="augment.reverb"):
    """Put utterances into rooms."""

    folder: str
    """Folder of impulse responses, any audio format, searched with its subfolders."""
    probability: ClosedUnitInterval = 0.3


@dataclass(frozen=True)
class SpecAugmentOptions(Options, group="augment.spec_augment"):
    """Mask features with the utterance's mean (Park et al. 2019)."""

    probability: ClosedUnitInterval = 0.9
    time_masks: NonNegativeInt = 10
    """At most; short utterances get fewer."""
    time_width: NonNegativeInt = 100
    """Frames of the widest time mask."""
    time_share: ClosedUnitInterval = 0.15
    """Share of an utterance that time masks cover together, at most."""
    feature_masks: NonNegativeInt = 2
    feature_width: NonNegativeInt = 27
    """Mel bins of the widest feature mask."""
    time_warp: NonNegativeInt = 0
    """Frames that a point inside may be moved, the rest stretched and squeezed; 0 is off, 80 is common."""


@dataclass(frozen=True)
class ConcatenateOptions(Options, group="augment.concatenate"):
    """Join utterances to longer ones."""

    share: ClosedUnitInterval = 0.3
    """Of the cuts, drawn afresh in each epoch."""
    max_seconds: PositiveFloat = 28.0
    """Of a joined utterance at most; how long one becomes is drawn, from a fifth of it."""
    gap: tuple[NonNegativeFloat, NonNegativeFloat] = (0.1, 0.5)
    """Shortest and longest silence between utterances in seconds, drawn for each joined one."""
    same_speaker: bool = True
    """Join utterances of one speaker only, where the cuts name speakers."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.gap[0] > self.gap[1]:
            raise ConfigError(f"augment.concatenate.gap is {list(self.gap)}, expected the shorter silence first")
        if self.max_seconds > WINDOW_SECONDS:
            raise ConfigError(f"augment.concatenate.max_seconds is {self.max_seconds:g}, expected 30 at most")


@dataclass(frozen=True)
class AugmentOptions(Options, group="augment"):
    """What is done to training utterances; null switches an effect off."""

    concatenate: ConcatenateOptions | None = None
    speed: SpeedOptions | None = None
    reverb: ReverbOptions | None = None
    musan: MusanOptions | None = None
    telephone: TelephoneOptions | None = None
    volume: VolumeOptions | None = None
    spec_augment: SpecAugmentOptions | None = field(default_factory=SpecAugmentOptions)


@dataclass(frozen=True)
class RowOptions:
    """What is in a row of a batch, and how rows are padded to 30 s; put together by `training/options.py`."""

    concatenate: ConcatenateOptions | None = None
    by_time: bool = False
    """Whether the padded share is one of the seconds that are computed, not of the cuts."""
    zeros: float = 0.0
    """Share of the padded batches that is padded with zeros of the log-mel."""
    padded_from: float = 0.0
    """Epoch from which on rows are padded."""


@dataclass(frozen=True)
class RuleOptions(Options, group="rules"):
    """What is kept; null switches a rule off."""

    max_error_rate: NonNegativeFloat | None = 0.10
    """Of the teacher's text against the reference; a cut with just this much is kept."""
    metric: Literal["auto", "wer", "cer"] = "auto"
    """Words or characters; auto takes characters where words have no spaces between them."""
    normalizer: str = "auto"
    """Applied to both sides; auto is the language's own."""
    truncated: bool = False
    """Keep texts that the token limit broke off."""
    looped: bool = False
    """Keep texts that repeat themselves as a decoder caught in a loop does."""
    empty: bool = True
    """Keep empty texts, from which silence is learned; where there is a reference they must agree with it."""
    min_avg_logprob: NonPositiveFloat | None = None
    """Of the teacher's tokens; -1.0 is where Whisper itself would decode again."""
    max_compression_ratio: PositiveFloat | None = None
    """Of the text; 2.4 is where Whisper itself would decode again."""
    max_no_speech: ClosedUnitInterval | None = None
    """Probability of silence, of texts that are not empty."""
    max_tokens: PositiveInt | None = None
    """Of the teacher's text, special tokens apart; 128 is what published student models were trained with."""
    min_characters_per_second: NonNegativeFloat | None = None
    max_characters_per_second: PositiveFloat | None = None
    languages: list[str] | None = None
    """Codes or names; the teacher's language must be one of them."""
    min_duration: NonNegativeFloat | None = None
    """Seconds."""
    max_duration: PositiveFloat | None = 30.0
    """Seconds; just 30 is kept."""


@dataclass(frozen=True)
class PackOptions(Options, group="pack"):
    """What is joined."""

    max_duration: NonNegativeFloat = 30.0
    """Seconds of a window at most; 0 joins nothing and only notes the text before. Over 30 is for evaluation."""
    max_gap: NonNegativeFloat = 1.0
    """Seconds between two utterances of a recording at most."""
    by: Literal["recording", "speaker"] = "recording"
    """Neighbours in a recording, or also utterances of one speaker from different files, one after the other."""
    silence: NonNegativeFloat = 0.3
    """Seconds put between utterances from different files."""
    across_speakers: bool = False
    """Join utterances of different speakers, and take another speaker's words as previous text."""
    previous_gap: NonNegativeFloat = 5.0
    """What ended longer ago, in seconds, is not noted as previous text."""


@dataclass(frozen=True)
class SilenceOptions(Options, group="silence"):
    """What teaches a speech LLM to write nothing where nothing is spoken."""

    share: ClosedUnitInterval = 0.0
    """Share of the cuts that an epoch replaces by silence or noise of their length, with an empty text."""
