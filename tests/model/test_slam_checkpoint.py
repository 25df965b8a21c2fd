"""SLAM-LLM's checkpoints and pickled models: in, out, and what is refused."""

import json
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tiny_speech import save_parts, tiny_llm
from torch import nn
from transformers import AutoModelForCausalLM

from egrecho_inner.convert_slam import convert_slam
from egrecho_inner.errors import ModelError
from egrecho_inner.model.speech_loading import TRAINED, load_folder
from egrecho_inner.model.speech_options import ProjectorOptions
from egrecho_inner.to_safetensors import to_safetensors


def theirs() -> OrderedDict[str, torch.Tensor]:
    """What SLAM-LLM saves of a linear projector of 5 x 32 -> 24 -> 32."""
    torch.manual_seed(0)
    shapes = {"linear1.weight": (24, 160), "linear1.bias": (24,), "linear2.weight": (32, 24), "linear2.bias": (32,)}
    return OrderedDict((f"encoder_projector.{name}", torch.randn(shape)) for name, shape in shapes.items())


@pytest.mark.parametrize("form", ["model.pt", "mp_rank_00_model_states.pt"])
def test_a_checkpoint_comes_in_and_goes_out_as_it_was(tmp_path: Path, form: str) -> None:
    encoder, llm = save_parts(tmp_path)
    state = theirs()
    torch.save(state if form == "model.pt" else {"module": state, "ds_version": "0.19"}, tmp_path / form)
    convert_slam(
        str(tmp_path / form), str(tmp_path / "ours"), str(encoder), str(llm), projector=ProjectorOptions(hidden=24)
    )
    model, _, _ = load_folder(str(tmp_path / "ours"))
    assert torch.equal(model.projector.linear1.weight, state["encoder_projector.linear1.weight"])
    assert len(load_file(tmp_path / "ours" / TRAINED)) == 4
    convert_slam(str(tmp_path / "ours"), str(tmp_path / "back.pt"))
    back = torch.load(tmp_path / "back.pt", weights_only=True)
    assert set(back) == set(state) and all(torch.equal(back[name], state[name]) for name in state)


def test_a_wrong_projector_is_refused_and_code_is_never_run(tmp_path: Path) -> None:
    encoder, llm = save_parts(tmp_path)
    torch.save(theirs(), tmp_path / "model.pt")
    with pytest.raises(ModelError, match="has shape"):
        convert_slam(str(tmp_path / "model.pt"), str(tmp_path / "ours"), str(encoder), str(llm))
    torch.save({"encoder_projector": nn.Linear(2, 2)}, tmp_path / "code.pt")
    with pytest.raises(ModelError, match="never run"):
        convert_slam(str(tmp_path / "code.pt"), str(tmp_path / "ours"), str(encoder), str(llm))
    torch.save({"llm.x": torch.zeros(1)}, tmp_path / "other.pt")
    with pytest.raises(ModelError, match="no weights of a projector"):
        convert_slam(str(tmp_path / "other.pt"), str(tmp_path / "ours"), str(encoder), str(llm))
    assert not (tmp_path / "ours").exists()


def test_pickled_weights_become_safetensors_in_several_files(tmp_path: Path) -> None:
    source = tmp_path / "bin"
    source.mkdir()
    model = tiny_llm("llama")
    model.config.save_pretrained(source)
    state = model.state_dict()  # tied: lm_head is the embeddings again
    names = sorted(state)
    for number, part in enumerate((names[:7], names[7:]), 1):
        torch.save({name: state[name] for name in part}, source / f"pytorch_model-{number:05d}-of-00002.bin")
    to_safetensors(str(source), str(tmp_path / "safe"))
    index = json.loads((tmp_path / "safe" / "model.safetensors.index.json").read_text())
    assert set(index["weight_map"].values()) == {f"model-{n:05d}-of-00002.safetensors" for n in (1, 2)}
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "safe", use_safetensors=True)
    assert all(torch.equal(value, state[name]) for name, value in loaded.state_dict().items())
    torch.save({"x": nn.Linear(1, 1)}, source / "pytorch_model-00003-of-00003.bin")
    with pytest.raises(ModelError, match="no pickle of tensors alone"):
        to_safetensors(str(source), str(tmp_path / "again"))
    assert not (tmp_path / "again").exists()
