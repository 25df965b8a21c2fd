"""A teacher on disk teaches what the teacher itself would: the same loss, for every choice that training draws."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import save_tiny, speech_cuts

from egrecho_inner.cache_logits import cache_logits
from egrecho_inner.data.batches.cut_list import CutList
from egrecho_inner.data.batches.log_mel import LogMel
from egrecho_inner.data.batches.options import TargetOptions
from egrecho_inner.data.batches.plan import Batch
from egrecho_inner.data.batches.targets import TargetBatches
from egrecho_inner.data.batches.teacher_tokens import LogitCache, ShardWriter
from egrecho_inner.errors import ConfigError, DataError
from egrecho_inner.model.loading import load_model, load_processor
from egrecho_inner.runtime.ledger import read_ledger
from egrecho_inner.text.labels import LabelEncoder
from egrecho_inner.training.kd import kl_sum, kl_top_sum

OPTIONS = TargetOptions(text="teacher", timestamps=0.5, previous=0.5)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A teacher and six labelled cuts, half of them with times, two thirds with a previous text."""
    folder = tmp_path_factory.mktemp("home")
    save_tiny(folder / "teacher", seed=3)
    lines = speech_cuts(folder, 6).read_text().splitlines()
    for number, line in enumerate(lines):
        row = json.loads(line)
        said = {"text": f"word {number}", "language": "en", "task": "transcribe"}
        said |= {"segments": [[0.0, 0.4, f"word {number}"]]} if number % 2 else {}
        said |= {"previous": "before"} if number % 3 else {}
        row["supervisions"][0]["custom"] = {"teacher": said}
        lines[number] = json.dumps(row)
    (folder / "labelled.jsonl").write_text("".join(f"{line}\n" for line in lines))
    return folder


def batches_of(home: Path, cache: LogitCache) -> TargetBatches:
    labels = LabelEncoder(load_processor(str(home / "teacher")).tokenizer)
    return TargetBatches(
        CutList(str(home / "labelled.jsonl")), labels, LogMel(80), options=OPTIONS, seed=1, cache=cache
    )


def make(home: Path, out: Path, **options: object) -> LogitCache:
    given = {"targets": OPTIONS, "top_k": 2000, "shard_size": 2, "batch_size": 3} | options
    cache_logits(str(home / "labelled.jsonl"), str(out), str(home / "teacher"), **given)
    return LogitCache(out)


def test_the_loss_is_that_of_the_teacher_itself(home: Path, tmp_path: Path) -> None:
    # K of 2000 is more than the 1,900 tokens there are: nothing is left out but rounding to half precision
    cache = make(home, tmp_path / "all")
    teacher = load_model(str(home / "teacher")).eval()
    batches, seen = batches_of(home, cache), set()
    for epoch in range(6):
        loaded = batches[Batch(epoch, np.arange(6), False)]
        assert not loaded.skipped
        batch = loaded.inputs
        targets = batch["labels"] != -100
        with torch.no_grad():
            logits = teacher(
                batch["input_features"], batch["attention_mask"], decoder_input_ids=batch["decoder_input_ids"]
            ).logits[targets]
        student = torch.randn_like(logits)
        whole = kl_sum(student, logits, 2.0).item()
        found = kl_top_sum(student, batch["top_ids"][targets], batch["top_log_q"][targets], 2.0).item()
        assert found == pytest.approx(whole, rel=5e-3)
        seen.add(tuple(batch["decoder_input_ids"].flatten().tolist()))
    assert len(seen) > 3  # the draws differ from epoch to epoch


def test_a_killed_cache_continues_and_another_is_refused(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, real = tmp_path / "cache", ShardWriter.write

    def dies(self: ShardWriter, skips: list) -> None:
        if self.shard.number == 1:
            raise KeyboardInterrupt
        real(self, skips)

    with monkeypatch.context() as patch:
        patch.setattr(ShardWriter, "write", dies)
        with pytest.raises(KeyboardInterrupt):
            make(home, out, top_k=4)
    with pytest.raises(DataError, match="no finished cache"):
        LogitCache(out)
    with pytest.raises(ConfigError, match="other temperature"):
        make(home, out, top_k=4, temperature=1.0)
    written: list[int] = []
    monkeypatch.setattr(
        ShardWriter, "write", lambda self, skips: (written.append(self.shard.number), real(self, skips))
    )
    assert len(make(home, out, top_k=4).places) > 6
    assert written == [1, 2]
    make(home, out, top_k=4)
    assert written == [1, 2]


def test_rows_of_another_text_are_refused(home: Path, tmp_path: Path) -> None:
    cache = make(home, tmp_path / "cache", top_k=4)
    batches = batches_of(home, cache)
    cut = batches.cuts[1]
    batches.label(cut, 0)
    cut.supervisions[0].custom["teacher"]["text"] = "other"
    cut.supervisions[0].custom["teacher"]["segments"] = []
    with pytest.raises(DataError):
        batches.label(cut, 0)


def test_what_cannot_be_used_is_in_the_ledger_and_too_much_is_an_error(home: Path, tmp_path: Path) -> None:
    rows = [json.loads(line) for line in (home / "labelled.jsonl").read_text().splitlines()]
    del rows[2]["supervisions"][0]["custom"]
    (tmp_path / "some.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    given = [str(tmp_path / "some.jsonl"), str(tmp_path / "cache"), str(home / "teacher")]
    with pytest.raises(DataError, match="1 of 6 would be left out"):
        cache_logits(*given, targets=OPTIONS, shard_size=2)
    assert not (tmp_path / "cache" / "facts.json").exists()
    cache_logits(*given, targets=OPTIONS, shard_size=2, max_skip_ratio=0.2)
    assert [skip.id for skip in read_ledger(tmp_path / "cache" / "skipped.jsonl")] == [rows[2]["id"]]
    assert rows[2]["id"] not in {choice.cut for choice in LogitCache(tmp_path / "cache").places}


def test_audio_that_could_not_be_read_is_counted_and_tried_again(home: Path, tmp_path: Path) -> None:
    # one broken file once ended the whole program
    wave = home / "cuts" / "cuts003.wav"
    given = [str(home / "labelled.jsonl"), str(tmp_path / "cache"), str(home / "teacher")]
    good, time = wave.read_bytes(), wave.stat().st_mtime_ns
    try:
        wave.write_bytes(bytes(len(good)))
        os.utime(wave, ns=(time, time))
        cache_logits(*given, targets=OPTIONS, shard_size=2, max_skip_ratio=0.2)
        (skip,) = read_ledger(tmp_path / "cache" / "skipped.jsonl")
        assert (skip.id, skip.stage, skip.reason) == ("cuts003-0", "cache-logits", "unusable audio")
        assert "cuts003-0" not in {choice.cut for choice in LogitCache(tmp_path / "cache").places}
    finally:
        wave.write_bytes(good)
        os.utime(wave, ns=(time, time))
    before = (tmp_path / "cache" / "ids-0.npy").stat().st_mtime_ns
    cache_logits(*given, targets=OPTIONS, shard_size=2)
    assert "cuts003-0" in {choice.cut for choice in LogitCache(tmp_path / "cache").places}
    assert (tmp_path / "cache" / "ids-0.npy").stat().st_mtime_ns == before, "the other shards stay"
    assert read_ledger(tmp_path / "cache" / "skipped.jsonl") == []
