"""CTranslate2 says what PyTorch says, utterance by utterance, through `egrecho eval`'s own door."""

from dataclasses import asdict
from pathlib import Path

import needs
import numpy as np
import pytest
import torch
from tiny import save_tiny, speech_cuts, tiny_model, tiny_processor

from egrecho_inner.data.cuts.index import CutIndex
from egrecho_inner.decoding.ctranslate2 import converted, load_shell
from egrecho_inner.decoding.options import DecodeOptions
from egrecho_inner.decoding.resumable import Decoder, Placement
from egrecho_inner.decoding.transcribe import transcribe
from egrecho_inner.errors import ConfigError
from egrecho_inner.results.utterance import Hypothesis

CPU = Placement(torch.device("cpu"), torch.float32)


@pytest.fixture(scope="module")
def cuts(tmp_path_factory: pytest.TempPathFactory) -> CutIndex:
    return CutIndex(speech_cuts(tmp_path_factory.mktemp("cuts"), 8))


def by_id(decoder: Decoder, cuts: CutIndex) -> dict[str, Hypothesis]:
    return {each.id: each for each in decoder.transcriber(cuts)}


@pytest.mark.parametrize(
    "options",
    [{}, {"window": "30s"}, {"timestamps": True}],
    ids=["longest", "30s", "timestamps"],
)
def test_text_is_that_of_torch(options: dict, cuts: CutIndex, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    needs.extra("ct2", "ctranslate2")
    monkeypatch.setenv("EGRECHO_CACHE", str(tmp_path / "cache"))
    folder = str(save_tiny(tmp_path / "model", ending=2.8, seed=2))
    expected = by_id(Decoder(folder, DecodeOptions(**options, backend="torch"), CPU), cuts)
    decoder = Decoder(folder, DecodeOptions(**options, backend="ctranslate2"), CPU)
    found = by_id(decoder, cuts)
    assert len({each.text for each in expected.values()}) > 2  # or nothing is shown
    for name, each in expected.items():
        assert found[name].tokens == each.tokens
        assert found[name].text == each.text
        assert (found[name].truncated, found[name].language) == (each.truncated, each.language)
        assert found[name].no_speech == pytest.approx(each.no_speech, abs=1e-4)
        assert found[name].avg_logprob == pytest.approx(each.avg_logprob, abs=1e-3)
    assert decoder.facts(cuts, 8)["decode"] == asdict(decoder.options)
    assert decoder.key(cuts, 8) != Decoder(folder, DecodeOptions(**options), CPU).key(cuts, 8)


@pytest.mark.parametrize("ending", [3.2, 9.0])
def test_beam_search_ends_and_has_scores(
    ending: float, cuts: CutIndex, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    needs.extra("ct2", "ctranslate2")
    monkeypatch.setenv("EGRECHO_CACHE", str(tmp_path / "cache"))
    folder = str(save_tiny(tmp_path / "model", ending=ending, seed=3))
    greedy = by_id(Decoder(folder, DecodeOptions(backend="torch"), CPU), cuts)
    for backend in ("ctranslate2", "ctranslate2-int8"):
        found = by_id(Decoder(folder, DecodeOptions(num_beams=3, backend=backend), CPU), cuts)
        assert all(np.isfinite(each.avg_logprob) for each in found.values())
        if ending == 9.0:
            assert not any(each.tokens for each in found.values())
        elif backend == "ctranslate2":  # what the search is for, as far as its early end allows
            assert np.mean([found[name].avg_logprob - greedy[name].avg_logprob for name in found]) > -0.1


def test_a_model_is_converted_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    needs.extra("ct2", "ctranslate2")
    monkeypatch.setenv("EGRECHO_CACHE", str(tmp_path / "cache"))
    folder = converted(str(save_tiny(tmp_path / "model")), "some-digest")
    stamp = (folder / "model.bin").stat().st_mtime_ns
    assert converted("gone/model", "some-digest") == folder
    assert (folder / "model.bin").stat().st_mtime_ns == stamp
    assert [each.name for each in folder.parent.iterdir()] == ["some-digest"]


def test_the_shell_knows_what_the_model_knows(tmp_path: Path) -> None:
    shell = load_shell(str(save_tiny(tmp_path / "model", window="mixed")))
    assert shell.device.type == "meta"
    assert shell.config.input_window == "mixed"
    assert (
        shell.generation_config.no_timestamps_token_id
        == tiny_model(tiny_processor()).generation_config.no_timestamps_token_id
    )


def test_a_model_in_memory_is_not_for_ctranslate2(cuts: CutIndex) -> None:
    with pytest.raises(ConfigError, match="takes a model folder"):
        list(transcribe(tiny_model(tiny_processor()), tiny_processor(), cuts, DecodeOptions(backend="ctranslate2")))


def test_a_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("egrecho_inner.decoding.ctranslate2.ctranslate2", None)
    decoder = Decoder(str(save_tiny(tmp_path / "model")), DecodeOptions(backend="ctranslate2"), CPU)
    with pytest.raises(ConfigError, match=r"egrecho\[ct2\]"):
        decoder.load()
