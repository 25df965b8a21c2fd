"""What the speed benchmarks share: utterances, a model with random weights of a named size, and interleaved timing.

No benchmark downloads anything, and speed does not depend on the weights' values. The tokenizer learns its entries from
the utterances' own texts and is filled up to 50,257 of them, so that every special token has the id it has in the
published models.
"""

import argparse
import importlib.metadata
import json
import logging
import math
import os
import platform
import statistics
import time
import warnings
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
from lhotse import CutSet, MonoCut, Recording, SupervisionSegment
from lhotse.cut import Cut
from tabulate import tabulate
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import WhisperFeatureExtractor, WhisperProcessor, WhisperTokenizer
from transformers.models.whisper.tokenization_whisper import LANGUAGES
from transformers.utils import logging as transformers_logging

from egrecho_inner.data.cuts.index import CutIndex
from egrecho_inner.model.loading import random_model, save_folder
from egrecho_inner.model.options import SIZES
from egrecho_inner.model.whisper import Whisper, freeze_sinusoids
from egrecho_inner.training.guards.memory import OutOfMemory

ENTRIES = 50257  # of the published multilingual models
END = "<|endoftext|>"
WORDS = ("the", "speech", "of", "many", "people", "was", "kept", "in", "long", "rows", "until", "somebody", "came")
CLOCKS: dict[str, Callable[[], float]] = {"wall": time.perf_counter, "cpu": time.process_time}
CONTROLS = ("translate", "transcribe", "startoflm", "startofprev", "nospeech", "notimestamps")


def quiet() -> None:
    """Leave the table alone on the screen."""
    logging.disable(logging.WARNING)
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    warnings.simplefilter("ignore")
    os.environ["TOKENIZERS_PARALLELISM"] = "false"


def read_cuts(source: str, manifest: Path, limit: int) -> list[Cut]:
    """Take the first cuts of a manifest or of a Kaldi directory and write them as a manifest.

    Args:
        source: `.jsonl`, `.jsonl.gz`, or a directory with wav.scp, text and utt2lang, one utterance per file.
        manifest: To write.
        limit: Cuts to take.
    """
    cuts = [cut for cut, _ in zip(CutIndex(source), range(limit))] if Path(source).is_file() else kaldi(source, limit)  # noqa: B905
    CutSet.from_cuts(cuts).to_file(manifest)
    return cuts


def made_cuts(folder: Path, n: int, mean: float = 8.0) -> Path:
    """Write utterances of noise with the lengths and as many words as speech has, where no corpus is at hand.

    Args:
        folder: Gets `wav/` and the manifest.
        n: Utterances.
        mean: Seconds; the lengths are log-normal between 1 and 25 s.

    Returns:
        The manifest.
    """
    rng = np.random.default_rng(0)
    cuts: list[Cut] = []
    (folder / "wav").mkdir(parents=True)
    for number in range(n):
        seconds = round(float(np.clip(rng.lognormal(np.log(mean) - 0.15, 0.55), 1.0, 25.0)), 2)
        path, name = folder / "wav" / f"{number:05d}.wav", f"{number:05d}"
        soundfile.write(path, (0.05 * rng.standard_normal(round(seconds * 16000))).astype(np.float32), 16000)
        words = " ".join(rng.choice(WORDS, size=round(2.5 * seconds)))
        recording = Recording.from_file(path, recording_id=name)
        spoken = SupervisionSegment(name, name, 0.0, recording.duration, text=words, language="en")
        cuts.append(MonoCut(name, 0.0, recording.duration, 0, [spoken], recording=recording))
    CutSet.from_cuts(cuts).to_file(folder / "cuts.jsonl")
    return folder / "cuts.jsonl"


def kaldi(folder: str, limit: int) -> list[Cut]:
    """Make cuts of a Kaldi directory."""
    wavs, texts, languages = (table(Path(folder, name)) for name in ("wav.scp", "text", "utt2lang"))
    cuts: list[Cut] = []
    for name in sorted(wavs.keys() & texts.keys())[:limit]:
        recording = Recording.from_file(wavs[name], recording_id=name)
        said = SupervisionSegment(name, name, 0.0, recording.duration, text=texts[name], language=languages[name])
        cuts.append(MonoCut(name, 0.0, recording.duration, 0, [said], recording=recording))
    return cuts


