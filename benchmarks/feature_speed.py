#!/usr/bin/env python3
"""Time log-mel features: ours beside Transformers' and Lhotse's, on the same waves, in one run.

    python benchmarks/feature_speed.py --data data/mboshi/train

The peer is `WhisperFeatureExtractor` as in the Transformers guide, which pads every wave to 30 s. Lhotse's extractor
needs librosa; without it its row is missing. The largest difference of ours to the peer is shown beside.
"""

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from lhotse import WhisperFbank, WhisperFbankConfig
from speech import CLOCKS, add_clock, interleave, machine, quiet, read_cuts, show
from transformers import WhisperFeatureExtractor

from egrecho_inner.data.audio.features import SAMPLING_RATE, log_mel, log_mel_batch
from egrecho_inner.data.audio.load import load_audio

BATCH = 8


def main() -> None:
    """Read waves, time every way, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="manifest of cuts, or Kaldi directory")
    parser.add_argument("--cuts", type=int, default=64, metavar="N", help="utterances")
    parser.add_argument("--rounds", type=int, default=7, metavar="N", help="times each way is run")
    parser.add_argument("--threads", type=int, default=1, metavar="N", help="of torch; workers have one")
    add_clock(parser)
    options = parser.parse_args()
    quiet()
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as folder:
        waves = [load_audio(cut) for cut in read_cuts(options.data, Path(folder, "cuts.jsonl"), options.cuts)]
    seconds = sum(map(len, waves)) / SAMPLING_RATE
    extract = WhisperFeatureExtractor()
    ways: dict[str, Callable[[], object]] = {
        "Transformers, padded to 30 s": lambda: [
            extract(waves[at : at + BATCH], sampling_rate=SAMPLING_RATE) for at in range(0, len(waves), BATCH)
        ],
        "ours, one by one": lambda: [log_mel(wave, tail=2) for wave in waves],
        "ours, batches": lambda: [log_mel_batch(waves[at : at + BATCH]) for at in range(0, len(waves), BATCH)],
    }
    try:
        lhotse = WhisperFbank(WhisperFbankConfig(num_filters=80))
        ways["Lhotse, unpadded"] = lambda: [lhotse.extract(wave, SAMPLING_RATE) for wave in waves]
    except ImportError:
        print("Lhotse's extractor is left out: it needs librosa")
    speeds = interleave(
        {name: timed(run, seconds, CLOCKS[options.clock]) for name, run in ways.items()}, options.rounds
    )
    title = (
        f"{len(waves)} utterances of {seconds / len(waves):.1f} s; {options.clock} time; {machine('numpy', 'librosa')}"
    )
    show(title, speeds, "Transformers, padded to 30 s")
    print(f"\nlargest difference of ours to Transformers': {difference(waves, extract):.1e}")


def timed(run: Callable[[], object], seconds: float, clock: Callable[[], float]) -> Callable[[], float]:
    """Make a run that returns audio seconds per second."""

    def once() -> float:
        begin = clock()
        run()
        return seconds / (clock() - begin)

    once()  # tables are built, memory is touched
    return once


def difference(waves: list[np.ndarray], extract: WhisperFeatureExtractor) -> float:
    """Return the largest difference over all frames of all utterances."""
    largest = 0.0
    for wave in waves:
        ours = log_mel(wave)
        theirs = extract(wave, sampling_rate=SAMPLING_RATE)["input_features"][0].T[: len(ours)]
        largest = max(largest, float(np.abs(ours - theirs).max()))
    return largest


if __name__ == "__main__":
    main()
