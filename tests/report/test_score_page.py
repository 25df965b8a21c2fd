"""The score page: its numbers are the scorer's, every sign of a stray decoder is counted, hostile texts stay text."""

import json
import re
from pathlib import Path

import pytest
from pages import HOSTILE, Outline, check_inert

from egrecho_inner.errors import DataError
from egrecho_inner.report.utterances import aligned
from egrecho_inner.report_scores import compare_with, report_scores
from egrecho_inner.results.folder import read_result
from egrecho_inner.results.rescored import Rescored, rescore
from egrecho_inner.text.alignment import align

ROWS = [
    dict(id="right", ref="The cat sat.", hyp="the cat sat", speaker="s1", duration=2.0),
    dict(id="wrong", ref="the dog ran home", hyp="a dog ran", speaker="s2", duration=3.0),
    dict(id="quiet", ref="", hyp="thank you for watching", speaker="s2", duration=4.0),
    dict(id="nothing", ref="hello there", hyp="", speaker="s1", duration=1.5),
    dict(id="loop", ref="no no no no never", hyp="so then and so then and " * 30, looped=True, truncated=True),
    dict(id="more", ref="one", hyp="one two three four five six", duration=31.0, parts=2),
]


def write_result(folder: Path, rows: list[dict], **facts: object) -> str:
    folder.mkdir()
    (folder / "hyps.jsonl").write_text("".join(json.dumps({"language": "en"} | row) + "\n" for row in rows))
    normalizer = {"name": "whisper-basic", "version": "x"}
    (folder / "results.json").write_text(json.dumps({"metric": "wer", "normalizer": normalizer} | facts))
    return str(folder)


def read_scored(folder: str) -> Rescored:
    return rescore(read_result(folder))


