"""Small Kaldi directories for tests of import-kaldi, what is broken in them, and the import itself."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from egrecho_inner.config import run
from egrecho_inner.import_kaldi import import_kaldi

RATE = 16000


def tone(seconds: float = 1.0, rate: int = RATE, channels: int = 1, pitch: float = 300) -> np.ndarray:
    time = np.arange(round(seconds * rate)) / rate
    return np.stack([0.3 * np.sin(2 * np.pi * pitch * (c + 1) * time) for c in range(channels)], axis=1).astype("f4")


def make_dir(path: Path, count: int = 4) -> Path:
    """Write the spec's three-file directory: utterances u0, u1, ... of 1 s."""
    (path / "wav").mkdir(parents=True)
    for index in range(count):
        soundfile.write(path / "wav" / f"u{index}.wav", tone(pitch=200 + 10 * index), RATE)
    write(path, "wav.scp", *(f"u{index} {path}/wav/u{index}.wav" for index in range(count)))
    write(path, "text", *(f"u{index} Từ số {index}." for index in range(count)))
    write(path, "utt2lang", *(f"u{index} vi" for index in range(count)))
    return path


def write(path: Path, name: str, *lines: str) -> None:
    (path / name).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def edit(name: str, old: str, new: str) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        content = (path / name).read_text(encoding="utf-8")
        assert old in content
        (path / name).write_text(content.replace(old, new, 1), encoding="utf-8")

    return change


def edit_bytes(name: str, old: bytes, new: bytes) -> Callable[[Path], None]:
    return lambda path: (path / name).write_bytes((path / name).read_bytes().replace(old, new, 1))


def imported(path: Path, split: str = "train", **options: object) -> tuple[list[dict], list[dict], list[dict]]:
    """Import into `{path}/out` and return recordings, supervisions and skips."""
    import_kaldi(str(path), "x", split, out=str(path / "out"), jobs=1, **options)
    return tuple(rows(path, name) for name in (f"x_recordings_{split}", f"x_supervisions_{split}", "skipped"))


def rows(path: Path, name: str) -> list[dict]:
    return [json.loads(line) for line in (path / "out" / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()]


def failed(path: Path, capsys: pytest.CaptureFixture, *options: str, split: str = "train") -> tuple[int, str]:
    """Run as a user would and return exit code and message; no manifest may be left behind."""
    with pytest.raises(SystemExit) as caught:
        run(import_kaldi, [str(path), "--prefix", "x", "--split", split, "--out", str(path / "out"), *options])
    assert not list((path / "out").glob("x_*"))
    return caught.value.code, capsys.readouterr().err
