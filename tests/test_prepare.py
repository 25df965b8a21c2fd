"""prepare.sh as a user runs it, on a corpus made here: segments, speakers, 8 kHz, FLAC, stereo, noises."""

import gzip
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
from lhotse import CutSet

from egrecho_inner.data.audio.features import log_mel
from egrecho_inner.data.audio.load import load_audio  # also teaches Lhotse the mix of channels

ROOT = Path(__file__).resolve().parents[1]
KILLS = int(os.environ.get("EGRECHO_KILLS", "1"))


def prepare(*options: object, wait: bool = True) -> subprocess.CompletedProcess | subprocess.Popen:
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    command = ["bash", str(ROOT / "prepare.sh"), *map(str, options)]
    if not wait:
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        return subprocess.Popen(command, env=environment, start_new_session=True, **quiet)
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)


def snapshot(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def lines(path: Path) -> list[dict]:
    data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    return [json.loads(line) for line in data.decode().splitlines()]


def write_audio(path: Path, rate: int, seconds: float, channels: int = 1) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(len(path.name))
    samples = 0.1 * rng.standard_normal((round(rate * seconds), channels))
    soundfile.write(path, samples, rate)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Path:
    """Six utterances: train has four in two recordings with segments and speakers, test two of 8 kHz without."""
    root = tmp_path_factory.mktemp("corpus")
    write_audio(root / "audio" / "long a.flac", 16000, 6.0)
    write_audio(root / "audio" / "stereo.wav", 44100, 4.0, channels=2)
    tables = {
        "train/wav.scp": f"ra {root}/audio/long a.flac\nrb {root}/audio/stereo.wav\n",
        "train/segments": "u1 ra 0.5 2.5\nu2 ra 2.5 4.1234\nu3 ra 4.5 -1\nu4 rb 0 3.99\n",
        "train/text": "u1 Sự xuất hiện\nu2 hai ba\nu3 bốn, năm.\nu4 sáu\n",
        "train/utt2lang": "u1 vi\nu2 vi\nu3 vi\nu4 vi\n",
        "train/utt2spk": "u1 s1\nu2 s1\nu3 s1\nu4 s2\n",
        "test/text": "t1 một\nt2 hai\n",
        "test/utt2lang": "t1 vi\nt2 vi\n",
        "test/wav.scp": "",
    }
    for name in ("t1", "t2"):
        write_audio(root / "audio" / f"{name}.wav", 8000, 1.21)
        tables["test/wav.scp"] += f"{name} {root}/audio/{name}.wav\n"
    for name, table in tables.items():
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_text(table)
    for part in ("noise", "speech"):
        write_audio(root / "musan" / part / "deep" / f"{part}-1.wav", 16000, 12.0)
    return root


@pytest.fixture(scope="module")
def prepared(corpus) -> tuple[Path, str]:
    out = corpus / "data"
    options = ("--data_root", corpus, "--prefix", "x", "--channel", "mix", "--musan", corpus / "musan")
    done = prepare(*options, "--out", out)
    assert done.returncode == 0, done.stdout + done.stderr
    return out, done.stdout


def test_all_files_of_the_spec_are_there(prepared) -> None:
    out, log = prepared
    names = {str(path.relative_to(out)) for path in out.rglob("*") if path.is_file() and path.name != "job.json"}
    expected = set()
    for split in ("train", "test"):
        expected |= {f"manifests/x_recordings_{split}.jsonl", f"manifests/x_supervisions_{split}.jsonl"}
        expected |= {f"fbank_whisper80/x_cuts_{split}.jsonl.gz", f"fbank_whisper80/x_feats_{split}/feats-0.lca"}
    expected |= {"fbank_whisper80/musan_cuts.jsonl.gz", "fbank_whisper80/musan_feats/feats-0.lca"}
    expected |= {f"manifests/musan_recordings_{part}.jsonl.gz" for part in ("noise", "speech")}
    assert expected <= names
    assert not [name for name in names if ".tmp" in name or name.endswith((".done", "feats-0.jsonl"))]
    assert f"no val in {out.parent}" in log and "Cuts count:" in log


def test_counts_add_up_and_features_are_those_of_the_audio(prepared) -> None:
    out, _ = prepared
    train, test = (CutSet.from_file(out / f"fbank_whisper80/x_cuts_{split}.jsonl.gz") for split in ("train", "test"))
    assert [cut.supervisions[0].id for cut in train][::3] == ["u1", "u2", "u3", "u4"]
    assert len(list(train)) == 12 and [cut.id for cut in test] == ["t1-0", "t2-0"]
    first = next(iter(train))
    assert (first.start, first.duration, first.supervisions[0].text) == (0.5, 2.0, "Sự xuất hiện")
    assert (first.supervisions[0].language, first.supervisions[0].speaker) == ("vi", "s1")
    for cut in [*train, *test]:
        assert cut.sampling_rate == 16000 and cut.supervisions[0].duration == cut.duration
        np.testing.assert_allclose(cut.load_features(), log_mel(load_audio(cut)), atol=2**-9 + 1e-5)
    assert next(iter(test)).num_samples == 2 * 9680


def test_the_line_is_the_specs(prepared) -> None:
    line = lines(prepared[0] / "fbank_whisper80/x_cuts_test.jsonl.gz")[0]
    assert list(line) == ["id", "start", "duration", "channel", "supervisions", "features", "recording", "type"]
    assert list(line["supervisions"][0]) == ["id", "recording_id", "start", "duration", "channel", "text", "language"]
    assert line["features"]["num_frames"] == 121 and line["recording"]["sources"][0]["channels"] == [0]


def test_repeating_writes_the_same_bytes(corpus, prepared) -> None:
    before = snapshot(prepared[0])
    again = prepare(
        *("--data_root", corpus, "--prefix", "x", "--out", prepared[0], "--channel", "mix"),
        *("--musan", corpus / "musan", "--stage", 1),
    )
    assert again.returncode == 0 and again.stdout.count("already done") == 3
    assert snapshot(prepared[0]) == before


def test_without_features_for_large_v3(corpus, prepared) -> None:
    options = ("--prefix", "x", "--out", prepared[0], "--splits", "train", "--stage", 2, "--stop_stage", 3)
    done = prepare(*options, "--features", "none", "--num_mel_bins", 128, "--perturb_speed", "false")
    assert done.returncode == 0, done.stderr
    cuts = lines(prepared[0] / "fbank_whisper128/x_cuts_train.jsonl.gz")
    assert len(cuts) == 4 and "features" not in cuts[0]
    assert not (prepared[0] / "fbank_whisper128/x_feats_train").exists()
    shutil.rmtree(prepared[0] / "fbank_whisper128")
    assert prepare(*options[:-4], "--stage", 2, "--stop_stage", 2).returncode == 0  # cuts for the tests after this one


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        ((), 2, "--data_root DIR is needed"),
        (("--data_root", "/nowhere"), 2, "--prefix NAME is needed"),
        (("--data_root", "/nowhere", "--prefix", "x"), 3, "/nowhere has no folder train"),
        (("--data_root", "/nowhere", "--prefix", "a/b"), 2, "becomes a file name"),
        (("--data_root", "/nowhere", "--prefix", "x", "--num_mel_bins", 81), 2, "80 or 128, not '81'"),
        (("--data_rot", "/nowhere"), 2, "unknown option --data_rot"),
        (("--perturb_speed", "yes"), 2, "true or false"),
    ],
)
def test_wrong_options_are_one_line(options: tuple, code: int, message: str) -> None:
    done = prepare(*options)
    assert done.returncode == code
    errors = done.stderr.strip().splitlines()
    assert len(errors) == 1 and errors[0].startswith("error: ") and message in errors[0]


