"""full.py and lora.py hand packed cuts' times and previous texts to training."""

from pathlib import Path
from typing import Any

import pytest
from tiny import save_tiny, speech_cuts

from egrecho_inner import full, lora
from egrecho_inner.data.cut_list import CutList
from egrecho_inner.data.options import DataOptions, PackOptions, TargetOptions
from egrecho_inner.model.loading import load_processor
from egrecho_inner.model.options import ModelOptions
from egrecho_inner.pack_cuts import pack_cuts
from egrecho_inner.text.labels import LabelEncoder


@pytest.mark.parametrize("program", [full, lora])
@pytest.mark.parametrize("timestamps", [0.0, 1.0])
def test_packed_windows_are_learned_with_times_if_asked(
    program: Any, timestamps: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest, packed = speech_cuts(tmp_path, n=6), tmp_path / "packed.jsonl"
    pack_cuts(str(manifest), str(packed), PackOptions(by="speaker", max_duration=12.0))
    caught: dict[str, Any] = {}
    monkeypatch.setattr(program, "fit", lambda *_, **named: caught.update(named))
    model = ModelOptions(str(save_tiny(tmp_path / "model")))
    train = program.train_full if program is full else program.train_lora
    train(model, DataOptions(str(packed)), str(tmp_path / "run"), targets=TargetOptions(timestamps=timestamps))
    tokenizer = load_processor(model.path).tokenizer
    batches = caught["make_batches"](CutList([str(packed)]), LabelEncoder(tokenizer, "en", "transcribe", True), 80)
    names = tokenizer.convert_ids_to_tokens(batches.label(batches.cuts[0], 0).inputs)
    times = [name for name in names if name.startswith("<|") and name[2:-2].replace(".", "").isdigit()]
    segments = batches.cuts[0].supervisions[0].custom["segments"]
    assert len(segments) > 1
    assert len(times) == (2 * len(segments) if timestamps else 0)
    assert ("<|notimestamps|>" in names) is (timestamps == 0.0)
