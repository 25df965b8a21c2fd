"""The distillation recipe: its YAML is whisper-large-v3's, its stages run one after the other and continue."""

import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from lhotse import CutSet
from tiny import save_tiny, speech_cut, speech_cuts
from transformers import WhisperConfig

from egrecho_inner.config import parse
from egrecho_inner.data.batches.plan import BatchPlan
from egrecho_inner.distil import distil
from egrecho_inner.filter_cuts import filter_cuts
from egrecho_inner.model.student import layer_map, make_student
from egrecho_inner.model.whisper import Whisper
from egrecho_inner.pseudo_label import pseudo_label
from egrecho_inner.training.kd import kl_sum
from egrecho_inner.training.parts import freeze
from egrecho_inner.training.steps import count_steps
from egrecho_inner.training.whisper_family import parts_of

ROOT = Path(__file__).parents[2]
EGS = ROOT / "egs" / "distil"
LARGE_V3 = {
    "vocab_size": 51866,
    "num_mel_bins": 128,
    "d_model": 1280,
    "encoder_layers": 32,
    "decoder_layers": 32,
    "encoder_attention_heads": 20,
    "decoder_attention_heads": 20,
    "encoder_ffn_dim": 5120,
    "decoder_ffn_dim": 5120,
}
GIVEN = ["--model", "s", "--teacher", "t", "--data.train", "[x]", "--out", "o"]


MEMORY = [4.5, 1.8, 2.9]
"""GB of student, teacher, and what a step keeps for its backward pass, in fp32."""


