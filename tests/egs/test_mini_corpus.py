"""egs/mini/local: a corpus that is the same everywhere and keeps its splits apart."""

import hashlib
import importlib.util
import itertools
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import needs
import numpy as np
import pytest
import shards
import soundfile

from egrecho_inner.errors import MachineError

LOCAL = Path(__file__).resolve().parents[2] / "egs/mini/local"


def load(name: str) -> ModuleType:
    """Import a script of egs/mini/local, which is not a package."""
    spec = importlib.util.spec_from_file_location(f"mini_{name}", LOCAL / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run(script: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(LOCAL / script), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


def digests(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.rglob("*.flac")
    }


def table(path: Path) -> dict[str, str]:
    return dict(line.split(" ", 1) for line in path.read_text().splitlines())


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Path:
    needs.extra("mini", "espeakng_loader")
    out = tmp_path_factory.mktemp("mini") / "corpus"
    done = run("make_corpus.py", "--out", out, "--train", 240, "--val", 40, "--test", 40, "--jobs", 1)
    assert done.returncode == 0, done.stderr
    return out


def test_same_arguments_give_same_bytes_with_any_number_of_jobs(corpus, tmp_path):
    out = tmp_path / "again"
    run("make_corpus.py", "--out", out, "--train", 240, "--val", 40, "--test", 40, "--jobs", 3)
    assert digests(out) == digests(corpus) and len(digests(out)) == 320
    for split in ("train", "val", "test"):
        assert table(out / split / "text") == table(corpus / split / "text")


def test_a_finished_corpus_is_left_alone(corpus):
    before = {path: path.stat().st_mtime_ns for path in corpus.rglob("*")}
    done = run("make_corpus.py", "--out", corpus, "--train", 240, "--val", 40, "--test", 40, "--jobs", 2)
    assert "nothing to do" in done.stdout
    assert {path: path.stat().st_mtime_ns for path in corpus.rglob("*")} == before


def test_a_killed_run_looks_unfinished_and_the_same_command_completes_it(corpus, tmp_path):
    out = tmp_path / "killed"
    command = [sys.executable, LOCAL / "make_corpus.py", "--out", out, "--train", 240, "--val", 40, "--test", 40]
    process = subprocess.Popen(list(map(str, command)), start_new_session=True)
    deadline = time.monotonic() + 60
    while not list(out.rglob("*.flac")) and time.monotonic() < deadline:
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not (out / "_COMPLETE").exists() and not (out / "train" / "text").exists()
    run(*map(str, command[1:]))
    assert digests(out) == digests(corpus)


@pytest.fixture
def run_shards(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Run shards that a function of shards.py makes."""
    monkeypatch.syspath_prepend(LOCAL)
    module = load("make_corpus")

    def call(make: Callable[..., None], folder: Path, count: int, jobs: int) -> None:
        monkeypatch.setattr(module, "_make_shard", make)
        module._run_shards(folder, shards.Plan(count), jobs)

    return call


def test_many_processes_that_end_at_once_are_all_seen_to_end_well(run_shards, tmp_path: Path) -> None:
    """Awaited by a thread each, one in four seemed to end with 255: another thread had read its exit status."""
    run_shards(shards.make, tmp_path, 60, 8)
    assert len(list(tmp_path.iterdir())) == 60


def test_a_shard_whose_process_is_killed_is_made_by_another(run_shards, tmp_path: Path, caplog) -> None:
    run_shards(shards.die_once, tmp_path, 3, 2)
    assert {path.name for path in tmp_path.iterdir()} == {"0", "1", "2", "died"}
    assert f"shard 1 of {tmp_path / 'train'}: its process was ended by SIGKILL" in caplog.text


def test_a_shard_that_kills_or_raises_is_named_with_its_reason(run_shards, tmp_path: Path) -> None:
    with pytest.raises(MachineError, match=r"shard 0 of .*train: its process was ended by SIGKILL.*memory.*, 2 times"):
        run_shards(shards.die, tmp_path, 1, 1)
    assert (tmp_path / "attempts").read_text() == "xx"
    with pytest.raises(MachineError, match=r"shard 0 of .*train: the reason is above; the same command continues"):
        run_shards(shards.fail, tmp_path, 1, 1)
    assert (tmp_path / "attempts").read_text() == "xxx", "an error is not tried again"


def test_other_arguments_never_mix_with_what_is_there(tmp_path):
    needs.extra("mini", "espeakng_loader")
    out = tmp_path / "corpus"
    run("make_corpus.py", "--out", out, "--train", 30, "--val", 0, "--test", 10)
    before = set(digests(out).values())
    run("make_corpus.py", "--out", out, "--train", 20, "--val", 0, "--test", 0, "--seed", 3)
    assert len(digests(out)) == 20 and not (out / "test").exists()
    assert not set(digests(out).values()) & before  # another seed, another corpus
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").touch()
    refused = run("make_corpus.py", "--out", tmp_path / "mine")
    assert refused.returncode == 3 and (tmp_path / "mine" / "thesis.txt").exists()


def test_ids_are_unique_over_the_splits(corpus):
    ids = [id for split in ("train", "val", "test") for id in table(corpus / split / "text")]
    assert len(set(ids)) == len(ids) == 320


def test_kaldi_files_agree_and_audio_is_16_khz(corpus):
    for split, size in (("train", 240), ("val", 40), ("test", 40)):
        files = {name: table(corpus / split / name) for name in ("wav.scp", "text", "utt2lang", "utt2spk")}
        ids = list(files["text"])
        assert len(ids) == size and ids == sorted(ids)
        assert all(list(content) == ids for content in files.values())
        assert all(key.startswith(speaker) for key, speaker in files["utt2spk"].items())
        for path in files["wav.scp"].values():
            info = soundfile.info(path)
            assert (info.samplerate, info.channels, info.subtype) == (16_000, 1, "PCM_16") and info.frames > 1_500


def test_no_id_is_in_two_splits(corpus):
    ids = [id for split in ("train", "val", "test") for id in table(corpus / split / "text")]
    assert len(ids) == len(set(ids)) == 320


def test_speech_is_heard_and_never_clips(corpus):
    for path in sorted((corpus / "train" / "audio").glob("*.flac"))[:100]:
        wave, _ = soundfile.read(path, dtype="int16")
        assert 1_500 < np.abs(wave.astype(int)).max() < 32_767


def test_no_text_is_in_two_splits(corpus):
    texts = [set(table(corpus / split / "text").values()) for split in ("train", "val", "test")]
    assert not texts[0] & texts[1] and not texts[0] & texts[2] and not texts[1] & texts[2]
    sentences = load("sentences")
    rng = random.Random(5)
    drawn = {sentences.draw(rng, split, 0.5): split for split in ("train", "val", "test") for _ in range(300)}
    assert all(sentences.split_of(text) == split for text, split in drawn.items())


def test_word_strings_follow_no_grammar():
    sentences = load("sentences")
    texts = [sentences.draw(random.Random(seed), "train", 0.0, words=1.0).split() for seed in range(500)]
    assert {len(words) for words in texts} == set(range(2, 9))
    pairs = {pair for words in texts for pair in itertools.pairwise(words)}
    assert len(pairs) > 0.95 * sum(len(words) - 1 for words in texts)  # hardly two words meet twice
    assert not any("_" in word for words in texts for word in words)


def test_texts_are_lower_case_words(corpus):
    for text in table(corpus / "train" / "text").values():
        assert text == " ".join(text.split()) == text.lower() and text.replace(" ", "").isalpha()


def test_groups_share_neither_accent_nor_timbre():
    sys.path.insert(0, str(LOCAL))  # make_corpus imports its neighbours, as a script does
    try:
        module = load("make_corpus")
    finally:
        sys.path.remove(str(LOCAL))
    assert not set(module.SOURCE_ACCENTS) & set(module.TARGET_ACCENTS)
    assert not set(module.SOURCE_VARIANTS) & set(module.TARGET_VARIANTS)
    assert len(module.SOURCE_VARIANTS) + len(module.TARGET_VARIANTS) == len(set(module.VARIANTS))


def test_recordings_follow_from_the_seed_and_are_sound():
    record = load("acoustics").record
    speech = (np.sin(np.arange(22_050) * 0.06) * 9_000).astype(np.int16)
    for acoustics, seed in [("clean", 1), *(("varied", seed) for seed in range(20))]:
        wave = record(speech, 22_050, acoustics, np.random.default_rng(seed))
        assert np.array_equal(wave, record(speech, 22_050, acoustics, np.random.default_rng(seed)))
        assert wave.dtype == np.int16 and 16_000 * 0.9 < len(wave) < 16_000 * 1.7
        assert 1_500 < np.abs(wave.astype(int)).max() < 32_767
    assert not np.array_equal(
        *(record(speech, 22_050, "clean", np.random.default_rng(seed))[:9_000] for seed in (1, 2))
    )


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--accents", "xx"], 3, "no voice 'xx'"),
        (["--digits", "0.7", "--words", "0.4"], 2, "together at most 1"),
        (["--train", "0", "--val", "0", "--test", "0"], 2, "one above"),
    ],
)
def test_wrong_arguments_give_one_line_and_no_folder(tmp_path, arguments, code, words):
    if code == 3:  # found out by asking eSpeak
        needs.extra("mini", "espeakng_loader")
    done = run("make_corpus.py", "--out", tmp_path / "out", *arguments)
    assert done.returncode == code and words in done.stderr and len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "out").exists()
