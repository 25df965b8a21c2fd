#!/usr/bin/env python3
"""What stored features cost and lose: room, largest and mean error, reading speed, for each precision.

Takes cuts of any manifest, computes their log-mel features once, and stores them at each lilcom precision and as half
floats. Errors are in Whisper's scale, where 1.0 is 40 dB.

    python benchmarks/feature_storage.py --cuts data/fbank_whisper80/mboshi_cuts_train.jsonl.gz
    python benchmarks/feature_storage.py --step 1 --model exp/mini/full/final \\
        --cuts data/fbank_whisper80/mini_cuts_test.jsonl.gz
"""

import argparse
import tempfile
import time
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from lhotse import CutSet, MonoCut
from tabulate import tabulate

from egrecho_inner.data.audio.features import TAIL_FRAMES, log_mel, num_frames
from egrecho_inner.data.audio.load import load_audio
from egrecho_inner.data.audio.store import FeatureArchive, load_stored
from egrecho_inner.data.cuts.fields import cut_language
from egrecho_inner.decoding.options import DecodeOptions
from egrecho_inner.decoding.pieces import Piece
from egrecho_inner.decoding.transcribe import Transcriber
from egrecho_inner.model.loading import load_model, load_processor
from egrecho_inner.text.scoring import score


def main() -> None:
    """Read the cuts, store them in every way, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cuts", required=True, metavar="MANIFEST", help="cuts with audio")
    parser.add_argument("--limit", type=int, default=300, metavar="N", help="take every tenth cut, N of them")
    parser.add_argument("--step", type=int, default=10, metavar="N", help="take every Nth cut")
    parser.add_argument("--model", metavar="DIR", help="also decode what came back, and score its words")
    parser.add_argument("--num_mel_bins", type=int, default=80, choices=[80, 128])
    options = parser.parse_args()
    torch.set_num_threads(1)
    cuts = list(islice(CutSet.from_file(options.cuts), 0, options.step * options.limit, options.step))
    hours = sum(cut.duration for cut in cuts) / 3600
    feats = [log_mel(load_audio(cut), options.num_mel_bins, TAIL_FRAMES) for cut in cuts]
    spread = float(np.concatenate(feats).std())
    ways = [partial(stored, tick_power=tick_power) for tick_power in range(-5, -13, -1)] + [half_floats, on_the_fly]
    words = Words(options.model) if options.model else None
    rows = [way(cuts, feats, words) for way in ways]
    print(
        f"{len(cuts)} cuts, {hours:.2f} h, {options.num_mel_bins} mel bins; features have a deviation of {spread:.2f}\n"
    )
    head = ["storage", "MB per hour", "largest error", "mean error", "mean error in dB", "read, x real time", "WER %"]
    print(tabulate(rows, head, tablefmt="github", floatfmt=("", ".1f", ".5f", ".5f", ".3f", ".0f", ".2f")))


class Words:
    """Recognises features that came back from storage, and scores the words; normaliser `none`."""

    def __init__(self, model: str):
        self.transcriber = Transcriber(load_model(model).eval(), load_processor(model), DecodeOptions(window="longest"))

    def __call__(self, cuts: list[MonoCut], back: list[np.ndarray]) -> float:
        """Return the corpus word error rate in per cent."""
        pairs = []
        for begin in range(0, len(cuts), 16):
            pieces = [
                Piece(cut.id, 0, 0, 1, feat, num_frames(cut.num_samples), cut_language(cut))
                for cut, feat in zip(cuts[begin : begin + 16], back[begin : begin + 16], strict=True)
            ]
            for piece, found, cut in zip(
                pieces, self.transcriber.recognise(pieces, self.transcriber.recognizer), cuts[begin:], strict=False
            ):
                pairs.append((piece.id, cut.supervisions[0].text, self.transcriber.labels.decode(found.tokens)))
        return 100 * score(pairs).error_rate


def stored(
    cuts: list[MonoCut], feats: list[np.ndarray], words: Words | None, tick_power: int
) -> list[str | float | None]:
    """Make the row of one lilcom precision."""
    with tempfile.TemporaryDirectory() as folder:
        with FeatureArchive(Path(folder) / "feats-0.lca", tick_power) as archive:
            keys = [archive.add(feat) for feat in feats]
        for cut, feat, key in zip(cuts, feats, keys, strict=True):
            cut.features = archive.describe(cut, feat.shape[1], key)
        begin = time.perf_counter()
        back = [load_stored(cut) for cut in cuts]
        took = time.perf_counter() - begin
    return row(f"lilcom 2^{tick_power}", archive.size, cuts, feats, back, took, words)


def on_the_fly(cuts: list[MonoCut], feats: list[np.ndarray], words: Words | None) -> list[str | float | None]:
    """Make the row of storing nothing."""
    return row("on the fly", 0, cuts, feats, feats, float("inf"), words)


def half_floats(cuts: list[MonoCut], feats: list[np.ndarray], words: Words | None) -> list[str | float | None]:
    """Make the row of 16-bit floats, not offered: lilcom 2^-10 has their error at two thirds of the room."""
    halves = [feat.astype(np.float16) for feat in feats]
    begin = time.perf_counter()
    back = [half.astype(np.float32) for half in halves]
    took = time.perf_counter() - begin
    return row("fp16 (in memory)", sum(half.nbytes for half in halves), cuts, feats, back, took, words)


def row(
    name: str,
    size: int,
    cuts: list[MonoCut],
    feats: list[np.ndarray],
    back: list[np.ndarray],
    took: float,
    words: Words | None,
) -> list[str | float | None]:
    """Compare what came back with what was stored."""
    seconds = sum(cut.duration for cut in cuts)
    errors = np.concatenate([np.abs(feat - again).ravel() for feat, again in zip(feats, back, strict=True)])
    return [
        name,
        size / 1e6 / seconds * 3600,
        errors.max(),
        errors.mean(),
        40 * errors.mean(),
        seconds / took,
        words and words(cuts, back),
    ]


if __name__ == "__main__":
    main()
