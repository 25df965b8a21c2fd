"""Print the first step's gradient of a tiny run as numbers; run by test_global_batch.py under torchrun and alone.

usage: first_step.py FOLDER OUT batch_size accumulation deepspeed|-
"""

import sys
from pathlib import Path

import torch
from tiny import tiny_model, tiny_processor

from egrecho_inner.data.batches.options import BatchOptions, DataOptions
from egrecho_inner.training.fit import fit
from egrecho_inner.training.options import TrainOptions, WindowOptions
from egrecho_inner.training.whisper_family import WhisperFamily

folder, out, batch_size, accumulation, deepspeed = sys.argv[1:]
processor = tiny_processor()
model = tiny_model(processor)
before = {name: p.detach().clone() for name, p in model.named_parameters()}
data = DataOptions(train=f"{folder}/cuts.jsonl")
fit(
    model,
    WhisperFamily(model, processor, data),
    Path(out),
    data,
    BatchOptions(max_duration=None, batch_size=int(batch_size)),
    TrainOptions(
        max_steps=1,
        learning_rate=1.0,
        optimizer="sgd",
        schedule="constant",
        warmup_steps=0,
        weight_decay=0.0,
        max_grad_norm=0.0,
        accumulation=int(accumulation),
        workers=0,
        report_to=[],
        deepspeed=None if deepspeed == "-" else deepspeed,
    ),
    WindowOptions(),
    None,
    {},
)
saved = Path(out) / "final"
if (saved / "model.safetensors").exists():
    from safetensors.torch import load_file

    after = load_file(saved / "model.safetensors")
    step = {name: before[name] - after[name] for name in after if name in before}
    torch.save(step, Path(out) / "step.pt")
