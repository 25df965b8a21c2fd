#!/usr/bin/env python3
"""Time decoding: ours beside Transformers' generate() and faster-whisper, same weights and utterances, in one run.

    python benchmarks/decode_speed.py --data data/mboshi/train

Peers: `generate()` on batches of 8 padded to 30 s, what `pipeline(batch_size=8)` does inside; and faster-whisper in
float32, as its README has it. Both get waves that are in memory; ours also reads its files within the time. All may
say as many tokens; weights are random, so that nearly every utterance takes them all. All times include features.
faster-whisper and our CTranslate2 backend need the extra `egrecho[ct2]`; without it their rows are missing.
"""

import argparse
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from lhotse.cut import Cut
from speech import CLOCKS, add_clock, interleave, machine, make_processor, quiet, random_whisper, read_cuts, show
from transformers import WhisperForConditionalGeneration

from egrecho_inner.data.audio.features import SAMPLING_RATE
from egrecho_inner.data.audio.load import load_audio
from egrecho_inner.decoding.options import DecodeOptions
from egrecho_inner.decoding.resumable import Decoder, choose_place
from egrecho_inner.model.loading import load_processor, save_folder

try:
    from ctranslate2.converters import TransformersConverter
    from faster_whisper import WhisperModel
except ImportError:
    WhisperModel = None

LANGUAGE = "ln"  # the nearest to Mboshi that Whisper knows; any will do
PEER = "generate(), batch 8, 30 s"


@dataclass
class Task:
    """What all of them are to do."""

    model: Path
    cuts: list[Cut]
    waves: list[np.ndarray]
    beams: int
    tokens: int
    clock: Callable[[], float]
    said: dict[str, str] = field(default_factory=dict)
    """Mean tokens per utterance, by way."""

    @property
    def seconds(self) -> float:
        return sum(map(len, self.waves)) / SAMPLING_RATE

    def timed(self, name: str, run: Callable[[], list[int]]) -> Callable[[], float]:
        """Make a run that returns audio seconds per second."""

        def once() -> float:
            begin = self.clock()
            lengths = run()
            elapsed = self.clock() - begin
            self.said[name] = f"{sum(lengths) / len(lengths):.1f}"
            return self.seconds / elapsed

        return once


def main() -> None:
    """Make the model, time every way for every beam width, print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="manifest of cuts, or Kaldi directory")
    parser.add_argument("--cuts", type=int, default=32, metavar="N", help="utterances")
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="times each way is run")
    parser.add_argument("--tokens", type=int, default=30, metavar="N", help="new tokens at most")
    parser.add_argument("--beams", type=int, nargs="+", default=[1, 5], metavar="K", help="beam widths")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), metavar="N", help="of every way")
    parser.add_argument("--model", help="model folder instead of random weights of tiny's dimensions")
    add_clock(parser)
    options = parser.parse_args()
    quiet()
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["EGRECHO_CACHE"] = str(folder / "cache")
        cuts = read_cuts(options.data, folder / "cuts.jsonl", options.cuts)
        model = Path(options.model) if options.model else folder / "model"
        if not options.model:
            processor = make_processor(cuts)
            save_folder(random_whisper(processor), processor, model, "longest")
        waves = [load_audio(cut) for cut in cuts]
        for beams in options.beams:
            task = Task(model, cuts, waves, beams, options.tokens, CLOCKS[options.clock])
            speeds = interleave(ways(task, folder), options.rounds)
            title = f"beam {beams}, {len(cuts)} utterances of {task.seconds / len(cuts):.1f} s, {options.tokens} tokens"
            show(title, speeds, PEER, ("tokens said", task.said))
    print(f"\n{options.clock} time; {machine('faster-whisper', 'ctranslate2')}")


def ways(task: Task, folder: Path) -> dict[str, Callable[[], float]]:
    """Load every system; the first utterances warm it up."""
    runs = {PEER: generate(task), "ours": ours(task, "torch")}
    if WhisperModel is not None:
        runs |= {
            "faster-whisper float32, 30 s": faster_whisper(task, folder),
            "ours, ctranslate2": ours(task, "ctranslate2"),
            "ours, ctranslate2-int8": ours(task, "ctranslate2-int8"),
        }
    return {name: task.timed(name, run) for name, run in runs.items()}


def generate(task: Task) -> Callable[[], list[int]]:
    """Decode as the Transformers guide does."""
    processor = load_processor(str(task.model))
    model = WhisperForConditionalGeneration.from_pretrained(task.model).eval()

    def run(waves: list[np.ndarray] = task.waves) -> list[int]:
        lengths = []
        for at in range(0, len(waves), 8):
            inputs = processor.feature_extractor(waves[at : at + 8], sampling_rate=SAMPLING_RATE, return_tensors="pt")
            ids = model.generate(
                inputs["input_features"],
                language=LANGUAGE,
                task="transcribe",
                num_beams=task.beams,
                max_new_tokens=task.tokens,
                force_unique_generate_call=True,  # or tokens that look like timestamps start further passes
            )
            processor.batch_decode(ids, skip_special_tokens=True)
            ends = ids[:, 4:] == model.config.eos_token_id  # behind the prefix, which the flag makes it return
            lengths += [int(row.argmax()) if row.any() else len(row) for row in ends.int()]
        return lengths

    run(task.waves[:1])
    return run


def faster_whisper(task: Task, folder: Path) -> Callable[[], list[int]]:
    """Decode as faster-whisper's README does, without timestamps and fallback."""
    converted = folder / "faster-whisper"
    if not converted.exists():
        files = ["tokenizer.json", "preprocessor_config.json"]
        TransformersConverter(str(task.model), copy_files=files).convert(str(converted))
    model = WhisperModel(str(converted), device="cpu", compute_type="float32", cpu_threads=torch.get_num_threads())

    def run(waves: list[np.ndarray] = task.waves) -> list[int]:
        lengths = []
        for wave in waves:
            segments, _ = model.transcribe(
                wave,
                language=LANGUAGE,
                beam_size=task.beams,
                max_new_tokens=2 * task.tokens - 4,  # it takes half of this and the prefix
                temperature=0.0,
                without_timestamps=True,
                condition_on_previous_text=False,
                compression_ratio_threshold=None,
                log_prob_threshold=None,
                no_speech_threshold=None,
            )
            lengths.append(sum(len(segment.tokens) for segment in segments))
        return lengths

    run(task.waves[:1])
    return run


def ours(task: Task, backend: str) -> Callable[[], list[int]]:
    """Decode as `egrecho eval` does."""
    options = DecodeOptions(
        num_beams=task.beams,
        language=LANGUAGE,
        force_language=True,
        window="longest",
        max_new_tokens=task.tokens,
        backend=backend,
    )
    transcriber = Decoder(str(task.model), options, choose_place("cpu", "float32")).transcriber
    return lambda: [len(hypothesis.tokens) for hypothesis in transcriber(task.cuts)]


if __name__ == "__main__":
    main()
