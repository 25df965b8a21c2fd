"""Audio folders and Shar: every row arrives with its words, or is in the ledger; there and back changes nothing."""

import json
from pathlib import Path

import numpy as np
import pytest
from lhotse import CutSet
from tiny import speech_cut

from egrecho_inner.data.audio.load import load_audio
from egrecho_inner.data.cuts.index import CutIndex
from egrecho_inner.data.sources.findings import Findings
from egrecho_inner.data.sources.kaldi import read_data_dir
from egrecho_inner.errors import ConfigError, DataError
from egrecho_inner.import_datasets import import_datasets
from egrecho_inner.import_shar import import_shar
from egrecho_inner.runtime.ledger import read_ledger
from egrecho_inner.to_shar import to_shar


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An audio folder of `datasets` with three rows."""
    for name in ("a b", "c"):
        speech_cut(tmp_path / "set", name, 1.0)
    rows = ["file_name,transcription,who", 'a b.wav,"one, two",ann lee', "c.wav,three,bob"]
    (tmp_path / "set" / "metadata.csv").write_text("\n".join(rows) + "\n")
    return tmp_path / "set"


def test_an_audio_folder_becomes_a_data_directory(folder: Path, tmp_path: Path) -> None:
    import_datasets(str(folder), str(tmp_path / "kaldi"), "en", speaker_column="who")
    findings = Findings()
    data = read_data_dir(str(tmp_path / "kaldi"), findings, None)
    findings.raise_errors()
    assert {u.id: (u.text, u.speaker, u.language) for u in data.utterances} == {
        "a_b": ("one, two", "ann_lee", "en"),
        "c": ("three", "bob", "en"),
    }


def test_json_lines_and_splits_are_read_too(folder: Path, tmp_path: Path) -> None:
    (folder / "metadata.csv").unlink()
    folder.rename(tmp_path / "whole-train")
    (tmp_path / "whole").mkdir()
    (tmp_path / "whole-train").rename(tmp_path / "whole" / "train")
    row = {"file_name": "c.wav", "text": "three"}
    (tmp_path / "whole" / "train" / "metadata.jsonl").write_text(json.dumps(row) + "\n")
    import_datasets(str(tmp_path / "whole"), str(tmp_path / "kaldi"), "english")
    assert (tmp_path / "kaldi" / "text").read_text() == "c three\n"


def test_missing_audio_is_in_the_ledger(folder: Path, tmp_path: Path) -> None:
    with open(folder / "metadata.csv", "a") as table:
        table.write("gone.wav,four,x\n")
    with pytest.raises(DataError, match="1 of 3 would be left out"):
        import_datasets(str(folder), str(tmp_path / "kaldi"), "en")
    import_datasets(str(folder), str(tmp_path / "kaldi"), "en", max_skip_ratio=0.5)
    assert [skip.id for skip in read_ledger(tmp_path / "kaldi" / "skipped.jsonl")] == ["gone"]


def test_faults_are_named(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no column words"):
        import_datasets(str(folder), str(tmp_path / "kaldi"), "en", text_column="words")
    with pytest.raises(ConfigError, match="no column 'spk'"):
        import_datasets(str(folder), str(tmp_path / "kaldi"), "en", speaker_column="spk")
    (folder / "metadata.csv").write_text("file_name,text\n../x.wav,hello\n")
    with pytest.raises(DataError, match="outside the folder"):
        import_datasets(str(folder), str(tmp_path / "kaldi"), "en")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"neither metadata\.csv"):
        import_datasets(str(tmp_path / "empty"), str(tmp_path / "kaldi"), "en")


def test_shar_there_and_back(tmp_path: Path) -> None:
    cuts = [speech_cut(tmp_path / "wav", f"u{n}", 0.5 + 0.1 * n, "one two", seed=n) for n in range(5)]
    for cut in cuts:
        cut.supervisions[0].custom = {"teacher": {"text": "won", "segments": [[0.0, 0.5, "won"]]}}
    CutSet.from_cuts(cuts).to_file(tmp_path / "cuts.jsonl")
    to_shar(str(tmp_path / "cuts.jsonl"), str(tmp_path / "shar"), shard_size=2)
    assert len(list((tmp_path / "shar").glob("recording.*.tar"))) == 3
    to_shar(str(tmp_path / "cuts.jsonl"), str(tmp_path / "shar"))
    import_shar(str(tmp_path / "shar"), str(tmp_path / "back" / "cuts.jsonl.gz"))
    back = list(CutIndex(tmp_path / "back" / "cuts.jsonl.gz"))
    assert [cut.id for cut in back] == [cut.id for cut in cuts]
    for one, other in zip(cuts, back, strict=True):
        assert np.array_equal(load_audio(one), load_audio(other))
        assert one.supervisions[0].custom == other.supervisions[0].custom
        assert one.supervisions[0].text == other.supervisions[0].text
    with pytest.raises(DataError, match="no Lhotse Shar"):
        import_shar(str(tmp_path), str(tmp_path / "x.jsonl"))


def test_ids_come_from_a_column(folder: Path, tmp_path: Path) -> None:
    import_datasets(str(folder), str(tmp_path / "kaldi"), "en", id_column="who")
    assert (tmp_path / "kaldi" / "text").read_text() == "ann_lee one, two\nbob three\n"
    with pytest.raises(ConfigError, match="has no column 'name'"):
        import_datasets(str(folder), str(tmp_path / "other"), "en", id_column="name")
    table = folder / "metadata.csv"
    table.write_text(table.read_text().replace("bob", "ann lee"))
    with pytest.raises(DataError, match="id 'ann_lee' of column who is there twice"):
        import_datasets(str(folder), str(tmp_path / "twice"), "en", id_column="who")
