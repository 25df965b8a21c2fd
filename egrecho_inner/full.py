#!/usr/bin/env python3
"""Fine-tune all of Whisper's weights, or train them from random ones.

    egrecho full -c config/train.yaml -c config/full.yaml --model openai/whisper-small \\
      --data.train data/fbank_whisper80/mine_cuts_train.jsonl.gz \\
      --data.dev data/fbank_whisper80/mine_cuts_val.jsonl.gz --out exp/mine
    egrecho launch --standalone --nproc_per_node 2 full ...    # two GPUs; torchrun and accelerate launch do it too
"""

from functools import partial
from pathlib import Path

from egrecho_inner.config import plain, run
from egrecho_inner.data.batches.options import AugmentOptions, BatchOptions, DataOptions, TargetOptions
from egrecho_inner.errors import ConfigError
from egrecho_inner.model.options import ModelOptions
from egrecho_inner.training.options import TrainOptions, WindowOptions


def train_full(
    model: ModelOptions,
    data: DataOptions,
    out: str,
    batch: BatchOptions = BatchOptions(),
    train: TrainOptions = TrainOptions(),
    window: WindowOptions = WindowOptions(),
    augment: AugmentOptions | None = None,
    targets: TargetOptions = TargetOptions(),
    allow_changed: bool = False,
    allow_reshard: bool = False,
) -> None:
    """Fine-tune all of Whisper's weights, or train them from random ones.

    Args:
        model: Where the model comes from.
        data: What is trained on.
        out: The run folder; the same command continues what stopped there.
        batch: How cuts are put together.
        train: How the model is trained.
        window: How long the model's input is.
        augment: What is done to audio and features; null for nothing.
        targets: What is learned for a cut: of packed ones (`egrecho pack`) times and the text before, too.
        allow_changed: Continue a checkpoint although settings or data are others now.
        allow_reshard: Continue a checkpoint with another number of processes.
    """
    config = plain(locals())  # all options, before any other name is local
    from egrecho_inner.data.batches.targets import TargetBatches
    from egrecho_inner.model.loading import load_processor, start_model
    from egrecho_inner.training.checkpoints.resume import Allowance
    from egrecho_inner.training.fit import fit
    from egrecho_inner.training.whisper_family import WhisperFamily

    allow = Allowance(allow_changed, allow_reshard)
    processor = load_processor(model.path)
    if train.ctc_weight and train.freeze and "encoder" in train.freeze:
        raise ConfigError("train.ctc_weight trains the encoder, train.freeze freezes it; give one of them")
    whisper = start_model(model, processor, train.seed, ctc_weight=train.ctc_weight)
    family = WhisperFamily(whisper, processor, data, window.window)
    make_batches = partial(TargetBatches, options=targets, seed=train.seed)
    fit(
        whisper, family, Path(out), data, batch, train, window, augment, config, allow=allow,
        make_batches=make_batches, source=targets.text,
    )  # fmt: skip


if __name__ == "__main__":
    run(train_full)
