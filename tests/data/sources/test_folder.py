"""A folder of recordings becomes cuts: pairs, CSV files read and written, splits that stay, groups never divided."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from egrecho_inner.data.cuts.index import CutIndex
from egrecho_inner.data.sources.folder import SplitOptions, escape, read_csv, read_folder, unescape, write_splits
from egrecho_inner.data.sources.splits import draw_folds, draw_splits, group_clips
from egrecho_inner.errors import DataError
from egrecho_inner.import_folder import import_folder
from egrecho_inner.runtime.ledger import Ledger, read_ledger

RATE = 16000


def record(folder: Path, uid: str, text: str | None, suffix: str = ".wav", seconds: float = 0.5) -> Path:
    """Write one recording of noise, and its transcript where there is one."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{uid}{suffix}"
    wave = np.random.default_rng(abs(hash(uid)) % 1000).normal(0, 0.1, round(seconds * RATE))
    if suffix in (".m4a", ".webm"):
        write_container(path, wave)
    else:
        soundfile.write(path, wave, RATE)
    if text is not None:
        path.with_suffix(".txt").write_text(f"{text}\n", encoding="utf-8")
    return path


def write_container(path: Path, wave: np.ndarray) -> None:
    """Encode a wave as AAC in M4A or Opus in WebM."""
    av = pytest.importorskip("av", reason="extra web")
    rate = 48000 if path.suffix == ".webm" else RATE
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libopus" if path.suffix == ".webm" else "aac", rate=rate, layout="mono")
        pcm = (np.clip(np.repeat(wave, rate // RATE), -1, 1) * 32767).astype(np.int16)
        frame = av.AudioFrame.from_ndarray(pcm[None], format="s16", layout="mono")
        frame.sample_rate = rate
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            container.mux(packet)


def fill(folder: Path, count: int, start: int = 0) -> None:
    for number in range(start, start + count):
        record(folder, f"u{number:03d}", f"sentence number {number}", seconds=0.2)


def read(folder: Path, **options) -> tuple:
    ledger = Ledger(folder.parent / "skipped.jsonl")
    return read_folder(folder, SplitOptions(**options), ledger), ledger


def test_all_formats_become_cuts_of_the_same_kind(tmp_path: Path) -> None:
    folder = tmp_path / "clips"
    fill(folder, 60)
    for suffix in (".mp3", ".flac", ".ogg", ".m4a", ".webm"):
        record(folder, f"x{suffix[1:]}", f"spoken as {suffix[1:]}", suffix)
    import_folder(str(folder), str(tmp_path / "cuts"), "English")
    cuts = [cut for split in ("train", "dev", "test") for cut in CutIndex(tmp_path / "cuts" / f"cuts_{split}.jsonl.gz")]
    assert len(cuts) == 65
    assert {cut.sampling_rate for cut in cuts} == {RATE}
    assert {cut.supervisions[0].language for cut in cuts} == {"en"}
    named = {cut.id: cut for cut in cuts}
    for suffix in ("mp3", "flac", "ogg", "m4a", "webm"):
        cut = named[f"x{suffix}-0"]
        assert cut.supervisions[0].text == f"spoken as {suffix}"
        assert len(cut.load_audio()[0]) == cut.num_samples
        assert cut.duration == pytest.approx(0.5, abs=0.1)


def test_unusable_files_are_counted_with_their_reason(tmp_path: Path) -> None:
    folder = tmp_path / "clips"
    fill(folder, 60)
    record(folder, "lone", None)
    (folder / "silent.txt").write_text("nobody speaks")
    record(folder, "empty", "")
    record(folder, "long", "too long", seconds=31)
    record(folder, "latin", None)
    (folder / "latin.txt").write_bytes("caf\xe9".encode("latin-1"))
    record(folder, "huge", "word " * 3000)
    (folder / "broken.wav").write_bytes(b"RIFF....WAVE")
    (folder / "broken.txt").write_text("broken")
    (folder / "._u000.wav").write_bytes(b"left by a Mac")
    import_folder(str(folder), str(tmp_path / "cuts"), "en", max_skip_ratio=0.2)
    reasons = {skip.id: skip.reason for skip in read_ledger(tmp_path / "cuts" / "skipped.jsonl")}
    assert reasons.keys() == {"lone", "silent", "empty", "long", "latin", "huge", "broken"}
    assert reasons["lone"] == "no transcript"
    assert reasons["silent"] == "transcript without audio"
    assert reasons["long"] == "longer than 30 s"
    with pytest.raises(DataError, match="would be left out"):
        import_folder(str(folder), str(tmp_path / "cuts"), "en", max_skip_ratio=0.05)


def test_csv_files_are_written_once_and_read_again(tmp_path: Path) -> None:
    folder = tmp_path / "clips"
    fill(folder, 80)
    data, _ = read(folder)
    assert [path.name for path in write_splits(data)] == ["train_files.csv", "dev_files.csv", "test_files.csv"]
    assert (folder / "train_files.csv").read_text().startswith("uid,file_name,text\n")
    before = {path.name: path.read_bytes() for path in folder.glob("*.csv")}
    again, _ = read(folder, seed=7)  # the files win over another draw
    assert again.splits == data.splits
    assert write_splits(again) == []
    assert {path.name: path.read_bytes() for path in folder.glob("*.csv")} == before


def test_new_recordings_join_without_moving_old_ones(tmp_path: Path) -> None:
    folder = tmp_path / "clips"
    fill(folder, 80)
    first, _ = read(folder)
    write_splits(first)
    rows = (folder / "train_files.csv").read_text()
    fill(folder, 40, start=80)
    more, _ = read(folder)
    write_splits(more)
    assert len(more.splits) == 120
    assert {uid: more.splits[uid] for uid in first.splits} == first.splits
    assert (folder / "train_files.csv").read_text().startswith(rows)


def test_a_users_csv_is_never_touched(tmp_path: Path) -> None:
    folder = tmp_path / "clips"
    fill(folder, 70)
    table = "\ufeffuid,file_name,text\r\n" + "".join(f'u{n:03d},u{n:03d}.wav,"said, so"\r\n' for n in range(20))
    (folder / "test_files.csv").write_bytes(table.encode())
    data, ledger = read(folder)
    write_splits(data)
    assert (folder / "test_files.csv").read_bytes() == table.encode()
    assert {uid for uid, split in data.splits.items() if split == "test"} == {f"u{n:03d}" for n in range(20)}
    assert data.clips["u003"].text == "said, so"
    assert ledger.skips == []
    assert {data.splits[f"u{n:03d}"] for n in range(20, 70)} == {"train", "dev"}
    fill(folder, 5, start=70)  # what we wrote may grow, what the user wrote may not
    more, _ = read(folder)
    write_splits(more)
    assert (folder / "test_files.csv").read_bytes() == table.encode()
    assert all(more.splits[f"u{n:03d}"] != "test" for n in range(70, 75))


def test_three_csv_files_of_the_user_are_the_data_set(tmp_path: Path) -> None:
    folder = tmp_path / "clips"
    fill(folder, 9)
    for split, numbers in (("train", range(4)), ("dev", range(4, 6)), ("test", range(6, 8))):
        rows = "".join(f"u{n:03d},u{n:03d}.wav,text {n}\n" for n in numbers)
        (folder / f"{split}_files.csv").write_text("uid,file_name,text\n" + rows)
    data, ledger = read(folder)
    assert len(data.splits) == 8
    assert data.folds == {}
    assert [(skip.id, skip.reason) for skip in ledger.skips] == [("u008", "in no CSV file")]


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("u000,../u000.wav,text", "plain name"),
        ("u000,/etc/passwd,text", "plain name"),
        ("u000,http://x/u.wav,text", "plain name"),
        ("u000,|rm u.wav,text", "not there"),
        ("u000,u000.wav", "2 columns"),
        ("u000,u000.wav,a,b", "4 columns"),
        ("u000,u000.wav," + "x" * 30_000, "not CSV"),
        ('u000,u000.wav,"open', "not CSV"),
        ("u000,u000.wav,a\0b", "NUL"),
        (",u000.wav,text", "empty"),
        ("u001,u001.wav,twice", "keep it in one split"),
    ],
)
def test_a_wrong_row_is_named(tmp_path: Path, row: str, said: str) -> None:
    folder = tmp_path / "clips"
    fill(folder, 3)
    (folder / "train_files.csv").write_text("uid,file_name,text\nu001,u001.wav,fine\n")
    (folder / "dev_files.csv").write_text(f"uid,file_name,text\n{row}\n")
    with pytest.raises(DataError, match=said) as caught:
        read(folder)
    assert "dev_files.csv" in str(caught.value) or said == "not there"


def test_a_wrong_header_is_named(tmp_path: Path) -> None:
    fill(tmp_path / "clips", 3)
    (tmp_path / "clips" / "dev_files.csv").write_text("id,path,sentence\n")
    with pytest.raises(DataError, match=r"dev_files\.csv:1: the header"):
        read(tmp_path / "clips")


@given(st.text(alphabet=st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), max_size=20))
def test_escapes_come_back(text: str) -> None:
    assert unescape(escape(text)) == text
    assert not escape(text).startswith(("=", "+", "-", "@", "\t", "\r"))


