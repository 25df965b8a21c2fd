#!/usr/bin/env python3
"""Train a student on a teacher's text and a teacher's probabilities.

    egrecho distil -c config/train.yaml -c egs/distil/large_v3.yaml --model exp/distil/init \\
      --teacher openai/whisper-large-v3 --data.train exp/distil/labels/packed.jsonl.gz --out exp/distil/student
    egrecho launch --standalone --nproc_per_node 2 distil ...    # two GPUs; torchrun and accelerate launch do it too
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from egrecho_inner.config import plain, run
from egrecho_inner.data.batches.options import AugmentOptions, BatchOptions, DataOptions, TargetOptions
from egrecho_inner.errors import ConfigError, ModelError
from egrecho_inner.model.options import ModelOptions
from egrecho_inner.training.options import KdOptions, TrainOptions, WindowOptions

if TYPE_CHECKING:
    from egrecho_inner.data.batches.teacher_tokens import LogitCache
    from egrecho_inner.model.whisper import Whisper

PUBLISHED = TargetOptions(text="teacher", timestamps=0.2, previous=0.2)


def distil(
    model: ModelOptions,
    teacher: str,
    data: DataOptions,
    out: str,
    kd: KdOptions = KdOptions(),
    targets: TargetOptions = PUBLISHED,
    batch: BatchOptions = BatchOptions(),
    train: TrainOptions = TrainOptions(freeze=["encoder"]),
    window: WindowOptions = WindowOptions(),
    augment: AugmentOptions | None = None,
    allow_changed: bool = False,
    allow_reshard: bool = False,
) -> None:
    """Train a student on a teacher's text and probabilities.

    Args:
        model: Where the student comes from, usually `egrecho init-student`.
        teacher: Folder or hub id of the teacher.
        data: What is trained on; its training cuts carry the teacher's text.
        out: The run folder; the same command continues what stopped there.
        kd: What the loss is made of.
        targets: What is learned for a cut.
        batch: How cuts are put together.
        train: How the student is trained; freeze the encoder to share it with the teacher.
        window: How long the model's input is.
        augment: What is done to audio and features; null for nothing.
        allow_changed: Continue a checkpoint although settings or data are others now.
        allow_reshard: Continue a checkpoint with another number of processes.
    """
    config = plain(locals())  # all options, before any other name is local
    from egrecho_inner.data.batches.targets import TargetBatches
    from egrecho_inner.model.loading import load_processor, start_model
    from egrecho_inner.training.checkpoints.resume import Allowance
    from egrecho_inner.training.fit import fit
    from egrecho_inner.training.kd import DistilTrainer
    from egrecho_inner.training.whisper_family import WhisperFamily

    allow = Allowance(allow_changed, allow_reshard)
    if train.ctc_weight:
        raise ConfigError("train.ctc_weight is for training from random weights; leave it 0 here")
    if kd.reference_weight and targets.text == "reference":
        raise ConfigError(
            "kd.reference_weight: with targets.text reference the true transcripts are the labels already"
        )
    if kd.teacher_logits and augment and augment.concatenate:
        raise ConfigError("kd.teacher_logits are of single cuts: leave augment.concatenate out, or load the teacher")
    processor = load_processor(model.path)
    student = start_model(model, processor, train.seed)
    taught, shared = load_teacher(teacher, student, kd, train)
    check_tokens(processor.tokenizer.get_vocab(), load_processor(teacher).tokenizer.get_vocab(), teacher)
    cache = open_cache(kd, teacher, window)
    beside_reference = kd.reference_weight > 0
    family = WhisperFamily(student, processor, data, window.window)
    fit(
        student, family, Path(out), data, batch, train, window, augment, config, allow=allow,
        make_batches=partial(
            TargetBatches, options=targets, seed=train.seed, beside_reference=beside_reference, cache=cache
        ),
        make_trainer=partial(DistilTrainer, teacher=taught, shared=shared, kd=kd),
        source=targets.text,
    )  # fmt: skip


def load_teacher(path: str, student: Whisper, kd: KdOptions, train: TrainOptions) -> tuple[Whisper | None, bool]:
    """Load the teacher where its probabilities are wanted; return whether it shares the student's encoder."""
    import torch

    from egrecho_inner.model.loading import load_model
    from egrecho_inner.training.kd import check_pair, share_encoder

    if not kd.kl_weight or kd.teacher_logits:
        return None, False
    name = kd.teacher_dtype
    if name == "auto":
        name = {"bf16": "bfloat16", "fp16": "float16"}.get(train.precision, "float32")
        name = name if torch.cuda.is_available() else "float32"
    teacher = load_model(path)
    check_pair(student, teacher)
    shared = share_encoder(student, teacher, "encoder" in train.freeze, kd.share_encoder)
    for part in (teacher.model.decoder, teacher.proj_out) if shared else (teacher,):  # after it was found equal: in
        part.to(getattr(torch, name))  # half precision no encoder is the student's
    return teacher, shared


def open_cache(kd: KdOptions, teacher: str, window: WindowOptions) -> LogitCache | None:
    """Open the teacher's cached tokens, if that is what is learned from.

    Raises:
        ConfigError: They are of another teacher, temperature or window.
    """
    from egrecho_inner.data.batches.teacher_tokens import LogitCache
    from egrecho_inner.decoding.resumable import model_digest

    if kd.teacher_logits is None or not kd.kl_weight:
        return None
    cache = LogitCache(kd.teacher_logits)
    wanted = {"teacher": model_digest(teacher), "temperature": kd.temperature, "window": window.window}
    for name, value in wanted.items():
        if cache.facts[name] != value:
            raise ConfigError(
                f"{kd.teacher_logits} was made with {name} {cache.facts[name]}, the training has {value}; make them "
                "equal (egrecho cache-logits)"
            )
    return cache


def check_tokens(student: dict[str, int], teacher: dict[str, int], path: str) -> None:
    """Refuse a teacher whose tokens have other numbers.

    Raises:
        ModelError: With one that differs.
    """
    if student != teacher:
        token = next(iter(set(student.items()) ^ set(teacher.items())))[0]
        raise ModelError(f"{path} and the student number token {token!r} differently; make one from the other")


if __name__ == "__main__":
    run(distil)
