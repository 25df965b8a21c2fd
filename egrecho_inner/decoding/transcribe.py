"""Cuts in, one hypothesis each out: for `egrecho eval`, for the development score of a training, for a teacher's text.

In: a model, its processor, cuts (waves or stored features, of any length), options. Out: `Hypothesis` objects, one for
every cut, longest cuts first. The next batch's audio and features are made while the model works on this one.
The model may be in training or wrapped by peft: its modes come back as they were, no random number is drawn.
`Transcriber.windows` gives what each part of a cut was recognised as, with its place in time: for subtitles.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property, partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import WhisperProcessor

from egrecho_inner.decoding.fallback import Sampler, decode_with_fallback, is_silence
from egrecho_inner.decoding.long_form import Lengths, merge_overlaps, speech_frames
from egrecho_inner.decoding.options import DecodeOptions
from egrecho_inner.decoding.pieces import (
    Cuts,
    Piece,
    batched_pieces,
    durations_of,
    longest_first,
    to_tensors,
)
from egrecho_inner.decoding.recognize import Found, Recognizer, label_encoder
from egrecho_inner.decoding.sequential import DecodedPiece, follow
from egrecho_inner.errors import ConfigError
from egrecho_inner.model.loading import learned_seconds, window_of
from egrecho_inner.model.whisper import Whisper
from egrecho_inner.results.utterance import Hypothesis
from egrecho_inner.text.constants import FRAMES_PER_SECOND, MAX_PROMPT_TOKENS, WHISPER_FRAMES, WINDOW_SECONDS
from egrecho_inner.text.labels import LabelEncoder
from egrecho_inner.text.languages import join_texts
from egrecho_inner.text.repetition import compression_ratio, is_loop

BASE_TOKENS, TOKENS_PER_SECOND = 16, 30
"""The limit of new tokens is 16 + 30 per second. Fast speech has 8 syllables per second; written in a script that the
tokenizer knows only as bytes (Khmer, Burmese) that is about 25 tokens, in Vietnamese or spelt digits at most 20."""
ROOM_SHARE = 0.6
"""Of the longest part, where only that is known: what parts are aimed at, so that there is room to look for a pause."""
SLACK, SPARE_SECONDS = 1.25, 2.0
"""An utterance is taken undivided up to so many times the longest learned one, and where that is short up to so much
over it: where single words were learned, a slower speaker's word must stay in one part."""
MakeRecognizer = Callable[[LabelEncoder, int, float, bool], Recognizer]
"""(labels, beams, length penalty, timestamps) -> recogniser, where it is not PyTorch that computes."""


def transcribe(
    model: nn.Module,
    processor: WhisperProcessor,
    cuts: Cuts,
    options: DecodeOptions | None = None,
    device: torch.device | str | None = None,
    positions: Sequence[int] | None = None,
) -> Iterator[Hypothesis]:
    """Yield one hypothesis for every cut, longest cuts first.

    Args:
        model: Whisper, bare or wrapped (peft, DistributedDataParallel), in training or not.
        processor: Of the model.
        cuts: A `CutIndex` or a list of cuts.
        options: How to search.
        device: Where to compute; the model is expected there. Where the model is, if None.
        positions: Cuts to take, all if None.

    Raises:
        ConfigError: Options and model do not go together.
        DataError: A cut's audio or features are missing or broken, or its language unknown.
    """
    yield from Transcriber(unwrap(model), processor, options or DecodeOptions(), device)(cuts, positions)


