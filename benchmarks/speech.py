"""What the speed benchmarks share: real utterances, a model of Whisper tiny's dimensions, and interleaved timing.

The model has tiny's dimensions, its vocabulary of 51,865 and random weights: no benchmark downloads anything, and speed
does not depend on what the weights say. The tokenizer learns its entries from the utterances' own texts and is filled
up to 50,257 of them, so that every special token has the id it has in the published models.
"""

import argparse
import importlib.metadata
import json
import logging
import os
import platform
import statistics
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from lhotse import CutSet, MonoCut, Recording, SupervisionSegment
from lhotse.cut import Cut
from tabulate import tabulate
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import WhisperFeatureExtractor, WhisperProcessor, WhisperTokenizer
from transformers.models.whisper.tokenization_whisper import LANGUAGES
from transformers.utils import logging as transformers_logging

from egrecho_inner.data.cuts.index import CutIndex
from egrecho_inner.model.loading import random_model
from egrecho_inner.model.whisper import Whisper, freeze_sinusoids

ENTRIES = 50257  # of the published multilingual models
END = "<|endoftext|>"
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
    """
    speeds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, run in ways.items():
            speeds[name].append(run())
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
        peer: The name that is 1.
        *extra: Further columns: heading, and text by name.
        unit: Of the speeds.
    """
    rows = []
    for name, values in speeds.items():
        ratios = sorted(value / other for value, other in zip(values, speeds[peer], strict=True))
        spread = f"{ratios[0]:.1f} to {ratios[-1]:.1f}"
        more = [column.get(name, "") for _, column in extra]
        rows.append([name, f"{statistics.median(ratios):.1f}", spread, f"{statistics.median(values):.1f}", *more])
    headers = ["", "times the peer", "lowest, highest", unit, *(heading for heading, _ in extra)]
    print(f"\n{title}\n")
    print(tabulate(rows, headers=headers, tablefmt="github", disable_numparse=True))


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
