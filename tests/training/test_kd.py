"""The loss of distillation: equal to independent computations, the same however a batch is divided, fed alike."""

import contextlib
import json
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from runs import same, train
from tiny import tiny_model, tiny_processor

from egrecho_inner.errors import ConfigError, ModelError
from egrecho_inner.model.student import make_student
from egrecho_inner.text.labels import LabelEncoder, pad_labels
from egrecho_inner.training.guards.memory import OutOfMemory
from egrecho_inner.training.kd import DistilTrainer, check_pair, kl_sum, kl_top_sum, share_encoder
from egrecho_inner.training.options import KdOptions


def test_kl_is_that_of_torch_distributions() -> None:
    torch.manual_seed(0)
    student, teacher = 3 * torch.randn(7, 50), 3 * torch.randn(7, 50)
    for temperature in (1.0, 2.0, 3.7):
        of = torch.distributions.Categorical(logits=teacher / temperature)
        to = torch.distributions.Categorical(logits=student / temperature)
        expected = temperature**2 * torch.distributions.kl_divergence(of, to).sum()
        assert kl_sum(student, teacher, temperature).item() == pytest.approx(expected.item(), rel=1e-5)


def test_kl_by_hand_in_double() -> None:
    student, teacher = [0.1, 2.0, -1.0], [1.5, 0.3, 0.2]

    def softmax(logits: list[float], t: float) -> np.ndarray:
        powers = np.exp(np.array(logits, dtype=np.float64) / t)
        return powers / powers.sum()

    p, q = softmax(student, 2.0), softmax(teacher, 2.0)
    expected = 4.0 * float((q * np.log(q / p)).sum())
    assert kl_sum(torch.tensor([student]), torch.tensor([teacher]), 2.0).item() == pytest.approx(expected, rel=1e-6)


def test_the_gradient_keeps_its_size_when_the_temperature_changes() -> None:
    # T^2: for small logits the gradient towards the student is (p - q) T, about (z_s - z_t) / V, whatever T (Hinton)
    torch.manual_seed(0)
    teacher, start = 0.01 * torch.randn(1, 20), 0.01 * torch.randn(1, 20)
    sizes = []
    for temperature in (1.0, 2.0, 8.0):
        student = start.clone().requires_grad_()
        kl_sum(student, teacher, temperature).backward()
        sizes.append(student.grad.norm().item())
    assert sizes[1] == pytest.approx(sizes[0], rel=0.02)
    assert sizes[2] == pytest.approx(sizes[0], rel=0.02)


def test_top_tokens_of_the_whole_vocabulary_are_the_whole_divergence() -> None:
    torch.manual_seed(1)
    student, teacher = 2 * torch.randn(5, 12), 2 * torch.randn(5, 12)
    whole = kl_sum(student, teacher, 2.0).item()
    log_q = (teacher / 2).log_softmax(-1)
    found = []
    for k in (1, 4, 11, 12):
        top, ids = log_q.topk(k, -1)
        found.append(kl_top_sum(student, ids, top, 2.0).item())
    assert found == sorted(found)  # fewer outcomes tell less apart
    assert found[-1] == pytest.approx(whole, rel=1e-4)
    assert found[0] > 0


def test_top_tokens_give_a_finite_gradient_when_they_hold_all_mass() -> None:
    student = torch.tensor([[80.0, 0.0, -80.0]], requires_grad=True)
    log_q, ids = torch.tensor([[100.0, 0.0, -50.0]]).log_softmax(-1).topk(2, -1)
    kl_top_sum(student, ids, log_q.half(), 1.0).backward()
    assert torch.isfinite(student.grad).all()
    student.grad = None
    log_q, ids = torch.zeros(1, 3).log_softmax(-1).topk(3, -1)
    kl_top_sum(student, ids, log_q, 1.0).backward()
    assert torch.isfinite(student.grad).all()


def trainer_of(teacher: Any, kd: KdOptions, shared: bool) -> DistilTrainer:
    """Make just enough of a trainer for its loss."""
    trainer = object.__new__(DistilTrainer)
    trainer.kd, trainer.teacher, trainer.shared, trainer.terms, trainer.items = kd, teacher, shared, {}, 0
    trainer.accelerator = SimpleNamespace(unwrap_model=lambda model: model, autocast=contextlib.nullcontext)
    return trainer


