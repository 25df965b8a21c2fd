"""Decoding with a speech LLM: cuts in, hypotheses out, as `transcribe.py` does with Whisper.

A recording of any length is one item: its windows stand one behind the other in the language model's input. The search
is that of `search.py`, over the state of `causal.py`; nothing is forbidden, and a text ends with the language model's
own end token. `Swapped` and `Silenced` are the same cuts with another's audio, or with none: a model that listens does
badly on the first and writes nothing for the second.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from typing import Any, Protocol

import numpy as np
import torch
from lhotse.cut import Cut

from egrecho_inner.data.cuts.fields import cut_language
from egrecho_inner.decoding.causal import start
from egrecho_inner.decoding.options import DecodeOptions
from egrecho_inner.decoding.pieces import Cuts, durations_of, longest_first, plan, prefetched
from egrecho_inner.decoding.search import Best, beam, greedy
from egrecho_inner.decoding.transcribe import eval_mode
from egrecho_inner.errors import ConfigError
from egrecho_inner.model.speech_llm import SpeechLlm
from egrecho_inner.results.utterance import Hypothesis
from egrecho_inner.text.prompts import PromptEncoder
from egrecho_inner.text.repetition import compression_ratio, is_loop

MAX_NEW_TOKENS = 200
"""SLAM-LLM's limit."""
UNKNOWN_OPTIONS = {"task": "transcribe", "timestamps": False, "no_speech_threshold": None, "window": "auto"}
"""Of Whisper alone, with the values that ask for nothing."""


class Windows(Protocol):
    """Makes a model's input of cuts (`data/batches/speech_prompts.py`)."""

    def load(self, cut: Cut, epoch: int, augmenter: None) -> list[np.ndarray]:
        """Return the windows of a cut."""
        ...

    def collate(self, items: list[list[np.ndarray]], padded: bool) -> tuple[dict[str, Any], float]:
        """Put windows into one batch."""
        ...


class SpeechTranscriber:
    """A speech LLM with options, ready to take cuts.

    Args:
        model: The model, unwrapped.
        labels: Of its prompts.
        windows: Makes its input.
        options: How to search.

    Raises:
        ConfigError: An option is Whisper's alone.
    """

    padded = False

    def __init__(self, model: SpeechLlm, labels: PromptEncoder, windows: Windows, options: DecodeOptions):
        for name, nothing in UNKNOWN_OPTIONS.items():
            if getattr(options, name) != nothing:
                raise ConfigError(
                    f"decode.{name} is Whisper's; a speech LLM takes its task from the prompt: leave it out"
                )
        if options.backend not in ("auto", "torch"):
            raise ConfigError(f"decode.backend {options.backend} knows Whisper alone; take torch")
        self.model, self.labels, self.windows, self.options = model, labels, windows, options

    def __call__(self, cuts: Cuts, positions: Sequence[int] | None = None) -> Iterator[Hypothesis]:
        """Yield one hypothesis for every cut, or for those at some positions, longest cuts first."""
        durations = durations_of(cuts)
        seconds, most = self.options.batch_seconds / self.options.num_beams, self.options.batch_size
        batches = plan(longest_first(durations, positions), durations, seconds, most, 0.0)
        loaded = prefetched(lambda batch: [self.load(cuts[int(place)]) for place in batch], batches)
        while True:
            begin = time.perf_counter()
            items = next(loaded, None)
            if items is None:
                return
            found = self.recognize(items)
            share = (time.perf_counter() - begin) / sum(cut.duration for cut, _ in items)
            for (cut, _), best in zip(items, found, strict=True):
                yield self.hypothesis(cut, best, share * cut.duration)

    def load(self, cut: Cut) -> tuple[Cut, list[np.ndarray]]:
        """Return a cut with its windows."""
        return cut, self.windows.load(cut, 0, None)

    def recognize(self, items: Sequence[tuple[Cut, list[np.ndarray]]]) -> list[Best]:
        """Decode one batch."""
        device, pad = self.model.device, self.labels.padding
        inputs, _ = self.windows.collate([windows for _, windows in items], False)
        moved = {name: value.to(device) for name, value in inputs.items()}
        prompts = [self.labels.before(self.labels.prompt_of(custom_of(cut)))[0] for cut, _ in items]
        longest = max(map(len, prompts))
        ids = torch.tensor([prompt + [pad] * (longest - len(prompt)) for prompt in prompts], device=device)
        with eval_mode(self.model), matched(self.model):
            vectors = self.model.listen(moved["input_features"], moved["attention_mask"], moved["windows"])
            embedded, _ = self.model.splice(ids, vectors)
            lengths = [len(prompt) - 1 + len(own) for prompt, own in zip(prompts, vectors, strict=True)]
            rows, logits = start(self.model.llm, embedded, torch.tensor(lengths, device=device))
            limits = torch.full((len(items),), self.options.max_new_tokens or MAX_NEW_TOKENS, device=device)
            return self.search(rows, logits, limits)

    def search(self, rows: Any, logits: torch.Tensor, limits: torch.Tensor) -> list[Best]:
        """Search greedily or with beams."""
        options = self.options
        if options.num_beams == 1:
            return greedy(rows, logits, limits, allow_all, self.labels.eos)
        return beam(rows, logits, limits, allow_all, self.labels.eos, options.num_beams, options.length_penalty)

    def hypothesis(self, cut: Cut, best: Best, seconds: float) -> Hypothesis:
        """Make the hypothesis of a cut."""
        text = self.labels.decode(best.tokens)
        return Hypothesis(
            id=cut.id,
            text=text,
            language=cut_language(cut) or self.options.language,
            tokens=best.tokens,
            avg_logprob=round(best.logprob / best.length, 4),
            no_speech=0.0,
            compression_ratio=round(compression_ratio(text), 3),
            truncated=best.truncated,
            looped=is_loop(best.tokens, text),
            parts=1,
            duration=cut.duration,
            decode_seconds=seconds,
        )


class Swapped:
    """Cuts with each other's audio: the text and prompt of one, the audio of the next but some.

    Args:
        cuts: At least two.
    """

    def __init__(self, cuts: Sequence[Cut]):
        self.cuts = cuts
        self.durations = np.array([self[place].duration for place in range(len(cuts))])

    def __len__(self) -> int:
        return len(self.cuts)

    def __getitem__(self, place: int) -> Cut:
        own, other = self.cuts[place], self.cuts[(place + len(self.cuts) // 2) % len(self.cuts)]
        swapped = other.with_id(own.id)
        swapped.supervisions = own.supervisions
        return swapped


class Silenced:
    """An encoder's windows of the same length without a sound; stands for `Windows`."""

    def __init__(self, windows: Any):
        self.windows, self.collate = windows, windows.collate

    def load(self, cut: Cut, epoch: int, augmenter: None) -> list[np.ndarray]:
        """Return the windows of digital silence as long as a cut."""
        return self.windows.of_wave(np.zeros(cut.num_samples, dtype=np.float32))


def allow_all(_: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
    """Allow every token."""
    return logits


def custom_of(cut: Cut) -> dict[str, Any]:
    """Return the fields of a cut's first supervision."""
    return (cut.supervisions[0].custom or {}) if cut.supervisions else {}


def matched(model: SpeechLlm) -> Any:
    """Return a context in which float32 parts work beside a language model of 16 bits."""
    if model.dtype == torch.float32:
        return nullcontext()
    return torch.autocast(model.device.type, model.dtype)
