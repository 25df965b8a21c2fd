"""Models in and out: every fault in one line with its remedy, complete folders, sizes that are the published ones."""

import json
import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny import save_tiny, tiny_model, tiny_processor
from transformers import WhisperConfig, WhisperForConditionalGeneration
from transformers.models.whisper.tokenization_whisper import LANGUAGES

from egrecho_inner.errors import ConfigError, ModelError
from egrecho_inner.model.loading import (
    is_multilingual,
    load_model,
    load_processor,
    random_model,
    save_folder,
    start_model,
    window_of,
)
from egrecho_inner.model.options import SIZES, ModelOptions
from egrecho_inner.model.whisper import Whisper


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("models") / "final", window="mixed")


@pytest.fixture
def folder(whole: Path, tmp_path: Path) -> Path:
    return shutil.copytree(whole, tmp_path / "final")


def refused(path: object, load=load_model) -> str:
    with pytest.raises(ModelError) as caught:
        load(str(path))
    assert "\n" not in str(caught.value) and str(path) in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("load", [load_model, load_processor])
def test_a_path_that_is_nowhere_is_not_taken_for_a_hub_id(load, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "exp").mkdir()
    for path in ("/nonexistent", "./model", "whisper-small", "exp/typo", "a/b/c", "~/model"):
        assert "does not exist and is not a hub id like openai/whisper-small" in refused(path, load)


@pytest.mark.parametrize("load", [load_model, load_processor])
def test_a_hub_id_without_the_hub_says_how_to_fetch_it(load) -> None:
    assert os.environ["HF_HUB_OFFLINE"] == "1"
    assert "local/hf_download.sh fetches a model" in refused("openai/whisper-no-such-size", load)


@pytest.mark.parametrize("load", [load_model, load_processor])
def test_a_folder_that_is_no_model_is_refused(load, tmp_path) -> None:
    assert "folder without config.json; expected a model folder" in refused(tmp_path, load)


def test_pickled_weights_are_never_opened(folder, tmp_path) -> None:
    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "PWN"),)

    (folder / "model.safetensors").unlink()
    torch.save({"x": Evil()}, folder / "pytorch_model.bin")
    assert "pickled weights (.bin), which are not loaded; convert them to safetensors" in refused(folder)
    assert not (tmp_path / "PWN").exists()


def test_missing_weights_are_named(folder) -> None:
    (folder / "model.safetensors").unlink()
    assert "does not load" in refused(folder)


@pytest.mark.parametrize("kept", [0, 7, 0.5])
def test_truncated_weights_are_refused(folder, kept: float) -> None:
    data = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(data[: int(kept * len(data)) if kept < 1 else kept])
    assert "does not load" in refused(folder)


def test_a_missing_tensor_is_not_made_up(folder) -> None:
    weights = load_file(folder / "model.safetensors")
    del weights["model.decoder.layers.1.fc1.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    assert "weights missing or of another shape: ['model.decoder.layers.1.fc1.weight']" in refused(folder)


@pytest.mark.parametrize("change", [{"decoder_layers": 3}, {"vocab_size": 100}, {"d_model": 64}, {"num_mel_bins": 128}])
def test_weights_of_another_shape_than_the_config_are_refused(folder, change: dict) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | change))
    refused(folder)


def test_another_kind_of_model_is_refused(folder) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"model_type": "wav2vec2"}))
    assert "expected whisper" in refused(folder)


@pytest.mark.parametrize("text", ["", "{", "[]"])
def test_a_broken_config_is_refused(folder, text: str) -> None:
    (folder / "config.json").write_text(text)
    refused(folder)


def test_a_model_folder_without_tokenizer_is_refused_as_processor(folder) -> None:
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).unlink(missing_ok=True)
    assert "no tokenizer of Whisper's" in refused(folder, load_processor)


def test_a_processor_of_another_model_is_refused_before_training(folder) -> None:
    def start(path: str) -> Whisper:
        return start_model(ModelOptions(path), load_processor(path), seed=0)

    extractor = json.loads((folder / "preprocessor_config.json").read_text())
    (folder / "preprocessor_config.json").write_text(json.dumps(extractor | {"feature_size": 128}))
    (folder / "processor_config.json").unlink(missing_ok=True)
    assert "makes 128 mel bins, the model takes 80" in refused(folder, start)
    processor = tiny_processor.__wrapped__()
    processor.tokenizer.add_tokens(["ꞓ"])
    processor.save_pretrained(folder)
    size = len(processor.tokenizer)
    assert f"the tokenizer has {size} tokens, the model {size - 1}; after adding tokens, resize" in refused(
        folder, start
    )