def test_a_missing_table_stops_before_anything_is_written(corpus, tmp_path) -> None:
    shutil.copytree(corpus / "train", tmp_path / "train")
    (tmp_path / "train" / "text").unlink()
    done = prepare("--data_root", tmp_path, "--prefix", "x", "--out", tmp_path / "data", "--stage", 1)
    assert done.returncode == 3 and "text" in done.stderr
    assert not (tmp_path / "data").exists() or not snapshot(tmp_path / "data")


def test_splits_that_share_ids_just_work_and_audio_is_decoded_once(corpus, tmp_path) -> None:
    for split in ("train", "val"):
        shutil.copytree(corpus / "test", tmp_path / split)
        wav = (tmp_path / split / "wav.scp").read_text().replace("t2.wav", "long a.flac")
        (tmp_path / split / "wav.scp").write_text(wav)
    options = ("--data_root", tmp_path, "--prefix", "x", "--out", tmp_path / "data", "--splits", "val train")
    done = prepare(*options, "--stop_stage", 2, "--perturb_speed", "false")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("id that another split has, too (2); all ids of this split begin with 'x-") == 2
    ids = {
        split: [cut["id"] for cut in lines(tmp_path / f"data/cuts/x_cuts_{split}.jsonl")] for split in ("train", "val")
    }
    assert ids == {split: [f"x-{split}-t1-0", f"x-{split}-t2-0"] for split in ids}
    scans = [Path(scan["path"]).name for scan in lines(tmp_path / "data/manifests/x_scans.jsonl")]
    assert sorted(scans) == ["long a.flac", "t1.wav"]
    for path in (tmp_path / "data/manifests").glob("x_*_val.jsonl"):
        path.unlink()
    done = prepare(*options[:-1], "train", "--stage", 1, "--stop_stage", 2, "--perturb_speed", "false")
    again = [cut["id"] for cut in lines(tmp_path / "data/cuts/x_cuts_train.jsonl")]
    assert done.returncode == 0 and again == ids["train"], "a split prepared alone gets the same ids"
    done = prepare(*options, "--stage", 1, "--stop_stage", 1, "--ids", "keep")
    assert done.returncode == 3 and "val/text:1: id t1 is also in" in done.stderr


