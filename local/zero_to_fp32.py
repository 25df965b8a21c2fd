#!/usr/bin/env python3
"""Gather the fp32 weights of a DeepSpeed checkpoint into a complete model folder.

    local/zero_to_fp32.py exp/run/checkpoint-500 --model openai/whisper-small --out exp/run/gathered

DeepSpeed's own script in the checkpoint cannot write safetensors of tied weights, as Whisper's are, and its pickles are
not loaded here. An adapter needs no gathering: the checkpoint has it whole.
"""

from pathlib import Path

from egrecho_inner.config import run
from egrecho_inner.errors import ConfigError, MachineError
from egrecho_inner.model.loading import load_model, load_processor, required_weights, save_folder
from egrecho_inner.runtime.files import working_folder
from egrecho_inner.training.checkpoints import folder as checkpoints
from egrecho_inner.training.checkpoints.pickles import check_pickles


def gather(checkpoint: str, model: str, out: str) -> None:
    """Gather the fp32 weights of a DeepSpeed checkpoint into a complete model folder.

    Args:
        checkpoint: Of a run with train.deepspeed (exp/NAME/checkpoint-N).
        model: Folder or hub id of a model of that shape, for its tokenizer and configuration: the base, or final/.
        out: New folder for the model.
    """
    source, place = Path(checkpoint), Path(out)
    if place.exists():
        raise ConfigError(f"{out} exists; give a new folder to --out")
    fault = checkpoints.fault(source)
    if fault or not checkpoints.sharded(source):
        raise ConfigError(f"{checkpoint}: {fault or 'not a checkpoint of DeepSpeed'}; expected exp/NAME/checkpoint-N")
    check_pickles(source)
    try:
        from deepspeed.utils.zero_to_fp32 import get_fp32_state_dict_from_zero_checkpoint
    except ImportError as error:
        raise MachineError("DeepSpeed is not installed; pip install 'egrecho[deepspeed]'") from error
    state = get_fp32_state_dict_from_zero_checkpoint(checkpoint)
    whisper = load_model(model)
    window = checkpoints.facts(source)["config"].get("window", {}).get("window", "30s")
    missing, unexpected = whisper.load_state_dict(state, strict=False)
    odd = required_weights([*missing, *unexpected])
    if odd:
        raise ConfigError(f"{checkpoint} is another model's than {model}: {len(odd)} weights differ, e.g. {odd[:3]}")
    with working_folder(place) as working:
        save_folder(whisper, load_processor(model), working, window)
    print(f"{out}: the fp32 weights of {checkpoint}")


gather.positional = ["checkpoint"]

if __name__ == "__main__":
    run(gather)
