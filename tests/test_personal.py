"""`egrecho personal`: from a folder to a verdict, the base measured first, adopted only if better on test."""

import contextlib
import json
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from safetensors.torch import load_file
from tiny import RATE, WORDS, save_tiny, tones

from egrecho_inner.config import parse
from egrecho_inner.errors import ConfigError, Interrupted
from egrecho_inner.personal import personal
from egrecho_inner.text.scoring import score
from egrecho_inner.training.personal.assess import Assessed, judge
from egrecho_inner.training.personal.curve import extrapolate
from egrecho_inner.training.personal.guard import choose_alpha, exceeds, mix
from egrecho_inner.training.personal.options import GuardOptions, TuneOptions
from egrecho_inner.training.personal.recipe import peak_rate

SMALL = [
    "--tune.epochs",
    "1",
    "--tune.patience",
    "null",
    "--tune.padded",
    "0",
    "--scoring.normalizer",
    "none",
    "--language",
    "en",
]


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
    personal(**parse(personal, [str(folder), str(outdir), "--model", str(base), *SMALL, *more]))
    return json.loads((outdir / "report.json").read_text())


def test_a_run_goes_from_folder_to_verdict(folder: Path, base: Path, tmp_path: Path) -> None:
    report = go(folder, tmp_path / "me", base)
    assert report["verdict"] in ("better", "worse", "within noise")
    assert report["base_scores"].keys() == report["tuned_scores"].keys() == {"dev", "test"}
    for name in ("basemodel_eval_result.txt", "final_eval_result.txt"):
        assert "test: WER" in (tmp_path / "me" / name).read_text()
    assert (tmp_path / "me" / "final" / "model.safetensors").is_file()
    shown = (tmp_path / "me" / "report.html").read_text()
    assert shown.count("<audio") == report["base_scores"]["test"]["utterances"]
    rows = json.loads((tmp_path / "me" / "compare.json").read_text())["recordings"]
    assert len(rows) == report["base_scores"]["test"]["utterances"]
    assert sum(row["base"]["errors"] for row in rows) > 0
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


def test_a_language_that_nobody_names_is_detected(folder: Path, base: Path, tmp_path: Path) -> None:
    words = [str(folder), str(tmp_path / "me"), "--model", str(base), *SMALL[:-2]]
    personal(**parse(personal, words))
    report = json.loads((tmp_path / "me" / "report.json").read_text())
    note = next(note for note in report["notes"] if note.startswith("the language is "))
    code = note.split()[3].rstrip(":")
    rows = (tmp_path / "me" / "base" / "test" / "hyps.jsonl").read_text().splitlines()
    assert {json.loads(row)["decoded_as"] for row in rows} == {code}


def test_only_the_encoder_is_trained_by_default(folder: Path, base: Path, tmp_path: Path) -> None:
    go(folder, tmp_path / "me", base, "--tune.learning_rate", "0.01")
    before, after = (load_file(path / "model.safetensors") for path in (base, tmp_path / "me/train/encoder/final"))
    changed = {name.split(".")[1] for name, value in before.items() if not torch.equal(value, after[name])}
    assert changed == {"encoder"}


def test_a_killed_run_goes_on_to_the_same_end(folder: Path, base: Path, tmp_path: Path) -> None:
    words = ["--tune.epochs", "2", "--tune.learning_rate", "0.001"]
    whole = go(folder, tmp_path / "whole", base, *words)
    with pytest.raises(Interrupted):
        interrupted = tmp_path / "cut" / "train" / "encoder"
        interrupted.mkdir(parents=True)
        with stop_after(interrupted, step=3):
            go(folder, tmp_path / "cut", base, *words)
    assert not (tmp_path / "cut" / "report.json").exists()
    again = go(folder, tmp_path / "cut", base, *words)
    for key in ("base_scores", "tuned_scores", "verdict", "delta"):
        assert again[key] == whole[key]


@contextlib.contextmanager
def stop_after(run: Path, step: int) -> Iterator[None]:
    """Ask a training to stop once its log has a step."""

    def watch() -> None:
        for _ in range(3000):
            log = run / "metrics.jsonl"
            if log.is_file() and any(json.loads(line)["step"] >= step for line in log.read_text().splitlines()):
                (run / "STOP").touch()
                return
            time.sleep(0.01)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    yield
    thread.join()


