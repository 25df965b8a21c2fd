"""Random access to a manifest: the same cuts as read in order, whoever else reads, writes or indexes it."""

import gzip
import json
import os
import pickle
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lhotse import CutSet, MonoCut, Recording, SupervisionSegment
from lhotse.audio import AudioSource
from lhotse.cut import MixedCut
from lhotse.cut.mixed import MixTrack
from tiny import tiny_processor

from egrecho_inner.data.batches.cut_list import CutList
from egrecho_inner.data.cuts import index as module
from egrecho_inner.data.cuts.index import CutIndex
from egrecho_inner.data.cuts.make import scan_manifest
from egrecho_inner.errors import DataError, MachineError
from egrecho_inner.text.labels import LabelEncoder


def cut_of(name: str, seconds: float = 1.5, text: str | None = "one") -> MonoCut:
    recording = Recording(name, [AudioSource("file", [0], f"{name}.wav")], 16000, 480000, 30.0, [0])
    spoken = [] if text is None else [SupervisionSegment(name, name, 0, seconds, 0, text=text, language="vi")]
    return MonoCut(f"{name}-0", 0.25, seconds, 0, spoken, recording=recording)


def write(path: Path, cuts: list) -> Path:
    CutSet.from_cuts(cuts).to_file(path)
    return path


@settings(max_examples=25, deadline=None)
@given(
    texts=st.lists(st.none() | st.text(st.characters(codec="utf-8"), max_size=20), min_size=1, max_size=12),
    suffix=st.sampled_from(["", ".gz"]),
    seed=st.integers(0, 9),
)
def test_a_cut_read_by_position_is_the_cut_read_in_order(tmp_path_factory, texts, suffix: str, seed: int) -> None:
    seconds = np.random.default_rng(seed).uniform(0.1, 29, len(texts)).round(4)
    cuts = [cut_of(f"u{i}", float(s), text) for i, (s, text) in enumerate(zip(seconds, texts, strict=True))]
    index = CutIndex(write(tmp_path_factory.mktemp("m") / f"cuts.jsonl{suffix}", cuts))
    assert len(index) == len(cuts)
    for position in np.random.default_rng(seed).permutation(len(cuts)):
        assert index[int(position)] == cuts[position]
        assert json.loads(index.line(int(position)))["id"] == cuts[position].id
    assert list(index) == cuts
    assert index.durations.tolist() == seconds.tolist()
    assert index.text_bytes.tolist() == [-1 if text is None else len(text.encode()) for text in texts]
    assert [index.languages[place] for place in index.language] == [None if text is None else "vi" for text in texts]


def test_a_mixed_cut_is_as_long_as_its_last_track_and_has_the_text_of_its_first(tmp_path) -> None:
    noise = cut_of("noise", 4.0, None)
    mixed = MixedCut("mix", [MixTrack(cut_of("speech", 2.0, "xin chào")), MixTrack(noise, offset=0.5, snr=10)])
    padded = cut_of("short", 1.0).pad(duration=3.0)
    index = CutIndex(write(tmp_path / "cuts.jsonl", [mixed, padded, cut_of("u")]))
    assert index.durations.tolist() == [4.5, 3.0, 1.5] and [c.duration for c in index] == [4.5, 3.0, 1.5]
    assert index.text_bytes.tolist() == [len("xin chào".encode()), 3, 3]


def test_text_and_language_are_those_of_all_supervisions(tmp_path) -> None:
    def cut(name: str, *spoken: tuple[str | None, str | None], **custom: dict) -> MonoCut:
        found = cut_of(name, 3.0)
        found.supervisions = [
            SupervisionSegment(f"{name}{n}", name, 2.0 - n, 1.0, 0, text=text, language=language, custom=custom or None)
            for n, (text, language) in enumerate(spoken)
        ]
        return found

    cuts = [
        cut("joined", ("hai", "vie"), ("một", "vi-VN")),
        cut("null", ("hai", "vi"), (None, "vi")),
        cut("none"),
        cut("silent", ("", None)),
        cut("two", ("yes", "English"), ("oui", "French")),
        cut("taught", (None, "Japanese"), teacher={"text": "はい"}),
        cut("characters", ("界", "zh-TW"), ("世", "zh")),
    ]
    index = CutIndex(write(tmp_path / "cuts.jsonl", cuts))
    assert index.text_bytes.tolist() == [len("một hai".encode()), -2, -1, 0, len("oui yes"), -2, len("世界".encode())]
    assert index.teacher_bytes.tolist() == [-2] * 5 + [len("はい".encode()), -2]
    names = [index.languages[place] for place in index.language]
    assert names == ["vi", "vi", None, None, "en+fr", "ja", "zh"]


