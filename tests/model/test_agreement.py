"""A model folder whose files are of two models is refused before anything is computed, naming the file and both ids."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tiny import save_tiny, tiny_processor
from transformers import WhisperConfig

from egrecho_inner.errors import ModelError
from egrecho_inner.evaluation import check_model
from egrecho_inner.model.agreement import PUBLISHED, check_agreement, check_sizes
from egrecho_inner.model.loading import load_model, load_processor, read_generation_config, start_model
from egrecho_inner.model.options import ModelOptions

Change = Callable[[Path], Any]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("model") / "final")


@pytest.fixture
def folder(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "final"))


def edit(file: str, change: Callable[[dict[str, Any]], Any]) -> Change:
    """Return what changes a JSON file of a folder."""

    def apply(folder: Path) -> None:
        content = json.loads((folder / file).read_text())
        change(content)
        (folder / file).write_text(json.dumps(content))

    return apply


def tokens(change: Callable[[dict[str, int]], dict[str, int]]) -> Change:
    """Return what gives the added tokens of a tokenizer other ids."""

    def apply(content: dict[str, Any]) -> None:
        ids = change({each["content"]: each["id"] for each in content["added_tokens"]})
        kept = {each["content"]: each for each in content["added_tokens"]}
        content["added_tokens"] = sorted(
            ({**kept[name], "id": number} for name, number in ids.items()), key=lambda each: each["id"]
        )

    return edit("tokenizer.json", apply)


def without(name: str) -> Callable[[dict[str, int]], dict[str, int]]:
    """Leave out a token; those after it move up, as between large-v3 and large-v2."""
    return lambda ids: {token: i - (i > ids[name]) for token, i in ids.items() if token != name}


def lacking(name: str) -> Change:
    """Return what takes a token out of both files of a tokenizer."""

    def apply(folder: Path) -> None:
        tokens(lambda ids: {token: i for token, i in ids.items() if token != name})(folder)
        edit("tokenizer_config.json", lambda content: content["extra_special_tokens"].remove(name))(folder)

    return apply


def swapped(one: str, other: str) -> Callable[[dict[str, int]], dict[str, int]]:
    return lambda ids: {**ids, one: ids[other], other: ids[one]}


ID = tiny_processor().tokenizer.get_vocab()
FAULTS: dict[str, tuple[Change, str]] = {
    "tokenizer.json missing": (lambda p: (p / "tokenizer.json").unlink(), "has a tokenizer_config.json but no token"),
    "another Whisper's ids": (
        tokens(without("<|yue|>")),
        rf"<\|notimestamps\|> is {ID['<|notimestamps|>']} by generation_config.json and {ID['<|notimestamps|>'] - 1} "
        r"in the tokenizer, and \d more",
    ),
    "no <|notimestamps|>": (lacking("<|notimestamps|>"), r"has no <\|notimestamps\|>"),
    "no <|nospeech|>": (lacking("<|nospeech|>"), r"has no <\|nospeech\|>"),
    "a token put at the end by Transformers": (
        tokens(lambda ids: {name: i for name, i in ids.items() if name != "<|notimestamps|>"}),
        rf"<\|notimestamps\|> is {ID['<|notimestamps|>']} by generation_config.json and {len(ID) - 1} in",
    ),
    "tasks swapped": (
        tokens(swapped("<|transcribe|>", "<|translate|>")),
        rf"<\|transcribe\|> is {ID['<|transcribe|>']} by generation_config.json and {ID['<|translate|>']} in the tok",
    ),
    "languages swapped": (tokens(swapped("<|vi|>", "<|en|>")), r"<\|en\|> is \d+ by generation_config.json and"),
    "another start": (
        edit("config.json", lambda c: c.update(decoder_start_token_id=5)),
        r"<\|startoftranscript\|> is 5 by config.json",
    ),
    "another end": (
        edit("generation_config.json", lambda c: c.update(eos_token_id=5)),
        r"<\|endoftext\|> is 5 by generation_config.json",
    ),
    "timestamps elsewhere": (tokens(swapped("<|0.00|>", "<|0.02|>")), r"<\|0.00\|> is \d+ by its place after"),
    "another hop": (
        edit("processor_config.json", lambda c: c["feature_extractor"].update(hop_length=200)),
        "hop_length 200, Whisper has 160",
    ),
    "another mel": (
        edit("processor_config.json", lambda c: c["feature_extractor"].update(feature_size=128)),
        "makes 128 mel bins, the model takes 80",
    ),
    "config of nothing": (edit("config.json", lambda c: c.pop("model_type")), "names no model_type"),
    "generation config broken": (lambda p: (p / "generation_config.json").write_text("{"), "does not load"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_files_of_two_models_are_refused_with_file_and_ids(folder: Path, name: str) -> None:
    change, message = FAULTS[name]
    load_processor(str(folder))
    change(folder)
    with pytest.raises(ModelError, match=re.escape(str(folder)) + ".*" + message):
        load_processor(str(folder))


def test_a_folder_that_holds_a_processor_alone_is_its_own_judge(folder: Path) -> None:
    for name in ("config.json", "generation_config.json", "model.safetensors"):
        (folder / name).unlink()
    assert len(load_processor(str(folder)).tokenizer) == len(ID)


def test_a_model_without_generation_config_is_compared_with_its_config(folder: Path) -> None:
    (folder / "generation_config.json").unlink()
    assert read_generation_config(str(folder)) is None
    load_processor(str(folder))
    tokens(swapped("<|startoftranscript|>", "<|en|>"))(folder)
    with pytest.raises(ModelError, match=r"<\|startoftranscript\|> is \d+ by config.json"):
        load_processor(str(folder))


def test_the_model_that_is_trained_is_compared_with_the_processor_it_is_given(folder: Path, whole: Path) -> None:
    processor = load_processor(str(whole))
    start_model(ModelOptions(str(folder)), processor, seed=0)
    edit("generation_config.json", lambda c: c.update(no_timestamps_token_id=7))(folder)
    with pytest.raises(ModelError, match=r"<\|notimestamps\|> is 7 by generation_config.json"):
        start_model(ModelOptions(str(folder)), processor, seed=0)


def test_published_sizes_do_not_mix_and_rounded_ones_do() -> None:
    for rows in PUBLISHED:
        check_sizes("m", rows, rows)
        check_sizes("m", 51968, rows)
        check_sizes("m", rows, 50364)  # old tokenizers had no timestamps
    with pytest.raises(ModelError, match="51865 tokens as tiny to large-v2, the model 51866 as large-v3"):
        check_sizes("m", 51866, 51865)
    with pytest.raises(ModelError, match="51866 tokens, the model 51865; after adding tokens"):
        check_sizes("m", 51865, 51866)


def test_added_tokens_are_no_contradiction(folder: Path) -> None:
    processor, config = tiny_processor.__wrapped__(), WhisperConfig.from_pretrained(folder)
    processor.tokenizer.add_tokens(["ꞓ"])
    config.vocab_size += 1
    check_agreement("m", config, read_generation_config(str(folder)), processor)


def test_an_evaluation_knows_a_folder_that_is_no_model_before_it_loads(folder: Path) -> None:
    assert check_model(str(folder)) == 80
    edit("config.json", lambda c: c.pop("model_type"))(folder)
    with pytest.raises(ModelError, match="names no model_type; expected"):
        check_model(str(folder))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"vocab_size": 1900},
            r"embed_tokens.weight is \(1866, 32\).*size 1900.*\(1900, 32\); set vocab_size to",
        ),
        ({"num_mel_bins": 128}, r"conv1.weight is \(32, 80, 3\).*\(32, 128, 3\); config.json is another model's"),
    ],
)
def test_weights_of_another_shape_are_named_with_both_shapes_and_a_remedy(
    folder: Path, change: dict, message: str, capfd: pytest.CaptureFixture
) -> None:
    edit("config.json", lambda c: c.update(change))(folder)
    with pytest.raises(ModelError, match=message):
        load_model(str(folder))
    assert "LOAD REPORT" not in capfd.readouterr().err
