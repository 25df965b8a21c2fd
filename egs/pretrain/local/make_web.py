#!/usr/bin/env python3
"""Make a small web whose truth is known: recordings with captions, most of them right, the rest wrong in ten ways.

    make_web.py --out data/web --test data/web_eval/test/text

writes OUT/shard_0000N/ID/{audio_ID.ext, transcript_ID.ext} and OUT/truth.jsonl: for each document what is wrong with
it, what is spoken when, and in which language. Recordings are eSpeak voices that speak sentences and digit strings
with pauses; `KINDS` has the kinds of badness and their shares. Captions come in seven formats, recordings in five
containers. With `--languages true` all of it is right, in four languages by turns: for a model that tells them apart.

The same arguments give the same web, with any number of jobs: eSpeak's state leaks from one utterance to the next, so
work is cut into shards of fixed content and each runs in a process of its own.
"""

import hashlib
import json
import multiprocessing
import random
import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import soundfile

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "mini" / "local"))

import foreign
from acoustics import SAMPLING_RATE, record
from captions import FORMATS
from espeak import synthesize
from make_corpus import SOURCE_ACCENTS, SOURCE_VARIANTS
from sentences import draw

from egrecho_inner.config import run
from egrecho_inner.config_types import PositiveInt, Seed
from egrecho_inner.errors import DataError

SHARD_SIZE = 10  # documents
DIGITS = 0.7
LEAK_WORDS = 7
"""Words of the test sentences that leak; shorter ones may be anybody's."""
KINDS = {
    "foreign audio": 8,
    "foreign captions": 8,
    "upper case": 6,
    "roll-up": 6,
    "shifted": 8,
    "other document": 6,
    "words dropped": 4,
    "near-duplicate": 4,
    "labels": 4,
    "leak": 2,
    "clean": 44,
}
"""Kinds of documents and their shares in percent."""
CONTAINERS = (("flac", 45), ("wav", 10), ("mp3", 20), ("opus", 10), ("m4a", 15))
Utterance = tuple[float, float, str]


@dataclass(frozen=True)
class Document:
    """What is known of a document before anything is spoken."""

    id: str
    kind: str
    seconds: float
    format: str
    container: str
    audio_language: str = "en"
    text_language: str = "en"
    copy_of: str = ""
    """Id of the document that a near-duplicate is of."""


def make_web(
    out: str,
    test: str,
    documents: PositiveInt = 300,
    seconds: list[float] | None = None,
    languages: bool = False,
    seed: Seed = 1,
    jobs: int = 2,
) -> None:
    """Make a web of known truth.

    Args:
        out: Folder to make; a finished one with the same arguments is left alone.
        test: Kaldi `text` file of a test set, of which some sentences leak into the web.
        documents: How many.
        seconds: Shortest and longest of them, [25, 55] by default.
        languages: Make clean documents only, in English, German, French and Spanish.
        seed: Another seed, another web.
        jobs: Processes; the result does not depend on it.
    """
    folder = Path(out)
    low, high = seconds or [25.0, 55.0]
    lines = Path(test).read_text(encoding="utf-8").splitlines()
    leaks = [text for _, _, text in (line.partition(" ") for line in lines) if len(text.split()) >= LEAK_WORDS]
    if not leaks:
        raise DataError(f"{test}: no sentence of {LEAK_WORDS} words that could leak")
    wanted = json.dumps([documents, low, high, languages, seed, sorted(leaks)])
    marker = folder / "_COMPLETE"
    if marker.is_file() and marker.read_text() == wanted:
        print(f"{out}: finished before, nothing to do")
        return
    plans = plan(documents, low, high, random.Random(seed))
    if languages:
        plans = [clean_in(("en", "de", "fr", "es")[number % 4], each) for number, each in enumerate(plans)]
    shards = [plans[first : first + SHARD_SIZE] for first in range(0, len(plans), SHARD_SIZE)]
    spawn = multiprocessing.get_context("spawn")  # a fresh process for each shard: eSpeak has a memory
    with ProcessPoolExecutor(jobs, mp_context=spawn, max_tasks_per_child=1) as pool:
        made = partial(make_shard, folder, seed, {each.id: each for each in plans}, leaks)
        truth = [row for rows in pool.map(made, range(len(shards)), shards) for row in rows]
    (folder / "truth.jsonl").write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in truth))
    if not languages:
        break_some(folder)
    marker.write_text(wanted)
    hours = sum(row["seconds"] for row in truth) / 3600
    print(f"{out}: {len(truth)} documents, {hours:.2f} h")


