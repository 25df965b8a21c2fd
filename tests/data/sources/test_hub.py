"""Data sets in every form of `datasets`: each text with its own sound, whatever else the folder and the rows hold."""

import csv
import hashlib
import io
import json
import os
from pathlib import Path
from types import ModuleType

import needs
import numpy as np
import pytest
import soundfile

from egrecho_inner.data.audio.files import probe
from egrecho_inner.data.sources import hub
from egrecho_inner.data.sources.findings import Findings
from egrecho_inner.data.sources.kaldi import read_data_dir
from egrecho_inner.errors import ConfigError, DataError, MachineError
from egrecho_inner.import_datasets import import_datasets
from egrecho_inner.runtime.ledger import read_ledger

needs_library = pytest.mark.usefixtures("library")
LANGUAGES = {"vi_vn": "vi", "ja_jp": "ja"}


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    datasets = needs.extra("hub", "datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    return datasets


def sound(subset: str, number: int, format: str = "WAV") -> bytes:
    """Make the audio of one row: its pitch tells subset and number."""
    data = io.BytesIO()
    pitch = 200 + 10 * number + 500 * sorted(LANGUAGES).index(subset)
    soundfile.write(data, 0.3 * np.sin(2 * np.pi * pitch * np.arange(16000) / 16000), 16000, format=format)
    return data.getvalue()


def rows(subset: str, count: int = 4) -> list[dict]:
    """Make rows as FLEURS has them, with a `path` of the machine that made the set, the same for each language."""
    return [
        {
            "id": number // 2,  # of the sentence: not unique
            "num_samples": 16000,
            "path": f"/home/somebody/{number}.wav",
            "audio": {"bytes": sound(subset, number), "path": f"{number}.wav"},
            "transcription": f"{subset} {number}",
            "raw_transcription": f"{subset.upper()} {number}.",
            "gender": number % 2,
        }
        for number in range(count)
    ]


def make(library: ModuleType, items: list[dict]) -> object:
    columns = {name: [item[name] for item in items] for name in items[0]}
    return library.Dataset.from_dict(columns).cast_column("audio", library.Audio(sampling_rate=16000))


def pairs(place: Path) -> dict[str, tuple[str, str]]:
    """Return the text of each utterance and a hash of its samples, as an import of the directory reads them."""
    data = read_data_dir(place, findings := Findings())
    findings.raise_errors()
    return {
        each.id: (each.text, hashlib.md5(soundfile.read(data.sources[each.recording_id])[0].tobytes()).hexdigest())
        for each in data.utterances
    }


def wanted(subset: str, name: str, count: int = 4) -> dict[str, tuple[str, str]]:
    samples = [soundfile.read(io.BytesIO(sound(subset, number)))[0].tobytes() for number in range(count)]
    return {
        f"{name}-{number:07d}": (f"{subset} {number}", hashlib.md5(samples[number]).hexdigest())
        for number in range(count)
    }


@needs_library
def test_parquet_with_rows_like_fleurs(library: ModuleType, tmp_path: Path) -> None:
    for subset in LANGUAGES:
        for split, count in (("train", 4), ("test", 2)):
            file = tmp_path / "fleurs" / subset / f"{split}-00000-of-00001.parquet"
            file.parent.mkdir(parents=True, exist_ok=True)
            make(library, rows(subset, count)).to_parquet(file)
    for subset, language in LANGUAGES.items():
        place = tmp_path / "data" / subset
        import_datasets(str(tmp_path / "fleurs" / subset), str(place), language, speaker_column="gender")
        assert pairs(place) == wanted(subset, f"{subset}-train")
        assert (place / "utt2spk").read_text().split() == [
            word for number in range(4) for word in (f"{subset}-train-{number:07d}", str(number % 2))
        ]
    place = tmp_path / "data" / "test"
    import_datasets(str(tmp_path / "fleurs" / "vi_vn"), str(place), "vi", split="test", text_column="raw_transcription")
    assert [text for text, _ in pairs(place).values()] == ["VI_VN 0.", "VI_VN 1."]


@needs_library
def test_subsets_that_a_data_sets_card_names(library: ModuleType, tmp_path: Path) -> None:
    configs = []
    for subset in LANGUAGES:
        (tmp_path / "fleurs").mkdir(exist_ok=True)
        make(library, rows(subset)).to_parquet(tmp_path / "fleurs" / f"{subset}.parquet")
        configs.append(f"- config_name: {subset}\n  data_files:\n  - split: train\n    path: {subset}.parquet\n")
    (tmp_path / "fleurs" / "README.md").write_text(f"---\nconfigs:\n{''.join(configs)}---\n")
    for subset, language in LANGUAGES.items():
        place = tmp_path / "data" / subset
        import_datasets(str(tmp_path / "fleurs"), str(place), language, subset=subset)
        assert pairs(place) == wanted(subset, f"fleurs-{subset}-train")
    with pytest.raises(ConfigError, match=r"subset None, split train .*vi_vn"):
        import_datasets(str(tmp_path / "fleurs"), str(tmp_path / "x"), "vi")
    with pytest.raises(ConfigError, match="subset vi_vn, split dev "):
        import_datasets(str(tmp_path / "fleurs"), str(tmp_path / "x"), "vi", subset="vi_vn", split="dev")
    with pytest.raises(ConfigError, match=r"data/vi_vn holds .*\"vi_vn\".*; give each import a folder of its own"):
        import_datasets(str(tmp_path / "fleurs"), str(tmp_path / "data" / "vi_vn"), "ja", subset="ja_jp")
    assert pairs(tmp_path / "data" / "vi_vn") == wanted("vi_vn", "fleurs-vi_vn-train")


@needs_library
def test_save_to_disk_of_one_split_and_of_several(library: ModuleType, tmp_path: Path) -> None:
    one, several = tmp_path / "one", tmp_path / "several"
    make(library, rows("vi_vn")).save_to_disk(one)
    both = {"train": make(library, rows("vi_vn")), "test": make(library, rows("ja_jp", 2))}
    library.DatasetDict(both).save_to_disk(several)
    import_datasets(str(one), str(tmp_path / "a"), "vi")
    assert pairs(tmp_path / "a") == wanted("vi_vn", "one-train")
    import_datasets(str(several), str(tmp_path / "b"), "ja", split="test")
    assert pairs(tmp_path / "b") == wanted("ja_jp", "several-test", 2)
    with pytest.raises(ConfigError, match="no split 'dev'; it has train, test"):
        import_datasets(str(several), str(tmp_path / "c"), "vi", split="dev")


@needs_library
def test_an_audio_folder_whose_metadata_are_parquet(library: ModuleType, tmp_path: Path) -> None:
    folder = tmp_path / "set" / "train"
    folder.mkdir(parents=True)
    for number in range(4):
        (folder / f"{number}.wav").write_bytes(sound("vi_vn", number))
    table = {"file_name": [f"{n}.wav" for n in range(4)], "text": [f"vi_vn {n}" for n in range(4)]}
    library.Dataset.from_dict(table).to_parquet(folder / "metadata.parquet")
    import_datasets(str(tmp_path / "set"), str(tmp_path / "a"), "vi")
    assert sorted(pairs(tmp_path / "a").values()) == sorted(wanted("vi_vn", "x").values())
    assert not (tmp_path / "a" / "audio").exists(), "files of their own stay where they lie"


@needs_library
def test_audio_is_kept_as_it_is_and_what_does_not_read_is_counted(library: ModuleType, tmp_path: Path) -> None:
    items = rows("vi_vn", 5)
    for item, format in zip(items, ("WAV", "FLAC", "MP3", "OGG"), strict=False):
        item["audio"]["bytes"] = sound("vi_vn", 0, format)
    items[4]["audio"] = {"bytes": b"\0\0\0\x18ftypM4A ", "path": "4.m4a"}
    items.append({**items[0], "audio": None})
    make(library, items).to_parquet(tmp_path / "set" / "train.parquet")
    with pytest.raises(DataError, match="2 of 6 would be left out"):
        import_datasets(str(tmp_path / "set"), str(tmp_path / "a"), "vi")
    import_datasets(str(tmp_path / "set"), str(tmp_path / "a"), "vi", max_skip_ratio=0.5)
    files = [line.split()[1] for line in (tmp_path / "a" / "wav.scp").read_text().splitlines()]
    assert [probe(path).format for path in files] == ["WAV", "FLAC", "MP3", "OGG"]
    assert [Path(path).read_bytes() for path in files] == [item["audio"]["bytes"] for item in items[:4]]
    skips = {skip.id: skip.value for skip in read_ledger(tmp_path / "a" / "skipped.jsonl")}
    assert "12 bytes that libsndfile cannot read" in skips["set-train-0000004"]
    assert skips["set-train-0000005"] == "no audio in the row"


@needs_library
def test_repeating_writes_no_audio_again_and_a_changed_set_gets_its_own(library: ModuleType, tmp_path: Path) -> None:
    def imported(subset: str) -> dict[str, tuple[str, str]]:
        make(library, rows(subset)).to_parquet(tmp_path / "set" / "train.parquet")
        import_datasets(str(tmp_path / "set"), str(tmp_path / "a"), "vi")
        return pairs(tmp_path / "a")

    assert imported("vi_vn") == wanted("vi_vn", "set-train")
    files = {path: path.stat().st_mtime_ns for path in (tmp_path / "a" / "audio").rglob("*.wav")}
    assert imported("vi_vn") == wanted("vi_vn", "set-train")
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "a" / "audio").rglob("*.wav")} == files
    assert imported("ja_jp") == wanted("ja_jp", "set-train")  # the same rows, ids and folder: other sounds