def test_help_names_every_option() -> None:
    text = prepare("--help").stdout
    script = (ROOT / "prepare.sh").read_text().split("parse_options")[0]
    names = [
        line.split("=")[0] for line in script.splitlines() if line and line[0].islower() and "=" in line.split()[0]
    ]
    assert len(names) > 12 and all(f"--{name}" in text for name in names)


def test_killed_anywhere_and_repeated_gives_the_same_bytes(corpus, prepared) -> None:
    """EGRECHO_KILLS=10 kills it ten times."""
    clean, out = snapshot(prepared[0]), corpus / "killed"
    options = (
        "--data_root",
        corpus,
        "--prefix",
        "x",
        "--channel",
        "mix",
        "--stage",
        1,
        "--stop_stage",
        3,
        "--out",
        out,
    )
    generator, begin = random.Random(KILLS), time.monotonic()
    took = 12.0
    for _ in range(KILLS):
        process = prepare(*options, wait=False)
        time.sleep(generator.uniform(0.5, took))
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    done = prepare(*options)
    assert done.returncode == 0, done.stderr
    assert time.monotonic() - begin < 600

    def portable(files: dict[str, bytes]) -> dict[str, bytes]:
        # archives are named by path, and job.json has the hash of such names: both differ with the folder
        texts = {name: gzip.decompress(data) if name.endswith(".gz") else data for name, data in files.items()}
        old, new = str(out).encode(), str(prepared[0]).encode()
        beside = ("job.json", ".html", "_scans.jsonl")  # scans are remembered in the order they were made
        named_by_time = ".index/"  # of the manifest that it is of
        wanted = [name for name in texts if not name.endswith(beside) and "musan" not in name]
        compared = [name for name in wanted if named_by_time not in name]
        return {name: texts[name].replace(old, new) for name in compared}

    assert portable(snapshot(out)) == portable(clean)
