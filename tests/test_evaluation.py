"""egrecho eval: numbers that add up, one result whatever happened on the way, faults named before the work."""

import gzip
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from lhotse import CutSet
from tiny import save_tiny, speech_cut, speech_cuts, without_language

from egrecho_inner.config import parse
from egrecho_inner.data.audio.features import log_mel
from egrecho_inner.data.audio.store import FeatureArchive
from egrecho_inner.decoding import resumable as session
from egrecho_inner.decoding.options import DecodeOptions
from egrecho_inner.decoding.transcribe import Transcriber
from egrecho_inner.errors import ConfigError, DataError, ModelError, UserError
from egrecho_inner.evaluation import evaluate
from egrecho_inner.model.loading import load_model, load_processor
from egrecho_inner.results.folder import SIX_KEYS

ROOT = Path(__file__).parents[1]
QUICK = DecodeOptions(max_new_tokens=12)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model and two sets."""
    folder = tmp_path_factory.mktemp("home")
    save_tiny(folder / "model", seed=3, ending=3.1)
    speech_cuts(folder, 7)
    speech_cuts(folder, 4, seed=9, language="vi", name="other")
    return folder


@pytest.fixture
def run(home: Path, tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """Evaluate into a new folder and return its results.json."""

    def call(out: str = "out", **arguments: Any) -> dict[str, Any]:
        given = {"model": str(home / "model"), "cuts": str(home / "cuts.jsonl"), "decode": QUICK} | arguments
        evaluate(out=str(tmp_path / out), **given)
        return json.loads((tmp_path / out / "results.json").read_text())

    return call


def rows(folder: Path) -> list[dict[str, Any]]:
    """Return hyps.jsonl without its times."""
    lines = (folder / "hyps.jsonl").read_text(encoding="utf-8").splitlines()
    return [{k: v for k, v in json.loads(line).items() if k != "decode_seconds"} for line in lines]


def distance(ref: list[str], hyp: list[str]) -> int:
    """Levenshtein's distance, written down once more."""
    row = list(range(len(hyp) + 1))
    for i, word in enumerate(ref, 1):
        before, row[0] = row[0], i
        for j, other in enumerate(hyp, 1):
            before, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, before + (word != other))
    return row[-1]


def test_results_begin_with_the_six_keys_and_add_up(
    run: Callable, tmp_path: Path, capfd: pytest.CaptureFixture
) -> None:
    found = run(normalizer="none")
    printed = capfd.readouterr()
    assert tuple(found)[:6] == ("error_rate", "ins_rate", "del_rate", "sub_rate", "total", "RTF") == SIX_KEYS
    assert json.loads(printed.out) == {key: found[key] for key in SIX_KEYS}
    assert "transformers" not in printed.err.lower()
    said = rows(tmp_path / "out")
    assert len(said) == found["utterances"] == 7
    assert found["total"] == sum(len(row["ref"].split()) for row in said)
    errors = sum(distance(row["ref"].split(), row["hyp"].split()) for row in said)
    assert found["error_rate"] == pytest.approx(errors / found["total"], abs=1e-5)
    assert found["error_rate"] == pytest.approx(found["ins_rate"] + found["del_rate"] + found["sub_rate"], abs=2e-5)
    assert found["audio_seconds"] == pytest.approx(sum(row["duration"] for row in said), abs=1e-3)
    assert found["RTF"] == pytest.approx(found["decode_seconds"] / found["audio_seconds"], abs=1e-3)
    assert found["empty"] == sum(not row["hyp"] for row in said)
    assert found["truncated"] == sum(row["truncated"] for row in said)
    assert found["interval"][0] <= found["error_rate"] <= found["interval"][1]
    assert found["raw"]["error_rate"] == found["error_rate"]
    assert found["model"]["window"] == "longest"


def test_rows_are_in_the_order_of_the_manifest(run: Callable, home: Path, tmp_path: Path) -> None:
    run()
    manifest = [json.loads(line) for line in (home / "cuts.jsonl").read_text().splitlines()]
    assert [row["id"] for row in rows(tmp_path / "out")] == [cut["id"] for cut in manifest]
    assert [row["ref"] for row in rows(tmp_path / "out")] == [cut["supervisions"][0]["text"] for cut in manifest]
    errs = (tmp_path / "out" / "errs.txt").read_text(encoding="utf-8")
    assert all(f"{cut['id']}:" in errs for cut in manifest)


