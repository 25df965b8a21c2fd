"""Shar folders, whole, damaged and hostile: every cut with its own audio, or one line that names the file."""

import gzip
import io
import json
import shutil
import tarfile
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from lhotse import CutSet
from lhotse.shar import SharWriter
from tiny import speech_cuts

from egrecho_inner.data.audio.load import load_audio
from egrecho_inner.data.batches.options import BatchOptions
from egrecho_inner.data.batches.stream import CutStream, StreamPlan
from egrecho_inner.data.sources.shar import find_shards, read_shard
from egrecho_inner.errors import DataError
from egrecho_inner.import_shar import file_name, import_shar
from egrecho_inner.to_shar import to_shar

Members = list[tuple[tarfile.TarInfo, bytes]]
REVERB = {"rir": None, "normalize_output": True, "early_only": False, "rir_channels": [0], "rir_generator": None}


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    manifest = speech_cuts(tmp_path_factory.mktemp("cuts"), n=5)
    to_shar(str(manifest), str(manifest.with_name("shar")), shard_size=4)
    return manifest.with_name("shar")


@pytest.fixture
def shar(original: Path, tmp_path: Path) -> Path:
    """A folder to damage."""
    return Path(shutil.copytree(original, tmp_path / "shar"))


def change_tar(path: Path, change: Callable[[Members], Members]) -> None:
    """Write a tar anew with other members."""
    with tarfile.open(path) as tar:
        members = [(member, tar.extractfile(member).read()) for member in tar]
    with tarfile.open(path, "w") as tar:
        for member, content in change(members):
            member.size = len(content) if member.isreg() else 0
            tar.addfile(member, io.BytesIO(content) if member.isreg() else None)


def change_lines(path: Path, change: Callable[[list[dict]], list[dict]]) -> None:
    """Write a shard's cuts anew."""
    rows = change([json.loads(line) for line in gzip.decompress(path.read_bytes()).splitlines()])
    path.write_bytes(gzip.compress("".join(f"{json.dumps(row)}\n" for row in rows).encode()))


def named(name: str, kind: bytes = tarfile.REGTYPE, target: str = "") -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, target
    return member


def renamed(members: Members, name: str) -> Members:
    """Name the first recording otherwise."""
    return [
        (named(name + suffix), each[1]) for each, suffix in zip(members, (".flac", ".json"), strict=False)
    ] + members[2:]


def refused(shar: Path, tmp_path: Path, match: str) -> None:
    """See both users of a folder refuse it in one line that names the file."""
    with pytest.raises(DataError, match=match) as caught:
        import_shar(str(shar), str(tmp_path / "out" / "cuts.jsonl"))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out" / "cuts.jsonl").exists()
    with pytest.raises(DataError, match=match):
        cuts = CutStream([str(shar)])
        for batch in islice(StreamPlan(cuts, BatchOptions(max_duration=6.0)).batches(), 12):
            assert [cuts[place] for place in batch.positions]


@pytest.mark.parametrize("kept", [0, 2, 6])
def test_a_tar_that_ends_early_at_a_members_end_is_an_error(shar: Path, tmp_path: Path, kept: int) -> None:
    # Lhotse reads on in the next shard: three of four cuts were lost, exit 0
    change_tar(shar / "recording.000000.tar", lambda members: members[:kept])
    refused(shar, tmp_path, rf"recording\.000000\.tar ends after {kept // 2} of its recordings, where .*cuts\.000000")


def test_a_tar_without_its_end_marks_is_an_error(shar: Path, tmp_path: Path) -> None:
    path = shar / "recording.000000.tar"
    with tarfile.open(path) as tar:
        offset = tar.getmembers()[4].offset
    path.write_bytes(path.read_bytes()[:offset])
    refused(shar, tmp_path, r"recording\.000000\.tar ends after 2 of its recordings")


@pytest.mark.parametrize("share", [0.1, 0.37, 0.8])
def test_a_tar_that_is_cut_off_is_an_error(shar: Path, tmp_path: Path, share: float) -> None:
    path = shar / "recording.000000.tar"
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    refused(shar, tmp_path, r"recording\.000000\.tar (is cut off|ends after)")


HOSTILE = {
    "doubled": lambda members: members[:2] + members,
    "one too many": lambda members: [*members, (named("x.flac"), members[0][1]), (named("x.json"), members[1][1])],
    "swapped": lambda members: members[2:4] + members[:2] + members[4:],
    "up": lambda members: renamed(members, "../up"),
    "absolute": lambda members: renamed(members, "/tmp/absolute"),
    "symlink": lambda members: [(named(members[0][0].name, tarfile.SYMTYPE, "/etc/passwd"), b""), *members[1:]],
    "hard link": lambda members: [(named(members[0][0].name, tarfile.LNKTYPE, "/etc/passwd"), b""), *members[1:]],
    "device": lambda members: [(named(members[0][0].name, tarfile.CHRTYPE), b""), *members[1:]],
    "no manifest": lambda members: [members[0], *members[2:]],
    "no audio": lambda members: [(named("x.nodata"), b""), (named("x.nometa"), b""), *members[2:]],
    "no JSON": lambda members: [members[0], (members[1][0], b"\xff{"), *members[2:]],
    "a list": lambda members: [members[0], (members[1][0], b"[]"), *members[2:]],
    "a cut": lambda members: [members[0], (members[1][0], b'{"id": "x", "type": "MonoCut"}'), *members[2:]],
}


