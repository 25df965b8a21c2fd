#!/usr/bin/env python3
"""How far mixing stored features is from mixing waves, ours beside Lhotse's own, as a function of the SNR.

Takes speech from any manifest and, for each SNR, adds noise once to the wave and once to the features; the error is the
mean absolute difference of the log-mel features (1.0 is 40 dB). Noises: those of `--noises` (musan_cuts.jsonl.gz) if
given; else the next utterances of the same manifest, white noise, and pink noise above 40 Hz. A second table says how
much louder than asked for a noise comes out on features, which know nothing of its power below 40 Hz.

    python benchmarks/feature_mixing.py --cuts data/fbank_whisper80/mboshi_cuts_train.jsonl.gz
"""

import argparse
from collections.abc import Callable
from itertools import islice

import numpy as np
import torch
from lhotse import CutSet
from lhotse.features.whisper_fbank import WhisperFbank
from tabulate import tabulate

from egrecho_inner.data.audio import effects
from egrecho_inner.data.audio.features import TAIL_FRAMES, WhisperLogMel, log_mel, num_frames
from egrecho_inner.data.audio.load import load_audio
from egrecho_inner.data.audio.noises import Noises, mix_features

SNRS = (0, 5, 10, 15, 20, 30)
Make = Callable[[int], np.ndarray]


def main() -> None:
    """Mix in every way, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cuts", required=True, metavar="MANIFEST", help="cuts with audio")
    parser.add_argument("--noises", metavar="MANIFEST", help="noise cuts of prepare.sh --musan")
    parser.add_argument("--limit", type=int, default=40, metavar="N", help="utterances")
    parser.add_argument("--num_mel_bins", type=int, default=80, choices=[80, 128])
    options = parser.parse_args()
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    waves = [load_audio(cut) for cut in islice(CutSet.from_file(options.cuts), 0, 10 * options.limit, 10)]
    if options.noises:
        noises = Noises(options.noises, ())
        parts = {"speech": "babble"}
        kinds = {kind: noise_of(noises, kind, rng) for kind in (parts.get(part, part) for part in noises.lines)}
    else:
        kinds = {"other speech": other_speech(waves, rng), "pink": coloured(1, 40, rng), "white": coloured(0, 0, rng)}
    rows = [measure(kind, make, snr, waves, options.num_mel_bins) for kind, make in kinds.items() for snr in SNRS]
    print(f"{len(waves)} utterances, {sum(map(len, waves)) / 16000:.0f} s, {options.num_mel_bins} mel bins\n")
    head = ["noise", "SNR dB", "mean error", "bias", "95 % below", "Lhotse's mix", "no mixing at all"]
    print(tabulate(rows, head, tablefmt="github", floatfmt=("", ".0f", ".3f", ".3f", ".3f", ".3f", ".3f")))
    deep = {"pink, all frequencies": coloured(1, 0, rng), "brown, above 20 Hz": coloured(2, 20, rng)}
    deep["brown, all frequencies"] = coloured(2, 0, rng)
    levels = [[kind, *level(make, waves, options.num_mel_bins)] for kind, make in (kinds | deep).items()]
    head = ["noise", "power below 40 Hz %", "too loud, dB", "at most"]
    print(f"\n{tabulate(levels, head, tablefmt='github', floatfmt=('', '.1f', '.2f', '.2f'))}")


def measure(kind: str, make: Make, snr: float, waves: list[np.ndarray], n_mels: int) -> list[str | float]:
    """Make one row: our error, its bias and tail, Lhotse's error, and the size of the effect itself."""
    numbers = []
    for wave in waves:
        noise, frames = make(len(wave)), num_frames(len(wave))
        true = log_mel(effects.mix(wave, noise, snr), n_mels, TAIL_FRAMES)
        clean, added = log_mel(wave, n_mels, TAIL_FRAMES), log_mel(noise, n_mels)
        ours = mix_features(clean, added, snr) - true
        gain = WhisperFbank.compute_energy(clean) / WhisperFbank.compute_energy(added) * 10 ** (-snr / 10)
        theirs = WhisperFbank.mix(clean[:frames], added, gain) - true[:frames]
        errors = [np.abs(ours).mean(), ours.mean(), np.quantile(np.abs(ours), 0.95), np.abs(theirs).mean()]
        numbers.append([*errors, np.abs(clean - true).mean()])
    return [kind, snr, *np.mean(numbers, axis=0)]


def level(make: Make, waves: list[np.ndarray], n_mels: int) -> list[float]:
    """Return the share of a noise below 40 Hz, and how much louder features make it than waves, mean and largest."""
    shares, louder = [], []
    for wave in waves:
        noise = make(len(wave))
        power = np.abs(np.fft.rfft(noise)) ** 2
        shares.append(100 * power[np.fft.rfftfreq(len(noise), 1 / 16000) < 40].sum() / power.sum())
        clean, added = (WhisperLogMel.compute_energy(log_mel(each, n_mels)) for each in (wave, noise))
        louder.append(10 * np.log10(clean / added / (np.square(wave).mean() / np.square(noise).mean())))
    return [float(np.mean(shares)), float(np.mean(louder)), float(np.max(louder))]


def noise_of(noises: Noises, kind: str, rng: np.random.Generator) -> Make:
    """Draw from a manifest."""
    return lambda num_samples: noises.wave(kind, num_samples, rng)


def other_speech(waves: list[np.ndarray], rng: np.random.Generator) -> Make:
    """Let another speaker talk."""
    return lambda num_samples: np.resize(np.concatenate([waves[i] for i in rng.choice(len(waves), 3)]), num_samples)


def coloured(slope: float, lowest: float, rng: np.random.Generator) -> Make:
    """Make noise whose power falls with 1 / f^slope: white 0, pink 1, brown 2.

    Args:
        slope: The exponent.
        lowest: What is below, in hertz, is left out; mel bands begin at 40 Hz.
        rng: Where it comes from.
    """

    def make(num_samples: int) -> np.ndarray:
        hertz = np.fft.rfftfreq(num_samples, 1 / 16000)
        spectrum = np.fft.rfft(rng.standard_normal(num_samples)) / np.maximum(hertz, 1) ** (slope / 2)
        return np.fft.irfft(spectrum * (hertz >= lowest), num_samples).astype(np.float32)

    return make


if __name__ == "__main__":
    main()
