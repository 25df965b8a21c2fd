"""The small web of egs/pretrain: its shares, its captions in seven formats, and how filters are judged."""

import json
import random
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import needs
import pytest

from egrecho_inner.import_web import import_web
from egrecho_inner.text.cues import clean, repair
from egrecho_inner.text.identify import identify
from egrecho_inner.text.subtitles import kind_of, parse

LOCAL = Path(__file__).parents[2] / "egs" / "pretrain" / "local"


@pytest.fixture(scope="module")
def web() -> Iterator[ModuleType]:
    """make_web.py as a module; it imports its neighbours, as a script does."""
    before = list(sys.path), set(sys.modules)
    sys.path.insert(0, str(LOCAL))
    try:
        import make_web

        yield make_web
    finally:
        sys.path[:] = before[0]


def test_the_shares_are_those_of_the_table(web: ModuleType) -> None:
    plans = web.plan(300, 25, 55, random.Random(1))
    counts = Counter(each.kind for each in plans)
    assert {kind: counts[kind] for kind in web.KINDS} == {kind: 3 * share for kind, share in web.KINDS.items()}
    assert sum(web.KINDS.values()) == 100 and len({each.id for each in plans}) == 300
    kinds = {each.id: each.kind for each in plans}
    originals = [each.copy_of for each in plans if each.kind == "near-duplicate"]
    assert len(set(originals)) == 12 and {kinds[name] for name in originals} == {"clean"}
    assert all((each.audio_language != "en") == (each.kind == "foreign audio") for each in plans)
    assert {each.format for each in plans} == set(web.FORMATS)


@pytest.mark.parametrize("ending", ["vtt", "srt", "ttml", "ass", "json3", "json", "txt"])
def test_what_is_written_is_read(web: ModuleType, ending: str) -> None:
    cues = [(0.5, 2.25, "one & two"), (2.5, 3661.5, "three\nfour <five>" if ending == "json3" else "three\nfour")]
    content = web.FORMATS[ending](cues)
    found = parse(content, kind_of(f"x.{ending}", content))
    assert [cue.text.split("<")[0].strip() for cue in found] == (
        ["one & two", "three four"] if ending == "txt" else ["one & two", "three\nfour"]
    )
    if ending != "txt":
        assert [(cue.start, cue.end) for cue in found] == [(0.5, 2.25), (2.5, 3661.5)]


def test_roll_up_is_undone_and_labels_are_cleaned(web: ModuleType) -> None:
    spoken = [(0.3, 2.0, "one two three"), (2.5, 4.0, "four five six"), (4.4, 6.0, "seven eight")]
    content = web.FORMATS["srt"](web.roll_up(spoken))
    fixed, counts = repair(parse(content, "srt"))
    assert [cue.text for cue in fixed] == [text for _, _, text in spoken] and counts["roll-up line"] == 2
    made = web.Document("d", "labels", 30.0, "vtt", "flac")
    for _, _, text in web.caption(spoken * 20, made, random.Random(1)):
        assert clean(text)[0] in {text for _, _, text in spoken}


def test_the_other_languages_look_like_themselves(web: ModuleType) -> None:
    rng = random.Random(3)
    for code in ("de", "fr", "es"):
        assert identify(" ".join(web.foreign.draw(rng, code, 0.35) for _ in range(8))) == code


def test_a_web_is_made_and_imported(web: ModuleType, tmp_path: Path) -> None:
    needs.extra("mini", "espeakng_loader")
    needs.extra("web", "av")
    leak = "seven seven one two nine nine four"
    (tmp_path / "text").write_text(f"u1 {leak}\nu2 too short\n")
    web.make_web(str(tmp_path / "web"), str(tmp_path / "text"), documents=3, seconds=[3.0, 5.0], jobs=1)
    truth = [json.loads(line) for line in (tmp_path / "web" / "truth.jsonl").read_text().splitlines()]
    import_web(str(tmp_path / "web"), str(tmp_path / "documents.jsonl"), max_skip_ratio=0.8)
    rows = {row["id"]: row for row in map(json.loads, (tmp_path / "documents.jsonl").read_text().splitlines())}
    assert set(rows) == {row["id"] for row in truth} and len(truth) == 3
    assert all(abs(rows[row["id"]]["duration"] - row["seconds"]) < 0.2 for row in truth)
