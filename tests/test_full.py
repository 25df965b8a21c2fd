"""full.py and lora.py hand packed cuts' times and previous texts to training, and their models say so."""

import json
from pathlib import Path
from typing import Any

import pytest
from tiny import save_tiny, speech_cuts

from egrecho_inner import full, lora
from egrecho_inner.data.batches.cut_list import CutList
from egrecho_inner.data.batches.log_mel import LogMel
from egrecho_inner.data.batches.options import BatchOptions, DataOptions, PackOptions, TargetOptions
from egrecho_inner.decoding.options import DecodeOptions
from egrecho_inner.decoding.transcribe import Transcriber
from egrecho_inner.merge_lora import merge_lora
from egrecho_inner.model.loading import load_model, load_processor
from egrecho_inner.model.options import ModelOptions
from egrecho_inner.pack_cuts import pack_cuts
from egrecho_inner.text.labels import LabelEncoder
from egrecho_inner.training.options import TrainOptions


@pytest.mark.parametrize("program", [full, lora])
@pytest.mark.parametrize("timestamps", [0.0, 1.0])
def test_packed_windows_are_learned_with_times_if_asked(
    program: Any, timestamps: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest, packed = speech_cuts(tmp_path, n=6), tmp_path / "packed.jsonl"
    pack_cuts(str(manifest), str(packed), PackOptions(by="speaker", max_duration=12.0))
    caught: dict[str, Any] = {}
    monkeypatch.setattr("egrecho_inner.training.fit.fit", lambda *_, **named: caught.update(named))
    model = ModelOptions(str(save_tiny(tmp_path / "model")))
    train = program.train_full if program is full else program.train_lora
    train(model, DataOptions(str(packed)), str(tmp_path / "run"), targets=TargetOptions(timestamps=timestamps))
    tokenizer = load_processor(model.path).tokenizer
    labels = LabelEncoder(tokenizer, "en", "transcribe", True)
    batches = caught["make_batches"](CutList([str(packed)]), labels, LogMel(80))
    names = tokenizer.convert_ids_to_tokens(batches.label(batches.cuts[0], 0).inputs)
    times = [name for name in names if name.startswith("<|") and name[2:-2].replace(".", "").isdigit()]
    segments = batches.cuts[0].supervisions[0].custom["segments"]
    assert len(segments) > 1
    assert len(times) == (2 * len(segments) if timestamps else 0)
    assert ("<|notimestamps|>" in names) is (timestamps == 0.0)


@pytest.mark.parametrize(("packs", "share", "expected"), [(True, 0.5, True), (True, 0.0, False), (False, 0.5, False)])
def test_a_model_says_whether_it_can_be_followed_by_timestamps(
    packs: bool, share: float, expected: bool, tmp_path: Path
) -> None:
    manifest, packed = speech_cuts(tmp_path, n=6), tmp_path / "packed.jsonl"
    pack_cuts(str(manifest), str(packed), PackOptions(by="speaker", max_duration=12.0 if packs else 0.0))
    base = save_tiny(tmp_path / "model")
    config = json.loads((base / "config.json").read_text()) | {"timestamps": not expected}
    (base / "config.json").write_text(json.dumps(config))
    given = {
        "model": ModelOptions(str(base)),
        "data": DataOptions(str(packed)),
        "batch": BatchOptions(max_duration=None, batch_size=1),
        "train": TrainOptions(max_steps=1, workers=0, report_to=[]),
        "targets": TargetOptions(timestamps=share),
    }
    full.train_full(out=str(tmp_path / "full"), **given)
    lora.train_lora(out=str(tmp_path / "lora"), **given)
    merge_lora(str(tmp_path / "lora" / "adapter"), str(tmp_path / "merged"), str(base))
    for folder in (tmp_path / "full" / "final", tmp_path / "merged"):
        assert json.loads((folder / "config.json").read_text())["timestamps"] is expected
        model, processor = load_model(str(folder)), load_processor(str(folder))
        assert (Transcriber(model, processor, DecodeOptions(language="en")).follower is not None) is expected