class Kept(torch.autograd.graph.saved_tensors_hooks):
    """Counts the bytes that a forward pass keeps for the backward pass, weights apart."""

    def __init__(self, model: torch.nn.Module):
        self.weights = {parameter.untyped_storage()._cdata for parameter in model.parameters()}
        self.storages: dict[int, torch.UntypedStorage] = {}
        super().__init__(self.pack, lambda tensor: tensor)

    def pack(self, tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in self.weights:
            self.storages[storage._cdata] = storage  # held, so that no other takes its address
        return tensor

    @property
    def total(self) -> int:
        return sum(storage.nbytes() for storage in self.storages.values())


def read(*files: str) -> dict:
    return parse(distil, [word for file in files for word in ("-c", str(ROOT / file))] + GIVEN)


def test_large_v3_to_two_layers_fits_its_shapes_and_steps() -> None:
    given = read("config/train.yaml", "egs/distil/large_v3.yaml")
    kd, train, targets = given["kd"], given["train"], given["targets"]
    assert (kd.ce_weight, kd.kl_weight, kd.temperature) == (0.8, 1.0, 2.0)
    assert (targets.text, targets.timestamps, targets.previous) == ("teacher", 0.2, 0.2)
    assert (train.learning_rate, train.schedule, train.warmup_steps) == (1e-4, "constant_with_warmup", 50)
    assert (given["batch"].batch_size, train.accumulation, train.num_epochs) == (16, 2, 8)
    assert given["augment"] is None and train.patience is None
    with torch.device("meta"):
        teacher = Whisper(WhisperConfig(**LARGE_V3))
        student, origin = make_student(teacher, layer_map(32, 32), layer_map(32, 2))
        freeze(student, parts_of(student), train.freeze)
        trained = sum(p.numel() for p in student.parameters() if p.requires_grad)
        assert (origin.copied // 10**6, trained // 10**6) == (756, 119)
        heard = student.get_encoder()(torch.zeros(16, 128, 3000))
        ids = torch.zeros(16, 128, dtype=torch.long)
        with torch.no_grad():
            said = teacher(encoder_outputs=heard, decoder_input_ids=ids).logits
        kept = Kept(student)
        with kept:
            logits = student.train()(encoder_outputs=heard, decoder_input_ids=ids).logits
            assert logits.shape == said.shape == (16, 128, 51866)
            flat = logits.flatten(0, 1)
            (torch.nn.functional.cross_entropy(flat, ids.flatten()) + kl_sum(flat, said.flatten(0, 1), 2.0)).backward()
    student_bytes = 4 * origin.copied + 12 * trained  # fp32 weights, their gradient, two moments
    teacher_bytes = 2 * sum(p.numel() for p in teacher.model.decoder.parameters())  # bf16, the encoder is the student's
    assert [round(each / 1e9, 1) for each in (student_bytes, teacher_bytes, kept.total)] == MEMORY
    assert sum(MEMORY) < 0.8 * 24  # docs/distillation.md: a GPU of 24 GB holds it, the allocator's share included
    hours, window = 1250, 27.0
    plan = BatchPlan(np.full(int(hours * 3600 / window), window), given["batch"], 0, 1, train.accumulation, 1.0)
    assert plan.steps_per_epoch() == 5209
    assert count_steps(plan, train) == 8 * plan.steps_per_epoch()


@pytest.mark.parametrize("program", [pseudo_label, filter_cuts])
def test_the_yaml_of_labels_and_rules_is_read(program: object) -> None:
    if program is pseudo_label:
        files = ["-c", str(EGS / "label.yaml"), "-c", str(EGS / "mini_label.yaml")]
        given = parse(pseudo_label, ["a", "b", *files, "--model", "t"])
        assert (given["decode"].timestamps, given["shard_size"]) == (False, 400)
    else:
        given = parse(filter_cuts, ["a", "b", "-c", str(EGS / "filter.yaml")])
        assert (given["rules"].max_error_rate, given["rules"].min_avg_logprob) == (0.1, -1.0)
        given = parse(filter_cuts, ["a", "b", "-c", str(EGS / "filter.yaml"), "-c", str(EGS / "mini_filter.yaml")])
        assert (given["rules"].max_error_rate, given["rules"].normalizer) == (0.1, "none")


def test_the_mini_students_are_given_by_yaml_too() -> None:
    given = read("config/train.yaml", "egs/distil/large_v3.yaml", "egs/distil/mini.yaml")
    assert (given["train"].precision, given["train"].freeze, given["window"].window) == ("fp32", ["encoder"], "longest")
    assert given["batch"].batch_size is None


def test_all_stages_in_one_command_and_again(tmp_path: Path) -> None:
    save_tiny(tmp_path / "teacher", seed=3, ending=3.1)
    cuts = speech_cuts(tmp_path, 6)
    CutSet.from_cuts([speech_cut(tmp_path, "talk", 33.0, "one two three")]).to_file(tmp_path / "long.jsonl")
    command = ["bash", str(EGS / "train.sh"), "--teacher", str(tmp_path / "teacher"), "--exp", str(tmp_path / "exp")]
    command += ["--train_cuts", str(cuts), "--dev_cuts", str(cuts), "--decoder_layers", "1"]
    command += ["--test_cuts", f"{cuts} {tmp_path / 'long.jsonl'}"]  # short and long form in one table
    command += ["--pack", "speaker", "--config", "egs/distil/large_v3.yaml egs/distil/mini.yaml", "--language", "en"]
    command += ["--label_overrides", "--decode.max_new_tokens 12 --shard_size 4 --decode.timestamps false"]
    command += ["--filter_config", "", "--filter_overrides"]
    command += ["--rules.max_error_rate null --rules.truncated true --rules.looped true"]
    command += ["--overrides", "--train.max_steps 2 --train.eval_steps 1 --train.workers 0 --train.report_to []"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    exp = tmp_path / "exp"
    lines = (exp / "student" / "table.md").read_text().splitlines()
    rows = [[cell.strip() for cell in line.split("|")[1:3]] for line in lines[2:]]
    assert rows == [[name, model] for name in ("cuts", "long", "mean") for model in ("teacher", "student")]
    assert json.loads((exp / "student" / "speculative.json").read_text())["different"] == []
    assert "6 utterances in" in done.stdout
    metrics = [json.loads(line) for line in (exp / "student" / "metrics.jsonl").read_text().splitlines()]
    assert any("kl" in line and "ce" in line for line in metrics)
    again = subprocess.run(
        [*command, "--stop_stage", "4"], capture_output=True, text=True, timeout=600, env=environment
    )
    assert again.returncode == 0, again.stderr[-3000:]
    assert again.stderr.count("already") >= 2
