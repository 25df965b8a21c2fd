"""Suspicions: each planted fault is found as what it is, clean data raise none, and copies are heard first."""

import json
import random
from pathlib import Path

import numpy as np
import py3langid
import pytest
import soundfile

from egrecho_inner.errors import DataError
from egrecho_inner.report import survey as survey_module
from egrecho_inner.report.listening import choose_cuts, listen
from egrecho_inner.report.survey import Survey, survey_cuts
from egrecho_inner.report.suspects import Finding, find_suspects, shared_speakers, unchecked
from egrecho_inner.text.normalize import fold_text
from egrecho_inner.text.scripts import main_script

RATE = 16000
WORDS = [
    "river",
    "stone",
    "garden",
    "window",
    "yellow",
    "market",
    "simple",
    "winter",
    "orange",
    "letter",
    "number",
    "school",
]


class Corpus:
    """Writes cuts of noise with texts of one pace, a file each."""

    def __init__(self, folder: Path):
        self.folder, self.random = folder, random.Random(0)
        self.lines: dict[str, list[dict]] = {"train": [], "test": []}
        for number in range(40):
            split = "train" if number < 30 else "test"
            self.add(split, f"{split}-{number}", speaker=f"{split}-{number % 5}")

    def text(self, words: int = 6) -> str:
        return " ".join(self.random.choices(WORDS, k=words))

    def wave(self, seconds: float) -> np.ndarray:
        return np.random.default_rng(self.random.randrange(2**31)).uniform(-0.3, 0.3, int(seconds * RATE))

    def add(self, split: str, id: str, wave=None, text=None, language="en", speaker=None) -> dict:
        text = self.text() if text is None else text
        wave = self.wave(len(text) / 14 * self.random.uniform(0.9, 1.1)) if wave is None else wave
        path = self.folder / f"{split}-{len(self.lines[split])}.wav"
        soundfile.write(path, wave, RATE, subtype="PCM_16")
        seconds = len(wave) / RATE
        speech = dict(id=id, recording_id=id, start=0.0, duration=seconds, channel=0, text=text, language=language)
        source = dict(type="file", channels=[0], source=str(path))
        audio = dict(id=id, sources=[source], sampling_rate=RATE, num_samples=len(wave), duration=seconds)
        cut = dict(id=id, start=0, duration=seconds, channel=0, supervisions=[speech | {"speaker": speaker or id}])
        self.lines[split].append(cut | {"recording": audio | {"channel_ids": [0]}, "type": "MonoCut"})
        return self.lines[split][-1]

    def survey(self) -> Survey:
        paths = {}
        for split, cuts in self.lines.items():
            paths[split] = str(self.folder / f"{split}.jsonl")
            Path(paths[split]).write_text("".join(f"{json.dumps(cut)}\n" for cut in cuts))
        return survey_cuts(paths)

    def find(self, limit: int | None = None) -> dict[str, Finding]:
        survey = self.survey()
        return {each.kind: each for each in find_suspects(survey, list(listen(survey, choose_cuts(survey, limit))))}

    def ids(self, finding: Finding) -> list[str]:
        cuts = [cut["id"] for cuts in self.lines.values() for cut in cuts]
        return [cuts[suspect.row] for suspect in finding.worst]


@pytest.fixture
def corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Corpus:
    monkeypatch.setattr(survey_module, "py3langid", None)
    return Corpus(tmp_path)


def test_clean_data_raise_no_suspicion(corpus: Corpus) -> None:
    assert corpus.find() == {}
    assert shared_speakers(corpus.survey()) == {}


def test_a_test_utterance_in_train_is_found_by_audio_and_by_text_never_by_id(corpus: Corpus) -> None:
    wave = corpus.wave(3)
    corpus.add("train", "original", wave, "quick brown foxes and others jump over it")
    corpus.add("test", "renamed", wave, "quick brown foxes and others jump over it")
    corpus.add("test", "Other sound", text=corpus.lines["train"][3]["supervisions"][0]["text"].upper() + "!")
    corpus.add("test", "train-7")
    found = corpus.find()
    assert set(found) == {"leak", "text", "shared-id"}
    assert corpus.ids(found["leak"]) == ["renamed"]
    assert [suspect.why for suspect in found["leak"].worst] == ["the same audio in train"]
    assert (found["leak"].severity, found["shared-id"].severity) == ("error", "hint")
    assert corpus.ids(found["text"]) == ["Other sound"]
    assert corpus.ids(found["shared-id"]) == ["train-7"]


def test_an_id_twice_in_a_split_is_an_error(corpus: Corpus) -> None:
    corpus.add("test", "test-33")
    found = corpus.find()
    assert set(found) == {"id"} and found["id"].severity == "error"
    assert (found["id"].worst[0].row, found["id"].worst[0].other) == (40, 33)