@needs_library
def test_tables_of_an_earlier_import_do_not_stay(library: ModuleType, tmp_path: Path) -> None:
    make(library, rows("vi_vn")).to_parquet(tmp_path / "set" / "train.parquet")
    import_datasets(str(tmp_path / "set"), str(tmp_path / "a"), "vi", speaker_column="gender")
    import_datasets(str(tmp_path / "set"), str(tmp_path / "a"), "vi")
    assert not (tmp_path / "a" / "utt2spk").exists()


@needs_library
def test_several_audio_columns_are_a_choice(library: ModuleType, tmp_path: Path) -> None:
    items = [{**item, "noisy": other["audio"]} for item, other in zip(rows("vi_vn"), rows("ja_jp"), strict=True)]
    make(library, items).cast_column("noisy", library.Audio()).to_parquet(tmp_path / "set" / "train.parquet")
    with pytest.raises(ConfigError, match="the audio columns audio, noisy; choose with --audio_column"):
        import_datasets(str(tmp_path / "set"), str(tmp_path / "a"), "vi")
    import_datasets(str(tmp_path / "set"), str(tmp_path / "a"), "vi", audio_column="noisy")
    sounds = [digest for _, digest in wanted("ja_jp", "x").values()]
    assert [digest for _, digest in pairs(tmp_path / "a").values()] == sounds


