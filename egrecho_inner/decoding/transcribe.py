"""Cuts in, one hypothesis each out: for `egrecho eval`, for the development score of a training, for a teacher's text.

In: a model, its processor, cuts (waves or stored features, of any length), options. Out: `Hypothesis` objects, one for
every cut, longest cuts first. The next batch's audio and features are made while the model works on this one.
The model may be in training or wrapped by peft: its modes come back as they were, no random number is drawn.
Left out: prompts, sampling and temperature fallback.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import torch
from lhotse.cut import Cut
from torch import nn
from transformers import WhisperProcessor

from egrecho_inner.data.cuts.fields import cut_language
from egrecho_inner.decoding.long_form import complete_part
from egrecho_inner.decoding.options import DecodeOptions
from egrecho_inner.decoding.pieces import (
    Cuts,
    Piece,
    batched_pieces,
    durations_of,
    load_features,
    longest_first,
    to_tensors,
)
from egrecho_inner.decoding.recognize import Found, Recognizer, label_encoder
from egrecho_inner.errors import ConfigError
from egrecho_inner.model.loading import window_of
from egrecho_inner.model.whisper import Whisper
from egrecho_inner.results.utterance import Hypothesis
from egrecho_inner.text.constants import WHISPER_FRAMES, WINDOW_SECONDS
from egrecho_inner.text.labels import LabelEncoder
from egrecho_inner.text.languages import join_texts
from egrecho_inner.text.repetition import compression_ratio, is_loop

BASE_TOKENS, TOKENS_PER_SECOND = 16, 30
"""The limit of new tokens is 16 + 30 per second. Fast speech has 8 syllables per second; written in a script that the
tokenizer knows only as bytes (Khmer, Burmese) that is about 25 tokens, in Vietnamese or spelt digits at most 20."""
MakeRecognizer = Callable[[LabelEncoder, int, float, bool], Recognizer]
"""(labels, beams, length penalty, timestamps) -> recogniser, where it is not PyTorch that computes."""
SILENT_LOGPROB = -1.0
"""A text less likely than this may be no speech (Radford et al. 2022, 4.5)."""


class DecodedPiece(NamedTuple):
    """A piece with what was recognised in it and the seconds that took."""

    piece: Piece
    found: Found
    seconds: float


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
        make = make_recognizer or partial(Recognizer, model)
        self.model, self.options = model, options
        self.device = torch.device(device) if device is not None else model.device
        self.labels = label_encoder(model, processor.tokenizer, options.language, options.task)
        self.padded = (window_of(model) if options.window == "auto" else options.window) == "30s"
        self.recognizer = make(self.labels, options.num_beams, options.length_penalty, options.timestamps)
        by_timestamps = options.long_form == "timestamps" or (
            options.long_form == "auto" and getattr(model.config, "timestamps", False)
        )
        self.follower = make(self.labels, options.num_beams, options.length_penalty, True) if by_timestamps else None

    def __call__(self, cuts: Cuts, positions: Sequence[int] | None = None) -> Iterator[Hypothesis]:
        """Yield one hypothesis for every cut, or for those at some positions."""
        durations = durations_of(cuts)
        order = longest_first(durations, positions)
        if self.follower is not None:
            is_long = durations[order] > WINDOW_SECONDS
            for position in order[is_long]:
                windows = self.follow(cuts[int(position)], self.follower)
                yield self.join(windows, float(durations[position]))
            order = order[~is_long]
        batches = batched_pieces(
            cuts,
            order,
            durations,
            n_mels=self.model.config.num_mel_bins,
            seconds=self.options.batch_seconds / self.options.num_beams,
            most=self.options.batch_size,
            window_seconds=WINDOW_SECONDS if self.padded else 0.0,
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
                if len(done) == piece.parts:
                    yield self.join(parts.pop(piece.position), float(durations[piece.position]))

    def recognise(self, pieces: Sequence[Piece], recognizer: Recognizer) -> list[Found]:
        """Recognise one batch."""
        with at_rest(self.model):
            features, mask = to_tensors(pieces, self.padded, self.device, self.model.dtype)
            languages = [self.language_of(piece.language) for piece in pieces]
            return recognizer(features, mask, languages, [self.limit(piece.seconds) for piece in pieces])

    def language_of(self, named: str | None) -> str | None:
        """Return the language to tell the model; None is to be detected."""
        return self.labels.language if self.options.force_language or named is None else named

    def limit(self, seconds: float) -> int:
        """Return the most tokens an utterance of so many seconds may have."""
        return self.options.max_new_tokens or BASE_TOKENS + int(TOKENS_PER_SECOND * seconds)

    def follow(self, cut: Cut, recognizer: Recognizer) -> list[DecodedPiece]:
        """Recognise one recording of more than 30 s by the model's timestamps."""
        begin = time.perf_counter()
        feats, length = load_features(cut, self.model.config.num_mel_bins)
        language, seek = cut_language(cut), 0
        windows: list[DecodedPiece] = []
        while seek < length:
            end = min(seek + WHISPER_FRAMES, length)
            piece = Piece(cut.id, 0, len(windows), 0, feats[seek:end], end - seek, language)
            found = self.recognise([piece], recognizer)[0]
            tokens, advance = complete_part(found.tokens, self.labels.id("<|0.00|>"), end - seek)
            now = time.perf_counter()
            windows.append(DecodedPiece(piece, replace(found, tokens=tokens), now - begin))
            seek, begin, language = seek + advance, now, found.language
        return windows

    def join(self, windows: Sequence[DecodedPiece], duration: float) -> Hypothesis:
        """Make the hypothesis of a cut from those of its parts."""
        found = [self.hushed(window.found) for window in sorted(windows, key=lambda window: window.piece.part)]
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
        )

    def hushed(self, found: Found) -> Found:
        """Take an unlikely text for silence where the options say so."""
        threshold = self.options.no_speech_threshold
        if threshold is None or found.no_speech <= threshold or found.avg_logprob >= SILENT_LOGPROB:
            return found
        return replace(found, tokens=[], truncated=False)


def unwrap(model: nn.Module) -> Whisper:
    """Return the Whisper inside a wrapper; peft's layers stay in it and take part."""
    while isinstance(getattr(model, "module", None), nn.Module):
        model = model.module
    return model.get_base_model() if hasattr(model, "get_base_model") else model


@contextmanager
def at_rest(model: nn.Module) -> Iterator[None]:
    """Put every module into eval mode without gradients, and each back into its own mode after."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module in training:
            module.training = True
