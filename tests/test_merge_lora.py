"""Merging: the merged model says what adapter-on-base says, or nothing is written."""

import json
import shutil
from pathlib import Path

import pytest
import soundfile
import torch
from safetensors.torch import load_file, save_file
from tiny import save_tiny, speech_cuts, tiny_model, tiny_processor
from transformers import pipeline

from egrecho_inner.errors import ConfigError, DataError, ModelError
from egrecho_inner.merge_lora import merge_lora, prove
from egrecho_inner.model.adapters import add_adapter, load_adapter
from egrecho_inner.model.loading import load_model, save_folder, window_of
from egrecho_inner.model.options import LoraOptions

INPUTS = {
    "input_features": torch.rand(2, 80, 100, generator=torch.Generator().manual_seed(0)) - 0.5,
    "decoder_input_ids": torch.arange(12).reshape(2, 6),
}
METHODS = {
    "lora": LoraOptions(r=4),
    "rslora": LoraOptions(r=4, use_rslora=True),
    "dora": LoraOptions("dora", r=4),
    "adalora": LoraOptions("adalora", r=4, init_r=6),
}


def save_adapter(folder: Path, base: Path, options: LoraOptions) -> Path:
    """Save an adapter as if trained on a base."""
    model = add_adapter(load_model(str(base)), options, total_steps=100)
    generator = torch.Generator().manual_seed(0)
    for name, parameter in model.named_parameters():
        if "lora_B" in name or "lora_E" in name:
            parameter.data = torch.randn(parameter.shape, generator=generator) * 0.1
    model.save_pretrained(folder)
    (folder / "training.json").write_text(json.dumps({"input_window": "longest"}))
    return folder


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("bases") / "base", window="30s")


@pytest.fixture(scope="module")
def trained(base, tmp_path_factory) -> Path:
    return save_adapter(tmp_path_factory.mktemp("runs") / "adapter", base, METHODS["lora"])


@pytest.fixture
def adapter(trained, tmp_path) -> Path:
    return shutil.copytree(trained, tmp_path / "run" / "adapter")


