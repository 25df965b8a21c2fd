"""The development score: what eval would say of the same cuts, a number whatever the cuts are like."""

import logging
import math
from pathlib import Path

import numpy as np
import pytest
import soundfile
from lhotse import CutSet, MonoCut, SupervisionSegment
from tiny import speech_cut, tiny_model, tiny_processor

from egrecho_inner.data.batches.options import DataOptions
from egrecho_inner.data.cuts.index import CutIndex
from egrecho_inner.decoding.options import DecodeOptions
from egrecho_inner.decoding.recognize import label_encoder
from egrecho_inner.decoding.transcribe import transcribe
from egrecho_inner.errors import ConfigError, DataError
from egrecho_inner.results.references import read_references
from egrecho_inner.results.scores import score_set
from egrecho_inner.training.dev_score import DevScorer
from egrecho_inner.training.options import TrainOptions
from egrecho_inner.training.whisper_family import WhisperFamily

PROCESSOR = tiny_processor()


@pytest.fixture(scope="module")
def model():
    return tiny_model(PROCESSOR, layers=1, ending=3.3)


def scorer(path: Path | list[str], metric: str = "auto", language: str | None = None, **data: object) -> DevScorer:
    options = DataOptions(train="unused", dev=path if isinstance(path, list) else str(path), language=language, **data)
    family = WhisperFamily(tiny_model(PROCESSOR, layers=1), PROCESSOR, options)
    return DevScorer(family, options, "longest", TrainOptions(metric=metric, report_to=[]))


def write(path: Path, cuts: list[MonoCut]) -> Path:
    CutSet.from_cuts(cuts).to_file(path)
    return path


def cuts_of(folder: Path, *languages: str | None) -> list[MonoCut]:
    return [speech_cut(folder, f"u{n}", 1.0 + n / 10, "one two", name, seed=n) for n, name in enumerate(languages)]


@pytest.mark.parametrize(
    ("languages", "metric"),
    [
        (("en", "Vietnamese"), "wer"),
        (("ja-JP", "Japanese", "zh-HK"), "cer"),
        (("en", "th"), "cer"),
        ((None, "en"), "wer"),
    ],
)
def test_auto_takes_the_metric_that_eval_takes_and_gives_its_figure(
    tmp_path: Path, model, languages: tuple[str | None, ...], metric: str
) -> None:
    path = write(tmp_path / "dev.jsonl", cuts_of(tmp_path, *languages))
    dev = scorer(path, language="English")
    assert dev.metric == metric
    found = dev(model)
    index = CutIndex(path)
    hypotheses = transcribe(model, PROCESSOR, index, DecodeOptions(language="en", window="longest"))
    expected = score_set(read_references(index, None, 80, "en"), {h.id: h for h in hypotheses}, "auto", "auto")
    assert found[metric] == expected.score.error_rate
    assert dev.normalizers == {f"{expected.normalizer.name} {expected.normalizer.version}"}


def test_eval_seconds_bounds_a_batch_and_changes_no_score(tmp_path: Path, model) -> None:
    path = str(write(tmp_path / "dev.jsonl", cuts_of(tmp_path, *["en"] * 5)))  # of 1.0 to 1.4 s
    family = WhisperFamily(model, PROCESSOR, data := DataOptions(train="unused", dev=path))
    found = {}
    for seconds, sizes in ((240.0, [5]), (2.9, [2, 2, 1]), (0.5, [1] * 5)):
        dev = DevScorer(family, data, "longest", TrainOptions(eval_seconds=seconds, report_to=[]))
        assert [len(batch.positions) for batch in dev.sets[""].batches()] == sizes
        found[seconds] = dev(model)
    assert found[0.5]["loss"] == pytest.approx(found[240.0]["loss"], rel=1e-5)
    assert found[0.5]["wer"] == found[2.9]["wer"] == found[240.0]["wer"]


def test_a_named_metric_is_taken_and_a_language_of_the_setting_counts_for_cuts_that_name_none(tmp_path: Path) -> None:
    path = write(tmp_path / "dev.jsonl", cuts_of(tmp_path, None, None))
    assert scorer(path, language="Japanese").metric == "cer"
    assert scorer(path, metric="wer", language="ja").metric == "wer"
    assert scorer(path, metric="loss", language="ja").metric == "loss"