def test_arrays_of_older_sets_are_kept_sample_by_sample(tmp_path: Path) -> None:
    samples = np.random.default_rng(0).uniform(-0.5, 0.5, 800).astype(np.float32)
    path, fault = hub._store({"array": samples.tolist(), "path": "x.wav", "sampling_rate": 8000}, tmp_path)
    assert fault == "" and probe(path).sampling_rate == 8000
    np.testing.assert_array_equal(soundfile.read(path, dtype="float32")[0], samples)


@needs_library
def test_what_ends_a_stream_is_one_line(library: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stream(*_: object, **__: object):
        yield rows("vi_vn")[0]
        raise ConnectionError("gone\nTraceback")

    monkeypatch.setattr(library, "load_dataset", stream)
    with pytest.raises(MachineError, match=r"^a/b: no more rows after 0 \(gone Traceback\); repeat$"):
        import_datasets("a/b", str(tmp_path / "a"), "vi")

    def offline(*_: object, **__: object):
        raise ConnectionError("Couldn't reach 'a/b' on the Hub")

    monkeypatch.setattr(library, "load_dataset", offline)
    with pytest.raises(MachineError, match="is it a folder here, or is the network off"):
        import_datasets("a/b", str(tmp_path / "a"), "vi")

    def script(*_: object, **__: object):
        raise RuntimeError("Dataset scripts are no longer supported, but found b.py")

    monkeypatch.setattr(library, "load_dataset", script)
    with pytest.raises(ConfigError, match="--revision refs/convert/parquet"):
        import_datasets("a/b", str(tmp_path / "a"), "vi")


def test_without_the_library_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "datasets", None)
    with pytest.raises(ConfigError, match="needs the extra hub: pip install"):
        import_datasets("google/fleurs", str(tmp_path / "a"), "vi")


