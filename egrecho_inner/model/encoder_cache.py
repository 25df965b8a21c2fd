"""The outputs of a frozen encoder, computed once for each cut and read back in later epochs, by all processes.

In: the encoder, ids of cuts, their features or waves, and mask. Out: its output (B, S, D), for the model's
`encoder_outputs`.
Only for an encoder that is not trained, on features that are the same in every epoch: no augmentation.
Kept in half precision in the run folder: 2 D bytes for 20 ms, 0.14 GB per hour for tiny, 0.46 for large. Each process
writes a file of its own and reads those of all: with the next epoch's batches a cut comes to another one.

What is missing of a batch is computed together, and all of it is kept or nothing. Its rounding depends on that company,
so the files outlive a kill: the same run goes on with the same values. After the first batch that found no room nothing
more is kept, or a continued run would keep other cuts.

B batch, T frames, F mel bins, S encoder positions, D width.
"""

import hashlib
import os
import shutil
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple
from zlib import crc32

import numpy as np
import torch
from torch import Tensor, nn

from egrecho_inner.model.audio_encoder import AudioEncoder
from egrecho_inner.runtime.files import write_text

ROW = struct.Struct("<16sQII")
"""In `places-N`: the hash of an id and its length, where its output begins in `outputs-N`, S, and a checksum."""
KEY, FULL = "key", "full-{}"


class CacheEntry(NamedTuple):
    """Where an output is."""

    file: int
    begin: int
    length: int
    checksum: int


