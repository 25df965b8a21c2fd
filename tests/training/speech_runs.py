"""A small training run of a speech LLM for tests, in this process or in a child that may be killed."""

import dataclasses
from functools import partial
from pathlib import Path
from typing import Any

from egrecho_inner.config import plain
from egrecho_inner.data.batches.options import BatchOptions, DataOptions
from egrecho_inner.data.batches.speech_prompts import Noise, SpeechTextBatches
from egrecho_inner.model.speech_loading import SpeechConfig, build
from egrecho_inner.model.speech_options import LlmLoraOptions, ProjectorOptions, SpeechLossOptions, SpeechModelOptions
from egrecho_inner.text.prompt_options import PromptOptions
from egrecho_inner.training.fit import fit
from egrecho_inner.training.options import TrainOptions, WindowOptions
from egrecho_inner.training.slam_family import SlamFamily

TRAIN = TrainOptions(
    max_steps=7, learning_rate=1e-2, eval_steps=3, logging_steps=1, workers=0, report_to=[], metric="loss",
    freeze=["encoder", "llm"], weight_decay=0.0,
)  # fmt: skip
PROMPT = PromptOptions(template="{audio}{bos}Q: {prompt} A:", prompts={"asr": ["hm", "what"]})


def train(
    cuts: Path,
    out: Path,
    parts: tuple[Path, Path],
    dev: Path | None = None,
    lora: LlmLoraOptions | None = None,
    loss: SpeechLossOptions = SpeechLossOptions(),
    share: float = 0.2,
    batch: BatchOptions = BatchOptions(max_duration=None, batch_size=3),
    kind: str = "linear",
    **changes: Any,
) -> Path:
    """Train a tiny speech LLM; `changes` go to TrainOptions."""
    options = dataclasses.replace(TRAIN, **changes)
    data = DataOptions(train=str(cuts), dev=None if dev is None else str(dev), no_speech=True)
    projector = ProjectorOptions(kind, hidden=16)
    model = SpeechModelOptions(llm=str(parts[1]), encoder=str(parts[0]))
    config = SpeechConfig(model, projector, PROMPT, lora)
    joined, tokenizer = build(config, loss, options.seed)
    noise = Noise(share, options.seed)
    text = plain({"data": data, "batch": batch, "train": options, "lora": lora, "loss": loss})
    return fit(
        joined, SlamFamily(joined, tokenizer, config, noise), out, data, batch, options, WindowOptions(), None, text,
        make_batches=partial(SpeechTextBatches, noise=noise, seed=options.seed),
    )  # fmt: skip
