"""What batches ask of a family of models: how a cut becomes the model's input, and its text the model's targets.

In: cuts and texts. Out: tensors under the names that the model's `forward` takes. `LogMel` (`log_mel.py`) and
`LabelEncoder` (`text/labels.py`) are Whisper's; another family brings its own, and everything around them (plan,
stream, skips, resume, development score) stays as it is.
"""

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from lhotse.cut import Cut

from egrecho_inner.data.audio.augment import Augmenter
from egrecho_inner.data.batches.plan import Padding
from egrecho_inner.text.labels import Labels, Segment


class Inputs(Protocol):
    """Turns cuts into a model's input. Goes to the loader's processes, so it must be picklable and hold no weights."""

    @property
    def max_seconds(self) -> float:
        """The longest cut that the model takes; longer ones are left out and counted."""
        ...

    def check(self, cut: Cut, augmenter: Augmenter | None, values: bool = False) -> None:
        """Look at one cut before training for faults that all of them would have.

        Args:
            cut: The first of the data.
            augmenter: What is done to the audio, None for nothing.
            values: Compare stored features with the audio, too.

        Raises:
            UserError: Stored features of another model, an augmentation that this input cannot have.
        """
        ...

    def load(self, cut: Cut, epoch: int, augmenter: Augmenter | None) -> Any:
        """Return one cut's input, augmented; a pure function of its arguments, so that a resumed run is the same run.

        Raises:
            DataError: The cut cannot be used; it is left out and counted.
        """
        ...

    def silence(self) -> Any:
        """Return the input of a batch without a usable cut, which keeps processes in step."""
        ...

    def collate(self, items: list[Any], padded: Padding) -> tuple[dict[str, Any], float]:
        """Put what `load` returned into one batch.

        Args:
            items: Of each cut.
            padded: Pad to the model's full window instead of to the longest item; with silence, or with zeros.

        Returns:
            Inputs of the model's `forward`, and the seconds of a row with its padding.
        """
        ...

    def to_device(self, inputs: dict[str, Any], device: torch.device) -> None:
        """Compute in place what is computed beside the model (features, for instance); what is there already stays."""
        ...


class Texts(Protocol):
    """Turns texts into a model's targets, and its output back into text."""

    language: str | None
    """Code of the language of cuts that name none."""

    @property
    def max_tokens(self) -> int:
        """The longest sequence that the model takes; longer ones are left out and counted."""
        ...

    @property
    def always_fits(self) -> int:
        """Bytes up to which a text fits, whatever it is; longer ones are counted by `length`."""
        ...

    def digest(self) -> str:
        """Name all that `length` depends on: counts of a manifest are remembered under it."""
        ...

    def encode(
        self,
        text: str | None,
        language: str | None = None,
        task: Any = None,
        segments: Sequence[Segment] = (),
        prompt: str | None = None,
    ) -> Labels:
        """Return inputs and targets of one text.

        Raises:
            DataError: There is no transcript, or the model cannot learn it.
        """
        ...

    def length(self, text: str, language: str | None = None) -> int:
        """Return how many positions (at most `max_tokens` are there) a text takes."""
        ...

    def language_fault(self, language: str | None) -> str | None:
        """Return why a cut of this language cannot be learned; None where it can."""
        ...

    def nothing(self) -> Labels:
        """Return labels without a target, of a batch without a usable cut."""
        ...

    def pad(self, labels: Sequence[Labels]) -> dict[str, list[list[int]]]:
        """Pad a batch to one length: rows by the names of the model's inputs, targets as `labels` with -100."""
        ...
