"""Stored features are compared with what this version makes of the audio, before training."""  # row 69

import json
from pathlib import Path

import pytest
import soundfile
from tiny import save_tiny, speech_cuts

from egrecho_inner.compute_features import compute_features
from egrecho_inner.data.batches.options import DataOptions
from egrecho_inner.errors import DataError
from egrecho_inner.full import train_full
from egrecho_inner.model.options import ModelOptions
from egrecho_inner.training.options import TrainOptions


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    compute_features(str(speech_cuts(tmp_path, n=6)), str(tmp_path / "mel" / "x_cuts_train.jsonl"))
    return tmp_path / "mel" / "x_cuts_train.jsonl"


def train(cuts: Path, out: Path) -> None:
    """Take a step on features as they are stored."""
    base = cuts.parents[1] / "base"
    if not base.exists():
        save_tiny(base)
    options = TrainOptions(max_steps=1, workers=0, report_to=[])
    train_full(ModelOptions(str(base)), DataOptions(str(cuts)), str(out), train=options)


def test_features_of_other_audio_or_settings_are_refused(stored: Path, tmp_path: Path) -> None:
    train(stored, tmp_path / "run")
    for wave in (tmp_path / "cuts").glob("*.wav"):
        samples, rate = soundfile.read(wave)
        soundfile.write(wave, samples[::-1], rate)
    with pytest.raises(DataError, match=r"are not those of its audio as this version makes them \(mean difference 0\."):
        train(stored, tmp_path / "other")
    for wave in (tmp_path / "cuts").glob("*.wav"):
        wave.unlink()
    train(stored, tmp_path / "bare")  # features alone are enough


def test_features_of_another_extractor_are_refused(stored: Path, tmp_path: Path) -> None:
    lines = [json.loads(line) for line in stored.read_text().splitlines()]
    for line in lines:
        line["features"]["type"] = "fbank"
    stored.write_text("".join(json.dumps(line) + "\n" for line in lines))
    with pytest.raises(DataError, match="are of type fbank, a Whisper model needs whisper-fbank"):
        train(stored, tmp_path / "run")
