"""Exports: what another program's runtime decodes is what we decode, or nothing is written."""

import json
import struct
from pathlib import Path

import needs
import numpy as np
import pytest
import torch
from tiny import save_tiny, speech_cuts, tiny_processor
from transformers import WhisperConfig

from egrecho_inner.decoding.exports import ggml, openai
from egrecho_inner.decoding.exports.forms import Asked, openai_names
from egrecho_inner.errors import ConfigError, ModelError
from egrecho_inner.export import export
from egrecho_inner.model.whisper import Whisper


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("model") / "m", window="30s", ending=2.8, seed=2)


@pytest.fixture(scope="module")
def cuts(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(speech_cuts(tmp_path_factory.mktemp("cuts"), 4))


@pytest.mark.parametrize(
    ("to", "package", "kind"),
    [("ctranslate2", "faster_whisper", "float32"), ("onnx", "onnx", "float32"), ("onnx", "onnx", "int8")],
)
def test_the_runtime_says_the_same(model: Path, cuts: str, tmp_path: Path, to: str, package: str, kind: str) -> None:
    needs.extra("export", package)
    export(str(model), to, str(tmp_path / "out"), cuts, kind, bound=0.5 if kind == "float32" else 100.0)
    made = json.loads((tmp_path / "out" / "export.json").read_text())
    assert made["clips"] == 4 and made["RTF"] > 0 and made["megabytes"] > 0 and "WER" in made
    if kind == "float32":
        assert made["identical"] == 4 and made["different"] == 0.0


def test_nothing_is_written_where_texts_differ(
    model: Path, cuts: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    needs.extra("export", "faster_whisper")
    found = {"different": 3.0, "identical": 1, "clips": 4, "first_difference": "x: 'a' here, 'b' there"}
    monkeypatch.setattr("egrecho_inner.export.compare", lambda *_: {**found, "RTF": 0.1, "our_RTF": 0.1})
    with pytest.raises(ModelError, match=r"3.00 % of the words, more than 0.5 %; nothing was written. First: x: 'a'"):
        export(str(model), "ctranslate2", str(tmp_path / "out"), cuts, "float32")
    assert not (tmp_path / "out").exists()
    with pytest.raises(ConfigError, match="--prove false"):
        export(str(model), "onnx", str(tmp_path / "out"))
    with pytest.raises(ConfigError, match="legal are float32, int8"):
        export(str(model), "onnx", str(tmp_path / "out"), cuts, "float16")


def test_a_vocabulary_that_a_program_has_no_place_for_is_refused(model: Path, tmp_path: Path) -> None:
    for to in ("openai", "ggml"):
        with pytest.raises(ModelError, match="OpenAI's vocabularies only"):
            export(str(model), to, str(tmp_path / to), prove=False)


def whisper_sized() -> Whisper:
    """Make a narrow model with as many tokens as OpenAI's multilingual ones."""
    torch.manual_seed(0)
    config = WhisperConfig(
        vocab_size=51865,
        d_model=64,
        encoder_attention_heads=1,
        decoder_attention_heads=1,
        encoder_layers=1,
        decoder_layers=2,
        encoder_ffn_dim=256,
        decoder_ffn_dim=256,
    )
    return Whisper(config).eval()


def test_openai_whisper_computes_the_same(tmp_path: Path) -> None:
    needs.extra("export", "whisper")
    import whisper

    model = whisper_sized()
    openai.write(model, tiny_processor(), tmp_path, tmp_path, "float32")
    theirs = whisper.load_model(str(tmp_path / openai.NAME), device="cpu")
    feats, ids = torch.randn(1, 80, 3000), torch.randint(0, 51865, (1, 7))
    with torch.no_grad():
        ours = model(feats, decoder_input_ids=ids).logits
        assert torch.allclose(theirs(feats, ids), ours, atol=2e-4)


def test_whisper_cpp_loads_and_decodes(tmp_path: Path) -> None:
    needs.extra("export", "pywhispercpp")
    model = whisper_sized()
    ggml.write(model, tiny_processor(), tmp_path, tmp_path, "float16")
    head = struct.unpack("<12i", (tmp_path / ggml.NAME).read_bytes()[:48])
    assert head == (0x67676D6C, 51865, 1500, 64, 1, 1, 448, 64, 1, 2, 80, 1)
    decode = ggml.reader(tmp_path, tiny_processor(), Asked("en", "transcribe"), "float16")
    (text,) = decode([np.random.default_rng(0).normal(0, 0.1, 32000).astype(np.float32)])
    assert isinstance(text, str)


def test_every_tensor_has_a_name_of_openais() -> None:
    names = [openai_names(name) for name in whisper_sized().state_dict()]
    assert names.count(None) == 1 and len(set(names)) == len(names)
    assert {"encoder.blocks.0.attn.query.weight", "decoder.blocks.1.cross_attn_ln.bias", "decoder.ln.weight"} <= set(
        names
    )