class Transcriber:
    """A model with options, ready to take cuts."""

    def __init__(
        self,
        model: Whisper,
        processor: WhisperProcessor,
        options: DecodeOptions,
        device: torch.device | str | None = None,
        make_recognizer: MakeRecognizer | None = None,
    ):
        if make_recognizer is None and options.backend.startswith("ctranslate2"):
            raise ConfigError(
                f"decode.backend {options.backend} takes a model folder, not a model in memory; use torch"
            )
        if options.window == "both":
            raise ConfigError("decode.window both compares two evaluations; here take longest or 30s")
        make = make_recognizer or partial(Recognizer, model)
        self.model, self.processor, self.options = model, processor, options
        self.device = torch.device(device) if device is not None else model.device
        self.labels = label_encoder(model, processor.tokenizer, options.language, options.task)
        window = window_of(model) if options.window == "auto" else options.window
        self.padded, self.zeros = window.startswith("30s"), window == "30s-zeros"
        self.lengths = part_lengths(model, options)
        self.recognizer = make(self.labels, options.num_beams, options.length_penalty, options.timestamps)
        by_timestamps = options.long_form == "timestamps" or (
            options.long_form == "auto" and getattr(model.config, "timestamps", False)
        )
        self.advance: Callable[[float], None] = lambda seconds: None
        """Called with the seconds of audio that are done, for who shows it."""
        self.follower = make(self.labels, options.num_beams, options.length_penalty, True) if by_timestamps else None

    def __call__(self, cuts: Cuts, positions: Sequence[int] | None = None) -> Iterator[Hypothesis]:
        """Yield one hypothesis for every cut, or for those at some positions."""
        durations = durations_of(cuts)
        for position, windows in self.windows(cuts, positions):
            yield self.join(windows, float(durations[position]))

    def windows(self, cuts: Cuts, positions: Sequence[int] | None = None) -> Iterator[tuple[int, list[DecodedPiece]]]:
        """Yield position and windows of every cut, the windows in the order of time."""
        durations = durations_of(cuts)
        order = longest_first(durations, positions)
        if self.follower is not None:
            is_long = durations[order] > WINDOW_SECONDS
            recordings = ((int(position), cuts[int(position)]) for position in order[is_long])
            most = max(1, int(self.options.batch_seconds / self.options.num_beams / WINDOW_SECONDS))
            yield from follow(self, self.follower, recordings, most)
            order = order[~is_long]
        batches = batched_pieces(
            cuts,
            order,
            durations,
            n_mels=self.model.config.num_mel_bins,
            seconds=self.options.batch_seconds / self.options.num_beams,
            most=self.options.batch_size,
            window_seconds=WINDOW_SECONDS if self.padded else 0.0,
            lengths=Lengths() if self.follower is not None else self.lengths,
        )
        parts: dict[int, list[DecodedPiece]] = {}
        while True:
            begin = time.perf_counter()
            pieces = next(batches, None)
            if pieces is None:
                return
            found = self.recognise(pieces, self.recognizer)
            share = (time.perf_counter() - begin) / sum(piece.length for piece in pieces)
            for piece, result in zip(pieces, found, strict=True):
                done = parts.setdefault(piece.position, [])
                done.append(DecodedPiece(piece, result, share * piece.length))
                self.advance(piece.seconds)
                if len(done) == piece.parts:
                    yield piece.position, self.merged(parts.pop(piece.position))

    def merged(self, windows: list[DecodedPiece]) -> list[DecodedPiece]:
        """Put the parts of a cut in order and take out what two of them share."""
        windows.sort(key=lambda window: window.piece.part)
        overlaps = [window.piece.overlap for window in windows]
        if not any(overlaps):
            return windows
        first = self.labels.id("<|0.00|>")
        # times count from the part's own beginning: where one is kept for two, they would be wrong
        texts = [[token for token in window.found.tokens if token < first] for window in windows]
        kept = merge_overlaps(texts, [window.piece.length for window in windows], overlaps)
        return [
            window._replace(found=replace(window.found, tokens=tokens)) if tokens != text else window
            for window, text, tokens in zip(windows, texts, kept, strict=True)
        ]

    def recognise(
        self, pieces: Sequence[Piece], recognizer: Recognizer, previous: Sequence[Sequence[int]] | None = None
    ) -> list[Found]:
        """Recognise one batch.

        Args:
            pieces: The batch.
            recognizer: With timestamps or without.
            previous: Tokens of the text before each piece; the initial prompt if None.
        """
        prompts = [self.prompt(each) for each in previous] if previous else [self.prompt(self.initial)] * len(pieces)
        with eval_mode(self.model):
            features, mask = to_tensors(pieces, self.padded, self.device, self.model.dtype, self.zeros)
            decode = partial(self.decode, pieces, recognizer, prompts, features, mask)
            return decode_with_fallback(len(pieces), decode, self.labels.decode, self.options)

    def decode(
        self,
        pieces: Sequence[Piece],
        recognizer: Recognizer,
        prompts: Sequence[list[int]],
        features: Tensor,
        mask: Tensor | None,
        rows: list[int],
        temperature: float,
    ) -> list[Found]:
        """Decode some rows of a batch at one temperature, those with prompts of one length together."""
        found: dict[int, Found] = {}
        for length in sorted({len(prompts[row]) for row in rows}):
            some = [row for row in rows if len(prompts[row]) == length]
            more: dict[str, Any] = {"prompts": [prompts[row] for row in some]} if length else {}
            if temperature > 0:
                more["draw"] = Sampler(temperature, [pieces[row] for row in some], self.options.seed)
            every = len(some) == len(pieces)
            results = recognizer(
                features if every else features[some],
                mask if every or mask is None else mask[some],
                [self.language_of(pieces[row].language) for row in some],
                [self.limit(pieces[row].seconds) for row in some],
                **more,
            )
            found |= dict(zip(some, results, strict=True))
        return [found[row] for row in rows]

    @cached_property
    def initial(self) -> list[int]:
        """Ids of the text that is given as spoken before."""
        return self.labels.text_ids(self.options.initial_prompt or "", self.labels.language)

    def prompt(self, previous: Sequence[int]) -> list[int]:
        """Return what stands before the prefix: hotwords, then the end of a previous text; nothing without both."""
        hotwords = self.labels.text_ids(self.options.hotwords or "", self.labels.language)[: MAX_PROMPT_TOKENS // 2]
        before = [*hotwords, *previous[max(0, len(previous) - (MAX_PROMPT_TOKENS - len(hotwords))) :]]
        return [self.labels.id("<|startofprev|>"), *before] if before else []

    def language_of(self, named: str | None) -> str | None:
        """Return the language token to give to the model; None is to be detected."""
        return self.labels.language if self.options.force_language or named is None else named

    def limit(self, seconds: float) -> int:
        """Return the most tokens an utterance of so many seconds may have."""
        return self.options.max_new_tokens or BASE_TOKENS + int(TOKENS_PER_SECOND * seconds)

    def join(self, windows: Sequence[DecodedPiece], duration: float) -> Hypothesis:
        """Make the hypothesis of a cut from those of its parts."""
        found = [drop_if_silent(window.found, self.options) for window in windows]
        language = found[0].language
        text = join_texts([self.labels.decode(each.tokens) for each in found], language)
        tokens = [token for each in found for token in each.tokens]
        weights = [len(each.tokens) + 1 for each in found]
        logprob = sum(each.avg_logprob * weight for each, weight in zip(found, weights, strict=True)) / sum(weights)
        return Hypothesis(
            id=windows[0].piece.id,
            text=text,
            language=language,
            tokens=tokens,
            avg_logprob=round(logprob, 4),
            no_speech=round(min(each.no_speech for each in found), 4),
            compression_ratio=round(compression_ratio(text), 3),
            truncated=any(each.truncated for each in found),
            looped=any(is_loop(each.tokens, self.labels.decode(each.tokens)) for each in found),
            parts=len(found),
            duration=duration,
            decode_seconds=sum(window.seconds for window in windows),
            speech_seconds=round(sum(map(speech_frames, own_frames(windows))) / FRAMES_PER_SECOND, 2),
        )


def own_frames(windows: Sequence[DecodedPiece]) -> list[np.ndarray]:
    """Return the features of each window up to the beginning of the next, so that none counts twice."""
    pieces = [window.piece for window in windows]
    ends = [*(piece.begin for piece in pieces[1:]), pieces[-1].begin + pieces[-1].length]
    return [piece.feats[: max(end - piece.begin, 0)] for piece, end in zip(pieces, ends, strict=True)]


def drop_if_silent(found: Found, options: DecodeOptions) -> Found:
    """Take an unlikely text for silence where the options do so."""
    return replace(found, tokens=[], truncated=False) if is_silence(found, options) else found


def part_lengths(model: Whisper, options: DecodeOptions) -> Lengths:
    """Return how long parts are: as asked, or as the utterances that the model learned, or Whisper's window."""
    typical, longest = learned_seconds(model) or (WINDOW_SECONDS, WINDOW_SECONDS)
    undivided = max(SLACK * longest, longest + SPARE_SECONDS)
    if options.max_part_seconds:
        longest = undivided = options.max_part_seconds
        typical = min(typical, ROOM_SHARE * longest)
    seconds = (typical, longest, undivided)
    return Lengths(*(min(WHISPER_FRAMES, round(each * FRAMES_PER_SECOND)) for each in seconds))


def unwrap(model: nn.Module) -> Whisper:
    """Return the Whisper inside a wrapper; peft's layers stay in it and take part."""
    while isinstance(getattr(model, "module", None), nn.Module):
        model = model.module
    return model.get_base_model() if hasattr(model, "get_base_model") else model


@contextmanager
def eval_mode(model: nn.Module) -> Iterator[None]:
    """Put every module into eval mode without gradients, and each back into its own mode after."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module in training:
            module.training = True
