"""`egrecho personal`: from a folder to a verdict, the base measured first, adopted only if better on test."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
from tiny import RATE, WORDS, save_tiny, tones

from egrecho_inner.config import parse
from egrecho_inner.errors import ConfigError
from egrecho_inner.personal import personal
from egrecho_inner.text.scoring import score
from egrecho_inner.training.personal.assess import Assessed, judge
from egrecho_inner.training.personal.options import TuneOptions
from egrecho_inner.training.personal.recipe import peak_rate

SMALL = ["--tune.epochs", "1", "--tune.patience", "null", "--scoring.normalizer", "none", "--language", "en"]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("base") / "model", ending=3.3)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("clips")
    rng = np.random.default_rng(0)
    for number in range(64):
        words = [str(word) for word in rng.choice(WORDS, 2)]
        soundfile.write(place / f"u{number:02d}.wav", tones(words, 1.0, rng), RATE)
        (place / f"u{number:02d}.txt").write_text(" ".join(words))
    return place


def go(folder: Path, outdir: Path, base: Path, *more: str) -> dict:
    personal(**parse(personal, [str(folder), str(outdir), "--model_path", str(base), *SMALL, *more]))
    return json.loads((outdir / "report.json").read_text())


def test_a_run_goes_from_folder_to_verdict(folder: Path, base: Path, tmp_path: Path) -> None:
    report = go(folder, tmp_path / "me", base)
    assert report["verdict"] in ("better", "worse", "within noise")
    assert report["base_scores"].keys() == report["tuned_scores"].keys() == {"dev", "test"}
    assert sum(report["clips"].values()) < 64
    for name in ("basemodel_eval_result.txt", "final_eval_result.txt"):
        assert "test: WER" in (tmp_path / "me" / name).read_text()
    assert (tmp_path / "me" / "final" / "model.safetensors").is_file()
    lines = [json.loads(line) for line in (tmp_path / "me" / "events.jsonl").read_text().splitlines()]
    assert [line["phase"] for line in lines if "phase" in line] == [
        "preparing training",
        "running base model evaluation",
        "running training",
        "saving best model",
        "running final model evaluation",
    ]
    # finished: nothing is done again, other settings are refused
    stamp = (tmp_path / "me" / "report.json").stat().st_mtime_ns
    assert go(folder, tmp_path / "me", base) == report
    assert (tmp_path / "me" / "report.json").stat().st_mtime_ns == stamp
    with pytest.raises(ConfigError, match="other settings"):
        go(folder, tmp_path / "me", base, "--tune.seed", "3")


def assessed(errors: list[int]) -> Assessed:
    pairs = [(f"u{n}", "a b c d", " ".join("abcd"[wrong:])) for n, wrong in enumerate(errors)]
    return Assessed(Path(), score(pairs, "wer"), pairs, "none")


def test_only_a_significant_gain_is_adopted() -> None:
    base = assessed([2] * 20)
    assert judge([base], [assessed([0] * 20)]).adopted
    assert judge([base], [assessed([3] * 20)]).word == "worse"
    noise = judge([base], [assessed([1, 3] * 9 + [1, 2])])
    assert noise.word == "within noise"
    assert not noise.adopted


def test_learning_rates_follow_the_published_ones() -> None:
    published = {39e6: 3.75e-5, 74e6: 2.5e-5, 244e6: 1.25e-5, 769e6: 6.25e-6, 1550e6: 4.375e-6}
    for size, rate in published.items():
        assert peak_rate(TuneOptions(), "encoder", int(size)) == pytest.approx(rate, rel=0.1)
    assert peak_rate(TuneOptions(learning_rate=1e-5), "full", 39_000_000) == 1e-5
