"""What is trained on: everything that is left out has a reason, a count and names."""

import logging
from pathlib import Path

import pytest
from lhotse import CutSet
from lhotse.cut import MonoCut
from tiny import speech_cut, tiny_processor

from egrecho_inner.data.batches.cut_list import CutList
from egrecho_inner.data.batches.log_mel import LogMel
from egrecho_inner.data.batches.options import DataOptions
from egrecho_inner.data.batches.plan import Batch
from egrecho_inner.data.batches.tensors import CutBatches
from egrecho_inner.errors import ConfigError, DataError
from egrecho_inner.text.labels import LabelEncoder

LABELS = LabelEncoder(tiny_processor().tokenizer)


def write(folder: Path, *spoken: tuple[str | None, str | None]) -> str:
    """Write cuts with these texts and languages."""
    cuts: list[MonoCut] = []
    for number, (text, language) in enumerate(spoken):
        cut = speech_cut(folder, f"u{number}", 1.0, text or "", language)
        cut.supervisions[0].text = text
        cuts.append(cut)
    CutSet.from_cuts(cuts).to_file(folder / "cuts.jsonl")
    return str(folder / "cuts.jsonl")


def ids(cuts: CutList) -> list[str]:
    return [cuts[position].id for position in range(len(cuts))]


def test_a_null_text_is_no_silence_and_an_empty_one_is_only_where_asked(tmp_path: Path) -> None:
    path = write(tmp_path, ("one", "en"), (None, "en"), ("", "en"))
    cuts = CutList(path)
    with pytest.raises(DataError, match=r"2 of 3 .*1 without reference text, 1 with an empty text \(data\.no_speech"):
        cuts.keep_trainable(LABELS, 0.5)
    cuts = CutList(path)
    cuts.keep_trainable(LABELS, 0.7)
    assert ids(cuts) == ["u0-0"]
    cuts = CutList(path)
    cuts.keep_trainable(LABELS, 0.7, no_speech=True)
    assert ids(cuts) == ["u0-0", "u2-0"]
    batch = CutBatches(CutList(path), LABELS, LogMel(80))[Batch(0, [0, 1, 2], False)]
    assert batch.ids == ["u0-0", "u2-0"] and "no transcript" in dict(batch.skipped)["u1-0"]


def test_a_language_the_model_lacks_is_known_before_training_with_count_and_cuts(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class Older:
        def __getattr__(self, name: str) -> object:
            return getattr(tiny_processor().tokenizer, name)

        def get_added_vocab(self) -> dict[str, int]:
            return {k: v for k, v in tiny_processor().tokenizer.get_added_vocab().items() if k != "<|yue|>"}

    path = write(
        tmp_path, ("one", "en"), ("一", "zh-HK"), ("一", "zh-CN"), ("二", "yue"), ("one", "zzz"), ("one", None)
    )
    labels = LabelEncoder(Older())
    with pytest.raises(DataError, match=r"4 of 6 training cuts .*2 in yue, which this model.*first: u1-0, u3-0, u4-0"):
        CutList(path).keep_trainable(labels, 0.5)
    cuts = CutList(path)
    logging.getLogger("egrecho_inner").propagate = True
    with caplog.at_level(logging.INFO, logger="egrecho_inner"):
        cuts.keep_trainable(labels, 0.7)
    assert ids(cuts) == ["u0-0", "u2-0"] and cuts.languages == ["en", "zh"]
    assert cuts.left_out == {
        "in yue, which this model has no token for": 2,
        "in 'zzz', which is no language of Whisper's": 1,
        "without a language (set data.language)": 1,
    }
    assert "4 of 6 training cuts are left out" in caplog.text and "first: u1-0, u3-0, u4-0, u5-0" in caplog.text
    named = CutList(path)
    named.keep_trainable(LabelEncoder(tiny_processor().tokenizer, "English"), 0.2)
    assert ids(named) == ["u0-0", "u1-0", "u2-0", "u3-0", "u5-0"]


def test_cuts_are_left_out_for_the_text_that_is_learned(tmp_path: Path) -> None:
    cuts = list(CutSet.from_file(write(tmp_path, (None, None), ("one", "en"), (None, "en"), ("one", "en"))))
    for cut, text in zip(cuts[:3], ("won", "", "a" * 460), strict=True):
        cut.supervisions[0].custom = {"teacher": {"text": text, "language": "en"}}
    path = tmp_path / "labelled.jsonl"
    CutSet.from_cuts(cuts).to_file(path)
    taught = CutList(str(path))
    taught.keep_trainable(LABELS, 0.5, source="teacher")
    assert ids(taught) == ["u0-0", "u1-0"], "its empty texts are silence: a filter kept them"
    assert taught.left_out == {"without teacher text": 1, "over 448 tokens": 1}


def test_the_setting_that_names_no_manifest_is_named() -> None:
    for key in ("data.train", "data.dev"):
        with pytest.raises(ConfigError, match=f"set {key}"):
            CutList([], key)


def test_the_language_of_a_setting_is_a_code_from_the_start() -> None:
    assert DataOptions(train="x", language="Vietnamese").language == "vi"
    with pytest.raises(ConfigError, match="'Klingon' is not Whisper's"):
        DataOptions(train="x", language="Klingon")