def test_gzipped_and_plain_manifests_have_the_same_digest_and_a_changed_one_another(tmp_path) -> None:
    cuts = [cut_of("a"), cut_of("b")]
    plain, packed = (CutIndex(write(tmp_path / name, cuts)) for name in ("x.jsonl", "y.jsonl.gz"))
    assert plain.digest == packed.digest
    assert CutIndex(write(tmp_path / "z.jsonl", cuts[::-1])).digest != plain.digest


@pytest.mark.parametrize("name", ["cuts.jsonl", "cuts.jsonl.gz"])
def test_an_index_is_made_once_and_anew_when_the_manifest_changes(tmp_path, name: str, monkeypatch) -> None:
    path = write(tmp_path / name, [cut_of("a"), cut_of("b")])
    first = CutIndex(path)
    with monkeypatch.context() as nothing:
        nothing.setattr("egrecho_inner.data.cuts.index.scan", None)  # would be called to index again
        assert [cut.id for cut in CutIndex(path)] == ["a-0", "b-0"]
    replacement = write(tmp_path / f"new-{name}", [cut_of("c", 7.0)])
    os.replace(replacement, path)
    assert [(cut.id, cut.duration) for cut in CutIndex(path)] == [("c-0", 7.0)]
    assert len(list((tmp_path / f".{name}.index").iterdir())) == 1, "the old index goes"
    # who had opened the old manifest reads on in it
    assert [cut.id for cut in first] == ["a-0", "b-0"]


@pytest.fixture
def cache(tmp_path: Path, monkeypatch) -> Path:
    """The user's cache, and a temporary folder, which are those of the test."""
    monkeypatch.delenv("EGRECHO_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    return tmp_path / "cache" / "egrecho" / "index"


def unwritable(folder: Path, name: str, cuts: list) -> Path:
    """Write a manifest that nothing can be kept beside, not even by root."""
    folder.mkdir(exist_ok=True)
    (folder / f".{name}.index").touch()
    return write(folder / name, cuts)


@pytest.mark.parametrize("name", ["cuts.jsonl", "cuts.jsonl.gz"])
def test_a_folder_that_cannot_be_written_costs_only_a_temporary_index(tmp_path, name: str, cache: Path) -> None:
    path = unwritable(tmp_path / "data", name, [cut_of("a"), cut_of("b")])
    before = sorted(tmp_path.joinpath("data").iterdir())
    assert [cut.id for cut in CutIndex(path)] == ["a-0", "b-0"]
    assert sorted(tmp_path.joinpath("data").iterdir()) == before


def test_data_that_cannot_be_written_is_unpacked_once_for_all_processes(tmp_path, cache: Path, monkeypatch) -> None:
    path = unwritable(tmp_path / "data", "cuts.jsonl.gz", [cut_of("a")])
    first = CutIndex(path)
    with monkeypatch.context() as nothing:
        nothing.setattr("egrecho_inner.data.cuts.index.scan", None)
        assert [cut.id for cut in CutIndex(path)] == ["a-0"]
        monkeypatch.chdir(path.parent)
        assert CutIndex("cuts.jsonl.gz").folder == first.folder
    assert first.folder.parent.parent == cache
    write(path, [cut_of("b", 2.0)])
    other = CutIndex(unwritable(tmp_path / "more", "cuts.jsonl.gz", [cut_of("c")]))
    assert [cut.id for cut in CutIndex(path)] == ["b-0"]
    assert [cut.id for cut in other] == ["c-0"]
    assert len(list(cache.glob("*/*"))) == 2, "that of the older version is gone"


def test_a_cache_that_nobody_used_for_a_month_is_removed(tmp_path, cache: Path) -> None:
    paths = [unwritable(tmp_path / name, "cuts.jsonl", [cut_of(name)]) for name in "abc"]
    old, used, _ = folders = [CutIndex(path).folder.parent for path in paths[:2]] + [None]
    for folder in folders[:2]:
        os.utime(folder, (1, 1))
    CutIndex(paths[1])
    CutIndex(paths[2])
    assert not old.exists() and used.exists() and len(list(cache.iterdir())) == 2


def test_without_a_cache_the_temporary_folder_serves(tmp_path, cache: Path, monkeypatch) -> None:
    (tmp_path / "cache").touch()
    path = unwritable(tmp_path / "data", "cuts.jsonl", [cut_of("a")])
    assert CutIndex(path).folder.parent.parent == tmp_path / f"egrecho-{os.getuid()}"
    monkeypatch.setattr("os.getuid", lambda: 77)  # somebody else may have made a folder of our name
    (tmp_path / "egrecho-77").mkdir()
    with pytest.raises(MachineError, match="EGRECHO_CACHE"):
        CutIndex(path)


@pytest.mark.parametrize("name", ["cuts.jsonl", "cuts.jsonl.gz"])
@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('{"id": "x"', "not a cut"),
        ('{"id": "x"}', "not a cut"),
        ("[1]", "not a cut"),
        ("7", "not a cut"),
        ("", "empty line"),
        ('{"id": "r", "sources": [], "sampling_rate": 16000, "num_samples": 9, "duration": 1.0}', "not a cut"),
        ('{"id": "x", "type": "MonoCut", "duration": "long"}', "not a cut"),
        ('{"id": "x", "type": "MixedCut", "tracks": []}', "not a cut"),
        (r'{"type": "MonoCut", "duration": 1, "supervisions": [{"text": "\ud800"}]}', "not a cut"),
    ],
)
def test_a_line_that_is_no_cut_is_named_with_file_and_line(tmp_path, name: str, line: str, words: str) -> None:
    whole = json.dumps(cut_of("a").to_dict())
    data = f"{whole}\n{line}\n{whole}\n".encode()
    (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith("gz") else data)
    with pytest.raises(DataError, match=rf"{name}:2: {words}"):
        CutIndex(tmp_path / name)
    assert not [p for p in tmp_path.rglob("*") if p.name == "digest"], "nothing looks like an index"
    assert not list(tmp_path.glob(".*/*")), "nothing half-made stays"