def batch_of(prompts: bool = True) -> dict[str, torch.Tensor]:
    """Make a batch of different lengths, some with a prompt."""
    labels = LabelEncoder(tiny_processor().tokenizer, "en")
    texts = [("one two", "before that"), ("three", None), ("four five six", "seven" if prompts else None)]
    made = [labels.encode(text, prompt=prompt if prompts else None) for text, prompt in texts]
    inputs, targets = pad_labels(made, labels.eot)
    generator = torch.Generator().manual_seed(3)
    frames = torch.tensor([120, 60, 90])
    return {
        "input_features": torch.randn(3, 80, 120, generator=generator),
        "attention_mask": (torch.arange(120)[None] < frames[:, None]).long(),
        "decoder_input_ids": torch.tensor(inputs),
        "labels": torch.tensor(targets),
    }


def pair(layers: int = 2) -> tuple[Any, Any]:
    teacher = tiny_model(tiny_processor(), layers=layers)
    student, _ = make_student(teacher, range(layers), [layers - 1])
    student.train()
    return teacher, student


def test_the_loss_is_its_formula() -> None:
    teacher, student = pair()
    kd = KdOptions(ce_weight=0.8, kl_weight=1.0, temperature=2.0)
    batch = batch_of()
    loss = trainer_of(teacher, kd, shared=False).distil(student, **batch)["loss"].item()
    targets = batch["labels"] != -100
    inputs = {name: value for name, value in batch.items() if name != "labels"}
    with torch.no_grad():
        ours = student.eval()(**inputs).logits[targets]
        theirs = teacher(**inputs).logits[targets]
    ce = torch.nn.functional.cross_entropy(ours, batch["labels"][targets])
    of, to = (torch.distributions.Categorical(logits=each / 2) for each in (theirs, ours))
    expected = 0.8 * ce + 4 * torch.distributions.kl_divergence(of, to).mean()
    assert loss == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize("prompts", [True, False])
def test_the_teacher_sees_exactly_what_the_student_sees(prompts: bool) -> None:
    # the published code gave the teacher `labels`: shifted inputs without prompt and start, and padding in their place
    teacher, _ = pair()
    student, _ = make_student(teacher, [0, 1], [0, 1])
    trainer = trainer_of(teacher, KdOptions(ce_weight=0.0), shared=False)
    loss = trainer.distil(student.train(), **batch_of(prompts))["loss"].item()
    assert abs(loss) < 1e-6  # a student equal to its teacher has nothing to learn from it
    seen: list[torch.Tensor] = []
    teacher.model.decoder.register_forward_pre_hook(
        lambda module, args, kwargs: seen.append(kwargs["input_ids"]), with_kwargs=True
    )
    batch = batch_of(prompts)
    trainer.distil(student, **batch)
    assert torch.equal(seen[0], batch["decoder_input_ids"])


def test_a_shared_encoder_runs_once_and_changes_nothing() -> None:
    batch, kd = batch_of(), KdOptions()
    losses, runs = [], []
    for wanted in (False, None):
        teacher, student = pair()
        student.model.encoder.requires_grad_(False)
        shared = share_encoder(student, teacher, frozen=True, wanted=wanted)
        assert shared is (wanted is None)
        encoders = {id(each): each for each in (student.model.encoder, teacher.model.encoder)}
        count: list[int] = []
        for encoder in encoders.values():
            encoder.register_forward_hook(lambda *_, count=count: count.append(1))
        loss = trainer_of(teacher, kd, shared).distil(student, **batch)["loss"]
        loss.backward()
        assert all(p.grad is None for p in student.model.encoder.parameters())
        assert any(p.grad is not None for p in student.model.decoder.parameters())
        assert all(p.grad is None for p in teacher.model.decoder.parameters())
        losses.append(loss.item())
        runs.append(len(count))
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)
    assert runs == [2, 1]


