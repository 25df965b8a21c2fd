"""From recordings of the web and their captions to training windows: each program on ten small documents."""

import gzip
import json
from pathlib import Path

import numpy as np
import orjson
import pytest
import soundfile

from egrecho_inner.config import parse
from egrecho_inner.data.cuts.tags import TAGS
from egrecho_inner.decontaminate import decontaminate
from egrecho_inner.dedup import dedup
from egrecho_inner.errors import ConfigError, DataError
from egrecho_inner.filter_cuts import filter_cuts
from egrecho_inner.import_web import import_web
from egrecho_inner.runtime.ledger import read_ledger
from egrecho_inner.segment import segment
from egrecho_inner.tag import tag

pytest.importorskip("av", reason="the extra web is not installed")
pytest.importorskip("datasketch", reason="the extra web is not installed")

RATE = 16000
TEXT = "the cat dog house river mountain walks under over green blue small happy tree garden station music"
WORDS = TEXT.split()


def sentences(seed: int, count: int = 10) -> list[str]:
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice(WORDS, 9)).capitalize() + "." for _ in range(count)]


def vtt(cues: list[tuple[float, float, str]]) -> str:
    stamp = "{:02d}:{:06.3f}"
    rows = [f"{stamp.format(int(a // 60), a % 60)} --> {stamp.format(int(b // 60), b % 60)}\n{t}\n" for a, b, t in cues]
    return "WEBVTT\n\n" + "\n".join(rows)


def timed(texts: list[str], step: float = 3.5) -> list[tuple[float, float, str]]:
    return [(1 + step * n, 4 + step * n, text) for n, text in enumerate(texts)]


