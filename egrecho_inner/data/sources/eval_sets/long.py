"""The seven long test sets of published English tables: whole talks, shows, podcasts, calls and interviews.

One utterance each recording, decoded in several windows by `egrecho eval`. The parts of each set are those of the
evaluation of Whisper (Radford et al. 2022, appendix A.2; `data/README.md` of its repository).
"""

import json
import re
from pathlib import Path

from egrecho_inner.data.sources.eval_sets import clean
from egrecho_inner.data.sources.eval_sets.listing import AudioFiles, EvalSet, find_one, reader
from egrecho_inner.data.sources.eval_sets.tables import read_nlp, read_rows, read_stm, to_seconds
from egrecho_inner.errors import DataError

REV16 = (3, 4, 9, 10, 11, 14, 17, 18, 20, 21, 23, 24, 26, 27, 29, 32)
"""The episodes, of thirty, in which audio and transcript agree."""


@reader("tedlium-long", "TED-LIUM3", "TEDLIUM_release-3/legacy/test/{stm/*.stm,sph/*.sph}", long=True)
def read_tedlium_long(root: Path, found: EvalSet) -> None:
    """Join the scored segments of each talk; its audio is that from the first of them to the last."""
    folder = find_one(root, "test/stm")
    files = AudioFiles(folder.parent)
    for path in sorted(folder.glob("*.stm")):
        lines = sorted((line for line in read_stm(path) if not line.ignored), key=lambda line: line.start)
        if not lines:
            raise DataError(f"{path} has no segment to score")
        name, text = lines[0].name, clean.tedlium(" ".join(line.text for line in lines))
        place = {"start": lines[0].start, "end": max(line.end for line in lines), "speaker": lines[0].speaker}
        found.add(name, files.find(f"{name}.sph"), text, **place)


@reader("meanwhile", "Meanwhile", "meanwhile.json and the videos' audio, VIDEO_ID.*", long=True)
def read_meanwhile(root: Path, found: EvalSet) -> None:
    """Read the segments of the show by their times in the full video."""
    path = find_one(root, "meanwhile.json")
    files = AudioFiles(root)
    try:
        videos = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"{path} is not JSON ({error})") from error
    for name, each in videos.items():
        start, end = (to_seconds(each[key], f"{path}, {name}") for key in ("begin", "end"))
        found.add(name, files.find(name), each["text"], start=start, end=end)


@reader("rev16", "Rev16", "the podcasts' audio and transcripts, each named by its file number: 3.mp3, 3.txt", long=True)
def read_rev16(root: Path, found: EvalSet) -> None:
    """Read sixteen of the thirty episodes; of the others, audio and transcript do not agree."""
    files = AudioFiles(root)
    texts: dict[int, Path] = {}
    for path in sorted(root.rglob("*.txt")):
        if number := re.match(r"\d+", path.stem):
            texts[int(number[0])] = path
    for number in REV16:
        if number not in texts:
            raise DataError(f"{root}: no transcript of episode {number} ({number}.txt)")
        path = texts[number]
        found.add(f"rev16-{number:02d}", files.find(path.stem), path.read_text(encoding="utf-8-sig"))
    for number in sorted(texts.keys() - set(REV16)):
        found.exclude(f"rev16-{number:02d}", "audio and transcript do not agree")


@reader("kincaid46", "Kincaid46", "{text.csv,audio/00.m4a to 45.m4a}; the sixth column is the text", long=True)
def read_kincaid46(root: Path, found: EvalSet) -> None:
    """Read the recordings in the order of the table; their files are numbered from 0."""
    path = find_one(root, "text.csv")
    files = AudioFiles(path.parent / "audio")
    heads = [str(place) for place in range(6)]
    rows = list(read_rows(path, heads, ",", quoted=True, heads=heads))[1:]  # a line of titles first
    for number, row in enumerate(rows):
        found.add(f"kincaid46-{number:02d}", files.find(f"{number:02d}.m4a"), row.values["5"])


def read_earnings(root: Path, found: EvalSet, name: str) -> None:
    """Read the calls of Rev's repository: tokens one a line, with their punctuation."""
    references = find_one(root, f"{name}/transcripts/nlp_references" if root.name != name else "nlp_references")
    files = AudioFiles(references.parents[1] / "media")
    paths = sorted(references.glob("*.nlp"))
    if not paths:
        raise DataError(f"{references} holds no .nlp files")
    for path in paths:
        found.add(f"{name}-{path.stem}", files.find(f"{path.stem}.mp3"), read_nlp(path))


@reader("earnings21", "Earnings-21", "earnings21/{media/*.mp3,transcripts/nlp_references/*.nlp}", long=True)
def read_earnings21(root: Path, found: EvalSet) -> None:
    """Read Earnings-21, in full."""
    read_earnings(root, found, "earnings21")


@reader("earnings22", "Earnings-22", "earnings22/{media/*.mp3,transcripts/nlp_references/*.nlp}", long=True)
def read_earnings22(root: Path, found: EvalSet) -> None:
    """Read Earnings-22, in full."""
    read_earnings(root, found, "earnings22")


@reader("coraal-long", "CORAAL", "the interviews' *.wav and *.txt (Line Spkr StTime Content EnTime)", long=True)
def read_coraal_long(root: Path, found: EvalSet) -> None:
    """Join all lines of an interview, the interviewer's too: they are in its audio."""
    files = AudioFiles(root)
    for path in sorted(root.rglob("*_se?_ag?_?_*.txt")):
        rows = [row.values for row in read_rows(path, ["Spkr", "StTime", "Content", "EnTime"])]
        found.add(path.stem, files.find(f"{path.stem}.wav"), clean.coraal(" ".join(row["Content"] for row in rows)))
    if not found.utterances:
        raise DataError(f"{root} holds no interviews (ATL_se0_ag1_f_01_1.txt beside .wav)")