def test_formulas_survive_the_files(tmp_path: Path) -> None:
    folder = tmp_path / "clips"
    fill(folder, 60)
    record(folder, "formula", "=HYPERLINK(1)")
    data, _ = read(folder)
    write_splits(data)
    written = "".join(path.read_text() for path in folder.glob("*_files.csv"))
    assert "'=HYPERLINK(1)" in written
    assert read(folder)[0].clips["formula"].text == "=HYPERLINK(1)"
    rows = [row for path in folder.glob("*_files.csv") for _, row in read_csv(path)]
    assert len(rows) == 61


@settings(max_examples=50, deadline=None)
@given(st.integers(60, 300), st.integers(1, 100), st.integers(0, 5))
def test_splits_stay_when_clips_are_added(count: int, more: int, seed: int) -> None:
    groups = {f"u{n}": f"sentence {n}" for n in range(count + more)}
    before = draw_splits(dict(list(groups.items())[:count]), 0.2, 0.2, seed)
    after = draw_splits(groups, 0.2, 0.2, seed)
    moved = sum(after[uid] != split for uid, split in before.items())
    assert moved <= 0.05 * count  # only where chance left a split under 60 % of its size
    assert min(list(after.values()).count(split) for split in ("train", "dev", "test")) >= 0.1 * len(after)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 40), min_size=60, max_size=200), st.integers(0, 3))
