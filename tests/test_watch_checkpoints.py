"""Another process evaluates a run's checkpoints: its leases, its death in the middle, its scores, its choice."""

import json
import os
import shutil
import signal
import sys
import threading
import time
from pathlib import Path

import pytest
import yaml
from tiny import speech_cuts, tiny_processor

sys.path.insert(0, str(Path(__file__).parent / "training"))
from runs import in_child, train

from egrecho_inner.errors import ConfigError
from egrecho_inner.runtime.files import digest_file
from egrecho_inner.training import watching
from egrecho_inner.training.checkpoints import folder as checkpoint
from egrecho_inner.training.checkpoints import leases
from egrecho_inner.training.checkpoints.result import chosen_checkpoint
from egrecho_inner.training.checkpoints.scores import best_scored, is_scored
from egrecho_inner.watch_checkpoints import watch_checkpoints


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return speech_cuts(tmp_path_factory.mktemp("cuts"), n=6)


@pytest.fixture
def run(manifest: Path, tmp_path: Path) -> Path:
    """A run that wrote checkpoints 3, 6 and 7 and has no result yet."""
    train(manifest, tmp_path / "run", save_steps=3, keep_checkpoints=5)
    os.rename(tmp_path / "run/final", tmp_path / "final")
    prepare(tmp_path / "run", tmp_path)
    return tmp_path / "run"


def prepare(run: Path, folder: Path) -> None:
    """Say where the tokenizer is, as the configuration of `egrecho full` does."""
    tiny_processor().save_pretrained(folder / "processor")
    tiny_processor().feature_extractor.save_pretrained(folder / "processor")
    config = yaml.safe_load((run / "config.yaml").read_text()) | {"model": {"path": str(folder / "processor")}}
    (run / "config.yaml").write_text(yaml.safe_dump(config))


def names(run: Path) -> list[str]:
    return [path.name for _, path in checkpoint.steps(run)]


def watched(run: Path) -> list[dict]:
    lines = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    return [line for line in lines if "watched_wer" in line]


def watch(run: Path, manifest: Path, **changes: object) -> None:
    watch_checkpoints(str(run), str(manifest), once=True, device="cpu", **changes)


def test_scores_reach_the_metrics_of_the_run(run: Path, manifest: Path) -> None:
    watch(run, manifest)
    lines = watched(run)
    assert [line["step"] for line in lines] == [7, 6, 3] and all(line["watched_wer"] >= 0 for line in lines)
    assert lines[0]["eval_wer_cuts"] == lines[0]["watched_wer"]
    results = json.loads((run / "scores/checkpoint-7/cuts/results.json").read_text())
    assert results["error_rate"] == lines[0]["watched_wer"]
    assert not list((run / "leases").glob("*.lease")) and not list((run / "scores").glob(".*.model"))
    watch(run, manifest)
    assert len(watched(run)) == 3  # and none twice
    marker = run / "checkpoint-6" / checkpoint.MARKER
    marker.write_text(marker.read_text() + " ")  # as if written again, with other weights
    watch(run, manifest)
    assert [line["step"] for line in watched(run)] == [7, 6, 3, 6]