def table(path: Path) -> dict[str, str]:
    """Read a Kaldi table."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return dict(line.strip().split(maxsplit=1) for line in lines if len(line.split()) > 1)


def make_processor(cuts: Sequence[Cut], n_mels: int = 80) -> WhisperProcessor:
    """Make a processor for the cuts' texts with the published models' ids."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(vocab_size=4000, initial_alphabet=alphabet, show_progress=False)
    bpe.train_from_iterator((cut.supervisions[0].text for cut in cuts), trainer)
    learned = json.loads(bpe.to_str())["model"]
    vocab: dict[str, int] = dict(learned["vocab"])
    for number in range(len(vocab), ENTRIES - 1):
        vocab[f"<unused{number}>"] = number
    vocab[""] = ENTRIES - 1  # CTranslate2 takes a vocabulary without it for an English-only model
    tokenizer = WhisperTokenizer(
        vocab=vocab, merges=[tuple(m) for m in learned["merges"]], pad_token=END, bos_token=END, unk_token=END
    )
    names = ["startoftranscript", *list(LANGUAGES)[:99], *CONTROLS]  # large-v3 has a hundredth language
    tokenizer.add_special_tokens({"extra_special_tokens": [f"<|{name}|>" for name in names]})
    tokenizer.add_tokens([f"<|{step * 0.02:.2f}|>" for step in range(1501)])
    return WhisperProcessor(WhisperFeatureExtractor(feature_size=n_mels), tokenizer)


def random_whisper(processor: WhisperProcessor, size: str = "tiny") -> Whisper:
    """Make a Whisper of a named size with random weights."""
    model = random_model(size, processor)
    freeze_sinusoids(model)
    return model.eval()


def model_folder(folder: Path, cuts: Sequence[Cut], size: str) -> Path:
    """Return the folder of a random model of a named size below a folder, made where it is not there yet."""
    place = folder / size
    if not place.is_dir():
        processor = make_processor(cuts, SIZES[size][-1])
        save_folder(random_whisper(processor, size), processor, place, "longest")
    return place


def add_clock(parser: argparse.ArgumentParser) -> None:
    """Let the user choose the clock."""
    parser.add_argument(
        "--clock",
        choices=list(CLOCKS),
        default="wall",
        help="cpu counts this process's own seconds: for a machine that others use, with --threads 1",
    )


def interleave(ways: dict[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """Run every way once per round, so that what else the machine does falls on all of them.

    Args:
        ways: From a name to a run that returns audio seconds per second.
        rounds: Times each is run.

    Returns:
        The speeds by name; NaN where the memory of a GPU did not suffice.
    """
    speeds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, run in ways.items():
            try:
                speeds[name].append(run())
            except (torch.OutOfMemoryError, OutOfMemory):
                speeds[name].append(math.nan)
    return speeds


def show(
    title: str,
    speeds: dict[str, list[float]],
    peer: str,
    *extra: tuple[str, dict[str, str]],
    unit: str = "audio s/s",
) -> None:
    """Print a table of ratios to the peer: median over the rounds, lowest and highest.

    Args:
        title: Line above.
        speeds: In `unit`, by name and round.
        peer: The name that is 1; without it the ratios are left out.
        *extra: Further columns: heading, and text by name.
        unit: Of the speeds.
    """
    rows = []
    for name, values in speeds.items():
        ratios = sorted(value / other for value, other in zip(values, speeds.get(peer, ()), strict=False))
        spread = f"{ratios[0]:.1f} to {ratios[-1]:.1f}" if ratios else ""
        times = f"{statistics.median(ratios):.1f}" if ratios else ""
        more = [column.get(name, "") for _, column in extra]
        rows.append([name, times, spread, f"{statistics.median(values):.1f}", *more])
    headers = ["", "times the peer", "lowest, highest", unit, *(heading for heading, _ in extra)]
    print(f"\n{title}\n")
    print(tabulate(rows, headers=headers, tablefmt="github", disable_numparse=True))


def write_rows(path: str | None, rows: Iterable[dict[str, Any]]) -> None:
    """Append rows to a file of JSON lines, for `gpu.py`; nothing without a path."""
    if path:
        with open(path, "a", encoding="utf-8") as out:
            out.writelines(json.dumps(row) + "\n" for row in rows)


def machine(*packages: str) -> str:
    """Name what the numbers were measured on."""
    versions = []
    for name in ("torch", "transformers", "lhotse", *packages):
        try:
            versions.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            versions.append(f"{name} not installed")
    if torch.cuda.is_available():
        versions.append(torch.cuda.get_device_name())
    cores = f"{torch.get_num_threads()} threads on {os.cpu_count()} cores ({processor_name()})"
    return f"Python {platform.python_version()}, {', '.join(versions)}, {cores}"


def processor_name() -> str:
    """Return the CPU's model."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.machine()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())
