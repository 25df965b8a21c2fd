#!/usr/bin/env python3
"""Fine-tune a low-rank adapter on Whisper: LoRA, DoRA or AdaLoRA.

    egrecho lora -c config/train.yaml -c config/lora.yaml --model openai/whisper-large-v3 \\
      --data.train data/fbank_whisper80/mine_cuts_train.jsonl.gz \\
      --data.dev data/fbank_whisper80/mine_cuts_val.jsonl.gz --out exp/mine
    egrecho launch --standalone --nproc_per_node 2 lora ...    # two GPUs; torchrun and accelerate launch do it too
"""

import logging
from functools import partial
from pathlib import Path

from egrecho_inner.config import plain, run
from egrecho_inner.data.batches.options import AugmentOptions, BatchOptions, DataOptions, TargetOptions
from egrecho_inner.errors import ConfigError
from egrecho_inner.model.options import LoraOptions, ModelOptions
from egrecho_inner.training.options import TrainOptions, WindowOptions

logger = logging.getLogger(__name__)


def train_lora(
    model: ModelOptions,
    data: DataOptions,
    out: str,
    lora: LoraOptions = LoraOptions(),
    batch: BatchOptions = BatchOptions(),
    train: TrainOptions = TrainOptions(),
    window: WindowOptions = WindowOptions(),
    augment: AugmentOptions | None = None,
    targets: TargetOptions = TargetOptions(),
    allow_changed: bool = False,
    allow_reshard: bool = False,
) -> None:
    """Fine-tune a low-rank adapter on Whisper: LoRA, DoRA or AdaLoRA.

    Args:
        model: Where the base comes from.
        data: What is trained on.
        out: The run folder; the same command continues what stopped there.
        lora: Shape and place of the adapter.
        batch: How cuts are put together.
        train: How the adapter is trained.
        window: How long the model's input is.
        augment: What is done to audio and features; null for nothing.
        targets: What is learned for a cut: of packed ones (`egrecho pack`) times and the text before, too.
        allow_changed: Continue a checkpoint although settings or data are others now.
        allow_reshard: Continue a checkpoint with another number of processes.
    """
    config = plain(locals())  # all options, before any other name is local
    from egrecho_inner.data.batches.targets import TargetBatches
    from egrecho_inner.model.adapters import add_adapter
    from egrecho_inner.model.loading import load_processor, start_model
    from egrecho_inner.model.new_language import added_languages
    from egrecho_inner.model.quantized import check_bits, quantize
    from egrecho_inner.training.checkpoints.resume import Allowance
    from egrecho_inner.training.fit import fit
    from egrecho_inner.training.whisper_family import WhisperFamily

    allow = Allowance(allow_changed, allow_reshard)
    if train.ctc_weight or train.freeze:
        raise ConfigError("train.ctc_weight and train.freeze belong to full training; LoRA freezes the base already")
    if model.size is not None:
        raise ConfigError("model.size means random weights; an adapter needs a trained base, give model.path alone")
    check_bits(lora.bits)
    if lora.bits and (train.deepspeed or train.fsdp):
        raise ConfigError(
            f"lora.bits {lora.bits}: quantised weights are not sharded; leave out train.deepspeed or fsdp"
        )
    processor = load_processor(model.path)
    whisper = start_model(model, processor, train.seed)
    for token in processor.tokenizer.convert_ids_to_tokens(added_languages(processor.tokenizer)):
        logger.info("the embedding of %s stays as it began: an adapter trains the layers around it", token)
    fit(
        whisper,
        WhisperFamily(whisper, processor, data, window.window),
        Path(out),
        data,
        batch,
        train,
        window,
        augment,
        config,
        adapt=lambda base, steps: add_adapter(quantize(base, lora.bits), lora, steps, train.seed),
        allow=allow,
        make_batches=partial(TargetBatches, options=targets, seed=train.seed),
        source=targets.text,
    )


if __name__ == "__main__":
    run(train_lora)