def test_a_killed_evaluator_gives_its_lease_back(run: Path, manifest: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed() -> None:
        watching.score_set = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
        watch(run, manifest)

    assert in_child(killed) == -signal.SIGKILL
    assert leases.lease_path(run, "checkpoint-7").is_file() and not watched(run)
    assert not leases.is_live(leases.lease_path(run, "checkpoint-7"))
    watch(run, manifest)
    assert [line["step"] for line in watched(run)] == [7, 6, 3]


def test_rotation_spares_what_is_leased(run: Path) -> None:
    pid = os.fork()
    if pid == 0:
        with leases.lease(run, "checkpoint-3"):
            time.sleep(60)
        os._exit(0)
    path = leases.lease_path(run, "checkpoint-3")
    while not leases.is_live(path):
        time.sleep(0.01)
    with leases.lease(run, "checkpoint-3") as held:
        assert not held
    checkpoint.rotate(run, 1, None)
    assert names(run) == ["checkpoint-7", "checkpoint-3"]
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    with leases.lease(run, "checkpoint-3") as held:
        assert held  # taken over from the dead
    checkpoint.rotate(run, 1, None)
    assert names(run) == ["checkpoint-7"]


def test_rotation_spares_what_is_not_scored_while_an_evaluator_chooses(
    run: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def score(name: str, rate: float) -> None:
        watching.report_scores(
            run, name, digest_file(run / name / checkpoint.MARKER), {"cuts": {"metric": "wer", "error_rate": rate}}
        )

    for step in (8, 9):
        shutil.copytree(run / "checkpoint-7", run / f"checkpoint-{step}")
    with leases.lease(run, leases.CHOOSER):
        checkpoint.rotate(run, 1, None)
        assert len(names(run)) == 5 and "deleted" not in caplog.text
        score("checkpoint-7", 0.5)
        score("checkpoint-6", 0.25)  # by another evaluator: the one that chooses has not seen it yet
        checkpoint.rotate(run, 1, None)
        assert names(run) == ["checkpoint-9", "checkpoint-8", "checkpoint-6", "checkpoint-3"]
        monkeypatch.setattr(checkpoint, "WAITING", 1)
        checkpoint.rotate(run, 1, None)
        assert names(run) == ["checkpoint-9", "checkpoint-8", "checkpoint-6"]
        assert "as training is faster: ['checkpoint-3']" in caplog.text
        assert best_scored(run, names(run)) == {"checkpoint": "checkpoint-6", "metric": "wer", "score": 0.25}
    path = leases.lease_path(run, leases.CHOOSER)  # one of another machine, which has died
    path.write_text(json.dumps({"machine": "elsewhere", "pid": 1}))
    os.utime(path, (0, time.time() - leases.STALE - 1))
    checkpoint.rotate(run, 1, None)
    assert names(run) == ["checkpoint-9"]


def test_what_another_evaluator_scored_last_is_chosen(run: Path) -> None:
    """The wait ends when none is evaluated; the choice is made of all scores, whoever reported them."""
    rates = {"checkpoint-3": 0.5, "checkpoint-6": 0.25, "checkpoint-7": 0.125}
    with leases.lease(run, leases.CHOOSER):
        for name, rate in rates.items():
            marker = digest_file(run / name / checkpoint.MARKER)
            watching.report_scores(run, name, marker, {"cuts": {"metric": "wer", "error_rate": rate}})
            if name == "checkpoint-6":
                checkpoint.choose_best(run)
        assert chosen_checkpoint(run) == run / "checkpoint-7"
        with leases.lease(run, "checkpoint-7"):
            threading.Timer(0.3, lambda: leases.lease_path(run, "checkpoint-7").unlink()).start()
            leases.wait_for_chooser(run, list(rates), is_scored, patience=0.01)
            assert not leases.lease_path(run, "checkpoint-7").exists()


def test_a_lease_of_another_machine_lives_while_it_is_touched(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = leases.lease_path(run, "checkpoint-3")
    path.parent.mkdir()
    path.write_text(json.dumps({"machine": "elsewhere", "pid": 1}))
    assert leases.is_live(path)
    os.utime(path, (0, time.time() - leases.STALE - 1))
    assert not leases.is_live(path)
    monkeypatch.setattr(leases, "BEAT", 0.05)
    with leases.lease(run, "checkpoint-6"):
        mine = leases.lease_path(run, "checkpoint-6")
        os.utime(mine, (0, 0))
        time.sleep(0.5)
        assert mine.stat().st_mtime > 1


def test_the_evaluators_choice_becomes_the_result(
    manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two processes, side by side: training ends only when the one that chooses has scored the last checkpoint."""
    run = tmp_path / "run"
    pid = os.fork()
    if pid == 0:
        rates = {"checkpoint-3": 0.5, "checkpoint-6": 0.25, "checkpoint-7": 0.75}

        def scored(run: Path, name: str, sets: object) -> None:
            """Stand for decoding, whose rates of a model that has learned nothing are all alike."""
            time.sleep(0.3)
            marker = digest_file(run / name / checkpoint.MARKER)
            found = {"metric": "wer", "error_rate": rates[name]}
            watching.report_scores(run, name, marker, {"cuts": found})

        watching.score_checkpoint = scored
        code = 1
        try:
            while not (run / "config.yaml").is_file():
                time.sleep(0.01)
            time.sleep(0.05)
            prepare(run, tmp_path)
            watch_checkpoints(str(run), str(manifest), choose=True, device="cpu", interval=0.05)
            code = 0
        finally:
            os._exit(code)
    chooser = leases.lease_path(run, leases.CHOOSER)
    monkeypatch.setattr(checkpoint, "check_space", lambda *_: wait_for(chooser))  # before the first one is written
    train(manifest, run, save_steps=3, keep_checkpoints=1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert json.loads((run / "final/training.json").read_text())["best"] == "checkpoint-6"
    assert sorted(line["step"] for line in watched(run)) == [3, 6, 7]
    assert leases.chosen(run) == {"checkpoint": "checkpoint-6", "metric": "wer", "score": 0.25}
    assert not is_scored(run, "checkpoint-3") or "checkpoint-3" not in names(run)


def wait_for(path: Path) -> None:
    """Wait for a lease, in a test that would end before the other process has begun."""
    for _ in range(6000):
        if leases.is_live(path):
            return
        time.sleep(0.01)
    raise AssertionError("the other process did not begin")


def test_what_cannot_be_watched_is_refused(run: Path, manifest: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"has no config\.yaml"):
        watch(tmp_path / "nothing", manifest)
    with leases.lease(run, leases.CHOOSER), pytest.raises(ConfigError, match="another process chooses"):
        watch(run, manifest, choose=True)
    config = yaml.safe_load((run / "config.yaml").read_text()) | {"lora": {"r": 4}}
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    with pytest.raises(ConfigError, match="trains an adapter"):
        watch(run, manifest)
