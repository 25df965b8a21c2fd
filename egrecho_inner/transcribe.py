#!/usr/bin/env python3
"""`egrecho transcribe`: recordings of any length in, text and subtitles out.

    egrecho transcribe talk.m4a --model exp/mine/full/final --formats srt
    egrecho transcribe recordings/ --model openai/whisper-small --out texts --formats '[txt, json]'
    curl -s https://example.org/talk.mp3 | egrecho transcribe - --model exp/mine/full/final > talk.txt

In: audio files, folders, or - for standard input, whose text goes to standard output. Out: NAME.txt, .srt, .vtt, .tsv,
.json in `out`. A file that does not read is named and passed over; the exit code is then 3.
"""

from __future__ import annotations

import logging
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from egrecho_inner.config import run
from egrecho_inner.config_types import ClosedUnitInterval
from egrecho_inner.decoding.options import DecodeOptions
from egrecho_inner.errors import ConfigError, DataError
from egrecho_inner.runtime.files import write_text
from egrecho_inner.runtime.progress import bar
from egrecho_inner.text.transcripts import Format

if TYPE_CHECKING:
    from lhotse import MonoCut

    from egrecho_inner.data.sources.recordings import AudioFile
    from egrecho_inner.decoding.transcribe import Transcriber
    from egrecho_inner.text.transcripts import TimedTranscript

logger = logging.getLogger(__name__)

WHISPERS_TEMPERATURES = [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
LOG_EVERY = 30.0  # seconds between two lines where nobody watches a bar


def transcribe(
    files: list[str],
    model: str,
    out: str = ".",
    formats: list[Format] | Format = "txt",
    word_times: bool | None = None,
    fallback: bool = True,
    no_speech: ClosedUnitInterval | None = 0.6,
    decode: DecodeOptions = DecodeOptions(),
    device: str = "auto",
    dtype: Literal["auto", "float32", "float16", "bfloat16"] = "auto",
) -> None:
    """Transcribe recordings of any length to text and subtitles.

    Args:
        files: Audio files or folders; - reads standard input and writes to standard output.
        model: Model folder or hub id. An adapter is to be merged first (egrecho merge-lora-whisper).
        out: Folder of the results.
        formats: Any of txt, srt, vtt, tsv, json.
        word_times: Find when each word was spoken; by default where subtitles are written and the model gives no
            timestamps, which would make a subtitle of each part.
        fallback: Decode unlikely and repeating text again at Whisper's rising temperatures; decode.temperatures if
            those are given.
        no_speech: Take an unlikely text for silence where <|nospeech|> is likelier than this; null keeps every text.
            decode.no_speech_threshold wins.
        decode: How to search.
        device: cpu, cuda, cuda:1, ...; auto is a GPU where there is one.
        dtype: Type of the weights; auto is float16 on a GPU, float32 elsewhere.
    """
    from egrecho_inner.data.sources.recordings import STDIN, find_sources
    from egrecho_inner.decoding.resumable import choose_place

    wanted = [formats] if isinstance(formats, str) else list(dict.fromkeys(formats))
    if not wanted:
        raise ConfigError("formats is empty; expected some of txt, srt, vtt, tsv, json")
    from_stdin = list(files) == [STDIN]
    if from_stdin and len(wanted) > 1:
        raise ConfigError("standard output takes one format; give one to --formats, or name files")
    sources = find_sources(files)
    options = with_defaults(decode, fallback, no_speech)
    with tempfile.TemporaryDirectory(prefix="egrecho-") as scratch:
        cuts, failed = open_all(sources, Path(scratch), from_stdin)
        if cuts:
            transcriber = load(model, options, choose_place(device, dtype))
            if word_times is None:
                word_times = bool({"srt", "vtt"} & set(wanted)) and not gives_timestamps(transcriber)
            for number, transcript in transcripts(transcriber, cuts, word_times):
                write(transcript, None if from_stdin else Path(out, sources[number].name), wanted)
    if failed:
        raise DataError(f"{len(failed)} of {len(sources)} recordings could not be read; first: {failed[0]}")


transcribe.positional = ["files"]


def with_defaults(decode: DecodeOptions, fallback: bool, no_speech: float | None) -> DecodeOptions:
    """Return the options with Whisper's temperatures and threshold where nothing else is asked for."""
    engine = decode.backend.startswith("ctranslate2")
    if fallback and not engine and list(decode.temperatures) == [0.0]:
        decode = replace(decode, temperatures=WHISPERS_TEMPERATURES)
    return decode if decode.no_speech_threshold is not None else replace(decode, no_speech_threshold=no_speech)


def open_all(sources: Sequence[AudioFile], scratch: Path, from_stdin: bool) -> tuple[list[MonoCut], list[str]]:
    """Open every recording; return the cuts, and what was wrong with the others."""
    from egrecho_inner.data.sources.recordings import open_recording, save_stdin

    cuts, failed = [], []
    for number, source in enumerate(sources):
        if from_stdin:
            source = replace(source, path=save_stdin(scratch))
        try:
            cuts.append(open_recording(source, number, scratch))
        except DataError as error:
            logger.warning("left out: %s", error)
            failed.append(str(error))
    return cuts, failed


def load(model: str, options: DecodeOptions, place: object) -> Transcriber:
    """Load a model, ready to transcribe."""
    from egrecho_inner.decoding.resumable import Decoder

    return Decoder(model, options, place).transcriber


def gives_timestamps(transcriber: Transcriber) -> bool:
    """Tell whether the text comes with the times of its passages."""
    return transcriber.follower is not None or transcriber.options.timestamps


def transcripts(
    transcriber: Transcriber, cuts: Sequence[MonoCut], with_words: bool
) -> Iterator[tuple[int, TimedTranscript]]:
    """Yield the number and the transcript of each recording, as they are finished."""
    from egrecho_inner.decoding.passages import transcript_of

    total = sum(cut.duration for cut in cuts)
    begin = time.perf_counter()
    with progress(total) as advance:
        transcriber.advance = advance
        for position, windows in transcriber.windows(cuts):
            yield int(cuts[position].id), transcript_of(transcriber, windows, cuts[position].duration, with_words)
    wall = time.perf_counter() - begin
    logger.info("%d recordings, %.1f min of audio in %.1f s, RTFx %.1f", len(cuts), total / 60, wall, total / wall)


@contextmanager
def progress(total: float) -> Iterator[object]:
    """Show how much of the audio is done: a bar with the time left on a terminal, a line at times elsewhere."""
    if not sys.stderr.isatty():
        done, last = 0.0, time.monotonic()

        def advance(seconds: float) -> None:
            nonlocal done, last
            done += seconds
            if time.monotonic() - last > LOG_EVERY:
                last = time.monotonic()
                logger.info("%.0f of %.0f s of audio", done, total)

        yield advance
        return
    with bar("s of audio") as shown:
        task = shown.add_task("transcribing", total=total)
        yield lambda seconds: shown.advance(task, seconds)


def write(transcript: TimedTranscript, name: Path | None, formats: Sequence[Format]) -> None:
    """Write a transcript, to standard output where there is no name."""
    from egrecho_inner.text.transcripts import WRITERS

    for form in formats:
        content = WRITERS[form](transcript)
        if name is None:
            sys.stdout.write(content)
            continue
        path = name.with_name(f"{name.name}.{form}")
        write_text(path, content)
        logger.info("%s: %.0f s, %d words", path, transcript.duration, len(transcript.text.split()))


if __name__ == "__main__":
    run(transcribe)