def document(folder: Path, name: str, texts: list[str], suffix: str = "wav", seconds: int = 40) -> Path:
    place = folder / name
    place.mkdir(parents=True)
    noise = 0.1 * np.random.default_rng(len(texts)).standard_normal(RATE * seconds)
    soundfile.write(place / f"audio_{name}.{suffix}", noise, RATE)
    (place / f"transcript_{name}.vtt").write_text(vtt(timed(texts)))
    return place


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten documents, through import and segment: 3 and 7 have one text, 4 is upper case, 5 has no captions."""
    root = tmp_path_factory.mktemp("web")
    for number in range(10):
        texts = sentences(3 if number == 7 else number)
        texts = [text.upper() for text in texts] if number == 4 else texts
        folder = document(
            root / "pool" / f"shard_0000{number % 2}", f"d{number}", texts, "mp3" if number == 2 else "wav"
        )
        if number == 5:
            (folder / "transcript_d5.vtt").write_text("")
        if number == 6:
            (folder / "audio_d6.wav").unlink()
    import_web(str(root / "pool"), str(root / "documents.jsonl.gz"))
    names = ["casing", "repeating_lines", "text_language", "num_words"]
    tag(str(root / "documents.jsonl.gz"), str(root / "tagged.jsonl.gz"), names)
    segment(str(root / "tagged.jsonl.gz"), str(root / "windows.jsonl.gz"))
    return root


def rows_of(path: Path) -> list[dict]:
    with gzip.open(path) as file:
        return [orjson.loads(line) for line in file]


def test_what_cannot_be_used_is_in_the_ledger(made: Path) -> None:
    assert [row["id"] for row in rows_of(made / "documents.jsonl.gz")] == [f"d{n}" for n in (0, 1, 2, 3, 4, 7, 8, 9)]
    assert {(skip.id, skip.reason) for skip in read_ledger(made / "skipped.jsonl")} >= {
        ("d5", "captions are empty"),
        ("shard_00000/d6/transcript_d6.vtt", "captions without a recording"),
    }


def test_a_lossy_recording_is_decoded_once_and_windows_point_into_it(made: Path) -> None:
    windows = [row for row in rows_of(made / "windows.jsonl.gz") if row["recording"]["id"] == "d2"]
    assert len(windows) == 2 and {row["recording"]["sources"][0]["source"] for row in windows} == {
        str(made / "audio" / "d2.flac")
    }
    assert [(row["start"], row["duration"]) for row in windows] == [(1.0, 27.5), (28.5, 7.0)]


def test_windows_have_texts_times_and_what_was_before(made: Path) -> None:
    one, other = [row for row in rows_of(made / "windows.jsonl.gz") if row["recording"]["id"] == "d0"]
    texts, (first, second) = sentences(0), (row["supervisions"][0] for row in (one, other))
    assert first["text"] == " ".join(texts[:8]) and second["text"] == " ".join(texts[8:])
    assert second["custom"]["segments"] == [[0.5, 3.5, texts[8]], [4.0, 7.0, texts[9]]]
    assert second["custom"]["previous"] == first["text"] and "previous" not in first["custom"]
    assert one["custom"]["document"]["casing"] == "mixed"


def test_the_windows_load_as_audio_of_their_length(made: Path) -> None:
    from egrecho_inner.data.audio.load import load_audio
    from egrecho_inner.data.cuts.index import CutIndex

    for cut in CutIndex(made / "windows.jsonl.gz"):
        assert len(load_audio(cut)) == round(cut.duration * RATE)


def conditions(*extra: dict) -> list[dict]:
    return [{"tag": "text_language", "equals": "en"}, {"tag": "casing", "one_of": ["mixed", "lower"]}, *extra]


def test_conditions_drop_with_a_ledger_that_adds_up(made: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    source, out = made / "windows.jsonl.gz", tmp_path / "kept.jsonl.gz"
    filter_cuts(str(source), str(out), conditions=conditions(), language_tag="text_language")
    kept = rows_of(out)
    assert {row["recording"]["id"] for row in kept} == {f"d{n}" for n in (0, 1, 2, 3, 7, 8, 9)}
    assert {row["supervisions"][0]["language"] for row in kept} == {"en"}
    note = json.loads((tmp_path / "kept.jsonl.gz.json").read_text())
    assert sum(each["seconds"] for each in note["ledger"]) == sum(row["duration"] for row in rows_of(source))
    dropped = rows_of(tmp_path / "kept.dropped.jsonl.gz")
    assert [each["id"] for each in dropped] == ["d4-00000", "d4-00001"] and dropped[0]["value"] == "upper"


def test_explain_writes_nothing(made: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    filter_cuts(str(made / "windows.jsonl.gz"), str(tmp_path / "kept.jsonl"), conditions=conditions(), explain=True)
    printed = capsys.readouterr().out
    assert "casing in [mixed, lower]: upper   d4-00000" in printed and "14 of 16 cuts would be kept" in printed
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ({"tag": "edit_distance", "at_most": 0.5}, "no tag 'edit_distance'"),
        ({"tag": "num_words", "equals": "many"}, "use the same type"),
        ({"tag": "num_words", "at_mst": 5}, "did you mean 'at_most'"),
        ({"tag": "num_words"}, "tests nothing"),
        ({"tag": "num_words", "at_most": "5"}, "expected a number"),
        ({"equals": 5}, "has no tag"),
    ],
)
def test_conditions_fail_closed(made: Path, tmp_path: Path, extra: dict, message: str) -> None:
    with pytest.raises((ConfigError, DataError), match=message):
        filter_cuts(str(made / "windows.jsonl.gz"), str(tmp_path / "kept.jsonl"), conditions=conditions(extra))
    assert not (tmp_path / "kept.jsonl").exists()


def test_a_tag_of_both_levels_must_be_named_in_full(made: Path, tmp_path: Path) -> None:
    both = tmp_path / "both.jsonl.gz"
    tag(str(made / "windows.jsonl.gz"), str(both), ["casing"])
    with pytest.raises(DataError, match=r"document\.casing or window\.casing"):
        filter_cuts(str(both), str(tmp_path / "kept.jsonl"), conditions=conditions())
    filter_cuts(str(both), str(tmp_path / "kept.jsonl"), conditions=[{"tag": "window.casing", "equals": "mixed"}])


def test_of_equal_texts_the_smallest_id_stays(made: Path, tmp_path: Path) -> None:
    rows = rows_of(made / "tagged.jsonl.gz")
    for name, part in (("a", rows[:4]), ("b", rows[4:])):
        (tmp_path / f"{name}.jsonl").write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in part))
    kept = []
    for order in (["a", "b"], ["b", "a"]):
        dedup([str(tmp_path / f"{name}.jsonl") for name in order], str(tmp_path / "unique.jsonl.gz"))
        kept.append({row["id"] for row in rows_of(tmp_path / "unique.jsonl.gz")})
    assert kept[0] == kept[1] == {row["id"] for row in rows} - {"d7"}
    assert rows_of(tmp_path / "unique.dropped.jsonl.gz")[0] == {
        "id": "d7",
        "reason": "equal text",
        "value": "d3",
        "seconds": 40.0,
    }
    assert not list(tmp_path.glob(".unique*"))


def test_windows_with_words_of_a_test_are_dropped(made: Path, tmp_path: Path) -> None:
    rows = rows_of(made / "windows.jsonl.gz")
    leak = " ".join(sentences(8)[1].lower().strip(".").split())
    one = {**rows[0], "id": "test-1"}
    one["supervisions"] = [{**rows[0]["supervisions"][0], "text": f"{leak} and then"}]
    (tmp_path / "test.jsonl").write_bytes(orjson.dumps(one) + b"\n")
    out = tmp_path / "clean.jsonl.gz"
    decontaminate(str(made / "windows.jsonl.gz"), str(out), [f"mine={tmp_path}/test.jsonl"], ngram=9)
    assert {row["id"] for row in rows} - {row["id"] for row in rows_of(out)} == {"d8-00000"}
    assert [(skip.reason, skip.value) for skip in read_ledger(tmp_path / "skipped.jsonl")] == [
        ("shares words with mine", leak)
    ]


def test_a_file_of_tags_is_given_on_the_command_line_only(made: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "from egrecho_inner.data.cuts.tags import Captions, tag\n\n\n"
        "@tag('stops')\ndef stops(captions: Captions) -> int:\n    return captions.text.count('.')\n"
    )
    (tmp_path / "c.yaml").write_text(f"tags_file: {tmp_path / 'mine.py'}\n")
    with pytest.raises(ConfigError, match=r"c\.yaml:1: tags_file names code"):
        parse(tag, ["a.jsonl", "b.jsonl", "-c", str(tmp_path / "c.yaml")])
    out = tmp_path / "out.jsonl.gz"
    try:
        tag(str(made / "documents.jsonl.gz"), str(out), ["stops"], tags_file=str(tmp_path / "mine.py"))
    finally:
        TAGS.pop("stops", None)
    assert [row["custom"]["document"]["stops"] for row in rows_of(out)] == [10] * 8


def test_tags_of_audio_leave_the_cut_as_it_was(made: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl.gz"
    tag(str(made / "windows.jsonl.gz"), str(out), ["loudness", "speech_share", "music"])
    before, after = rows_of(made / "windows.jsonl.gz"), rows_of(out)
    tags = [row["supervisions"][0]["custom"].pop("tags") for row in after]
    assert all(-22 < each["loudness"] < -18 and each["speech_share"] < 0.1 for each in tags)
    assert all(row["supervisions"][0]["custom"].pop("tags") == {} for row in before) and after == before


def test_a_caption_longer_than_a_window_begins_one_without_an_end(tmp_path: Path) -> None:
    from egrecho_inner.data.cuts.fields import reference_of
    from egrecho_inner.data.cuts.index import CutIndex

    folder = document(tmp_path / "pool", "long", ["Short one."])
    (folder / "transcript_long.vtt").write_text(vtt([(0, 4, "Short one."), (5, 39, "A very long one.")]))
    import_web(str(tmp_path / "pool"), str(tmp_path / "documents.jsonl"))
    segment(str(tmp_path / "documents.jsonl"), str(tmp_path / "windows.jsonl"), cut_long=True)
    cuts = {cut.start: cut for cut in CutIndex(tmp_path / "windows.jsonl")}
    assert [(cut.start, cut.duration) for cut in cuts.values()] == [(0.0, 4.0), (4.0, 1.0), (5.0, 30.0)]
    parts = reference_of(cuts[5.0]).segments
    assert [(part.start, part.end, part.text) for part in parts] == [(0.0, None, "A very long one.")]
    segment(str(tmp_path / "documents.jsonl"), str(tmp_path / "without.jsonl"))
    assert [cut.start for cut in CutIndex(tmp_path / "without.jsonl")] == [0.0, 4.0]
