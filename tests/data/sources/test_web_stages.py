"""Stage files of OLMoASR: read and written without losing a key, and their tags filtered by."""

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from egrecho_inner.errors import DataError
from egrecho_inner.export_web import export_web
from egrecho_inner.import_web import import_web
from egrecho_inner.runtime.ledger import read_ledger
from egrecho_inner.segment import segment
from egrecho_inner.tag import tag

DOCUMENT = {
    "subtitle_file": "shard_00000/abc/abc.vtt",
    "content": "WEBVTT\n\n00:00:00.000 --> 00:00:02.000\nHello there\n\n"
    "00:00:02.500 --> 00:00:04.000\nGood bye now\n\n",
    "length": 4.0,
    "audio_file": "abc.flac",
    "id": "abc",
    "mach_content": "WEBVTT\n\n00:00:00.000 --> 00:00:04.000\nhello there good bye cow\n\n",
    "casing": "mixed",
    "edit_dist": 0.2,
    "uploader": {"of": "nobody's business", "views": 3},
}
ODD = {
    **DOCUMENT,
    "id": "odd",
    "content": "WEBVTT\nKind: captions\n\n1\n00:00.000 --> 00:02.000 align:start\n<i>Hello</i>\n\n",
}
SEGMENT = {
    "subtitle_file": "shard_seg_00000/abc/00:00:26,000_00:00:44,000.vtt",
    "seg_content": "WEBVTT\n\n00:00:01.000 --> 00:00:02.000\nd\n\n00:00:02.000 --> 00:00:03.500\ne\n\n",
    "text_timestamp": "00:00:26,000_00:00:44,000",
    "audio_timestamp": "00:00:26,000_00:00:44,000",
    "norm_end": "00:00:03.500",
    "id": "abc",
    "seg_id": "abc_1",
    "audio_file": "abc_1.npy",
    "ts_mode": True,
    "no_ts_mode": True,
    "only_no_ts_mode": False,
    "num_tokens_no_ts_mode": 5,
    "num_tokens_ts_mode": 8,
    "seg_edit_dist": 0.25,
    "anything": [1, None],
}
SILENT = {**SEGMENT, "seg_id": "abc_2", "seg_content": "WEBVTT\n\n", "norm_end": 4000, "audio_file": "abc_2.npy"}


def write(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def rows_of(path: Path) -> list[dict[str, Any]]:
    with gzip.open(path, "rt") as lines:
        return [json.loads(line) for line in lines]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    wave = (1000 * np.random.default_rng(0).standard_normal(16000 * 5)).astype(np.int16)
    soundfile.write(tmp_path / "abc.flac", wave, 16000)
    for number in (1, 2):
        np.save(tmp_path / f"abc_{number}.npy", wave)
    return tmp_path


def test_documents_go_round_without_losing_a_key(place: Path) -> None:
    import_web(write(place / "in.jsonl", [DOCUMENT, ODD]), str(place / "docs.jsonl.gz"))
    export_web(str(place / "docs.jsonl.gz"), str(place / "out.jsonl.gz"))
    assert rows_of(place / "out.jsonl.gz") == [DOCUMENT, ODD]
    assert [list(row) for row in rows_of(place / "out.jsonl.gz")] == [list(DOCUMENT), list(ODD)]
    kept = rows_of(place / "docs.jsonl.gz")[0]
    assert kept["custom"]["document"] == {"casing": "mixed", "edit_distance": 0.2}
    assert kept["supervisions"][0]["custom"]["stage"]["content"] is None  # written anew from the cues


def test_their_machine_captions_give_the_edit_distance(place: Path) -> None:
    import_web(write(place / "in.jsonl", [DOCUMENT]), str(place / "docs.jsonl.gz"))
    tag(str(place / "docs.jsonl.gz"), str(place / "tagged.jsonl.gz"), ["edit_distance", "casing"])
    export_web(str(place / "tagged.jsonl.gz"), str(place / "out.jsonl.gz"))
    assert rows_of(place / "out.jsonl.gz") == [{**DOCUMENT, "edit_dist": 0.2}]  # 1 of 5 words


def test_segments_go_round_without_losing_a_key(place: Path) -> None:
    import_web(write(place / "in.jsonl", [SEGMENT, SILENT]), str(place / "windows.jsonl.gz"))
    export_web(str(place / "windows.jsonl.gz"), str(place / "out.jsonl.gz"))
    assert rows_of(place / "out.jsonl.gz") == [SEGMENT, SILENT]
    one, silent = rows_of(place / "windows.jsonl.gz")
    supervision = one["supervisions"][0]
    assert (one["duration"], supervision["text"]) == (3.5, "d e")
    assert supervision["custom"]["segments"] == [[1.0, 2.0, "d"], [2.0, 3.5, "e"]]
    assert supervision["custom"]["tags"] == {"edit_distance": 0.25}
    assert (silent["duration"], silent["supervisions"][0]["text"]) == (4.0, "")


def test_our_windows_get_their_thirteen_keys(place: Path) -> None:
    from tiny import save_tiny

    import_web(write(place / "in.jsonl", [DOCUMENT]), str(place / "docs.jsonl.gz"))
    segment(str(place / "docs.jsonl.gz"), str(place / "windows.jsonl.gz"), max_seconds=3)
    with pytest.raises(DataError, match="--tokenizer"):
        export_web(str(place / "windows.jsonl.gz"), str(place / "out.jsonl.gz"))
    export_web(str(place / "windows.jsonl.gz"), str(place / "out.jsonl.gz"), str(save_tiny(place / "model")))
    one, other = rows_of(place / "out.jsonl.gz")
    assert list(one)[:13] == list(SEGMENT)[:13]
    assert (one["seg_id"], one["audio_timestamp"], one["norm_end"]) == (
        "abc_0",
        "00:00:00,000_00:00:02,000",
        "00:00:02.000",
    )
    # bytes are tokens here: " Hello there" and " Good bye now"; one more for norm_end where a segment is not the last
    assert (one["num_tokens_no_ts_mode"], one["num_tokens_ts_mode"]) == (12 + 3, 12 + 5)
    assert (other["num_tokens_no_ts_mode"], other["num_tokens_ts_mode"]) == (13 + 3, 13 + 4)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"content": "WEBVTT\n\n00:00:xx --> 1\nhi\n"}, "captions do not parse"),
        ({"content": 5}, "captions do not parse"),
        ({"audio_file": "gone.flac"}, "recording is missing or empty"),
    ],
)
def test_a_bad_line_is_in_the_ledger(place: Path, change: dict[str, Any], reason: str) -> None:
    rows = [DOCUMENT, {**DOCUMENT, "id": "bad", **change}]
    import_web(write(place / "in.jsonl", rows), str(place / "docs.jsonl.gz"))
    assert [(skip.id, skip.reason) for skip in read_ledger(place / "skipped.jsonl")] == [("bad", reason)]