def write_folder(folder: Path, names: list[str]) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(sound("vi_vn", len(name)))
    with open(folder / "metadata.csv", "w", newline="") as file:
        csv.writer(file).writerows([("file_name", "text"), *((name, f"text of\n{name}") for name in names)])


def test_one_table_for_several_splits_gives_the_rows_of_one(tmp_path: Path) -> None:
    write_folder(tmp_path / "set", ["train/a.wav", "train/b/a.wav", "test/a.wav"])
    for split, ids in (("train", ["a", "b_a"]), ("test", ["a"])):
        import_datasets(str(tmp_path / "set"), str(tmp_path / split), "vi", split=split)
        texts = {id: text for id, (text, _) in pairs(tmp_path / split).items()}
        assert texts == {id: f"text of {split}/{id.replace('_', '/')}.wav" for id in ids}
    with pytest.raises(ConfigError, match="no split 'dev'; it has the folders test, train"):
        import_datasets(str(tmp_path / "set"), str(tmp_path / "dev"), "vi", split="dev")


def test_a_file_twice_is_refused_with_both_lines(tmp_path: Path) -> None:
    write_folder(tmp_path / "set", ["a.wav", "b.wav", "a.wav"])
    with pytest.raises(DataError, match=r"metadata\.csv:7: a\.wav is in line 3, too"):
        import_datasets(str(tmp_path / "set"), str(tmp_path / "x"), "vi")


def test_two_paths_of_one_name_get_ids_of_their_own(tmp_path: Path) -> None:
    write_folder(tmp_path / "set", ["a b.wav", "a_b.wav", "a/b.wav"])
    import_datasets(str(tmp_path / "set"), str(tmp_path / "x"), "vi")
    assert {id: text for id, (text, _) in pairs(tmp_path / "x").items()} == {
        "a_b": "text of a b.wav",
        "a_b_2": "text of a_b.wav",
        "a_b_3": "text of a/b.wav",
    }


def test_a_data_directory_that_no_import_made_is_not_replaced(tmp_path: Path) -> None:
    write_folder(tmp_path / "set", ["a.wav"])
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "wav.scp").write_text("mine /mine.wav\n")
    with pytest.raises(ConfigError, match="x holds another data directory; give each import"):
        import_datasets(str(tmp_path / "set"), str(tmp_path / "x"), "vi")
    assert (tmp_path / "x" / "wav.scp").read_text() == "mine /mine.wav\n"


def test_a_fifo_in_an_audio_folder_is_never_opened(tmp_path: Path) -> None:
    write_folder(tmp_path / "set", ["a.wav", "b.wav"])
    (tmp_path / "set" / "b.wav").unlink()
    os.mkfifo(tmp_path / "set" / "b.wav")
    import_datasets(str(tmp_path / "set"), str(tmp_path / "x"), "vi", max_skip_ratio=0.5)
    (skip,) = (json.loads(line) for line in (tmp_path / "x" / "skipped.jsonl").read_text().splitlines())
    assert skip["id"] == "b" and "is a FIFO" in skip["value"]
