#!/usr/bin/env python3
"""Train a speech LLM: the projector between a frozen encoder and a frozen language model, and more where asked.

    egrecho slam -c config/slam.yaml --model.encoder openai/whisper-large-v3 --model.llm lmsys/vicuna-7b-v1.5 \\
      --data.train data/slam/cuts_train.jsonl.gz --data.dev data/slam/cuts_dev.jsonl.gz --out exp/slam
    egrecho launch --standalone --nproc_per_node 2 slam ...    # two GPUs; torchrun and accelerate launch do it too

Of encoder, projector and language model `train.freeze` names those that are not trained; `lora` puts an adapter on the
language model. Without `model.encoder` the language model is trained on cuts of text alone.
"""

from dataclasses import replace
from functools import partial
from pathlib import Path

from egrecho_inner.config import plain, run
from egrecho_inner.data.batches.options import AugmentOptions, BatchOptions, DataOptions, SilenceOptions
from egrecho_inner.errors import ConfigError
from egrecho_inner.model.speech_options import LlmLoraOptions, ProjectorOptions, SpeechLossOptions, SpeechModelOptions
from egrecho_inner.text.prompt_options import PromptOptions
from egrecho_inner.training.options import TrainOptions, WindowOptions


def train_slam(
    model: SpeechModelOptions,
    data: DataOptions,
    out: str,
    projector: ProjectorOptions = ProjectorOptions(),
    prompt: PromptOptions = PromptOptions(),
    lora: LlmLoraOptions | None = None,
    loss: SpeechLossOptions = SpeechLossOptions(),
    silence: SilenceOptions = SilenceOptions(),
    batch: BatchOptions = BatchOptions(),
    train: TrainOptions = TrainOptions(),
    augment: AugmentOptions | None = None,
    allow_changed: bool = False,
    allow_reshard: bool = False,
) -> None:
    """Train a speech LLM.

    Args:
        model: Which encoder and which language model.
        data: What is trained on.
        out: The run folder; the same command continues what stopped there.
        projector: What joins the two.
        prompt: What stands around audio and text.
        lora: An adapter on the language model; null for none.
        loss: What is learned beside the text.
        silence: Noise without a text.
        batch: How cuts are put together.
        train: How the model is trained.
        augment: What is done to the audio; null for nothing.
        allow_changed: Continue a checkpoint although settings or data are others now.
        allow_reshard: Continue a checkpoint with another number of processes.
    """
    config = plain(locals())  # all options, before any other name is local
    from egrecho_inner.data.batches.speech_prompts import Noise, SpeechTextBatches
    from egrecho_inner.model.speech_loading import SpeechConfig, build, take_start
    from egrecho_inner.training.checkpoints.resume import Allowance
    from egrecho_inner.training.fit import fit
    from egrecho_inner.training.slam_family import SlamFamily

    if model.encoder is None and (lora or loss.kl_weight or loss.ctc_weight or silence.share):
        raise ConfigError("without model.encoder a language model is trained on text: leave lora, loss and silence out")
    if augment and augment.concatenate:
        raise ConfigError("augment.concatenate is for Whisper's 30 s; take data.max_seconds and egrecho pack here")
    if train.encoder_cache_gb and silence.share:
        raise ConfigError("train.encoder_cache_gb wants the same audio in every epoch; set silence.share 0")
    if train.encoder_cache_gb and data.max_seconds > 30:
        raise ConfigError("train.encoder_cache_gb keeps one window of 30 s for each cut; set data.max_seconds 30")
    parts = SpeechConfig(model, projector, prompt, lora)
    joined, tokenizer = build(parts, loss, train.seed)
    if model.start is not None:
        take_start(joined, model.start)
    noise = Noise(silence.share, train.seed)
    family = SlamFamily(joined, tokenizer, parts, noise)
    make_batches = partial(SpeechTextBatches, noise=noise, seed=train.seed)
    fit(
        joined, family, Path(out), replace(data, no_speech=True), batch, train, WindowOptions(), augment, config,
        allow=Allowance(allow_changed, allow_reshard), make_batches=make_batches,
    )  # fmt: skip


if __name__ == "__main__":
    run(train_slam)