def test_a_group_is_never_divided(sentences: list[int], seed: int) -> None:
    texts = {f"s{n % 7}-{n}": f"Sentence, {words}!" for n, words in enumerate(sentences)}
    groups = group_clips(texts, "sentence")
    try:
        splits = draw_splits(groups, 0.2, 0.2, seed)
    except DataError:
        return  # one sentence is nearly everything
    for part in (splits, draw_folds(groups, 3, seed)):
        by_sentence: dict[str, set] = {}
        for uid, where in part.items():
            by_sentence.setdefault(texts[uid], set()).add(where)
        assert all(len(places) == 1 for places in by_sentence.values())


def test_sessions_join_sentences() -> None:
    texts = {"mon_1": "a", "mon_2": "b", "tue_1": "b", "wed_1": "c"}
    groups = group_clips(texts, "sentence", session=r"^(\w+)_")
    assert groups["mon_1"] == groups["mon_2"] == groups["tue_1"] != groups["wed_1"]
    assert len(set(group_clips(texts, "none").values())) == 4


def test_few_clips_are_folds(tmp_path: Path) -> None:
    folder = tmp_path / "clips"
    fill(folder, 23)
    import_folder(str(folder), str(tmp_path / "cuts"))
    sizes = [len(CutIndex(tmp_path / "cuts" / f"cuts_fold{fold}.jsonl.gz")) for fold in range(5)]
    assert sum(sizes) == 23
    assert max(sizes) - min(sizes) <= 1
    assert not list(folder.glob("*.csv"))
    shown = (tmp_path / "cuts" / "recordings.html").read_text()
    assert shown.count("<audio") == 23
    assert "sentence number 7" in shown


def test_words_read_many_times_are_not_parted(tmp_path: Path) -> None:
    folder = tmp_path / "clips"
    for number in range(70):
        record(folder, f"d{number}", str(number % 10), seconds=0.2)
    data, _ = read(folder)
    assert any("only 10 different sentences" in note for note in data.notes)
    assert len({clip.text for clip in data.of("test")}) > 3


def test_two_recordings_of_one_uid_are_refused(tmp_path: Path) -> None:
    record(tmp_path / "clips", "a", "text")
    record(tmp_path / "clips", "a", None, ".flac")
    with pytest.raises(DataError, match="same UID"):
        read(tmp_path / "clips")


def test_marks_that_reorder_text_are_taken_out_and_joiners_stay(tmp_path: Path) -> None:
    fill(tmp_path / "clips", 60)
    record(tmp_path / "clips", "bidi", "a\u202eb\u200dc\r\nd")
    assert read(tmp_path / "clips")[0].clips["bidi"].text == "ab\u200dc d"


def test_a_manifest_points_at_plain_files_only(tmp_path: Path) -> None:
    fill(tmp_path / "clips", 60)
    import_folder(str(tmp_path / "clips"), str(tmp_path / "cuts"), "en")
    index = CutIndex(tmp_path / "cuts" / "cuts_train.jsonl.gz")
    lines = [json.loads(index.line(position)) for position in range(len(index))]
    assert {source["type"] for line in lines for source in line["recording"]["sources"]} == {"file"}
