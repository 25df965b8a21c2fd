"""Adapters go where they are told to, and back onto their own base only."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from tiny import tiny_model, tiny_processor
from torch import nn

from egrecho_inner.errors import ConfigError, ModelError
from egrecho_inner.model.adapters import add_adapter, check_adapter, load_adapter, read_training
from egrecho_inner.model.options import LoraOptions
from egrecho_inner.model.whisper import Whisper

PROCESSOR = tiny_processor()
WEIGHTS = "adapter_model.safetensors"


def fresh(layers: int = 2, width: int = 32) -> Whisper:
    return tiny_model(PROCESSOR, layers=layers, width=width)


def adapted(options: LoraOptions) -> nn.Module:
    model = add_adapter(fresh(), options, total_steps=100)
    generator = torch.Generator().manual_seed(0)
    for name, parameter in model.named_parameters():
        if "lora_B" in name or "lora_E" in name:  # as if trained: they begin at zero
            parameter.data = torch.randn(parameter.shape, generator=generator) * 0.1
    return model.eval()


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("adapters") / "adapter"
    adapted(LoraOptions(r=4)).save_pretrained(folder)
    return folder


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Path:
    return shutil.copytree(saved, tmp_path / "adapter")


def refused(folder: Path, model: Whisper | None = None) -> str:
    with pytest.raises(ModelError) as caught:
        load_adapter(model or fresh(), folder)
    assert "\n" not in str(caught.value) and str(folder) in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("parts", ["both", "encoder", "decoder"])
@pytest.mark.parametrize("method", ["lora", "dora", "adalora"])
def test_only_the_adapter_is_trained_and_only_where_it_was_put(method: str, parts: str) -> None:
    model = add_adapter(fresh(), LoraOptions(method, r=4, init_r=6, parts=parts), total_steps=100)
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert trained and all(".lora_" in name for name in trained)
    places = {part for part in ("encoder", "decoder") if any(f".model.{part}." in name for name in trained)}
    assert places == ({"encoder", "decoder"} if parts == "both" else {parts})
    layers = {name.split(".lora_")[0] for name in trained}
    per_layer = {"encoder": 6, "decoder": 10}  # q k v out fc1 fc2, and q k v out of the cross-attention
    assert len(layers) == 2 * sum(per_layer[part] for part in places)


def test_target_modules_that_match_nothing_name_the_legal_ones() -> None:
    with pytest.raises(ConfigError, match=r"none in the model; legal are \['fc1', 'fc2', 'k_proj', 'out_proj'"):
        add_adapter(fresh(), LoraOptions(target_modules=["query"]), total_steps=1)


def test_its_weights_are_those_of_the_seed_and_leave_the_global_one() -> None:
    def first(seed: int) -> torch.Tensor:
        model = add_adapter(fresh(), LoraOptions(r=4), total_steps=1, seed=seed)
        return next(p for name, p in model.named_parameters() if "lora_A" in name)

    torch.manual_seed(1)
    expected = torch.rand(2)
    torch.manual_seed(1)
    assert torch.equal(first(3), first(3)) and not torch.equal(first(3), first(4))
    assert torch.equal(torch.rand(2), expected)


def test_a_fresh_adapter_changes_nothing() -> None:
    inputs = {"input_features": torch.rand(1, 80, 60), "decoder_input_ids": torch.tensor([[1, 2, 3]])}
    for method in ("lora", "dora", "adalora"):
        model = add_adapter(fresh(), LoraOptions(method, r=4, init_r=6), total_steps=100).eval()
        with torch.no_grad():
            torch.testing.assert_close(model(**inputs).logits, fresh()(**inputs).logits, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("method", ["lora", "dora", "adalora"])
def test_an_adapter_comes_back_as_it_was_saved(method: str, tmp_path) -> None:
    model = adapted(LoraOptions(method, r=4, init_r=6))
    model.save_pretrained(tmp_path / "adapter")
    inputs = {"input_features": torch.rand(1, 80, 60), "decoder_input_ids": torch.tensor([[1, 2, 3]])}
    with torch.no_grad():
        loaded = load_adapter(fresh(), tmp_path / "adapter").eval()(**inputs).logits
        assert torch.equal(loaded, model(**inputs).logits)
        assert (loaded - fresh()(**inputs).logits).abs().max() > 1e-3


def test_an_adapter_of_another_width_is_refused_with_both_sizes(folder) -> None:
    assert "was adapted with 32 inputs, the base's has 64; it was made for another model" in refused(
        folder, fresh(2, 64)
    )


def test_an_adapter_of_another_depth_is_refused(folder) -> None:
    assert "has weights for 32 of the base's 48 target modules" in refused(folder, fresh(3))
    told = refused(folder, fresh(1))
    assert "which the base does not have (16 such)" in told


@pytest.mark.parametrize("names", [["q_proj", "v_proj"], ["self_attn.q_proj", "self_attn.v_proj"]])
def test_depth_is_checked_for_adapters_made_elsewhere_too(names: list[str], tmp_path) -> None:
    get_peft_model(fresh(), LoraConfig(r=4, target_modules=names)).save_pretrained(tmp_path / "adapter")
    check_adapter(fresh(), tmp_path / "adapter")
    assert "it was made for a shallower model" in refused(tmp_path / "adapter", fresh(3))


@pytest.mark.parametrize(("key", "made"), [("vocab_size", 51866), ("num_mel_bins", 128)])
def test_an_adapter_of_another_vocabulary_or_mel_bins_is_refused(folder, key: str, made: int) -> None:
    (folder / "training.json").write_text(json.dumps({"input_window": "longest", key: made}))
    assert f"made for a model with {key} {made}, the base's is" in refused(folder)


def test_what_is_no_adapter_is_refused(folder, tmp_path) -> None:
    assert "has no adapter_config.json; expected an adapter such as" in refused(tmp_path / "nowhere")
    (folder / "adapter_config.json").write_text("{")
    assert "adapter_config.json does not read" in refused(folder)
    (folder / "adapter_config.json").write_text("[]")
    assert "is no adapter's" in refused(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"peft_type": "IA3"}, "peft_type is IA3; expected LORA"),
        ({"peft_type": None}, "peft_type is None"),
        ({"r": 0}, "r is 0; expected a rank of at least 1"),
        ({"r": "4"}, "r is 4; expected a rank"),
        ({"r": 8}, "is 4 by lora_A, 4 by lora_B, 8 by adapter_config.json (r)"),
        ({"use_dora": True}, "has no lora_magnitude_vector, which DoRA needs"),
        ({"auto_mapping": {"base_model_class": "M", "parent_library": "evil.code"}}, "module of its own (evil.code)"),
        ({"auto_mapping": "evil"}, "module of its own (evil)"),
        ({"megatron_config": {"a": 1}, "megatron_core": "evil.core"}, "module of its own"),
        ({"lora_alpha": "much"}, "does not load"),
    ],
)
def test_an_altered_config_is_refused(folder: Path, change: dict, message: str) -> None:
    config = json.loads((folder / "adapter_config.json").read_text())
    assert config["auto_mapping"]["parent_library"] == "egrecho_inner.model.whisper"
    load_adapter(fresh(), folder)
    (folder / "adapter_config.json").write_text(json.dumps(config | change))
    assert message in refused(folder)


def test_matrices_of_different_ranks_are_refused(folder: Path) -> None:
    weights = load_file(folder / WEIGHTS)
    name = next(name for name in weights if "lora_B" in name)
    weights[name] = torch.cat([weights[name], weights[name]], dim=1)
    save_file(weights, folder / WEIGHTS)
    assert "is 4 by lora_A, 8 by lora_B" in refused(folder)


def test_pickled_adapters_are_not_opened(folder) -> None:
    (folder / WEIGHTS).rename(folder / "adapter_model.bin")
    assert "is missing; only safetensors adapters are loaded" in refused(folder)


@pytest.mark.parametrize("share", [0, 0.5, 0.99])
def test_a_truncated_adapter_is_refused(folder, share: float) -> None:
    data = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(data[: int(share * len(data))])
    assert "is broken" in refused(folder)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_an_adapter_with_a_value_that_is_no_number_is_refused(folder, value: float) -> None:
    weights = load_file(folder / WEIGHTS)
    weights[max(weights)][0, 0] = value
    save_file(weights, folder / WEIGHTS)
    assert f"{max(weights)} holds NaN or infinite values" in refused(folder)


def test_an_adapter_with_half_of_a_pair_is_refused(folder) -> None:
    weights = load_file(folder / WEIGHTS)
    del weights[next(name for name in weights if "lora_B" in name)]
    save_file(weights, folder / WEIGHTS)
    assert "has no lora_B matrix" in refused(folder)


@pytest.mark.parametrize("content", ["{", "[]", "7", '{"input_window": "long"}', '{"input_window": []}'])
def test_a_broken_record_of_the_training_is_named(folder, content: str) -> None:
    assert read_training(folder) == {}
    (folder / "training.json").write_text(content)
    assert "training.json does not read" in refused(folder)