def plan(count: int, low: float, high: float, rng: random.Random) -> list[Document]:
    """Decide what each document is; the shares are kept exactly, as far as whole documents go."""
    kinds = [kind for kind, share in KINDS.items() for _ in range(round(count * share / 100))]
    kinds = (kinds + ["clean"] * count)[:count]
    rng.shuffle(kinds)
    timed = [name for name in FORMATS if name != "txt"]
    found = []
    for number, kind in enumerate(kinds):
        container = rng.choices(*zip(*CONTAINERS, strict=True))[0]
        other = rng.choice(("de", "fr", "es"))
        made = Document(f"d{number:04d}", kind, rng.uniform(low, high), timed[number % len(timed)], container)
        if kind == "foreign audio":
            made = replace(made, audio_language=other)
        if kind == "foreign captions":
            made = replace(made, text_language=other)
        if kind == "clean" and number % 50 == 7:
            made = replace(made, seconds=4.0, format="txt")
        found.append(made)
    originals = [each.id for each in found if each.kind == "clean" and each.format != "txt"]
    rng.shuffle(originals)
    return [replace(each, copy_of=originals.pop()) if each.kind == "near-duplicate" else each for each in found]


def clean_in(language: str, document: Document) -> Document:
    """Return a document of which all is right, in a language."""
    return Document(document.id, "clean", document.seconds, "vtt", "flac", language, language)


def make_shard(
    folder: Path, seed: int, plans: dict[str, Document], leaks: list[str], number: int, documents: list[Document]
) -> list[dict]:
    """Speak and caption the documents of a shard; return their truth."""
    return [make_document(folder / f"shard_{number:05d}" / each.id, seed, plans, leaks, each) for each in documents]


def make_document(folder: Path, seed: int, plans: dict[str, Document], leaks: list[str], document: Document) -> dict:
    """Speak and caption one document; everything about it follows from the seed and its plan."""
    rng = random.Random(hashlib.sha256(f"{seed} {document.id} voice".encode()).digest())
    texts = texts_of(seed, plans.get(document.copy_of, document), leaks)
    if document.copy_of:
        texts = [alter(text, rng) for text in texts]
    wave, spoken = speak(texts, document, rng)
    cues = caption(spoken, document, rng)
    folder.mkdir(parents=True, exist_ok=True)
    write_audio(folder / f"audio_{document.id}.{document.container}", wave)
    path = folder / f"transcript_{document.id}.{document.format}"
    path.write_text(FORMATS[document.format](cues), encoding="utf-8")
    return {**asdict(document), "seconds": len(wave) / SAMPLING_RATE, "spoken": spoken}


