"""What a frozen encoder says about each cut, computed once and read back in later epochs.

In: the encoder, ids of cuts, their features and mask. Out: its output (B, S, D), for `Whisper(encoder_outputs=...)`.
Only for an encoder that is not trained, on features that are the same in every epoch: no augmentation.
Each cut is heard alone, at its own length: what is kept depends on nothing else, so a run that was killed, and whose
cache begins empty again, is the same run. Kept in half precision in a file that ends with the process: 2 D bytes for
20 ms, 0.14 GB per hour for tiny, 0.46 for large. What finds no room is computed anew each time.

B batch, T frames, F mel bins, S encoder positions, D width.
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
            encoder: The frozen encoder, in eval mode.
            ids: Of the cuts (B,).
            features: (B, F, T).
            mask: (B, T); None where every frame counts.
        """
        positions = (features.shape[-1] + 1) // 2
        lengths = [positions] * len(ids) if mask is None else position_mask(mask).sum(-1).tolist()
        output = features.new_zeros(len(ids), positions, self.width)
        for row, name in enumerate(ids):
            if self.places.get(name, (0, -1))[1] == lengths[row]:
                heard = torch.from_numpy(self.read(name))
            else:
                frames = features.shape[-1] if mask is None else int(mask[row].sum())
                with torch.no_grad():
                    heard = encoder(features[row : row + 1, :, :frames]).last_hidden_state[0]
                heard = heard.to(torch.float16)  # rounded as it will be read back: all epochs see the same
                self.keep(name, heard.cpu().numpy())
            output[row, : lengths[row]] = heard.to(output)
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
