"""Decoding again at a higher temperature where a text is unlikely or repeats itself (Radford et al. 2022, 4.5).

In: a batch, a recogniser, temperatures and thresholds. Out: a `Found` for each utterance, of the first temperature that
is good enough, or of the last one. What is drawn for an utterance depends on the seed, its id and the temperature, not
on its batch mates. As in OpenAI's Whisper, silence is not decoded again, and only temperature 0 has beams.

R rows, V vocabulary.
"""

import zlib
from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from egrecho_inner.decoding.options import DecodeOptions
from egrecho_inner.decoding.pieces import Piece
from egrecho_inner.decoding.recognize import Found
from egrecho_inner.text.repetition import compression_ratio

Decode = Callable[[list[int], float], list[Found]]
"""(positions in the batch, temperature) -> what was found."""


def decode_with_fallback(
    count: int, decode: Decode, text_of: Callable[[Sequence[int]], str], options: DecodeOptions
) -> list[Found]:
    """Decode a batch at the first temperature, and what is not good enough at the next ones.

    Args:
        count: Of utterances in the batch.
        decode: Decodes some of its positions.
        text_of: Ids to text.
        options: Temperatures and thresholds.
    """
    found: dict[int, Found] = {}
    left = list(range(count))
    for temperature in options.temperatures:
        for at, each in zip(left, decode(left, temperature), strict=True):
            found[at] = replace(each, temperature=temperature)
        left = [at for at in left if is_poor(found[at], text_of(found[at].tokens), options)]
        if not left:
            break
    return [found[at] for at in range(count)]


def is_poor(found: Found, text: str, options: DecodeOptions) -> bool:
    """Tell whether a text is to be decoded again."""
    if is_silence(found, options):
        return False
    ratio, logprob = options.compression_ratio_threshold, options.logprob_threshold
    return (ratio is not None and compression_ratio(text) > ratio) or (
        logprob is not None and found.avg_logprob < logprob
    )


def is_silence(found: Found, options: DecodeOptions) -> bool:
    """Tell whether an unlikely text is taken for silence: <|nospeech|> is likely, and the text is not."""
    if options.no_speech_threshold is None or found.no_speech <= options.no_speech_threshold:
        return False
    return options.logprob_threshold is None or found.avg_logprob < options.logprob_threshold


class Sampler:
    """Draws tokens from softmax(logits / temperature).

    Args:
        temperature: Above 0.
        pieces: Whose ids seed what is drawn for each row.
        seed: Of all.
    """

    def __init__(self, temperature: float, pieces: Sequence[Piece], seed: int):
        self.temperature = temperature
        names = [f"{seed} {piece.id} {piece.begin} {temperature:g}" for piece in pieces]
        self.generators = [torch.Generator().manual_seed(zlib.crc32(name.encode())) for name in names]

    def __call__(self, scores: Tensor, owners: Tensor) -> tuple[Tensor, Tensor]:
        """Return the logit and the id of a drawn token for each row.

        Args:
            scores: Logits (R, V), -inf where a token may not come.
            owners: Utterance of each row (R,).
        """
        # one uniform number a row, from its own generator, on the CPU: the same on every device
        at = torch.stack([torch.rand(1, generator=self.generators[owner]) for owner in owners.tolist()])
        sums = (scores.double().cpu() / self.temperature).softmax(-1).cumsum(-1)
        tokens = torch.searchsorted(sums, at.double() * sums[:, -1:], right=True).to(
            scores.device
        )  # never one of share 0
        return scores.gather(1, tokens).squeeze(1), tokens.squeeze(1)