@pytest.mark.parametrize(
    ("name", "start", "words"),
    [
        ("a.wav", b"RIFF\x24\0\0\0WAVEfmt ", r"a\.wav is audio \(WAV\); expected a manifest of cuts .* import-folder"),
        ("a.flac", b"fLaC\0\0\0\x22", r"a\.flac is audio \(FLAC\)"),
        ("cuts.jsonl", gzip.compress(b"{}"), r"cuts\.jsonl is packed; expected a name that ends in \.gz"),
        ("cuts.jsonl", b"\xde\xad" * 5000, r"cuts\.jsonl:1: .{0,250}$"),
    ],
)
def test_a_file_of_another_kind_is_refused_in_a_line(tmp_path, name: str, start: bytes, words: str) -> None:
    (tmp_path / name).write_bytes(start)
    for read in (CutIndex, scan_manifest):
        with pytest.raises(DataError, match=words):
            read(tmp_path / name)


@pytest.mark.parametrize("name", ["cuts.jsonl", "cuts.jsonl.gz"])
def test_an_id_that_is_there_twice_is_refused_with_both_lines(tmp_path, name: str, monkeypatch) -> None:
    cuts = [cut_of(each) for each in ("a", "b", "c", "b", "a")]
    write(tmp_path / name, cuts)
    with pytest.raises(DataError, match=rf"{name}:4: id 'b-0' is also in .*{name}:2 \(the first of 2\)"):
        CutIndex(tmp_path / name)
    write(tmp_path / name, cuts[:3])
    with monkeypatch.context() as same:
        same.setattr("egrecho_inner.data.cuts.columns.hash_id", lambda name: 7)  # one hash is not one id
        assert len(CutIndex(tmp_path / name)) == 3
    os.utime(tmp_path / name, (7, 7))
    other = write(tmp_path / f"other-{name}", [cut_of("x"), cut_of("c")])
    with pytest.raises(DataError, match=rf"other-{name}:2: id 'c-0' is also in .*{name}:3;"):
        CutList([str(tmp_path / name), str(other)])


