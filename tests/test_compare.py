"""The verdict must follow the evidence, and unlike things must not be compared."""

import json
import random
from pathlib import Path

import pytest

from egrecho_inner.compare import compare
from egrecho_inner.config import run
from egrecho_inner.errors import DataError
from egrecho_inner.results.comparison import compare_results
from egrecho_inner.results.folder import read_result
from egrecho_inner.text.scoring import score

WORDS = ["the", "a", "cat", "dog", "sat", "ran", "home", "fast", "slow", "now"]


def result_folder(folder: Path, error: float, n: int = 150, seed: int = 0, **results: object) -> Path:
    """Write a result whose words are wrong with probability `error`; the references are the same for every seed."""
    refs, noise = random.Random(0), random.Random(seed)
    rows, triples = [], []
    for i in range(n):
        ref = refs.choices(WORDS, k=8)
        hyp = [f"{word}s" if noise.random() < error else word for word in ref]
        row = {"id": f"utt-{i}", "ref": " ".join(ref).capitalize() + ".", "hyp": " ".join(hyp)}
        rows.append(row | {"language": "en", "duration": 2.0, "speaker": f"spk{i % 15}"})
        triples.append((row["id"], " ".join(ref), " ".join(hyp)))
    folder.mkdir()
    rates = score(triples).as_dict()
    summary = rates | {"RTF": 0.1, "metric": "wer", "normalizer": "whisper-basic"} | results
    (folder / "results.json").write_text(json.dumps(summary))
    (folder / "hyps.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return folder


@pytest.mark.parametrize(
    ("first", "second", "verdict"),
    [(0.30, 0.10, "B is better than A"), (0.10, 0.30, "B is worse than A"), (0.2, 0.2, "within noise")],
)
def test_verdict_in_words(
    tmp_path: Path, capsys: pytest.CaptureFixture, first: float, second: float, verdict: str
) -> None:
    a, b = result_folder(tmp_path / "a", first, seed=1), result_folder(tmp_path / "b", second, seed=2)
    compare(str(a), str(b))
    text = capsys.readouterr().out
    assert verdict in text
    assert "normaliser whisper-basic (transformers" in text
    assert "150 utterances, 1200 reference words" in text


def test_a_result_against_itself_is_noise_and_all_ties(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    a = str(result_folder(tmp_path / "a", 0.2))
    compare(a, a, json=True)
    answer = json.loads(capsys.readouterr().out)
    assert (answer["verdict"], answer["delta"], answer["interval"]) == ("within noise", 0, [0, 0])
    assert (answer["wins"], answer["ties"], answer["losses"], answer["changed"]) == (0, 150, 0, [])


def test_wins_and_most_changed_utterances(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    a, b = result_folder(tmp_path / "a", 0), result_folder(tmp_path / "b", 0)
    rows = [json.loads(line) for line in (b / "hyps.jsonl").read_text().splitlines()]
    rows[3]["hyp"], rows[5]["hyp"] = "", rows[5]["hyp"] + " oh"
    (b / "hyps.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in reversed(rows)))  # any order
    compare(str(a), str(b), json=True)
    answer = json.loads(capsys.readouterr().out)
    assert (answer["wins"], answer["ties"], answer["losses"]) == (0, 148, 2)
    assert answer["changed"] == [{"id": "utt-3", "errors": [0, 8]}, {"id": "utt-5", "errors": [0, 1]}]
    compare(str(a), str(b), top=1)
    text = capsys.readouterr().out
    assert "utt-3  0 -> 8" in text
    assert "->*)" in text
    assert "utt-5" not in text


def test_drawing_speakers_is_an_option(tmp_path: Path) -> None:
    a, b = (read_result(result_folder(tmp_path / name, 0.2, seed=i)) for i, name in enumerate("ab"))
    groups = [row["speaker"] for row in a.rows]
    by_speaker = compare_results(a, b, "whisper-basic", "wer", groups=groups)
    assert by_speaker.difference != compare_results(a, b, "whisper-basic", "wer").difference


def test_unlike_results_are_refused(tmp_path: Path) -> None:
    a = str(result_folder(tmp_path / "a", 0.2))
    other = str(result_folder(tmp_path / "other", 0.2, normalizer={"name": "none", "version": "1"}))
    with pytest.raises(DataError, match=r"whisper-basic.*none.*--normalizer"):
        compare(a, other)
    compare(a, other, normalizer="whisper-english", draws=10)
    with pytest.raises(DataError, match=r"5 ids \(utt-145, .*missing"):
        compare(a, str(result_folder(tmp_path / "short", 0.2, n=145)))
    with pytest.raises(DataError, match=r"5 ids .* without a reference"):
        compare(a, str(result_folder(tmp_path / "long", 0.2, n=155)))
    changed = result_folder(tmp_path / "changed", 0.2)
    text = (changed / "hyps.jsonl").read_text()
    (changed / "hyps.jsonl").write_text(text.replace('"ref": "', '"ref": "Oh ', 1))
    with pytest.raises(DataError, match=r"1 references differ .*utt-0"):
        compare(a, str(changed))


def test_broken_folders_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"results\.json: no such file"):
        read_result(tmp_path)
    folder = result_folder(tmp_path / "a", 0.2, n=3)
    hyps = folder / "hyps.jsonl"
    lines = hyps.read_text().splitlines()
    for extra, message in [('{"id": "x"}', r"hyps\.jsonl:4: expected JSON with id"), (lines[0], "occurs twice")]:
        hyps.write_text("\n".join([*lines, extra]))
        with pytest.raises(DataError, match=message):
            read_result(folder)


def test_a_stored_rate_that_is_not_that_of_the_texts_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    a = str(result_folder(tmp_path / "a", 0.2, error_rate=0.01))
    compare(a, a, draws=10)
    assert "results.json says 0.01000" in caplog.text


def test_command_line(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    a = str(result_folder(tmp_path / "a", 0.2, n=5))
    run(compare, [a, a, "--top", "0", "--json", "true"])
    assert json.loads(capsys.readouterr().out)["metric"] == "wer"
    with pytest.raises(SystemExit) as exit_:
        run(compare, [a, str(tmp_path / "none")])
    assert exit_.value.code == 3