def read(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def test_signs_of_a_stray_decoder(tmp_path: Path) -> None:
    scored = read_scored(write_result(tmp_path / "a", ROWS))
    assert dict(zip(scored.score.ids, scored.flags, strict=True)) == {
        "right": [],
        "wrong": [],
        "quiet": ["on silence"],
        "nothing": ["empty"],
        "loop": ["looped", "invented", "cut off"],
        "more": ["invented", "long form"],
    }


def test_loops_are_found_without_the_decoders_word(tmp_path: Path) -> None:
    rows = [
        dict(id="long", ref="x", hyp="so then and " * 30),
        dict(id="short", ref="x", hyp="go on go on go on go on"),
        dict(id="said", ref="no no no no never", hyp="no no no no never"),
        dict(id="digits", ref="x", hyp="1 2 3 4 5 6 7 8 9"),
    ]
    scored = read_scored(write_result(tmp_path / "a", rows))
    looped = [key for key, flags in zip(scored.score.ids, scored.flags, strict=True) if "looped" in flags]
    assert looped == ["long", "short"]


def test_the_page_shows_the_score_and_what_it_rests_on(tmp_path: Path) -> None:
    folder = write_result(tmp_path / "a", ROWS, error_rate=0.5, RTF=0.01, RTFx=100.0)
    report_scores(folder)
    content = read(tmp_path / "a" / "report.html")
    text = Outline(content).text
    scored = read_scored(folder)
    assert f"{100 * scored.score.error_rate:.2f}" in text and f"{100 * scored.raw.error_rate:.2f}" in text
    assert "whisper-basic" in text and "95 % interval" in text
    assert "results.json says 50.00 %" in text and "scored with x" in text
    assert "4 words were put out: 3,600 per hour of silence" in text
    assert re.findall(r'<bdi class="id">(\w+)', content)[0] == "loop"  # the worst first
    assert 'class="id">right' not in content


@pytest.mark.parametrize("wrong", [1, 30, 100])
def test_bars_end_where_the_page_says(tmp_path: Path, wrong: int) -> None:
    rows = [
        dict(id=f"u{n}", ref="one", hyp="two" if n < wrong else "one", speaker="s", language="en", duration=1.0)
        for n in range(100)
    ]
    folder = write_result(tmp_path / "set", rows)
    report_scores(folder)
    content = read(tmp_path / "set" / "report.html")
    end = float(re.search(r"Bars end at ([\d.]+) %", content)[1])
    widths = {float(width) for width in re.findall(r'class="fill" style="width:([\d.]+)%', content)}
    assert len(re.findall(r'class="fill"', content)) == 4, "speaker, language, duration, words: one scale for all"
    assert widths == {round(100 * wrong / end, 1)} and max(widths) <= 100
    assert Outline(content).text.startswith(f"{folder} · Score report"), "the window's title tells results apart"


def test_hostile_texts_stay_text(tmp_path: Path) -> None:
    row = dict(id=HOSTILE, ref=HOSTILE, hyp=f"{HOSTILE} x", speaker=HOSTILE, language=None, duration=1.0)
    folder = write_result(tmp_path / "a", [row, dict(ROWS[1], hyp="\ud800 </script>")], model={"path": HOSTILE})
    report_scores(folder)
    outline = check_inert(read(tmp_path / "a" / "report.html"), scripts=1)
    assert "<script>alert(1)</script>" in outline.text


@pytest.mark.parametrize("metric", ["wer", "cer"])
def test_an_alignment_reads_as_both_texts(metric: str) -> None:
    ref, hyp = "مرحبا بكم في البيت", "مرحبا في في بيت كبير"
    tokens = (ref.split(), hyp.split()) if metric == "wer" else (ref, hyp)
    shown = aligned(align(*tokens), metric)
    plain = re.sub(r"</?(div|span)[^>]*>", "", shown).replace("␣", " ")
    upper = re.sub(r"<ins>.*?</ins>", "", plain)
    lower = re.sub(r"<del>.*?</del>", "", plain)
    for said, line in ((ref, upper), (hyp, lower)):
        assert re.sub(r"</?(ins|del)>", "", line).split() == said.split()
    assert 'dir="auto"' in shown


def test_wins_and_losses_against_another_result(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a = write_result(tmp_path / "a", ROWS)
    better = [row | {"hyp": row["ref"]} if row["id"] in ("wrong", "more") else row for row in ROWS]
    b = write_result(tmp_path / "b", better[::-1])  # another order of utterances
    report_scores(b, str(tmp_path / "page.html"), compare=a)
    comparison = compare_with(read_scored(b), a)
    change = comparison.difference.delta * read_scored(b).score.total
    assert round(change) == -(2 + 5)
    assert f"against {a}" in capsys.readouterr().out
    content = read(tmp_path / "page.html")
    assert "fewer errors than the other" in content and 'data-kinds="win"' in content and "5 fewer" in content


def test_other_references_are_no_comparison(tmp_path: Path) -> None:
    a = write_result(tmp_path / "a", ROWS)
    b = write_result(tmp_path / "b", [ROWS[0] | {"ref": "something else"}, *ROWS[1:]])
    with pytest.raises(DataError, match="1 references differ"):
        compare_with(read_scored(a), b)
    with pytest.raises(DataError, match="1 ids"):
        compare_with(read_scored(a), write_result(tmp_path / "c", ROWS[1:]))


def test_each_language_is_scored_as_results_say(tmp_path: Path) -> None:
    rows = [dict(id="z", ref="今天天气很好", hyp="今天天汽很好", language="zh"), dict(id="e", ref="a b", hyp="a b")]
    own = {"zh": {"metric": "cer", "normalizer": {"name": "marks-preserving", "version": "1"}}}
    scored = read_scored(write_result(tmp_path / "a", rows, languages=own))
    assert scored.by_language["zh"].error_rate == pytest.approx(1 / 6)
    report_scores(str(tmp_path / "a"))
    assert "zh (CER)" in read(tmp_path / "a" / "report.html")


def test_a_large_result_makes_a_small_page(tmp_path: Path) -> None:
    rows = [dict(id=f"u{n}", ref="x y z " * 400, hyp="a y b " * 400, duration=9.0) for n in range(600)]
    report_scores(write_result(tmp_path / "a", rows), utterances=600)
    content = read(tmp_path / "a" / "report.html")
    assert len(content.encode()) < 2e6
    assert re.search(r"\d+ of 600 utterances, the worst first", content)


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("hyps.jsonl", '{"id": "a", "ref": "b"}\n', r"hyps\.jsonl:1"),
        ("hyps.jsonl", "", "is empty"),
        ("results.json", "{}", "names no normalizer"),
        ("results.json", "[", "not JSON"),
    ],
)
def test_a_broken_folder_is_named(tmp_path: Path, file: str, content: str, message: str) -> None:
    folder = write_result(tmp_path / "a", ROWS)
    Path(folder, file).write_text(content)
    with pytest.raises(DataError, match=message):
        report_scores(folder)


def test_a_folder_of_several_sets_names_them(tmp_path: Path) -> None:
    (tmp_path / "results.json").write_text('{"sets": {"one": {}, "two": {}}}')
    with pytest.raises(DataError, match=r"several sets.*one.*two"):
        report_scores(str(tmp_path))