class EncoderCache:
    """The outputs of a frozen encoder by id.

    Args:
        folder: Where the files are; `prepare` makes it.
        width: D.
        room: Bytes that all processes may take.
        rank: Of this process.
        world: How many processes share the folder.
    """

    def __init__(self, folder: Path, width: int, room: float, rank: int = 0, world: int = 1):
        self.folder, self.width, self.rank = folder, width, rank
        self.places: dict[bytes, CacheEntry] = {}
        self.checked: set[bytes] = set()
        self.seen: dict[int, int] = {}
        """Bytes of each process's places that are read already."""
        self.files = {rank: os.open(folder / f"outputs-{rank}", os.O_RDWR | os.O_CREAT, 0o666)}
        self.rows = os.open(folder / f"places-{rank}", os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
        os.ftruncate(self.rows, os.fstat(self.rows).st_size // ROW.size * ROW.size)
        self.refresh()
        ends = (each.begin + 2 * width * each.length for each in self.places.values() if each.file == rank)
        os.ftruncate(self.files[rank], max(ends, default=0))  # without what a killed process wrote and did not note
        extra = [path.stat().st_size for path in folder.glob("outputs-*") if number_of(path) >= world]
        self.room = (room - sum(extra)) / world  # there are more files where a run was continued by fewer processes
        self.is_full = (folder / FULL.format(rank)).exists()

    @staticmethod
    def prepare(folder: Path, key: str) -> None:
        """Make the folder, or empty it where it is of another encoder or other cuts; only one process does."""
        if not (folder / KEY).is_file() or (folder / KEY).read_text() != key:
            shutil.rmtree(folder, ignore_errors=True)
            write_text(folder / KEY, key)

    @property
    def used(self) -> int:
        """Bytes that this process has written."""
        return os.fstat(self.files[self.rank]).st_size

    def __call__(self, encoder: nn.Module, ids: Sequence[str], features: Tensor, mask: Tensor | None) -> Tensor:
        """Return the encoder's output (B, S, D), zero behind an utterance's end.

        Args:
            encoder: The frozen encoder, in eval mode.
            ids: Of the cuts (B,).
            features: (B, F, T) log-mel, or (B, T) waves.
            mask: (B, T); None where every frame counts.
        """
        count = encoder.shape.frames if isinstance(encoder, AudioEncoder) else halved
        positions = count(features.shape[-1])
        lengths = [positions] * len(ids) if mask is None else count(mask.sum(-1)).tolist()
        names = [hash_name(name, length) for name, length in zip(ids, lengths, strict=True)]
        if any(name not in self.places for name in names):
            self.refresh()  # another process may have them
        output = features.new_zeros(len(ids), positions, self.width)
        missing = []
        for row, (name, length) in enumerate(zip(names, lengths, strict=True)):
            if (kept := self.read(name)) is None:
                missing.append(row)
            else:
                output[row, :length] = torch.from_numpy(kept).to(output)
        if missing:
            made = encode(encoder, features[missing], None if mask is None else mask[missing])
            parts = [made[at, : lengths[row]].to(torch.float16) for at, row in enumerate(missing)]
            for row, part in zip(missing, parts, strict=True):
                output[row, : lengths[row]] = part.to(
                    output
                )  # rounded as it will be read back: all epochs see the same
            self.keep([names[row] for row in missing], [part.cpu().numpy() for part in parts])
        return output

    def keep(self, names: list[bytes], parts: list[np.ndarray]) -> None:
        """Write the outputs (S, D) of a batch behind the others, if there is room for all of them."""
        begin = self.used
        if self.is_full or begin + sum(part.nbytes for part in parts) > self.room:
            self.close()
            return
        rows, at = [], begin
        for name, part in zip(names, parts, strict=True):
            rows.append(ROW.pack(name, at, len(part), crc32(part.tobytes())))
            at += part.nbytes
        try:
            os.pwrite(self.files[self.rank], b"".join(part.tobytes() for part in parts), begin)
            os.write(self.rows, b"".join(rows))  # last, and at once: a killed process leaves all of a batch or nothing
        except OSError:  # the disk is full before the room is
            self.close()

    def close(self) -> None:
        """Keep no more."""
        if not self.is_full:
            self.is_full = True
            write_text(self.folder / FULL.format(self.rank), "")

    def refresh(self) -> None:
        """Read what all processes have written since the last time."""
        for path in self.folder.glob("places-*"):
            rank = number_of(path)
            begin = self.seen.get(rank, 0)
            whole = (path.stat().st_size - begin) // ROW.size * ROW.size
            if whole <= 0:
                continue
            with open(path, "rb") as file:
                file.seek(begin)
                data = file.read(whole)
            for name, place, length, checksum in ROW.iter_unpack(data):
                self.places[name] = CacheEntry(rank, place, length, checksum)
            self.seen[rank] = begin + whole

    def read(self, name: bytes) -> np.ndarray | None:
        """Return one output (S, D); None where there is none, or a machine went down before it was on the disk."""
        place = self.places.get(name)
        if place is None:
            return None
        if place.file not in self.files:
            self.files[place.file] = os.open(self.folder / f"outputs-{place.file}", os.O_RDONLY)
        values = np.empty((place.length, self.width), dtype=np.float16)
        size = os.preadv(self.files[place.file], [values], place.begin)
        if name not in self.checked:
            if size < values.nbytes or crc32(values.tobytes()) != place.checksum:
                del self.places[name]
                return None
            self.checked.add(name)
        return values


def number_of(path: Path) -> int:
    """Return the number of the process that writes a file."""
    return int(path.name.rpartition("-")[2])


def encode(encoder: nn.Module, features: Tensor, mask: Tensor | None) -> Tensor:
    """Return the encoder's output (B, S, D) of features without the frames that none of them has."""
    with torch.no_grad():
        if mask is None:
            return encoder(features).last_hidden_state
        frames = int(mask.sum(-1).max())
        return encoder(features[..., :frames], attention_mask=mask[:, :frames].to(features.device)).last_hidden_state


def halved(frames: Any) -> Any:
    """Return the positions S of T log-mel frames."""
    return (frames + 1) // 2


def hash_name(name: str, length: int) -> bytes:
    """Return 16 bytes for an id at a length: padded to 30 s it has another output."""
    return hashlib.blake2b(f"{name}\0{length}".encode(), digest_size=16).digest()
