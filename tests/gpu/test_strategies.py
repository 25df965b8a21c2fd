"""Sharding on one GPU, started by torchrun: DeepSpeed in bf16 and fp16, FSDP2; and decoding beside the CPU's."""

import math
from pathlib import Path

import pytest
import torch
from launching import launch, results
from tiny import tiny_model, tiny_processor

from egrecho_inner.data.batches.cut_list import CutList
from egrecho_inner.decoding.options import DecodeOptions
from egrecho_inner.decoding.transcribe import transcribe


@pytest.mark.parametrize("name", ["zero2", "zero3"])
def test_deepspeed_trains_evaluates_and_continues(cuts: Path, dev: Path, tmp_path: Path, name: str) -> None:
    pytest.importorskip("deepspeed", reason="extra deepspeed is not installed")
    words = (cuts, dev, tmp_path)
    tasks = [f"bf16:{name}", f"cache:{name}", f"lora:{name}", f"fp16:{name}", f"lowest:{name}", f"kill:{name}"]
    if not torch.cuda.is_bf16_supported(including_emulation=False):
        tasks = [task for task in tasks if "fp16" in task or "lowest" in task]
    killed = tasks[-1].startswith("kill")
    found = results(launch("zero.py", *words, *tasks, processes=1), killed=killed)
    row = found[f"fp16:{name}"]
    assert math.isinf(row["grad_norm"][0]) and math.isfinite(row["grad_norm"][-1])
    assert "fp16 loss scale fell to its minimum" in found[f"lowest:{name}"]["error"]
    if killed:
        row = found[f"bf16:{name}"]
        assert row["types"] == ["BF16"] and row["eval_loss"][1] < row["eval_loss"][0] < row["loss"]
        assert found[f"cache:{name}"]["kept"] == pytest.approx(found[f"cache:{name}"]["plain"], rel=1e-2)
        again = results(launch("zero.py", *words, f"again:{name}", processes=1))[f"again:{name}"]
        assert again["eval_loss"] == pytest.approx(row["eval_loss"], rel=1e-3)


def test_fsdp_trains_evaluates_and_continues(cuts: Path, dev: Path, tmp_path: Path) -> None:
    words = (cuts, dev, tmp_path)
    tasks = ["plain", "recomputed", "no_dropout", "own_checkpointing", "lora", "cache", "bf16", "kill"]
    found = results(launch("fsdp.py", *words, *tasks, processes=1), killed=True)
    for task in ("plain", "lora", "cache", "bf16"):
        assert found[task]["eval_loss"][1] < found[task]["eval_loss"][0], task
    assert found["own_checkpointing"]["grad_norm"] == pytest.approx(found["no_dropout"]["grad_norm"], rel=1e-2)
    again = results(launch("fsdp.py", *words, "again", processes=1))["again"]
    assert again["eval_loss"] == pytest.approx(found["plain"]["eval_loss"], rel=1e-3)


@pytest.mark.parametrize("beams", [1, 5])
def test_the_gpu_decodes_what_the_cpu_does(cuts: Path, beams: int) -> None:
    processor = tiny_processor()
    model, options = tiny_model(processor, ending=3.3), DecodeOptions(num_beams=beams, max_new_tokens=20)
    texts = []
    for device in ("cpu", "cuda"):
        found = transcribe(model.to(device), processor, CutList([str(cuts)]), options)
        texts.append({each.id: each.text for each in found})
    equal = sum(text == texts[1][name] for name, text in texts[0].items())
    assert equal >= len(texts[0]) - 1, texts
