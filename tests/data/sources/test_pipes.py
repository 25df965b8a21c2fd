"""Commands of wav.scp: known forms pass, whatever could write, connect or start something else does not."""

import contextlib
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from egrecho_inner.data.sources.pipes import FLAGS, PROGRAMS, VALUES, parse_pipe
from egrecho_inner.errors import DataError


@pytest.mark.parametrize(
    "command",
    [
        "sph2pipe -f wav -p -c 1 a.sph |",
        "flac -c -d -s a.sph |",
        "flac -dcs a.sph|",
        "sox a.sph -t wav - |",
        "sox -t sph a.sph -r 16000 -b 16 -c 1 -t wav - remix 1,2 rate 16k gain -n -3 |",
        "sox -V1 'a.sph' -t wav -|",
        "ffmpeg -i a.sph -f wav -ar 16000 -ac 1 - |",
        "ffmpeg -v quiet -ss 1.5 -i a.sph -vn -c:a pcm_s16le -f wav pipe:1 |",
    ],
)
def test_forms_that_corpora_use_are_read(tmp_path: Path, command: str) -> None:
    (tmp_path / "a.sph").touch()
    words = parse_pipe(command, [tmp_path])
    assert str(tmp_path / "a.sph") in words and "|" not in words


@pytest.mark.parametrize(
    "command",
    [
        "touch PWNED; cat a.wav |",
        "cat a.wav |",
        "/tmp/evil/sox a.wav -t wav - |",
        "sox a.wav -t wav - | tee b |",
        "sox a.wav -t wav - ; touch b |",
        "sox a.wav -t wav b.wav |",
        "sox a.wav b.wav -t wav - |",
        "sox '|touch b' -t wav - |",
        "sox -n -t wav - synth 3 |",
        "sox a.wav -t wav - output b.wav |",
        "sox list.m3u -t wav - |",
        "sox $(touch b) -t wav - |",
        "sox a.wav -t wav - 'gain `touch b`' |",
        "flac -c -d -s a.wav b.wav |",
        "flac -d -f a.wav |",
        "flac -c -d -o b.wav a.wav |",
        "flac -c -d -s --until=../b a.wav |",
        "sph2pipe -f wav a.wav b.wav |",
        "sph2pipe -h b a.wav |",
        "ffmpeg -i a.wav b.wav -f wav - |",
        "ffmpeg -i a.wav -f wav b.wav |",
        "ffmpeg -f lavfi -i a.wav -f wav - |",
        "ffmpeg -i http://host/a.wav -f wav - |",
        "ffmpeg -i concat:a.wav -f wav - |",
        "ffmpeg -i a.wav -i a.wav -f wav - |",
        "ffmpeg -report -i a.wav -f wav - |",
        "ffmpeg -i a.wav -filter_complex_script b -f wav - |",
        "ffmpeg -i a.wav -map ../b -f wav - |",
        "ffmpeg -i |",
        "ffmpeg -f |",
        "ffmpeg -i a.wav -f |",
        "ffmpeg -f wav - -i |",
        "sox -t |",
        "sox - |",
        "flac 'a.wav |",
        "|",
        "",
    ],
)
def test_everything_else_is_refused(tmp_path: Path, command: str) -> None:
    for name in ("a.wav", "list.m3u"):
        (tmp_path / name).touch()
    with pytest.raises(DataError):
        parse_pipe(command, [tmp_path])
    assert not (tmp_path / "b").exists()


WORDS = sorted({*PROGRAMS, *(word for table in (FLAGS, VALUES) for words in table.values() for word in words)})


@given(st.lists(st.sampled_from([*WORDS, "-", "wav", "a.wav", "/dev/null", "pipe:1", "remix", "1,2", "", "'"])))
def test_no_words_raise_anything_but_a_fault_of_the_data(words: list[str]) -> None:
    for program in PROGRAMS:
        with contextlib.suppress(DataError):
            parse_pipe(" ".join([program, *words, "|"]), [Path("/")])


def test_the_input_is_a_regular_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.sph")
    with pytest.raises(DataError, match=r"a\.sph is no regular file"):
        parse_pipe("sph2pipe -f wav a.sph |", [tmp_path])