def test_checks_that_were_not_made_are_named(corpus: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    assert unchecked(corpus.survey()) == [
        "whether a text looks like another language: en (py3langid is not installed: pip install py3langid)"
    ]
    monkeypatch.setattr(survey_module, "py3langid", py3langid)
    assert unchecked(corpus.survey()) == []
    for number, language in enumerate(["vi", "haw"]):
        corpus.add("train", f"few-{number}", text="xin chào các bạn", language=language)
    assert unchecked(corpus.survey()) == [
        "characters per second, which take 20 utterances of a language: vi (1), haw (1)",
        "whether a text looks like another language: haw (py3langid does not know it)",
    ]


def test_a_prompt_that_train_has_many_times_is_no_leak(corpus: Corpus) -> None:
    for number in range(8):
        corpus.add("train", f"prompt-{number}", text="please turn on the light")
    corpus.add("test", "prompt", text="please turn on the light")
    assert "text" not in corpus.find()


def test_copies_are_heard_first_when_few_cuts_may_be(corpus: Corpus) -> None:
    wave, text = corpus.wave(3), "quick brown foxes and others jump over it"
    corpus.add("train", "original", wave, text)
    corpus.add("test", "copy", wave, text)
    assert corpus.ids(corpus.find(limit=2)["leak"]) == ["copy"]
    assert corpus.find(limit=0)["text"].count == 1  # known without listening


def test_one_audio_with_two_transcripts_is_a_conflict_and_with_one_a_copy(corpus: Corpus) -> None:
    wave, text = corpus.wave(3), "quick brown foxes and others jump over it"
    for id, said in (("a", text), ("b", text), ("c", "slow white hares and others jump over it")):
        corpus.add("train", id, wave, said)
    found = corpus.find()
    assert corpus.ids(found["conflict"]) == ["c"]
    assert corpus.ids(found["copy"]) == ["b"]


def test_pace_is_judged_within_a_language(corpus: Corpus) -> None:
    for number in range(25):  # six times fewer characters per second, and right so
        corpus.add("train", f"zh-{number}", corpus.wave(3 + number / 30), "今天天气很好", language="zh")
    corpus.add("train", "fast", corpus.wave(1), corpus.text(20))
    corpus.add("train", "slow", corpus.wave(20), "one")
    finding = corpus.find()["pace"]
    assert sorted(corpus.ids(finding)) == ["fast", "slow"]
    assert "where en has" in finding.worst[0].why


def test_swapped_transcripts_come_first_among_the_suspects(corpus: Corpus) -> None:  # row 32
    long, short = corpus.text(24), corpus.text(2)
    corpus.add("train", "a", corpus.wave(len(long) / 14), short)
    corpus.add("train", "b", corpus.wave(len(short) / 14), long)
    finding = corpus.find()["pace"]
    assert sorted(corpus.ids(finding)[:2]) == ["a", "b"] and finding.count == 2


def test_sound_that_is_silent_clipped_shifted_or_missing(corpus: Corpus) -> None:
    corpus.add("train", "silent", np.zeros(3 * RATE))
    corpus.add("train", "silent too", np.zeros(3 * RATE))
    corpus.add("train", "clipped", np.clip(corpus.wave(3) * 9, -1, 1))
    corpus.add("train", "shifted", corpus.wave(3) + 0.2)
    Path(corpus.add("train", "missing")["recording"]["sources"][0]["source"]).unlink()
    found = corpus.find()
    names = {kind: corpus.ids(finding) for kind, finding in found.items()}
    expected = {
        "silent": ["silent", "silent too"],
        "clipped": ["clipped"],
        "offset": ["shifted"],
        "broken": ["missing"],
    }
    assert names == expected


def test_a_script_that_the_language_does_not_have(corpus: Corpus) -> None:
    corpus.add("train", "cyrillic", text="сегодня хорошая погода для прогулки")
    corpus.add("train", "right", text="сегодня хорошая погода", language="ru")
    for number in range(3):  # a language Whisper does not know: its own majority decides
        corpus.add("train", f"mdw-{number}", text="ngá bó líidzáá yaá", language="mdw")
    corpus.add("train", "mdw arabic", text="مرحبا بالعالم هذا", language="mdw")
    assert corpus.ids(corpus.find()["script"]) == ["cyrillic", "mdw arabic"]


def test_a_language_is_one_whatever_its_cuts_call_it(corpus: Corpus) -> None:
    for number, name in enumerate(["ja", "Japanese", "ja-JP"]):
        corpus.add("train", f"u{number}", text="今日は", language=name)
    assert corpus.survey().languages == ["en", "ja"]


def test_another_language_of_the_same_script(corpus: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    class Identifier:
        @staticmethod
        def rank(text: str) -> list[tuple[str, float]]:
            return [("fr", -10.0), ("en", -50.0)] if "pourquoi" in text else [("en", -10.0), ("fr", -50.0)]

    monkeypatch.setattr(survey_module, "py3langid", Identifier)
    corpus.add("train", "french", text="je ne sais pas pourquoi il est parti")
    finding = corpus.find()["language"]
    assert corpus.ids(finding) == ["french"]
    assert finding.worst[0].why == "looks like fr, labelled en"


def test_speakers_on_both_sides_are_named_with_their_seconds(corpus: Corpus) -> None:
    corpus.add("train", "x", corpus.wave(2), speaker="both")
    corpus.add("test", "y", corpus.wave(3), speaker="both")
    assert shared_speakers(corpus.survey()) == {"both": (2.0, 3.0)}


def test_a_manifest_that_runs_commands_or_is_torn_is_refused(corpus: Corpus, tmp_path: Path) -> None:
    corpus.lines["train"][3]["recording"]["sources"][0] |= {"type": "command", "source": "touch pwned |"}
    with pytest.raises(DataError, match=r"train\.jsonl:4: .*refused"):
        corpus.survey()
    broken = tmp_path / "broken.jsonl"
    broken.write_text('{"id": "a"}\n')
    with pytest.raises(DataError, match=r"broken\.jsonl:1: not a cut"):
        survey_cuts({"train": str(broken)})


@pytest.mark.parametrize(
    ("text", "script"),
    [("Hello", "LATIN"), ("ソニー", "KATAKANA"), ("今天ok", "HAN"), ("12 – ?", ""), ("ngá ωωω nwá nwá", "LATIN")],
)
def test_main_script(text: str, script: str) -> None:
    assert main_script(text)[0] == script


def test_folding_keeps_what_tells_words_apart() -> None:
    assert fold_text("It’s  FINE, really…") == fold_text("it s fine really")
    assert fold_text("कि") != fold_text("की")  # vowel signs are marks, not punctuation