def test_few_recordings_are_tested_by_folds(folder: Path, base: Path, tmp_path: Path) -> None:
    few = tmp_path / "few"
    few.mkdir()
    for path in [*sorted(folder.glob("*.wav"))[:21], *sorted(folder.glob("*.txt"))[:21]]:
        shutil.copy(path, few)
    report = go(few, tmp_path / "me", base, "--split.folds", "3", "--tune.policy", "encoder-top")
    assert report["base_scores"].keys() == {"fold0", "fold1", "fold2", "test"}
    assert report["base_scores"]["test"]["utterances"] == report["tuned_scores"]["test"]["utterances"] == 21
    assert any("had not learned it" in note for note in report["notes"])
    trained = json.loads((tmp_path / "me/train/encoder-top-all/final/training.json").read_text())
    assert trained["step"] == report["tried"]["encoder-top"]["step"]


def test_guard_and_curve_are_in_the_report(folder: Path, base: Path, tmp_path: Path) -> None:
    words = ["--guard.data", str(folder), "--guard.limit", "20", "--guard.alphas", "[1.0,0.5]", "--guard.budget", "0"]
    report = go(folder, tmp_path / "me", base, *words, "--tune.curve", "[0.5]", "--tune.learning_rate", "0.01")
    assert report["guard"]["alpha"] in (1.0, 0.5)
    assert {"forgotten", "interval", "word", "tried"} <= report["guard"].keys()
    assert report["base_scores"]["guard_dev"]["utterances"] == report["base_scores"]["guard_test"]["utterances"] == 10
    small, full = report["curve"]["points"]
    assert small["recordings"] == round(full["recordings"] / 2)


def test_a_mix_lies_between(base: Path, tmp_path: Path) -> None:
    other = save_tiny(tmp_path / "other", seed=5)
    (other / "training.json").write_text(json.dumps({"input_window": "longest"}))
    mixed = load_file(mix(str(base), other, 0.25, tmp_path / "mixed") / "model.safetensors")
    first, second = (load_file(path / "model.safetensors") for path in (base, other))
    for name, value in mixed.items():
        torch.testing.assert_close(value, 0.75 * first[name] + 0.25 * second[name])
    assert mix(str(base), other, 1.0, tmp_path / "none") == other


def test_the_guard_takes_the_best_mix_within_its_budget(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("egrecho_inner.training.personal.guard.mix", lambda base, tuned, alpha, out: Path(str(alpha)))
    forgets = {"1.0": 4, "0.75": 2, "0.5": 1, "0.25": 1}  # errors of four words, of 5 recordings; the base has 1
    dev = {"0.5": 0, "0.25": 2}

    def measure(model: Path, name: str, part: str) -> Assessed:
        return assessed([(dev if part == "dev" else forgets)[str(model)]] * 5)

    words = ("base", Path("1.0"), assessed([1] * 5), tmp_path, measure)
    model, found = choose_alpha(GuardOptions(alphas=(1.0, 0.75, 0.5, 0.25)), *words, with_dev=True)
    assert (str(model), found["alpha"]) == ("0.5", 0.5)
    assert [row["fits"] for row in found["tried"]] == [False, False, True, True]
    model, found = choose_alpha(GuardOptions(alphas=(1.0, 0.75)), *words, with_dev=True)
    assert found["alpha"] == 0.75  # none fits: the one that forgets least, and the verdict says so
    lost = judge([assessed([1] * 20)], [assessed([2] * 20)])
    assert exceeds(lost, 0.01)
    assert not exceeds(lost, 0.5)


def test_a_power_law_is_read_further_on() -> None:
    found = extrapolate([(25, 0.4), (50, 0.2), (100, 0.1)], words=1000)
    assert found["exponent"] == pytest.approx(1.0)
    assert found["expected"][100] == pytest.approx(0.05)
    assert extrapolate([(25, 0.1), (50, 0.2)], words=100)["expected"] == {}
    assert extrapolate([(50, 0.1), (100, 0.0)], words=100)["expected"][100] < 0.005


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
