"""A language that Whisper lacks: a token behind all others, and every program that loads the folder takes its code."""

import json
import shutil
from pathlib import Path

import needs
import numpy as np
import pytest
import torch
from tiny import save_tiny, speech_cuts
from transformers import WhisperForConditionalGeneration, WhisperProcessor

from egrecho_inner.add_language import add_language
from egrecho_inner.config import run
from egrecho_inner.data.cuts.index import CutIndex
from egrecho_inner.decoding.ctranslate2 import ConvertedRecognizer
from egrecho_inner.decoding.exports.forms import refuse_other_vocabulary
from egrecho_inner.decoding.options import DecodeOptions
from egrecho_inner.decoding.transcribe import transcribe
from egrecho_inner.errors import ConfigError, ModelError
from egrecho_inner.export import export
from egrecho_inner.model.agreement import check_agreement
from egrecho_inner.model.loading import load_model, load_processor
from egrecho_inner.model.new_language import add_language as add
from egrecho_inner.model.new_language import among_languages
from egrecho_inner.text.labels import LabelEncoder


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("base") / "m", window="30s", ending=2.8, seed=2)


@pytest.fixture(scope="module")
def added(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("added") / "m"
    add_language(str(base), "mdw", str(out), "Mboshi", "ln")
    return out


@pytest.fixture(scope="module")
def cuts(tmp_path_factory: pytest.TempPathFactory) -> CutIndex:
    return CutIndex(speech_cuts(tmp_path_factory.mktemp("cuts"), 3, language=None))


def test_the_token_is_behind_all_others_and_none_of_them_moves(base: Path, added: Path) -> None:
    before, after = (load_processor(str(folder)).tokenizer for folder in (base, added))
    assert after.get_vocab() == before.get_vocab() | {"<|mdw|>": len(before)}
    assert after.all_special_ids[-1] == before.all_special_ids[-1], "Transformers counts timestamps from it on"
    assert after.decode([len(before)], skip_special_tokens=True) == ""
    old, new = (load_model(str(folder)) for folder in (base, added))
    table, wider = old.get_input_embeddings().weight, new.get_input_embeddings().weight
    assert torch.equal(wider[:-1], table) and new.config.vocab_size == len(before) + 1
    assert torch.equal(wider[-1], table[LabelEncoder(before).languages["ln"]])
    assert new.proj_out.weight is wider, "tied as before"


def test_the_mean_of_all_languages_begins_the_row_of_what_is_related_to_none(base: Path, tmp_path: Path) -> None:
    add_language(str(base), "kik", str(tmp_path / "m"))
    labels, model = LabelEncoder(load_processor(str(tmp_path / "m")).tokenizer), load_model(str(tmp_path / "m"))
    rows = model.get_input_embeddings().weight
    others = [index for code, index in labels.languages.items() if code != "ki"]
    assert len(others) == 100 and torch.equal(rows[labels.languages["ki"]], rows[others].mean(0))


def test_a_row_that_only_rounds_the_matrix_up_is_taken(base: Path, tmp_path: Path) -> None:
    model, processor = load_model(str(base)), load_processor(str(base))
    tokens = len(processor.tokenizer)
    model.resize_token_embeddings(tokens + 7, mean_resizing=False)
    assert add(model, processor, "mdw", "ln") == tokens and model.config.vocab_size == tokens + 7


def test_transformers_takes_code_token_and_name_and_never_writes_the_token(base: Path, added: Path) -> None:
    """Begun as Lingala's, the new language is Lingala until it is trained: any other row would give another text."""
    model = WhisperForConditionalGeneration.from_pretrained(added).eval()
    processor = WhisperProcessor.from_pretrained(added)
    wave = np.sin(np.arange(16000) / 9).astype(np.float32)
    features = processor(wave, sampling_rate=16000, return_tensors="pt").input_features
    new = len(processor.tokenizer) - 1
    table = model.get_input_embeddings().weight
    with torch.no_grad():  # the row of the likeliest token: without suppression it would be written, too
        table[new] = table[model.generate(features, language="ln", max_new_tokens=1, return_timestamps=False)[0, 0]]
        table[processor.tokenizer.convert_tokens_to_ids("<|ln|>")] = table[new]
    for timestamps in (False, True):
        asked = {"max_new_tokens": 12, "return_timestamps": timestamps}
        lingala = model.generate(features, language="ln", **asked)
        for name in ("mdw", "<|mdw|>", "Mboshi"):
            assert torch.equal(model.generate(features, language=name, **asked), lingala)
        assert new not in lingala.flatten().tolist()
    plain = WhisperProcessor.from_pretrained(base).tokenizer
    times = [each.decode(lingala[0], output_offsets=True)["offsets"] for each in (plain, processor.tokenizer)]
    assert times[0] == times[1] != []


def test_our_decoding_takes_the_code_and_detects_it(added: Path, cuts: CutIndex) -> None:
    model, processor = load_model(str(added)).eval(), load_processor(str(added))

    def texts(**options: object) -> list[tuple[str, str | None]]:
        found = transcribe(model, processor, cuts, DecodeOptions(max_new_tokens=12, **options))
        return [(each.text, each.language) for each in sorted(found, key=lambda each: each.id)]

    mboshi = texts(language="MDW")
    assert [text for text, _ in mboshi] == [text for text, _ in texts(language="ln")]
    assert {code for _, code in mboshi} == {"mdw"}
    with torch.no_grad():  # the row of the language token is also what detection reads
        rows = model.get_input_embeddings().weight
        ids = LabelEncoder(processor.tokenizer).languages
        rows[list(ids.values())] = 0.0
        rows[ids["mdw"]] = model.model.decoder.layer_norm.bias
    assert {code for _, code in texts()} == {"mdw"}


def test_the_row_of_the_language_is_trained(added: Path) -> None:
    model, labels = load_model(str(added)), LabelEncoder(load_processor(str(added)).tokenizer, "mdw")
    encoded = labels.encode("ngá bó")
    assert encoded.inputs[1] == len(labels.tokenizer) - 1
    model(torch.zeros(1, 80, 200), decoder_input_ids=torch.tensor([encoded.inputs])).logits[0, -1, 5].backward()
    assert model.get_input_embeddings().weight.grad[-1].abs().sum() > 0


def test_faster_whisper_decodes_it_once_told_of_the_code(added: Path, tmp_path: Path) -> None:
    needs.extra("export", "faster_whisper")
    manifest = str(speech_cuts(tmp_path, 2, language="mdw"))
    export(str(added), "ctranslate2", str(tmp_path / "ct2"), manifest, "float32")
    made = json.loads((tmp_path / "ct2" / "export.json").read_text())
    assert made["identical"] == made["clips"] == 2
    ids = json.loads((tmp_path / "ct2" / "config.json").read_text())["lang_ids"]
    assert len(ids) == 101 and ids == sorted(set(ids))


def test_the_same_text_comes_of_tokens_numbered_anew(added: Path, cuts: CutIndex) -> None:
    model, processor = load_model(str(added)).eval(), load_processor(str(added))
    other, renamed = among_languages(model, processor)
    vocabulary = renamed.tokenizer.get_vocab()
    assert vocabulary["<|mdw|>"] == vocabulary["<|translate|>"] - 1 and vocabulary["<|0.00|>"] == 366
    assert sorted(vocabulary.values()) == list(range(len(processor.tokenizer)))
    check_agreement("m", other.config, other.generation_config, renamed)
    for language in ("mdw", "en"):
        options = DecodeOptions(language=language, max_new_tokens=12, timestamps=True)
        ours, theirs = (list(transcribe(*each, cuts, options)) for each in ((model, processor), (other, renamed)))
        assert [each.text for each in ours] == [each.text for each in theirs]
    with pytest.raises(ConfigError, match=r"added language \(mdw\) for text; use torch"):
        ConvertedRecognizer(None, model, LabelEncoder(processor.tokenizer))


def test_programs_that_count_their_languages_are_not_given_one_more(added: Path) -> None:
    model = load_model(str(added))
    model.config.vocab_size = 51866  # 51,865 and one: openai-whisper would take it for large-v3
    with pytest.raises(ModelError, match=r"from its place in Whisper's own list, where an added one \(<\|mdw\|>\)"):
        refuse_other_vocabulary(model, "openai-whisper")


def test_a_table_that_points_elsewhere_is_refused(added: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(added, tmp_path / "m"))
    file = folder / "generation_config.json"
    content = json.loads(file.read_text())
    content["lang_to_id"]["mdw"] -= 1
    file.write_text(json.dumps(content))
    with pytest.raises(ModelError, match=r"<\|mdw\|> is \d+ by generation_config.json"):
        load_processor(str(folder))


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["--code", "ln"], 2, "the model has <|ln|> already"),
        (["--code", "Lingala"], 2, "the model has <|ln|> already"),
        (["--code", "englsh"], 2, "nearest: en (english)"),
        (["--code", "zzz"], 2, "'zzz' is not Whisper's"),
        (["--code", "kon", "--init_from", "mdw"], 4, "init_from mdw: this model has no token for it; legal are mean"),
        (["--code", "kon", "--name", "ln"], 0, ""),
    ],
)
def test_what_cannot_be_added_is_refused(
    base: Path, tmp_path: Path, words: list[str], code: int, message: str, capsys: pytest.CaptureFixture
) -> None:
    with pytest.raises(SystemExit) as left:
        run(add_language, ["--model", str(base), "--out", str(tmp_path / "out"), *words])
        raise SystemExit(0)
    assert left.value.code == code and message in capsys.readouterr().err
    assert (tmp_path / "out").exists() == (code == 0)


def test_no_language_is_added_twice_nor_to_an_english_only_model_nor_over_a_folder(
    base: Path, added: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=r"has <\|mdw\|> already"):
        add_language(str(added), "mdw", str(tmp_path / "twice"))
    add_language(str(added), "kon", str(tmp_path / "two"), "Kongo", "mdw")
    with pytest.raises(ConfigError, match="language under 'mboshi' already"):
        add_language(str(added), "ktu", str(tmp_path / "name"), "Mboshi")
    with pytest.raises(ConfigError, match="exists; give a new folder"):
        add_language(str(base), "mdw", str(base))
    model, processor = load_model(str(base)), load_processor(str(base))
    model.generation_config.is_multilingual = False
    with pytest.raises(ConfigError, match="English only"):
        add(model, processor, "mdw")
