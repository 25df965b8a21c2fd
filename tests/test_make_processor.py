"""A processor of one's own is Whisper's in everything but its words, in both layouts; so are models of it."""

import gzip
import json
from pathlib import Path

import pytest
from transformers import AutoProcessor, GenerationConfig, WhisperProcessor
from transformers.models.whisper.tokenization_whisper import LANGUAGES

from egrecho_inner.errors import ConfigError, DataError, ModelError
from egrecho_inner.make_processor import make_processor
from egrecho_inner.model.loading import is_multilingual, load_model, load_processor, save_folder, start_model
from egrecho_inner.model.options import ModelOptions
from egrecho_inner.text.labels import LabelEncoder

TEXTS = ["zero one two three", "four five six seven eight", "nine ten zero oh", "the phone is on the table"]


def kaldi_text(path: Path) -> Path:
    path.write_text("".join(f"utt{n} {text}\n" for n, text in enumerate(TEXTS)) + "utt9\n")
    return path


@pytest.fixture(scope="module")
def processor(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("nano")
    make_processor(str(kaldi_text(out / "text")), str(out / "processor"), vocab_size=300)
    return out / "processor"


@pytest.fixture(scope="module")
def english(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("nano")
    make_processor(str(kaldi_text(out / "text")), str(out / "processor"), vocab_size=300, english_only=True)
    return out / "processor"


def test_processor_loads_offline_with_the_right_prefix(processor):
    loaded = AutoProcessor.from_pretrained(processor)
    assert isinstance(loaded, WhisperProcessor) and loaded.feature_extractor.feature_size == 80
    tokenizer = loaded.tokenizer
    names = tokenizer.convert_ids_to_tokens(tokenizer("zero").input_ids)
    assert names[:4] == ["<|startoftranscript|>", "<|en|>", "<|transcribe|>", "<|notimestamps|>"]
    assert names[-1] == "<|endoftext|>"
    tokenizer.set_prefix_tokens(language="vietnamese", task="translate", predict_timestamps=True)
    names = tokenizer.convert_ids_to_tokens(tokenizer("zero").input_ids)
    assert names[:3] == ["<|startoftranscript|>", "<|vi|>", "<|translate|>"]


def test_ids_are_in_whispers_order(processor):
    tokenizer = WhisperProcessor.from_pretrained(processor).tokenizer
    ids = tokenizer.convert_tokens_to_ids
    end = ids("<|endoftext|>")
    assert tokenizer.get_vocab()[""] == end - 1
    assert [ids(f"<|{name}|>") - end for name in ("startoftranscript", "en", "zh", "de")] == [1, 2, 3, 4]
    tail = ("translate", "transcribe", "startoflm", "startofprev", "nospeech", "notimestamps", "0.00", "0.02", "30.00")
    first = ids("<|translate|>")
    assert [ids(f"<|{name}|>") - first for name in tail] == [0, 1, 2, 3, 4, 5, 6, 7, 1506]
    assert len(tokenizer) == ids("<|30.00|>") + 1
    assert tokenizer.pad_token_id == tokenizer.eos_token_id == end


def test_timestamps_survive_and_are_left_out_of_plain_text(processor):
    tokenizer = WhisperProcessor.from_pretrained(processor).tokenizer
    zero = tokenizer.convert_tokens_to_ids("<|0.00|>")
    ids = [zero, *tokenizer("zero one", add_special_tokens=False).input_ids, zero + 50]
    assert tokenizer.decode(ids, skip_special_tokens=True) == "zero one"
    assert tokenizer.decode(ids, decode_with_timestamps=True) == "<|0.00|>zero one<|1.00|>"


@pytest.mark.parametrize(
    "text", ["zero one two", "Sự xuất hiện của phiên bản hybrid.", "हिन्दी — naïve 你好 🙂", "a  b\tc"]
)
def test_every_text_comes_back_as_it_went_in(processor, text):
    tokenizer = WhisperProcessor.from_pretrained(processor).tokenizer
    assert tokenizer.decode(tokenizer(text).input_ids, skip_special_tokens=True) == text


def test_generation_config_points_at_the_tokenizers_ids(processor):
    tokenizer = WhisperProcessor.from_pretrained(processor).tokenizer
    config = GenerationConfig.from_pretrained(processor)
    ids = tokenizer.convert_tokens_to_ids
    assert config.is_multilingual and config.decoder_start_token_id == ids("<|startoftranscript|>")
    assert config.no_timestamps_token_id == ids("<|notimestamps|>") and config.max_length == 448
    assert all(ids(token) == value for token, value in config.lang_to_id.items()) and len(config.lang_to_id) >= 99
    assert config.task_to_id == {task: ids(f"<|{task}|>") for task in ("transcribe", "translate")}
    assert json.loads((processor / "preprocessor_config.json").read_text())["feature_size"] == 80


def test_the_english_only_layout_is_that_of_tiny_en(english, processor):
    tokenizer = WhisperProcessor.from_pretrained(english).tokenizer
    names = tokenizer.convert_ids_to_tokens(tokenizer("zero").input_ids)
    assert names[:2] == ["<|startoftranscript|>", "<|notimestamps|>"] and names[-1] == "<|endoftext|>"
    ids = tokenizer.convert_tokens_to_ids
    vocabulary, end = tokenizer.get_vocab(), ids("<|endoftext|>")
    assert "" not in vocabulary and end == 299  # as 50256, of 50257
    assert len(vocabulary) == 300 + 51864 - 50257 and ids("<|0.00|>") - end == 50363 - 50256
    assert len(vocabulary) == len(load_processor(str(processor)).tokenizer) - len(LANGUAGES) + 99 - 1
    config = GenerationConfig.from_pretrained(english)
    assert config.is_multilingual is False and not hasattr(config, "lang_to_id") and not hasattr(config, "task_to_id")


def test_a_model_from_random_weights_is_of_its_tokenizers_layout(english, processor, tmp_path):
    for folder, expected in ((english, False), (processor, True)):
        loaded = load_processor(str(folder))
        model = start_model(ModelOptions(str(folder), size="nano"), loaded, seed=0)
        assert is_multilingual(model) is expected
        save_folder(model, loaded, tmp_path / folder.parent.name, "longest")
        again = load_model(str(tmp_path / folder.parent.name))
        load_processor(str(tmp_path / folder.parent.name))  # agrees with its config
        encoder = LabelEncoder(loaded.tokenizer, "en", multilingual=is_multilingual(again))
        assert encoder.encode("zero", "en").inputs[1] == loaded.tokenizer.convert_tokens_to_ids(
            "<|en|>" if expected else "<|notimestamps|>"
        )


def test_the_layout_may_be_overruled_one_way_only(english, processor):
    options = ModelOptions(str(processor), size="nano", multilingual=False)
    assert not is_multilingual(start_model(options, load_processor(str(processor)), seed=0))
    with pytest.raises(ModelError, match="a tokenizer for English only"):
        start_model(ModelOptions(str(english), size="nano", multilingual=True), load_processor(str(english)), seed=0)


def test_cuts_give_their_transcripts_and_a_limit_takes_the_first(tmp_path, capsys):
    rows = []
    for number, text in enumerate([*TEXTS, ""]):
        supervision = {"id": f"s{number}", "recording_id": "r", "start": 0, "duration": 1, "channel": 0, "text": text}
        rows.append({"id": f"c{number}", "start": 0, "duration": 1, "channel": 0, "supervisions": [supervision]})
        rows[-1]["type"] = "MonoCut"
    with gzip.open(tmp_path / "cuts.jsonl.gz", "wt") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)
    make_processor(str(tmp_path / "cuts.jsonl.gz"), str(tmp_path / "cuts"), vocab_size=300)
    make_processor(str(kaldi_text(tmp_path / "text")), str(tmp_path / "text_too"), vocab_size=300)
    assert (tmp_path / "cuts/tokenizer.json").read_bytes() == (tmp_path / "text_too/tokenizer.json").read_bytes()
    make_processor(str(tmp_path / "text"), str(tmp_path / "first"), vocab_size=300, limit=1)
    assert capsys.readouterr().out.splitlines()[-1].startswith(f"{tmp_path}/first: ")
    assert (tmp_path / "first/tokenizer.json").read_bytes() != (tmp_path / "cuts/tokenizer.json").read_bytes()


def test_what_cannot_be_learned_from_is_refused(tmp_path):
    (tmp_path / "empty").write_text("utt1\n")
    with pytest.raises(DataError, match="no transcripts"):
        make_processor(str(tmp_path / "empty"), str(tmp_path / "out"))
    with pytest.raises(DataError, match="no such file"):
        make_processor(str(tmp_path / "nothing"), str(tmp_path / "out"))
    with pytest.raises(ConfigError, match="expected 257 at least"):
        make_processor(str(tmp_path / "empty"), str(tmp_path / "out"), vocab_size=100)