def listing(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def refused(adapter: Path, kind: type[Exception], **options: str) -> str:
    """Return the message of a merge that must be refused, and leave everything as it was."""
    run = adapter.parent
    before = listing(run)
    with pytest.raises(kind) as caught:
        merge_lora(str(adapter), **{"out": str(run / "final"), **options})
    assert listing(run) == before
    return str(caught.value)


@pytest.mark.parametrize("method", METHODS)
def test_the_merged_model_says_what_adapter_on_base_says(method: str, base: Path, tmp_path) -> None:
    adapter = save_adapter(tmp_path / "adapter", base, METHODS[method])
    merge_lora(str(adapter), str(tmp_path / "final"))  # the base is the one the adapter names
    with torch.no_grad():
        merged = load_model(str(tmp_path / "final")).eval()(**INPUTS).logits
        expected = load_adapter(load_model(str(base)), adapter).eval()(**INPUTS).logits
        untouched = load_model(str(base)).eval()(**INPUTS).logits
    torch.testing.assert_close(merged, expected, rtol=1e-4, atol=1e-3)  # 5e-4 of rounding where the adapter is loud
    assert (merged - untouched).abs().max() > 1e-2


def test_the_merged_folder_is_complete_has_the_runs_window_and_works_in_a_pipeline(base, adapter, tmp_path) -> None:
    cuts = speech_cuts(tmp_path / "speech", n=3)
    out = adapter.parent / "final"
    merge_lora(str(adapter), str(out), str(base), cuts=str(cuts))
    needed = {"config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}
    assert needed | {"preprocessor_config.json"} <= {path.name for path in out.iterdir()}
    assert listing(adapter.parent)[:1] == ["adapter"] and not list(adapter.parent.glob(".*"))
    assert window_of(load_model(str(out))) == "longest"
    wave, _ = soundfile.read(next((tmp_path / "speech/cuts").glob("*.wav")), dtype="float32")  # a name needs ffmpeg
    recognise = pipeline("automatic-speech-recognition", str(out), device="cpu")
    said = recognise(wave, generate_kwargs={"max_new_tokens": 4, "language": "en"})
    assert isinstance(said["text"], str)
    # once more: an earlier merge gives way
    (out / "model.safetensors").write_bytes(b"")
    merge_lora(str(adapter), str(out), str(base))
    assert (out / "model.safetensors").stat().st_size > 0


def test_another_base_is_refused(adapter, tmp_path) -> None:
    for number, (layers, width) in enumerate(((2, 64), (3, 32), (1, 32))):
        other = tmp_path / f"other{number}"
        save_folder(tiny_model(tiny_processor(), layers, width), tiny_processor(), other, "30s")
        assert "it was made for a" in refused(adapter, ModelError, base=str(other))


def test_cuts_that_prove_nothing_are_refused(adapter, base, tmp_path) -> None:
    cuts = str(speech_cuts(tmp_path / "speech", n=3, language=None))
    message = refused(adapter, DataError, base=str(base), cuts=cuts)
    assert "cuts000-0" in message and "--language" in message
    merge_lora(str(adapter), str(adapter.parent / "final"), str(base), cuts=cuts, language="en")
    for path in (tmp_path / "speech").rglob("*.wav"):
        path.unlink()
    assert "nothing is proven" in refused(adapter, DataError, base=str(base), cuts=cuts, language="en")


def test_a_broken_or_missing_adapter_or_base_is_refused(adapter, base, tmp_path) -> None:
    assert "does not exist" in refused(adapter, ModelError, base="/nonexistent/base")
    weights = load_file(adapter / "adapter_model.safetensors")
    weights[max(weights)][:] = float("nan")
    save_file(weights, adapter / "adapter_model.safetensors")
    assert "holds NaN" in refused(adapter, ModelError)
    (adapter / "adapter_config.json").unlink()
    assert "has no adapter_config.json" in refused(adapter, ModelError)
    (adapter / "adapter_config.json").write_text("{}")
    assert "does not name its base; give --base" in refused(adapter, ConfigError)


def test_nothing_is_written_over_but_an_earlier_model_of_ours(adapter, base, tmp_path) -> None:
    foreign = adapter.parent / "foreign"
    foreign.mkdir()
    (foreign / "thesis.txt").write_text("years of work")
    assert "give an empty or new folder to --out" in refused(adapter, ConfigError, out=str(foreign))
    (foreign / "config.json").write_text('{"model_type": "whisper"}')
    assert "no model folder of ours" in refused(adapter, ConfigError, out=str(foreign))
    assert "no model folder of ours" in refused(adapter, ConfigError, out=str(foreign / "thesis.txt"))
    copy = shutil.copytree(base, adapter.parent / "base")
    for place in (copy, copy / ".." / "base", adapter):
        assert "is what is merged" in refused(adapter, ConfigError, base=str(copy), out=str(place))


def test_a_merge_that_changes_the_logits_is_refused_and_leaves_nothing(adapter, base, monkeypatch) -> None:
    """A model that is saved wrongly is found out by loading it again."""

    def save_wrongly(model, processor, folder, window, *rest) -> None:
        with torch.no_grad():
            model.model.decoder.layer_norm.weight *= 1.1
        save_folder(model, processor, folder, window, *rest)

    monkeypatch.setattr("egrecho_inner.model.loading.save_folder", save_wrongly)
    assert "the merged model differs from adapter on base" in refused(adapter, ModelError)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 0.1])
def test_the_proof_fails_on_any_real_difference(value: float) -> None:
    before = torch.linspace(-10, 10, 24).reshape(1, 4, 6)
    prove(before, before + 1e-5)
    after = before.clone()
    after[0, 2, 3] += value
    with pytest.raises(ModelError, match="nothing was written"):
        prove(before, after)