def test_a_saved_folder_is_complete_and_says_its_window(whole) -> None:
    names = {path.name for path in whole.iterdir()}
    needed = {"config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}
    assert needed | {"preprocessor_config.json"} <= names
    assert not [name for name in names if name.endswith((".bin", ".pt"))]
    assert window_of(load_model(str(whole))) == "mixed"
    assert json.loads((whole / "config.json").read_text())["input_window"] == "mixed"


def test_a_folder_loads_as_it_was_saved_with_its_processor(whole) -> None:
    model, loaded = tiny_model(tiny_processor()), load_model(str(whole))
    assert all(torch.equal(value, loaded.state_dict()[name]) for name, value in model.state_dict().items())
    assert loaded.generation_config.lang_to_id == model.generation_config.lang_to_id
    processor = load_processor(str(whole))
    assert processor.tokenizer.get_vocab() == tiny_processor().tokenizer.get_vocab()
    assert processor.feature_extractor.feature_size == 80


def test_dropout_and_other_values_of_the_config_are_those_asked_for(whole) -> None:
    model = start_model(ModelOptions(str(whole), dropout=0.25), tiny_processor(), seed=0, ctc_weight=0.5)
    assert model.config.dropout == 0.25 and model.get_encoder().dropout == 0.25
    assert model.ctc_head.weight.isfinite().all() and not model.get_encoder().embed_positions.weight.requires_grad


def test_random_weights_are_those_of_the_seed_and_leave_the_global_one() -> None:
    processor = tiny_processor()
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    first, again, other = (random_model("nano", processor, seed).state_dict() for seed in (3, 3, 4))
    assert torch.equal(torch.rand(3), expected)
    assert all(torch.equal(value, again[name]) for name, value in first.items())
    assert not torch.equal(first["model.decoder.layers.0.fc1.weight"], other["model.decoder.layers.0.fc1.weight"])


def test_a_random_model_knows_its_tokens_and_freezes_its_sinusoids() -> None:
    model, tokenizer = random_model("nano", tiny_processor()), tiny_processor().tokenizer
    assert model.config.vocab_size >= len(tokenizer)
    assert model.config.eos_token_id == tokenizer.convert_tokens_to_ids("<|endoftext|>")
    assert model.config.decoder_start_token_id == tokenizer.convert_tokens_to_ids("<|startoftranscript|>")
    assert model.generation_config.lang_to_id["<|yue|>"] == tokenizer.convert_tokens_to_ids("<|yue|>")
    assert {name[2:-2] for name in model.generation_config.lang_to_id} == set(LANGUAGES)
    table = model.get_encoder().embed_positions.weight
    assert not table.requires_grad
    assert torch.equal(table, WhisperForConditionalGeneration(model.config).get_encoder().embed_positions.weight)


def test_an_unknown_size_names_the_legal_ones() -> None:
    with pytest.raises(ModelError, match=r"unknown size 'huge'; legal are nano, tiny, .*large-v3-turbo"):
        random_model("huge", tiny_processor())


# parameters in millions, as the model cards say
PUBLISHED = {"tiny": 39, "base": 74, "small": 244, "medium": 769, "large": 1550, "large-v2": 1550, "large-v3": 1550}
PUBLISHED |= {"large-v3-turbo": 809}


@pytest.mark.parametrize("size", SIZES)
def test_named_sizes_are_the_published_ones(size: str) -> None:
    width, heads, encoder, decoder, mels = SIZES[size]
    assert width % heads == 0 and mels == (128 if "v3" in size else 80)
    if size not in PUBLISHED:
        return
    with torch.device("meta"):
        model = Whisper(
            WhisperConfig(
                vocab_size=51866 if mels == 128 else 51865, num_mel_bins=mels, d_model=width,
                encoder_attention_heads=heads, decoder_attention_heads=heads, encoder_layers=encoder,
                decoder_layers=decoder, encoder_ffn_dim=4 * width, decoder_ffn_dim=4 * width,
            )
        )  # fmt: skip
    millions = sum(parameter.numel() for parameter in model.parameters()) / 1e6
    # the cards' numbers for base and smaller count the output matrix that is tied to the embeddings once
    assert millions == pytest.approx(PUBLISHED[size], rel=0.04)


def test_a_random_models_mel_bins_and_vocabulary_are_the_processors() -> None:
    for n_mels in (80, 128):
        with torch.device("meta"):
            model = random_model("tiny", tiny_processor(n_mels))
        assert model.config.num_mel_bins == model.get_encoder().conv1.in_channels == n_mels


def test_a_model_in_training_is_saved_without_what_only_training_needs(tmp_path) -> None:
    model = random_model("nano", tiny_processor(), ctc_weight=0.3)
    save_folder(model, tiny_processor(), tmp_path / "final", "longest")
    assert not [name for name in load_file(tmp_path / "final/model.safetensors") if name.startswith("ctc_head")]
    assert load_model(str(tmp_path / "final")).config.ctc_weight == 0.0


@pytest.mark.parametrize(
    ("rows", "flag", "expected"),
    [(51864, None, False), (51865, None, True), (51864, True, True), (51866, False, False)],
)
def test_english_only_models_are_known_by_their_size_where_they_do_not_say_so(
    rows: int, flag: bool | None, expected: bool
) -> None:
    named = {} if flag is None else {"is_multilingual": flag}
    model = SimpleNamespace(config=SimpleNamespace(vocab_size=rows), generation_config=SimpleNamespace(**named))
    assert is_multilingual(model) is expected


def test_the_kernel_of_attention_is_a_choice_and_changes_nothing(whole: Path) -> None:
    features, ids = torch.randn(2, 80, 300), torch.full((2, 4), 5)
    mask = torch.ones(2, 300, dtype=torch.long)
    mask[1, 180:] = 0
    found = {}
    for kernel in ("sdpa", "eager"):
        model = start_model(ModelOptions(str(whole), attention=kernel), tiny_processor(), 0).eval()
        assert model.config._attn_implementation == kernel
        with torch.no_grad():
            found[kernel] = model(features, attention_mask=mask, decoder_input_ids=ids).logits
    torch.testing.assert_close(found["sdpa"], found["eager"], atol=2e-5, rtol=1e-4)
    with pytest.raises(ConfigError, match=r"^attention flash_attention_2 does not work here: .*; take sdpa$"):
        load_model(str(whole), attn_implementation="flash_attention_2")