def test_cuts_that_do_not_read_are_left_out_of_every_score_and_named(
    tmp_path: Path, model, caplog: pytest.LogCaptureFixture
) -> None:
    cuts = cuts_of(tmp_path, *["en"] * 5)
    good = scorer(write(tmp_path / "good.jsonl", cuts[:3]))(model)
    (tmp_path / "u3.wav").unlink()
    soundfile.write(tmp_path / "u4.wav", np.zeros(10, dtype=np.float32), 16000)
    dev = scorer(write(tmp_path / "dev.jsonl", [cuts[4], *cuts[:3], cuts[3]]))
    logging.getLogger("egrecho_inner").propagate = True
    with caplog.at_level(logging.WARNING, logger="egrecho_inner"):
        found = dev(model)
    assert found == pytest.approx(good) and found["cuts"] == 3
    assert "2 of 5 development cuts cannot be used" in caplog.text and "u4" in caplog.text
    assert dev(model) == pytest.approx(found)


def test_a_batch_without_a_readable_cut_gives_no_nan_and_a_set_without_one_is_refused(tmp_path: Path, model) -> None:
    cuts = [*cuts_of(tmp_path, "en", "en"), speech_cut(tmp_path, "long", 29.0, "one")]
    (tmp_path / "long.wav").unlink()  # alone in its batch: the longest
    found = scorer(write(tmp_path / "dev.jsonl", cuts))(model)
    assert math.isfinite(found["loss"]) and math.isfinite(found["wer"])
    with pytest.raises(DataError, match=r"none of the 1 development cuts can be used; first: .*long"):
        scorer(write(tmp_path / "none.jsonl", cuts[2:]))(model)


def test_what_cannot_be_scored_is_counted_before_training(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    cuts = [*cuts_of(tmp_path, *["en"] * 4), speech_cut(tmp_path, "long", 31.0, "one")]
    cuts[1].supervisions[0].text = None
    cuts[2].supervisions[0].text = ""
    logging.getLogger("egrecho_inner").propagate = True
    with caplog.at_level(logging.INFO, logger="egrecho_inner"):
        dev = scorer(write(tmp_path / "dev.jsonl", cuts))
    assert len(dev.sets[""].cuts) == 2
    assert "3 of 5 development cuts are left out: 1 over 30 s, 1 without reference text, 1 with an empty" in caplog.text
    assert "first: u1-0, u2-0, long-0" in caplog.text
    assert len(scorer(tmp_path / "dev.jsonl", no_speech=True).sets[""].cuts) == 3
    with pytest.raises(ConfigError, match=r"set data\.dev"):
        scorer([])


def test_all_supervisions_of_a_cut_are_scored_in_the_order_of_time(tmp_path: Path, model) -> None:
    cut = speech_cut(tmp_path, "u", 2.0, "one two three")
    joined = scorer(write(tmp_path / "joined.jsonl", [cut]))(model)
    parts = [(1.0, "three"), (0.0, "one two")]
    cut.supervisions = [SupervisionSegment(text, "u", start, 1.0, 0, text, "en") for start, text in parts]
    assert scorer(write(tmp_path / "parts.jsonl", [cut]))(model) == joined


def test_an_english_only_model_is_trained_with_the_prefix_it_is_decoded_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("egrecho_inner.model.loading.ENGLISH_ONLY_VOCABULARY", len(PROCESSOR.tokenizer))
    model = tiny_model(PROCESSOR, layers=1)
    del model.generation_config.is_multilingual  # as older folders of tiny.en are
    path = write(tmp_path / "train.jsonl", cuts_of(tmp_path, "en", None))
    trained = WhisperFamily(model, PROCESSOR, DataOptions(str(path))).labels.encode("one").inputs[:2]
    assert trained == label_encoder(model, PROCESSOR.tokenizer).prefix()
    assert PROCESSOR.tokenizer.convert_ids_to_tokens(trained) == ["<|startoftranscript|>", "<|notimestamps|>"]


def test_sets_with_names_have_a_score_each_and_their_mean_decides(tmp_path: Path, model) -> None:
    cuts = cuts_of(tmp_path, "en", "en", "en")
    paths = {
        name: str(write(tmp_path / f"{name}.jsonl", part)) for name, part in (("ted", cuts[:1]), ("vox", cuts[1:]))
    }
    data = DataOptions(train="unused", dev=paths)
    family = WhisperFamily(model, PROCESSOR, data)
    both = DevScorer(family, data, "longest", TrainOptions(report_to=[]))
    found, alone = both(model), {name: scorer(Path(path))(model) for name, path in paths.items()}
    assert both.metric == "wer" and found["cuts"] == 3
    for name in paths:
        assert found[f"loss_{name}"] == alone[name]["loss"] and found[f"wer_{name}"] == alone[name]["wer"]
        assert found[f"wer_{name}_low"] == alone[name]["wer_low"]
    for key in ("loss", "wer"):
        assert found[key] == pytest.approx((alone["ted"][key] + alone["vox"][key]) / 2)
    assert both.digest == "+".join(f"{name}:{CutIndex(path).digest}" for name, path in paths.items())
    with pytest.raises(ConfigError, match="'a b' is no name of a set"):
        DataOptions(train="unused", dev={"a b": "x"})
