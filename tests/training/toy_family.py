"""A family that is no Whisper: a small CTC recognizer of spelled words on raw waves, with its own module and files.

It shows all that a new family has to bring (`egrecho_inner/training/family.py`); `test_family.py` trains it.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lhotse.cut import Cut
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from egrecho_inner.data.audio.augment import Augmenter
from egrecho_inner.data.audio.load import load_audio
from egrecho_inner.data.batches.cut_list import CutList
from egrecho_inner.data.batches.tensors import CutBatches, LoadedBatch
from egrecho_inner.errors import ConfigError, DataError
from egrecho_inner.results.utterance import Hypothesis
from egrecho_inner.text.constants import IGNORED
from egrecho_inner.text.labels import Labels
from egrecho_inner.training.checkpoints.resume import digest_weights
from egrecho_inner.training.options import TrainOptions

LETTERS = " abcdefghijklmnopqrstuvwxyz'"
"""Letter n has id n + 1; 0 is the blank."""
HOP = 400


class ToyTexts:
    """Spelling: a text into the ids of its letters."""

    language: str | None = None
    max_tokens = 100
    always_fits = 100

    def digest(self) -> str:
        return hashlib.sha256(LETTERS.encode()).hexdigest()

    def encode(
        self,
        text: str | None,
        language: str | None = None,
        task: Any = None,
        segments: Sequence[Any] = (),
        prompt: str | None = None,
    ) -> Labels:
        if text is None or not set(text.lower()) <= set(LETTERS):
            raise DataError(f"not spelled with {LETTERS!r}: {text!r}")
        ids = [LETTERS.index(letter) + 1 for letter in text.lower()]
        return Labels(ids, ids)

    def length(self, text: str, language: str | None = None) -> int:
        return len(text)

    def language_fault(self, language: str | None) -> str | None:
        return None

    def nothing(self) -> Labels:
        return Labels([IGNORED], [IGNORED])

    def pad(self, labels: Sequence[Labels]) -> dict[str, list[list[int]]]:
        longest = max(len(each.targets) for each in labels)
        return {"labels": [each.targets + [IGNORED] * (longest - len(each.targets)) for each in labels]}


class RawWaves:
    """Waves (B, N) and how long they are (B,)."""

    max_seconds = 10.0

    def check(self, cut: Cut, augmenter: Augmenter | None, values: bool = False) -> None:
        """There is nothing that all cuts could have wrong."""

    def load(self, cut: Cut, epoch: int, augmenter: Augmenter | None) -> np.ndarray:
        wave = load_audio(cut)
        return wave if augmenter is None else augmenter.wave(wave, cut.id, epoch)

    def silence(self) -> np.ndarray:
        return np.zeros(16000, dtype=np.float32)

    def collate(self, items: list[np.ndarray], padded: bool) -> tuple[dict[str, Any], float]:
        waves = torch.zeros(len(items), max(map(len, items)))
        for row, wave in zip(waves, items, strict=True):
            row[: len(wave)] = torch.from_numpy(np.ascontiguousarray(wave))
        return {"waves": waves, "samples": torch.tensor([len(wave) for wave in items])}, waves.shape[1] / 16000

    def to_device(self, inputs: dict[str, Any], device: torch.device) -> None:
        """Nothing is left to compute."""


class ToyModel(nn.Module):
    """Frames of 25 ms -> two layers -> letters, with CTC; `frontend` is not trained, as an encoder may be."""

    def __init__(self, width: int = 24):
        super().__init__()
        self.frontend = nn.Linear(HOP, width)
        self.body = nn.Sequential(nn.Tanh(), nn.Linear(width, width), nn.Dropout(0.1), nn.Tanh())
        self.head = nn.Linear(width, len(LETTERS) + 1)
        self.frontend.requires_grad_(False)

    def log_probs(self, waves: Tensor) -> Tensor:
        """Return log probabilities (B, T, V)."""
        frames = waves.unfold(1, HOP, HOP)
        return self.head(self.body(self.frontend(frames))).log_softmax(-1)

    def forward(
        self, waves: Tensor, samples: Tensor, labels: Tensor, num_items_in_batch: Tensor | None = None
    ) -> dict[str, Tensor]:
        loss = self.loss_sum(waves, samples, labels)
        items = (labels != IGNORED).sum() if num_items_in_batch is None else num_items_in_batch
        return {"loss": loss / items}

    def loss_sum(self, waves: Tensor, samples: Tensor, labels: Tensor) -> Tensor:
        """Return the CTC loss summed over the batch."""
        scores, targets = self.log_probs(waves).transpose(0, 1), labels != IGNORED
        return nn.functional.ctc_loss(
            scores, labels[targets], samples // HOP, targets.sum(1), reduction="sum", zero_infinity=True
        )


class ToyFamily:
    """The model above, as fit() trains it; a checkpoint keeps what is trained, not the frozen frontend."""

    name = "Toy CTC"
    ties: frozenset[str] = frozenset()
    extras: tuple[str, ...] = ()

    def __init__(self) -> None:
        self.labels, self.inputs = ToyTexts(), RawWaves()

    def prepare(self, model: nn.Module, train: TrainOptions) -> None:
        if train.chunked_loss or train.ctc_weight:
            raise ConfigError("train.chunked_loss and train.ctc_weight are Whisper's")

    def parts(self, model: ToyModel) -> dict[str, list[nn.Module]]:
        return {"frontend": [model.frontend], "body": [model.body], "head": [model.head]}

    def encoder(self, model: nn.Module) -> None:
        return None

    def cost(self, model: nn.Module) -> Callable[[LoadedBatch], float] | None:
        return None

    def scored(self, cuts: CutList) -> CutBatches:
        """Make inputs and targets as in training, without augmentation."""
        return CutBatches(cuts, self.labels, self.inputs)

    def loss_sum(self, model: ToyModel, inputs: dict[str, Any]) -> Tensor:
        return model.loss_sum(**inputs)

    def recognize(
        self, model: ToyModel, cuts: CutList, positions: Iterable[int], batch_seconds: float | None = None
    ) -> Iterable[Hypothesis]:
        for position in positions:
            cut = cuts[position]
            best = model.log_probs(torch.from_numpy(load_audio(cut))[None]).argmax(-1)[0]
            ids = [int(i) for i in torch.unique_consecutive(best) if i]
            text = "".join(LETTERS[i - 1] for i in ids).strip()
            yield Hypothesis(cut.id, text, "en", ids, 0.0, 0.0, 0.0, False, False, 1, cut.duration, 0.0)

    def kept(self, model: nn.Module) -> frozenset[str]:
        return frozenset(name for name, weight in model.named_parameters() if weight.requires_grad)

    def plain(self, module: nn.Module) -> nn.Module:
        return ToyModel()

    def digest(self, model: nn.Module) -> str:
        return digest_weights(model)

    def facts(self, model: ToyModel) -> dict[str, Any]:
        return {"width": model.head.in_features}

    def save(self, model: nn.Module, folder: Path, made: Mapping[str, Any]) -> None:
        folder.mkdir(exist_ok=True)
        save_file(
            {name: value.contiguous() for name, value in model.state_dict().items()}, folder / "model.safetensors"
        )
        (folder / "config.json").write_text(json.dumps({"model_type": "toy", "width": made["width"]}))


def load_toy(folder: Path) -> ToyModel:
    """Load a result."""
    model = ToyModel(json.loads((folder / "config.json").read_text())["width"])
    model.load_state_dict(load_file(folder / "model.safetensors"))
    return model.eval()
