"""ReazonSpeech's tars and tables, in small: sizes, what is missing on either side, damage, and going on after it."""

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
import soundfile
from lhotse import CutSet

from egrecho_inner.data.sources import reazonspeech
from egrecho_inner.errors import ConfigError, DataError
from egrecho_inner.import_reazonspeech import import_reazonspeech
from egrecho_inner.runtime.ledger import read_ledger


def flac(seconds: float = 0.5) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, 0.1 * np.sin(np.arange(int(16000 * seconds)) / 5), 16000, format="FLAC")
    return file.getvalue()


def write_tar(path: Path, clips: dict[str, bytes]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, data in clips.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))


@pytest.fixture
def corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setitem(reazonspeech.TARS, "small", 2)
    root = tmp_path / "reazon"
    write_tar(root / "000.tar", {"000/a.flac": flac(), "000/b.flac": flac(), "000/large_only.flac": flac()})
    write_tar(root / "001.tar", {"001/c.flac": flac(), "001/../../evil.flac": flac()})
    (root / "small.tsv").write_text("000/a.flac\t今日のニュース\n000/b.flac\tはい\n001/c.flac\tいいえ\n")
    (root / "tiny.tsv").write_text("000/a.flac\t今日のニュース\n")
    return root


def cuts(path: Path) -> list[tuple[str, str]]:
    return [(cut.id, cut.supervisions[0].text) for cut in CutSet.from_file(path)]


def test_a_size_takes_its_tars_and_its_table(corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    out = tmp_path / "out"
    import_reazonspeech(str(corpus), str(out), "small", jobs=1)
    expected = [("000-a-0", "今日のニュース"), ("000-b-0", "はい"), ("001-c-0", "いいえ")]
    assert cuts(out / "reazonspeech_small.jsonl.gz") == expected
    assert sorted(path.name for path in out.rglob("*.flac")) == ["a.flac", "b.flac", "c.flac"]
    assert not list(tmp_path.rglob("evil.flac"))
    import_reazonspeech(str(corpus), str(out), "small", jobs=1)
    assert "nothing to do" in capsys.readouterr().out
    import_reazonspeech(str(corpus), str(out))
    assert cuts(out / "reazonspeech_tiny.jsonl.gz") == expected[:1]
    import_reazonspeech(str(corpus), str(out), "small", start=1, jobs=1)
    assert cuts(out / "reazonspeech_small_001-002.jsonl.gz") == expected[2:]


def test_what_is_missing_or_no_audio_is_counted(corpus: Path, tmp_path: Path) -> None:
    write_tar(corpus / "001.tar", {"001/d.flac": b"nothing"})
    (corpus / "small.tsv").write_text("000/a.flac\tx\n000/b.flac\t\n001/c.flac\ty\n001/d.flac\tz\n")
    with pytest.raises(DataError, match="3 of 4 would be left out"):
        import_reazonspeech(str(corpus), str(tmp_path / "out"), "small", jobs=1)
    reasons = {skip.id: skip.reason for skip in read_ledger(tmp_path / "out/skipped.jsonl")}
    assert reasons.keys() == {"000-b", "001-c", "001-d"}
    assert reasons["000-b"] == "empty transcript" and reasons["001-c"] == "in the table and not in its tar"
    import_reazonspeech(str(corpus), str(tmp_path / "out"), "small", max_skip_ratio=0.8, jobs=1)
    assert [id for id, _ in cuts(tmp_path / "out/reazonspeech_small.jsonl.gz")] == ["000-a-0"]


def test_a_damaged_tar_stops_and_the_others_stay_done(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = (corpus / "001.tar").read_bytes()
    (corpus / "001.tar").write_bytes(good[:700])
    with pytest.raises(DataError, match=r"001.tar is cut off or damaged .* download it again"):
        import_reazonspeech(str(corpus), str(tmp_path / "out"), "small", jobs=1)
    (corpus / "001.tar").write_bytes(good)
    done: list[str] = []
    scan = reazonspeech.scan_audio
    monkeypatch.setattr(reazonspeech, "scan_audio", lambda path: done.append(path.name) or scan(path))
    import_reazonspeech(str(corpus), str(tmp_path / "out"), "small", jobs=1)
    assert done == ["c.flac"] and len(cuts(tmp_path / "out/reazonspeech_small.jsonl.gz")) == 3


def test_wrong_folders_and_tables_are_named(corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"114 of 116 tars are missing \(002.tar, 003.tar"):
        import_reazonspeech(str(corpus), str(tmp_path / "out"), "medium")
    with pytest.raises(ConfigError, match="leaves no tar"):
        import_reazonspeech(str(corpus), str(tmp_path / "out"), "small", start=2)
    (corpus / "tiny.tsv").write_text("../x.flac\ttext\n")
    with pytest.raises(DataError, match=r"tiny.tsv:1: expected 000/NAME.flac"):
        import_reazonspeech(str(corpus), str(tmp_path / "out"))