def texts_of(seed: int, document: Document, leaks: list[str]) -> list[str]:
    """Draw what is spoken in a document, about 3 s an utterance with its pause; of a test set in one that leaks."""
    rng = random.Random(hashlib.sha256(f"{seed} {document.id} texts".encode()).digest())
    count = max(1, round(document.seconds / 3.3))
    if document.audio_language != "en":
        return [foreign.draw(rng, document.audio_language, DIGITS / 2) for _ in range(count)]
    texts = [draw(rng, "train", DIGITS) for _ in range(count)]
    if document.kind == "leak":
        for place in rng.sample(range(count), max(1, count // 3)):
            texts[place] = rng.choice(leaks)
    return texts


def alter(text: str, rng: random.Random) -> str:
    """Change three words of two hundred, as another version of a text does."""
    words = [rng.choice(("well", "then", "also")) if rng.random() < 0.015 else word for word in text.split()]
    return " ".join(words)


def speak(texts: list[str], document: Document, rng: random.Random) -> tuple[np.ndarray, list[Utterance]]:
    """Speak texts one after the other with pauses, now and then a long one; return the wave and who said what when."""
    accents = SOURCE_ACCENTS if document.audio_language == "en" else (document.audio_language,)
    voice = f"{rng.choice(accents)}+{rng.choice(SOURCE_VARIANTS)}"
    rate, pitch = rng.randint(130, 220), rng.randint(20, 80)
    noise = np.random.default_rng(rng.getrandbits(32))
    pieces, spoken, now = [], [], 0.0
    for text in texts:
        long = rng.random()
        pause = rng.uniform(31, 40) if long < 0.002 else rng.uniform(8, 15) if long < 0.012 else rng.uniform(0.3, 1.6)
        pause = pause if now else 0.3
        pieces.append(noise.normal(0, 8, int(pause * SAMPLING_RATE)).astype(np.int16))
        wave = record(*synthesize(text, voice, rate, pitch), "clean", noise)
        start = now + len(pieces[-1]) / SAMPLING_RATE
        now = start + len(wave) / SAMPLING_RATE
        spoken.append((round(start, 3), round(now, 3), text))
        pieces.append(wave)
    return np.concatenate([*pieces, noise.normal(0, 8, SAMPLING_RATE // 2).astype(np.int16)]), spoken


def caption(spoken: list[Utterance], document: Document, rng: random.Random) -> list[Utterance]:
    """Return the captions of a document: what is spoken, or what its kind makes of that."""
    kind = document.kind
    if kind == "upper case":
        return [(a, b, text.upper()) for a, b, text in spoken]
    if kind == "shifted":
        shift = rng.uniform(2, 6)
        return [(a + shift, b + shift, text) for a, b, text in spoken]
    if kind in ("other document", "foreign audio"):
        return [(a, b, draw(rng, "train", DIGITS)) for a, b, _ in spoken]
    if kind == "foreign captions":
        return [(a, b, foreign.draw(rng, document.text_language, DIGITS / 2)) for a, b, _ in spoken]
    if kind == "words dropped":
        left = [(a, b, " ".join(word for word in text.split() if rng.random() > 0.45)) for a, b, text in spoken]
        return [each for each in left if each[2]]
    if kind == "labels":
        names = ("JOHN: {}", "Mary Smith: {}", ">> {}", "[Music] {}", "♪ {} ♪", "{} (laughs)")
        return [(a, b, rng.choice(names).format(text)) for a, b, text in spoken]
    if kind == "roll-up":
        return roll_up(spoken)
    return list(spoken)


def roll_up(spoken: list[Utterance]) -> list[Utterance]:
    """Scroll as live captions do: each cue shows the line before it, too, and lasts until the next line comes."""
    cues = []
    for place, (start, end, text) in enumerate(spoken):
        before = f"{spoken[place - 1][2]}\n" if place else ""
        until = spoken[place + 1][0] if place + 1 < len(spoken) else end
        cues.append((start, min(until, end + 0.4), before + text))
    return cues


def write_audio(path: Path, wave: np.ndarray) -> None:
    """Write a recording in the container that its name says."""
    if path.suffix == ".m4a":
        write_aac(path, wave)
    elif path.suffix == ".opus":
        soundfile.write(path, wave, SAMPLING_RATE, format="OGG", subtype="OPUS")
    else:
        soundfile.write(path, wave, SAMPLING_RATE)


def write_aac(path: Path, wave: np.ndarray) -> None:
    """Write AAC in MP4 with PyAV, of the extra `web`."""
    import av

    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream("aac", rate=SAMPLING_RATE, layout="mono")
        for first in range(0, len(wave), 1024):
            frame = av.AudioFrame.from_ndarray(wave[None, first : first + 1024], format="s16", layout="mono")
            frame.sample_rate, frame.pts = SAMPLING_RATE, first
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def break_some(folder: Path) -> None:
    """Add what no web is without: no captions, empty captions, a recording that was cut off, a page in its place."""
    broken = folder / "shard_99999"
    for name in ("alone", "empty", "torn", "page"):
        (broken / name).mkdir(parents=True, exist_ok=True)
        soundfile.write(broken / name / f"audio_{name}.flac", np.zeros(SAMPLING_RATE * 5, np.int16), SAMPLING_RATE)
        if name != "alone":
            text = "" if name == "empty" else FORMATS["vtt"]([(0.0, 4.0, "one two three")])
            (broken / name / f"transcript_{name}.vtt").write_text(text)
    torn = broken / "torn" / "audio_torn.flac"
    torn.write_bytes(torn.read_bytes()[:60])
    (broken / "page" / "audio_page.flac").write_text("<!doctype html><title>404</title>")


if __name__ == "__main__":
    run(make_web)
