"""egrecho pseudo-label: the teacher's words on every cut, once, whatever happened on the way."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from lhotse import CutSet, SupervisionSegment
from tiny import save_tiny, speech_cut, speech_cuts, without_language

from egrecho_inner import pseudo_label as program
from egrecho_inner.data.cuts.fields import reference_of, teacher_of
from egrecho_inner.data.cuts.index import CutIndex
from egrecho_inner.decoding.options import DecodeOptions
from egrecho_inner.decoding.transcribe import transcribe
from egrecho_inner.errors import ConfigError, DataError
from egrecho_inner.model.loading import load_model, load_processor
from egrecho_inner.pseudo_label import pseudo_label
from egrecho_inner.runtime.ledger import read_ledger

ROOT = Path(__file__).parents[1]
QUICK = DecodeOptions(max_new_tokens=12)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a teacher and a set."""
    folder = tmp_path_factory.mktemp("home")
    save_tiny(folder / "teacher", seed=3, ending=3.1)
    speech_cuts(folder, 9)
    return folder


@pytest.fixture
def run(home: Path, tmp_path: Path) -> Callable[..., list[dict[str, Any]]]:
    """Label into a new folder and return the lines."""

    def call(name: str = "out.jsonl", **arguments: Any) -> list[dict[str, Any]]:
        given = {"cuts": str(home / "cuts.jsonl"), "model": str(home / "teacher"), "decode": QUICK}
        pseudo_label(out=str(tmp_path / name), **{**given, "shard_size": 2, **arguments})
        return [json.loads(line) for line in (tmp_path / name).read_text(encoding="utf-8").splitlines()]

    return call


def test_every_cut_has_the_teachers_words_and_is_otherwise_unchanged(run: Callable, home: Path) -> None:
    rows = run()
    before = [json.loads(line) for line in (home / "cuts.jsonl").read_text().splitlines()]
    model = load_model(str(home / "teacher"))
    cuts = CutIndex(home / "cuts.jsonl")
    heard = {each.id: each for each in transcribe(model, load_processor(str(home / "teacher")), cuts, QUICK)}
    assert [row["id"] for row in rows] == [row["id"] for row in before]
    for row, old in zip(rows, before, strict=True):
        label = row["supervisions"][0].pop("custom")["teacher"]
        assert row == old
        assert label["text"] == heard[row["id"]].text
        assert label["avg_logprob"] == pytest.approx(heard[row["id"]].avg_logprob, abs=1e-3)
        assert label["truncated"] is heard[row["id"]].truncated
        assert label["model"] == str(home / "teacher")
        assert len(label["revision"]) == 64
    assert any(each.truncated for each in heard.values())
    assert not all(each.truncated for each in heard.values())


