#!/usr/bin/env python3
"""Time decoding: ours beside Transformers' generate() and faster-whisper, same weights and utterances, in one run.

    python benchmarks/decode_speed.py --data data/mboshi/train
    python benchmarks/decode_speed.py --data data/mboshi/train --size large-v3 --batch 16    # with a GPU

Peers: `generate()` on batches of 8 padded to 30 s, what `pipeline(batch_size=8)` does inside; and faster-whisper, as
its README has it. Both get waves that are in memory; ours also reads its files within the time. All have the same
limit of tokens; weights are random, so that nearly every utterance takes them all. All times include features.
float32 on a CPU, float16 on a GPU. faster-whisper and our CTranslate2 backend need the extra `egrecho[ct2]`; without it
their rows are missing.
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
from speech import CLOCKS, add_clock, interleave, machine, model_folder, quiet, read_cuts, show, write_rows
from transformers import WhisperForConditionalGeneration

from egrecho_inner.data.audio.features import SAMPLING_RATE
from egrecho_inner.data.audio.load import load_audio
from egrecho_inner.decoding.options import DecodeOptions
from egrecho_inner.decoding.resumable import Decoder, Placement, choose_place
from egrecho_inner.model.loading import load_processor
from egrecho_inner.model.options import SIZES

try:
    from ctranslate2.converters import TransformersConverter
    from faster_whisper import WhisperModel
except ImportError:
    WhisperModel = None

LANGUAGE = "ln"  # the nearest to Mboshi that Whisper knows; any will do
WAYS = ("peer", "ours", "faster-whisper", "ctranslate2", "ctranslate2-int8")


@dataclass
class Task:
    """What all of them are to do."""

    model: Path
    cuts: list[Cut]
    waves: list[np.ndarray]
    beams: int
    tokens: int
    batch: int
    place: Placement
    clock: Callable[[], float]
    written: dict[str, str] = field(default_factory=dict)
    """Mean tokens per utterance, by way."""

    @property
    def seconds(self) -> float:
        return sum(map(len, self.waves)) / SAMPLING_RATE

    @property
    def peer(self) -> str:
        return f"generate(), batch {self.batch}, 30 s"

    def timed(self, name: str, run: Callable[[], list[int]]) -> Callable[[], float]:
        """Make a run that returns audio seconds per second."""

        def once() -> float:
            begin = self.clock()
            lengths = run()
            elapsed = self.clock() - begin
            self.written[name] = f"{sum(lengths) / len(lengths):.1f}"
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
    parser.add_argument("--batch", type=int, default=8, metavar="N", help="utterances in a batch of generate()")
    parser.add_argument("--ways", nargs="+", default=list(WAYS), choices=WAYS, help="what is timed")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), metavar="N", help="of every way")
    parser.add_argument("--size", default="tiny", choices=list(SIZES), help="dimensions, with random weights")
    parser.add_argument("--model", help="model folder instead of random weights")
    parser.add_argument("--models", metavar="DIR", help="keeps the random models for the next program")
    parser.add_argument("--json", metavar="FILE", help="gets a line for every row, too")
    add_clock(parser)
    options = parser.parse_args()
    quiet()
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["EGRECHO_CACHE"] = str(folder / "cache")
        cuts = read_cuts(options.data, folder / "cuts.jsonl", options.cuts)
        models = Path(options.models or folder / "models")
        model = Path(options.model) if options.model else model_folder(models, cuts, options.size)
        waves, place = [load_audio(cut) for cut in cuts], choose_place("auto", "auto")
        for beams in options.beams:
            clock = CLOCKS[options.clock]
            task = Task(model, cuts, waves, beams, options.tokens, options.batch, place, clock)
            speeds = interleave(ways(task, folder, options.ways), options.rounds)
            title = f"beam {beams}, {len(cuts)} utterances of {task.seconds / len(cuts):.1f} s, {options.tokens} tokens"
            show(title, speeds, task.peer, ("tokens written", task.written))
            name = f"decode {options.model or options.size}, beam {beams}"
            write_rows(options.json, [{"task": name, "way": way, "speeds": found} for way, found in speeds.items()])
    print(f"\n{options.clock} time; {machine('faster-whisper', 'ctranslate2')}")


def ways(task: Task, folder: Path, wanted: list[str]) -> dict[str, Callable[[], float]]:
    """Load every system that is wanted; the first utterances warm it up."""
    made: dict[str, tuple[str, Callable[[], Callable[[], list[int]]]]] = {
        "peer": (task.peer, lambda: generate(task)),
        "ours": ("ours", lambda: ours(task, "torch")),
    }
    if WhisperModel is not None:
        made |= {
            "faster-whisper": (f"faster-whisper {type_of(task)}, 30 s", lambda: faster_whisper(task, folder)),
            "ctranslate2": ("ours, ctranslate2", lambda: ours(task, "ctranslate2")),
            "ctranslate2-int8": ("ours, ctranslate2-int8", lambda: ours(task, "ctranslate2-int8")),
        }
    found = {}
    for way in wanted:
        if way not in made:
            continue
        name, load = made[way]
        try:
            found[name] = task.timed(name, load())
        except (RuntimeError, ValueError) as error:  # CTranslate2 without CUDA's libraries, or an old GPU
            print(f"{name} does not load: {error}")
    return found


def type_of(task: Task) -> str:
    """Return the name of the weights' type."""
    return str(task.place.dtype).removeprefix("torch.")


def generate(task: Task) -> Callable[[], list[int]]:
    """Decode as the Transformers guide does."""
    processor = load_processor(str(task.model))
    place = task.place
    model = WhisperForConditionalGeneration.from_pretrained(task.model, dtype=place.dtype).to(place.device).eval()

    def run(waves: list[np.ndarray] = task.waves) -> list[int]:
        lengths = []
        for at in range(0, len(waves), task.batch):
            batch = waves[at : at + task.batch]
            inputs = processor.feature_extractor(batch, sampling_rate=SAMPLING_RATE, return_tensors="pt")
            ids = model.generate(
                inputs["input_features"].to(place.device, place.dtype),
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
    converted, kind = folder / "faster-whisper", type_of(task)
    if not converted.exists():
        files = ["tokenizer.json", "preprocessor_config.json"]
        TransformersConverter(str(task.model), copy_files=files).convert(str(converted), quantization=kind)
    threads = torch.get_num_threads()
    model = WhisperModel(str(converted), device=task.place.device.type, compute_type=kind, cpu_threads=threads)

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
    transcriber = Decoder(str(task.model), options, task.place).transcriber
    return lambda: [len(hypothesis.tokens) for hypothesis in transcriber(task.cuts)]


if __name__ == "__main__":
    main()