@pytest.mark.parametrize("what", HOSTILE)
def test_a_hostile_tar_is_refused_and_named(shar: Path, tmp_path: Path, what: str) -> None:
    change_tar(shar / "recording.000000.tar", HOSTILE[what])
    refused(shar, tmp_path, r"recording\.000000\.tar")
    assert sorted(path.name for path in tmp_path.iterdir()) in (["out", "shar"], ["shar"])


def test_cuts_that_are_cut_off_are_an_error(shar: Path, tmp_path: Path) -> None:
    path = shar / "cuts.000000.jsonl.gz"
    path.write_bytes(path.read_bytes()[:-20])
    refused(shar, tmp_path, r"cuts\.000000\.jsonl\.gz is cut off or damaged")


def test_ids_that_are_there_twice_are_named_with_both_lines(shar: Path, tmp_path: Path) -> None:
    change_lines(shar / "cuts.000000.jsonl.gz", lambda rows: [rows[0], rows[1], rows[0], rows[3]])
    refused(shar, tmp_path, r"cuts\.000000\.jsonl\.gz:3: id 'cuts000-0' is also in .*cuts\.000000\.jsonl\.gz:1;")


@pytest.mark.parametrize("place", ["source", "impulse response"])
def test_a_command_in_the_cuts_is_refused_before_it_runs(shar: Path, tmp_path: Path, place: str) -> None:
    def change(rows: list[dict]) -> list[dict]:
        recording = rows[0]["recording"]
        command = [{"type": "command", "channels": [0], "source": f"touch {tmp_path}/harm"}]
        if place == "source":
            recording["sources"] = command
        else:
            rir = {**recording, "sources": command, "transforms": None}
            recording["transforms"] = [{"name": "ReverbWithImpulseResponse", "kwargs": {**REVERB, "rir": rir}}]
        return rows

    change_lines(shar / "cuts.000000.jsonl.gz", change)
    refused(shar, tmp_path, r"cuts\.000000\.jsonl\.gz:1: an audio source of type 'command' is refused")
    assert not (tmp_path / "harm").exists()


@pytest.mark.parametrize("place", ["source", "impulse response"])
def test_a_command_in_a_tar_is_refused_before_it_runs(shar: Path, tmp_path: Path, place: str) -> None:
    def change(members: Members) -> Members:
        recording = json.loads(members[1][1])
        command = [{"type": "command", "channels": [0], "source": f"touch {tmp_path}/harm; cat x.wav"}]
        if place == "source":
            recording["sources"] = command
        else:
            rir = {**recording, "sources": command}
            recording["transforms"] = [{"name": "ReverbWithImpulseResponse", "kwargs": {**REVERB, "rir": rir}}]
        return [members[0], (members[1][0], json.dumps(recording).encode()), *members[2:]]

    change_tar(shar / "recording.000000.tar", change)
    refused(shar, tmp_path, r"recording\.000000\.tar, 'cuts000-0\.json': an audio source of type 'command' is refused")
    assert not (tmp_path / "harm").exists()


def test_what_lhotse_writes_itself_is_read(tmp_path: Path) -> None:
    manifest = speech_cuts(tmp_path, n=3)
    cuts = list(CutSet.from_file(manifest))
    for number, cut in enumerate(cuts):
        cut.custom = {"grade": number, "shard_origin": "x"}
    fields = {"recording": "wav", "grade": "jsonl"}
    (tmp_path / "shar").mkdir()
    with SharWriter(str(tmp_path / "shar"), fields=fields, shard_size=2) as writer:
        for cut in cuts:
            writer.write(cut)
    found = [cut for shard in find_shards(tmp_path / "shar") for cut in read_shard(shard)]
    assert [(cut.id, cut.custom) for cut in found] == [(cut.id, {"grade": n}) for n, cut in enumerate(cuts)]
    import_shar(str(tmp_path / "shar"), str(tmp_path / "back.jsonl"))
    for one, other in zip(cuts, CutSet.from_file(tmp_path / "back.jsonl"), strict=True):
        assert np.array_equal(load_audio(one), load_audio(other))


def test_ids_become_file_names_in_the_folder_they_are_meant_for() -> None:
    assert file_name("V1W1-0_sp0.9") == "V1W1-0_sp0.9"
    odd = ["a/b", "a_b", "../../x", "/etc/passwd", ".hidden", "x" * 300, "x" * 301, "nul\0", "ự" * 120, ""]
    names = [file_name(name) for name in odd]
    assert len(set(names)) == len(odd)
    assert all("/" not in name and not name.startswith(".") and len(name.encode()) < 240 for name in names)