def test_a_killed_labelling_goes_on_behind_its_last_shard(
    run: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = run("whole.jsonl")
    real, done = program.label_shard, []

    def dies(*arguments: Any) -> None:
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(arguments[-1].number)
        real(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(program, "label_shard", dies)
        with pytest.raises(KeyboardInterrupt):
            run()
    assert not (tmp_path / "out.jsonl").exists()
    monkeypatch.setattr(program, "label_shard", lambda *a: (done.append(a[-1].number), real(*a)))
    assert run() == whole
    assert done == [0, 1, 2, 3, 4]
    assert sorted(p.name for p in tmp_path.iterdir() if p.name.startswith(".out")) == []
    run()  # finished: nothing is decoded again
    assert done == [0, 1, 2, 3, 4]


def test_another_teacher_or_option_never_mixes_in(run: Callable, home: Path) -> None:
    run()
    with pytest.raises(ConfigError, match="made by another teacher"):
        run(decode=DecodeOptions(max_new_tokens=5))
    assert all(row["supervisions"][0]["custom"]["teacher"]["task"] == "transcribe" for row in run(overwrite=True))


def test_two_processes_write_what_one_writes(run: Callable, home: Path, tmp_path: Path) -> None:
    alone = run("alone.jsonl")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    command += [str(ROOT / "egrecho_inner/pseudo_label.py"), str(home / "cuts.jsonl"), str(tmp_path / "both.jsonl")]
    command += ["--model", str(home / "teacher"), "--shard_size", "2", "--decode.max_new_tokens", "12"]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=300, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert [json.loads(line) for line in (tmp_path / "both.jsonl").read_text().splitlines()] == alone


def test_timestamps_become_segments(run: Callable) -> None:
    rows = run(decode=DecodeOptions(max_new_tokens=40, timestamps=True))
    for row in rows:
        label = row["supervisions"][0]["custom"]["teacher"]
        times = [time for begin, end, _ in label["segments"] for time in (begin, end)]
        assert times == sorted(times)
        assert all(0 <= time <= row["duration"] + 0.01 for time in times)
        assert "<|" not in label["text"]
        assert "".join(text for *_, text in label["segments"]).replace(" ", "") == label["text"].replace(" ", "")


def test_audio_without_a_transcript_is_labelled(run: Callable, tmp_path: Path) -> None:
    cut = speech_cut(tmp_path, "bare", 1.0)
    cut.supervisions = []
    CutSet.from_cuts([cut]).to_file(tmp_path / "bare.jsonl")
    (row,) = run(cuts=str(tmp_path / "bare.jsonl"))
    spoken = row["supervisions"][0]
    assert "text" not in spoken
    assert spoken["duration"] == 1.0
    assert spoken["custom"]["teacher"]["language"]
    CutIndex(tmp_path / "out.jsonl")[0]


def test_a_cut_of_several_supervisions_has_one_teachers_text_that_training_finds(run: Callable, tmp_path: Path) -> None:
    cut = speech_cut(tmp_path, "parts", 2.0, "one two")
    parts = [(1.0, "two"), (0.0, "one")]
    cut.supervisions = [SupervisionSegment(text, "parts", start, 1.0, 0, text, "en") for start, text in parts]
    CutSet.from_cuts([cut]).to_file(tmp_path / "parts.jsonl")
    (row,) = run(cuts=str(tmp_path / "parts.jsonl"))
    assert ["custom" in each for each in row["supervisions"]] == [False, True], "the first in time"
    labelled = CutIndex(tmp_path / "out.jsonl")[0]
    assert teacher_of(labelled).text == row["supervisions"][1]["custom"]["teacher"]["text"]
    assert reference_of(labelled).text == "one two"


def test_a_language_that_the_teacher_lacks_is_in_the_ledger_and_may_be_forced(
    run: Callable, home: Path, tmp_path: Path
) -> None:
    teacher = without_language(Path(shutil.copytree(home / "teacher", tmp_path / "older")), "yue")
    names = [("fine", "en"), ("cantonese", "zh-HK"), ("klingon", "tlh"), ("misspelt", "zzz")]
    cuts = [speech_cut(tmp_path, name, 1.0, language=language) for name, language in names]
    CutSet.from_cuts(cuts).to_file(tmp_path / "three.jsonl")
    given = {"cuts": str(tmp_path / "three.jsonl"), "model": str(teacher)}
    rows = run(**given, max_skip_ratio=0.8)
    assert [row["id"] for row in rows] == ["fine-0"]
    assert {skip.id: skip.reason for skip in read_ledger(tmp_path / "skipped.jsonl")} == {
        "cantonese-0": "in yue, which this model has no token for",
        "klingon-0": "in tlh, which this model has no token for",
        "misspelt-0": "in 'zzz', which is no language of Whisper's",
    }
    forced = DecodeOptions(max_new_tokens=12, language="zh", force_language=True)
    rows = run("forced.jsonl", **given, decode=forced, max_skip_ratio=0.4)
    assert {row["id"] for row in rows} == {"fine-0", "cantonese-0", "klingon-0"}


def test_broken_and_overlong_audio_is_in_the_ledger(run: Callable, tmp_path: Path) -> None:
    cuts = [speech_cut(tmp_path, name, 1.0) for name in ("fine", "broken")] + [speech_cut(tmp_path, "long", 31.0)]
    (tmp_path / "broken.wav").write_bytes(b"nonsense")
    CutSet.from_cuts(cuts).to_file(tmp_path / "three.jsonl")
    with pytest.raises(DataError, match="2 of 3 would be left out"):
        run(cuts=str(tmp_path / "three.jsonl"), shard_size=3)
    rows = run(cuts=str(tmp_path / "three.jsonl"), shard_size=3, max_skip_ratio=0.7)
    assert [row["id"] for row in rows] == ["fine-0"]
    skips = {skip.id: skip.reason for skip in read_ledger(tmp_path / "skipped.jsonl")}
    assert skips == {"broken-0": "cannot be decoded", "long-0": "longer than 30 s"}


def test_what_could_not_be_read_is_tried_again(run: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cuts = [speech_cut(tmp_path, f"u{n}", 1.0, seed=n) for n in range(6)]
    CutSet.from_cuts(cuts).to_file(tmp_path / "six.jsonl")
    given = {"cuts": str(tmp_path / "six.jsonl"), "max_skip_ratio": 0.5}
    good = (tmp_path / "u3.wav").read_bytes()
    time = (tmp_path / "u3.wav").stat().st_mtime_ns
    (tmp_path / "u3.wav").write_bytes(bytes(len(good)))  # as a file server does that is not well
    os.utime(tmp_path / "u3.wav", ns=(time, time))
    assert [row["id"] for row in run(**given)] == ["u0-0", "u1-0", "u2-0", "u4-0", "u5-0"]
    real, done = program.label_shard, []
    monkeypatch.setattr(program, "label_shard", lambda *a: (done.append(a[-1].number), real(*a)))
    run(**given)
    assert done == []
    (tmp_path / "u3.wav").write_bytes(good)
    os.utime(tmp_path / "u3.wav", ns=(time, time))
    assert [row["id"] for row in run(**given)] == [cut.id for cut in cuts]
    assert done == [1], "its shard alone"
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".out")]


def test_labels_of_audio_that_was_replaced_are_not_taken_for_its_own(run: Callable, tmp_path: Path) -> None:
    cuts = [speech_cut(tmp_path, f"u{n}", 1.0, seed=n) for n in range(2)]
    CutSet.from_cuts(cuts).to_file(tmp_path / "two.jsonl")
    before = run(cuts=str(tmp_path / "two.jsonl"))
    speech_cut(tmp_path, "u1", 1.0, seed=7)
    with pytest.raises(ConfigError, match="from other cuts or audio"):
        run(cuts=str(tmp_path / "two.jsonl"))
    after = run(cuts=str(tmp_path / "two.jsonl"), overwrite=True)
    assert after[0] == before[0] and after[1] != before[1]