@pytest.mark.parametrize("accumulation", [1, 2])
def test_the_rehearsal_is_the_student_s_own_step(
    cuts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, accumulation: int
) -> None:
    teacher, calls = tiny_model(tiny_processor(), layers=1), []
    make = partial(DistilTrainer, teacher=teacher, shared=False, kd=KdOptions())
    options = {"max_steps": 1, "make_trainer": make, "accumulation": accumulation}
    plain = train(cuts, tmp_path / "plain", **options)
    teacher.model.decoder.register_forward_hook(lambda *_: calls.append("teacher"))
    rehearsed = train(cuts, tmp_path / "rehearsed", rehearse=True, **options)
    assert len(calls) == 2 * accumulation, "rehearsed, then taken"
    assert same(plain, rehearsed)
    lines = [json.loads((folder.parent / "metrics.jsonl").read_text().splitlines()[0]) for folder in (plain, rehearsed)]
    assert [lines[0][name] for name in ("ce", "kl", "loss")] == [lines[1][name] for name in ("ce", "kl", "loss")]
    monkeypatch.setattr(DistilTrainer, "teach", lambda *_: (_ for _ in ()).throw(torch.OutOfMemoryError("CUDA")))
    with pytest.raises(OutOfMemory, match=r"step 0 \(rehearsal\)"):
        train(cuts, tmp_path / "full", rehearse=True, **options)


def test_an_encoder_that_differs_is_not_shared() -> None:
    teacher, student = pair()
    with torch.no_grad():
        student.model.encoder.layers[0].fc1.weight[0, 0] += 1e-3
    assert share_encoder(student, teacher, frozen=True, wanted=None) is False
    with pytest.raises(ConfigError, match="is not the teacher's"):
        share_encoder(student, teacher, frozen=True, wanted=True)
    with pytest.raises(ConfigError, match="is trained"):
        share_encoder(*reversed(pair()), frozen=False, wanted=True)


@pytest.mark.parametrize("reference", [False, True])
def test_the_gradient_does_not_depend_on_how_a_batch_is_divided(reference: bool) -> None:
    # the published code takes a mean over each micro-batch: with ragged texts that is another loss
    kd = KdOptions(reference_weight=0.5 if reference else 0.0)
    teacher, student = pair()
    batch = batch_of()
    if reference:
        batch |= {"reference_input_ids": batch["decoder_input_ids"], "reference_labels": batch["labels"]}
    items = (batch["labels"] != -100).sum()
    gradients = []
    for parts in ([slice(0, 3)], [slice(0, 1), slice(1, 3)], [slice(0, 1), slice(1, 2), slice(2, 3)]):
        student.zero_grad()
        trainer = trainer_of(teacher, kd, shared=False)
        for part in parts:
            piece = {name: value[part] for name, value in batch.items()}
            trainer.distil(student, **piece, num_items_in_batch=items)["loss"].backward()
        gradients.append(torch.cat([p.grad.flatten() for p in student.parameters() if p.grad is not None]))
    for other in gradients[1:]:
        assert (gradients[0] - other).norm() < 1e-4 * gradients[0].norm()


def test_padding_and_prompts_cost_nothing() -> None:
    teacher, student = pair()
    trainer = trainer_of(teacher, KdOptions(), shared=False)
    batch = batch_of()
    with torch.no_grad():
        loss = trainer.distil(student, **batch)["loss"].item()
        wider = dict(batch)
        end = torch.full((3, 4), tiny_processor().tokenizer.eos_token_id)
        wider["decoder_input_ids"] = torch.cat([batch["decoder_input_ids"], end], 1)
        wider["labels"] = torch.cat([batch["labels"], torch.full((3, 4), -100)], 1)
        assert trainer.distil(student, **wider)["loss"].item() == pytest.approx(loss, rel=1e-5)


@pytest.mark.parametrize("options", [{"temperature": 0.0}, {"kl_weight": -1.0}, {"ce_weight": 0.0, "kl_weight": 0.0}])
def test_nonsense_is_refused(options: dict[str, float]) -> None:
    with pytest.raises(ConfigError):
        KdOptions(**options)


def test_a_teacher_of_other_features_is_refused() -> None:
    with pytest.raises(ModelError, match="num_mel_bins is 80 in the student, 128"):
        check_pair(tiny_model(tiny_processor()), tiny_model(tiny_processor(128)))