def test_long_texts_are_tokenised_once_for_all_processes_and_starts(tmp_path, monkeypatch) -> None:
    texts = ["short", "word " * 100, "ự" * 200, "x" * 441, None]
    cuts = [cut_of(f"u{n}", text=text) for n, text in enumerate(texts)]
    path = write(tmp_path / "cuts.jsonl", cuts)
    labels = LabelEncoder(tiny_processor().tokenizer, "vi")
    real, counted = LabelEncoder.length, []
    monkeypatch.setattr(LabelEncoder, "length", lambda self, *a: counted.append(a[0]) or real(self, *a))

    def left_out() -> dict[str, int]:
        stream = CutList(str(path))
        stream.keep_trainable(labels, max_skip_ratio=0.9)
        return stream.left_out

    expected = {"without supervision": 1, "over 448 tokens": 2}
    assert left_out() == expected and [len(text) for text in counted] == [500, 200, 441]
    assert left_out() == expected and len(counted) == 3, "kept with the index"
    labels = LabelEncoder(tiny_processor().tokenizer, "vi", multilingual=False)
    assert left_out() == expected and len(counted) == 6, "another way of counting"


def test_manifests_that_are_missing_or_empty_are_refused(tmp_path) -> None:
    with pytest.raises(DataError, match=r"nowhere\.jsonl does not exist"):
        CutIndex(tmp_path / "nowhere.jsonl")
    (tmp_path / "empty.jsonl").touch()
    (tmp_path / "empty.jsonl.gz").write_bytes(gzip.compress(b""))
    for path in tmp_path.glob("empty*"):
        with pytest.raises(DataError, match="holds no cuts"):
            CutIndex(path)


@pytest.mark.parametrize("damage", ["cut", "text", "middle"])
def test_a_damaged_gzip_file_is_refused_in_one_line(tmp_path, damage: str) -> None:
    path = write(tmp_path / "cuts.jsonl.gz", [cut_of(f"u{i}", 1 + i / 100, f"{i * 7919} x") for i in range(300)])
    data = bytearray(path.read_bytes())
    if damage == "middle":
        data[200:260] = bytes(60)
    path.write_bytes({"cut": data[: len(data) // 2], "text": b"not gzip", "middle": data}[damage])
    with pytest.raises(DataError, match=r"cuts\.jsonl\.gz(:\d+: not a cut| is cut off or not gzip)") as caught:
        CutIndex(path)
    assert "\n" not in str(caught.value)


def test_processes_that_index_at_once_all_get_it(tmp_path, monkeypatch) -> None:
    path = write(tmp_path / "cuts.jsonl.gz", [cut_of(f"u{i}") for i in range(400)])
    context = get_context("fork")
    barrier, found, made = context.Barrier(4), context.Queue(), context.Value("i", 0)
    real = module.scan

    def counted(*arguments: Path) -> None:
        with made:
            made.value += 1
        real(*arguments)

    monkeypatch.setattr(module, "scan", counted)

    def index() -> None:
        barrier.wait()
        found.put(sum(cut.duration for cut in CutIndex(path)))

    running = [context.Process(target=index) for _ in range(4)]
    for process in running:
        process.start()
    assert [found.get(timeout=60) for _ in running] == [600.0] * 4
    for process in running:
        process.join()
    assert made.value == 1, "one unpacks, the others wait"
    assert len(list((tmp_path / ".cuts.jsonl.gz.index").iterdir())) == 1


def test_forked_processes_read_through_the_same_index_without_disturbing_each_other(tmp_path) -> None:
    index = CutIndex(write(tmp_path / "cuts.jsonl", [cut_of(f"u{i}", text="x" * i) for i in range(200)]))
    assert index[0].id == "u0-0"
    orders = [np.random.default_rng(seed).permutation(200).tolist() for seed in range(2)]
    with ProcessPoolExecutor(2, mp_context=get_context("fork")) as pool:
        for order, found in zip(orders, pool.map(ids_in_order, [index] * 2, orders), strict=True):
            assert found == [f"u{i}-0" for i in order]


def ids_in_order(index: CutIndex, order: list[int]) -> list[str]:
    return [index[position].id for _ in range(5) for position in order][-len(order) :]


def test_an_index_travels_to_other_processes_as_a_name(tmp_path) -> None:
    index = CutIndex(write(tmp_path / "cuts.jsonl.gz", [cut_of("a"), cut_of("b")]))
    assert [cut.id for cut in pickle.loads(pickle.dumps(index))] == ["a-0", "b-0"]
