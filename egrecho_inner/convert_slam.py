#!/usr/bin/env python3
"""SLAM-LLM's checkpoints and ours: `model.pt`, DeepSpeed's `mp_rank_00_model_states.pt` or `pytorch_model.bin` to a
folder that `egrecho eval` takes, and such a folder to a `model.pt`.

    egrecho convert-slam asr_epoch_1_step_1000/model.pt exp/slam_linear --encoder microsoft/wavlm-large --llm vicuna-7b
    egrecho convert-slam exp/slam/projector/final model.pt

Only tensors are read, never code. Kind, stride and hidden width of the projector are those of `projector`; weights of
other names or shapes are refused.
"""

from pathlib import Path

from egrecho_inner.config import run
from egrecho_inner.errors import ConfigError
from egrecho_inner.model.speech_options import LlmLoraOptions, ProjectorOptions, SpeechModelOptions
from egrecho_inner.text.prompt_options import PromptOptions


def convert_slam(
    source: str,
    out: str,
    encoder: str | None = None,
    llm: str | None = None,
    normalize: bool | None = None,
    projector: ProjectorOptions = ProjectorOptions(),
    prompt: PromptOptions = PromptOptions(),
    lora: LlmLoraOptions | None = None,
) -> None:
    """Convert a checkpoint of SLAM-LLM's to a folder, or back.

    Args:
        source: model.pt, mp_rank_00_model_states.pt or pytorch_model.bin; or a folder of ours.
        out: Folder to write; or model.pt.
        encoder: Folder or hub id of the encoder; of a checkpoint.
        llm: Folder or hub id of the language model; of a checkpoint.
        normalize: Whether waves are normalised, where the encoder's files do not say so.
        projector: Its kind, stride and hidden width.
        prompt: What stood around audio and text in training.
        lora: The adapter, where the checkpoint has one.
    """
    from safetensors.torch import load_file

    from egrecho_inner.model.slam_checkpoint import read_checkpoint, write_checkpoint
    from egrecho_inner.model.speech_loading import (
        TRAINED,
        SpeechConfig,
        build,
        digests_of,
        read_config,
        save_speech_llm,
        take_weights,
        trained_weights,
    )
    from egrecho_inner.runtime.files import working_folder
    from egrecho_inner.text.prompts import PromptEncoder

    if Path(source).is_dir():
        read_config(source)
        state = load_file(Path(source) / TRAINED)
        write_checkpoint(state, Path(out))
        print(f"{out}: {len(state)} weights")
        return
    if encoder is None or llm is None:
        raise ConfigError(f"{source} holds trained weights only; give --encoder and --llm, which it was trained with")
    parts = SpeechConfig(SpeechModelOptions(llm=llm, encoder=encoder, normalize=normalize), projector, prompt, lora)
    model, tokenizer = build(parts)
    model.requires_grad_(False)
    take_weights(model, state := read_checkpoint(Path(source)), source)
    known = trained_weights(model) | {
        name: value for name, value in state.items() if name not in trained_weights(model)
    }
    made = SpeechConfig(parts.model, projector, prompt, lora, digests_of(parts, PromptEncoder(tokenizer, prompt)))
    with working_folder(Path(out)) as folder:
        save_speech_llm(known, made, folder)
    print(f"{out}: {len(known)} weights, {sum(value.numel() for value in known.values()):,} parameters")


convert_slam.positional = ["source", "out"]


if __name__ == "__main__":
    run(convert_slam)