def test_a_killed_evaluation_continues(run: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clean = run("clean", decode=DecodeOptions(max_new_tokens=12, batch_size=2))
    whole = Transcriber.__call__
    asked: list[int] = []

    def dies(self: Transcriber, cuts: Any, positions: list[int]) -> Any:
        asked.append(len(positions))
        for number, each in enumerate(whole(self, cuts, positions)):
            if len(asked) == 1 and number == 3:
                raise KeyboardInterrupt
            yield each

    monkeypatch.setattr(Transcriber, "__call__", dies)
    out = tmp_path / "killed"
    with pytest.raises(KeyboardInterrupt):
        run("killed")
    assert [path.name for path in out.iterdir()] == ["hyps.partial.jsonl"]
    partial = out / "hyps.partial.jsonl"
    partial.write_bytes(partial.read_bytes()[:-9])  # as a kill in the middle of a line leaves it
    again = run("killed")
    assert asked == [7, 5]  # 3 were whole lines, 1 of them torn
    assert rows(out) == rows(tmp_path / "clean")
    assert {k: again[k] for k in SIX_KEYS[:5]} == {k: clean[k] for k in SIX_KEYS[:5]}
    assert sorted(path.name for path in out.iterdir()) == ["errs.txt", "hyps.csv", "hyps.jsonl", "results.json"]


def test_a_partial_of_another_decoding_counts_for_nothing(run: Callable, tmp_path: Path) -> None:
    clean = run("clean")
    (tmp_path / "out").mkdir()
    line = json.dumps({"id": "cuts000-0", "text": "of another model"})
    (tmp_path / "out" / "hyps.partial.jsonl").write_text('{"key": "another"}\n' + line + "\n")
    assert run()["error_rate"] == clean["error_rate"]
    assert rows(tmp_path / "out") == rows(tmp_path / "clean")


def test_a_finished_evaluation_is_only_scored_again(
    run: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = run(normalizer="none")

    def never(*_: Any) -> None:
        raise AssertionError("loaded a model")

    with monkeypatch.context() as patch:
        patch.setattr(session, "load_model", never)
        again = run(normalizer="whisper-basic", metric="cer")
        with pytest.raises(AssertionError):
            run(normalizer="none", decode=DecodeOptions(max_new_tokens=11))  # decodes differently
    assert (again["metric"], again["normalizer"]["name"]) == ("cer", "whisper-basic")
    assert (again["RTF"], again["model"]) == (first["RTF"], first["model"])
    assert run(overwrite=True)["utterances"] == 7


def test_several_sets_make_one_table(run: Callable, home: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    together = run(cuts=[str(home / "cuts.jsonl"), f"named={home / 'other.jsonl'}"], normalizer="none")
    parts = [json.loads((tmp_path / "out" / name / "results.json").read_text()) for name in ("cuts", "named")]
    assert together["total"] == sum(part["total"] for part in parts)
    errors = sum(part["error_rate"] * part["total"] for part in parts)
    assert together["error_rate"] == pytest.approx(errors / together["total"], abs=1e-5)
    assert together["averages"]["macro"] == pytest.approx(sum(part["error_rate"] for part in parts) / 2, abs=1e-5)
    assert list(together["sets"]) == ["cuts", "named"]
    table = (tmp_path / "out" / "table.md").read_text()
    assert table == capsys.readouterr().out
    assert "named" in table.splitlines()[0]


def test_each_language_is_scored_as_it_is_written(run: Callable, home: Path, tmp_path: Path) -> None:
    cuts = [
        speech_cut(tmp_path, "a", 1.0, "one two"),
        speech_cut(tmp_path, "b", 1.2, "你好吗", language="zh"),
        speech_cut(tmp_path, "c", 1.4, "", language="zh"),
    ]
    CutSet.from_cuts(cuts).to_file(tmp_path / "mixed.jsonl")
    found = run(cuts=str(tmp_path / "mixed.jsonl"))
    assert (found["metric"], found["normalizer"]["name"]) == ("cer", "marks-preserving")
    languages = found["languages"]
    assert {code: part["metric"] for code, part in languages.items()} == {"en": "wer", "zh": "cer"}
    assert (languages["en"]["total"], languages["zh"]["total"]) in ((2, 3), (1, 3))  # "one two" may be the number 12
    assert languages["en"]["normalizer"]["name"] == "whisper-english"


def test_references_without_a_word_have_no_rate(run: Callable, tmp_path: Path) -> None:
    cuts = [speech_cut(tmp_path, "a", 1.0, ""), speech_cut(tmp_path, "b", 1.0, "")]
    CutSet.from_cuts(cuts).to_file(tmp_path / "silent.jsonl")
    found = run(cuts=str(tmp_path / "silent.jsonl"))
    assert (found["error_rate"], found["total"], found["interval"]) == (None, 0, None)


def test_limit_takes_the_first(run: Callable, tmp_path: Path) -> None:
    assert run(limit=3)["utterances"] == 3
    assert [row["id"] for row in rows(tmp_path / "out")] == ["cuts000-0", "cuts001-0", "cuts002-0"]


def with_stored_features(folder: Path, n_mels: int) -> Path:
    cut = speech_cut(folder, "stored", 1.0)
    with FeatureArchive(folder / "feats-0.lca") as archive:
        key = archive.add(log_mel(cut.load_audio()[0], n_mels, tail=2))
        cut.features = archive.describe(cut, n_mels, key)
    CutSet.from_cuts([cut]).to_file(folder / "stored.jsonl")
    return folder / "stored.jsonl"


def manifest_of(folder: Path, change: Callable[[dict[str, Any]], None], count: int = 2) -> Path:
    """Write a manifest whose lines were edited."""
    folder.mkdir()
    lines = [json.loads(line) for line in speech_cuts(folder, count).read_text().splitlines()]
    for line in lines:
        change(line)
    (folder / "edited.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder / "edited.jsonl"


FAULTS: dict[str, tuple[Callable[[Path], dict[str, Any]], type[UserError], str]] = {
    "no model": (lambda _: {"model": "/nowhere/model"}, ModelError, "/nowhere/model does not exist"),
    "no hub": (lambda _: {"model": "openai/whisper-small"}, ModelError, "hf_download.sh"),
    "no cuts": (lambda _: {"cuts": "/nowhere.jsonl.gz"}, DataError, "/nowhere.jsonl.gz does not exist"),
    "two of a name": (lambda _: {"cuts": ["a=x.jsonl", "a=y.jsonl"]}, ConfigError, "two sets are called a"),
    "mels": (
        lambda home: {"cuts": str(with_stored_features(home, 128))},
        DataError,
        "stored-0: .*128 mel bins, the model needs 80",
    ),
    "language": (
        lambda home: {"cuts": str(manifest_of(home / "l", lambda cut: cut["supervisions"][0].update(language="zzz")))},
        DataError,
        "cut cuts000-0: language 'zzz' is not Whisper's",
    ),
    "language of another model": (
        lambda home: {
            "model": str(without_language(save_tiny(home / "older"), "yue")),
            "cuts": str(manifest_of(home / "y", lambda cut: cut["supervisions"][0].update(language="zh-HK"))),
        },
        ModelError,
        "2 cuts are in yue, which this model has no token for .*older.*; first: cuts000-0, cuts001-0",
    ),
    "language that the model lacks": (
        lambda home: {
            "model": str(without_language(save_tiny(home / "older"), "yue")),
            "decode": DecodeOptions(language="zh-HK"),
        },
        ModelError,
        "language yue: this model has no token for it; .*--language",
    ),
    "no text": (
        lambda home: {"cuts": str(manifest_of(home / "t", lambda cut: cut["supervisions"][0].pop("text")))},
        DataError,
        r"2 of 2 cuts have no transcript \(cuts000-0, cuts001-0\)",
    ),
    "twice": (
        lambda home: {"cuts": str(manifest_of(home / "d", lambda cut: cut.update(id="same")))},
        DataError,
        "edited.jsonl:2: id 'same' is also in .*edited.jsonl:1",
    ),
    "normalizer": (lambda _: {"normalizer": "whisper-basik"}, ConfigError, "did you mean 'whisper-basic'"),
    "device": (lambda _: {"device": "cuda:77"}, ConfigError, "device 'cuda:77' is not usable here"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_faults_are_named_before_anything_is_written(name: str, run: Callable, tmp_path: Path) -> None:
    arguments, kind, message = FAULTS[name]
    with pytest.raises(kind, match=message):
        run(**arguments(tmp_path))
    assert not (tmp_path / "out").exists()


def test_an_adapter_is_to_be_merged_first(run: Callable, tmp_path: Path) -> None:
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter" / "adapter_config.json").write_text('{"base_model_name_or_path": "openai/whisper-small"}')
    with pytest.raises(ModelError, match=r"adapter of openai/whisper-small.*egrecho merge-lora-whisper"):
        run(model=str(tmp_path / "adapter"))


def test_two_processes_give_the_result_of_one(run: Callable, home: Path, tmp_path: Path) -> None:
    one = run()
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    program = [str(ROOT / "egrecho_inner" / "evaluation.py"), "--device", "cpu", "--decode.max_new_tokens", "12"]
    paths = ["--model_path", str(home / "model"), "--cuts", str(home / "cuts.jsonl"), "--outdir", str(tmp_path / "two")]
    done = subprocess.run([*launch, *program, *paths], env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    two = json.loads((tmp_path / "two" / "results.json").read_text())
    assert (one["processes"], two["processes"]) == (1, 2)
    assert rows(tmp_path / "two") == rows(tmp_path / "out")
    different = {"RTF", "RTFx", "decode_seconds", "processes", "peak_memory_gb"}
    assert {k: v for k, v in two.items() if k not in different} == {k: v for k, v in one.items() if k not in different}


def test_a_set_without_reference_words_has_no_rate_and_says_why(
    run: Callable, home: Path, tmp_path: Path, caplog
) -> None:
    text = re.sub(r'"text": "[^"]*"', '"text": ""', (home / "cuts.jsonl").read_text(encoding="utf-8"))
    (tmp_path / "silent.jsonl").write_text(text, encoding="utf-8")
    caplog.set_level("INFO")
    assert run(cuts=str(tmp_path / "silent.jsonl"))["error_rate"] is None
    assert "silent: WER n/a, as no reference has a word, normaliser " in caplog.text and "n/a %" not in caplog.text


def test_packed_manifests_are_read(run: Callable, home: Path, tmp_path: Path) -> None:
    with gzip.open(tmp_path / "packed.jsonl.gz", "wb") as file:
        file.write((home / "cuts.jsonl").read_bytes())
    assert run(cuts=str(tmp_path / "packed.jsonl.gz"))["data"]["sha256"] == run("plain")["data"]["sha256"]


def test_the_shipped_config_fits_the_program() -> None:
    given = ["-c", str(ROOT / "config" / "eval.yaml"), "--model_path", "m", "--outdir", "o"]
    with pytest.raises(ConfigError, match="missing cuts; give --cuts VALUE"):  # no corpus that nobody has
        parse(evaluate, given)
    arguments = parse(evaluate, [*given, "--cuts", "a.jsonl"])
    assert isinstance(arguments["decode"], DecodeOptions)
    several = parse(evaluate, ["--model_path", "m", "--outdir", "o", "--cuts", "[a.jsonl,b=c.jsonl]"])
    assert several["cuts"] == ["a.jsonl", "b=c.jsonl"]


def test_both_windows_are_decoded_in_one_run_and_stand_beside_each_other(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, given = tmp_path / "out", {"model": str(home / "model"), "cuts": f"toy={home / 'cuts.jsonl'}"}
    evaluate(out=str(out), decode=replace(QUICK, window="both"), **given)
    found = {window: json.loads((out / window / "results.json").read_text()) for window in ("longest", "30s")}
    assert {window: each["model"]["window"] for window, each in found.items()} == {"longest": "longest", "30s": "30s"}
    rates = " | ".join(f"{100 * each['error_rate']:.2f}" for each in found.values())
    table = (out / "table.md").read_text()
    assert table.splitlines()[0] == "| set | own length | padded to 30 s |"
    assert rates in table and table in capsys.readouterr().out
    alone = tmp_path / "alone"
    evaluate(out=str(alone), decode=replace(QUICK, window="30s"), **given)
    assert rows(alone) == rows(out / "30s")
    with pytest.raises(ConfigError, match="both"):
        Transcriber(load_model(str(home / "model")), load_processor(str(home / "model")), replace(QUICK, window="both"))
