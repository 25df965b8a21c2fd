"""What a frozen encoder says about each cut, computed once and read back in later epochs.

In: the encoder, ids of cuts, their features and mask. Out: its output (B, S, D), for `Whisper(encoder_outputs=...)`.
Only for an encoder that is not trained, without dropout, on features that are the same in every epoch: no augmentation.
Kept in half precision in a file that ends with the process: 2 D bytes for 20 ms, 0.14 GB per hour for tiny, 0.46 for
large. What finds no room is computed anew each time. Cuts are read at the disk's speed; the encoder of large takes 40
times as long even on a fast GPU.

B batch, T frames, S encoder positions, D width.
"""

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from egrecho_inner.model.length import position_mask


class EncoderCache:
    """The outputs of a frozen encoder by id.

    Args:
        folder: Where the file is made; it has no name there and is gone with the process.
        width: D.
        room: Bytes it may take.
    """

    def __init__(self, folder: Path, width: int, room: float):
        folder.mkdir(parents=True, exist_ok=True)
        self.file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - lives as long as this object
        self.width, self.room, self.used = width, room, 0
        self.places: dict[str, tuple[int, int]] = {}
        """Where the output of an id begins, and its S."""

    def __call__(self, encoder: nn.Module, ids: Sequence[str], features: Tensor, mask: Tensor | None) -> Tensor:
        """Return the encoder's output (B, S, D), zero behind an utterance's end.

        Args:
            encoder: The frozen encoder, in eval mode or without dropout.
            ids: Of the cuts (B,).
            features: (B, F, T).
            mask: (B, T); None where every frame counts.
        """
        positions = (features.shape[-1] + 1) // 2
        lengths = [positions] * len(ids) if mask is None else position_mask(mask).sum(-1).tolist()
        output = features.new_zeros(len(ids), positions, self.width)
        missing = [row for row, name in enumerate(ids) if self.places.get(name, (0, -1))[1] != lengths[row]]
        if missing:
            with torch.no_grad():
                part = None if mask is None else mask[missing]
                heard = encoder(features[missing], attention_mask=part).last_hidden_state
            for row, each in zip(missing, heard, strict=True):
                # rounded as it will be read back, so that all epochs see the same
                kept = each[: lengths[row]].to(torch.float16)
                output[row, : lengths[row]] = kept.to(output.dtype)
                self.keep(ids[row], kept.cpu().numpy())
        for row in sorted(set(range(len(ids))) - set(missing)):
            output[row, : lengths[row]] = torch.from_numpy(self.read(ids[row])).to(output)
        return output

    def keep(self, name: str, values: np.ndarray) -> None:
        """Write one output (S, D) behind the others, if there is room."""
        if self.used + values.nbytes <= self.room:
            os.pwrite(self.file.fileno(), values.tobytes(), self.used)
            self.places[name] = (self.used, len(values))
            self.used += values.nbytes

    def read(self, name: str) -> np.ndarray:
        """Read one output (S, D)."""
        place, length = self.places[name]
        values = np.empty((length, self.width), dtype=np.float16)
        os.preadv(self.file.fileno(), [values], place)
        return values
