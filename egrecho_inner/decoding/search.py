"""Greedy and beam search from the decoder's first step on, for a batch whose utterances end at different times.

In: `Rows`, the decoder's state after the prefix, the logits there, a limit of new tokens for each utterance. Out: the
best tokens of each. Each utterance has its own limit, so its tokens do not depend on its batch mates; a finished one
leaves the batch, so that the others go on faster. The scores are those of Transformers' `generate()`, which computes
every row until the last one is finished, and copies the keys of the whole audio at every step of a beam search; here
the beams of an utterance share them.
Probabilities are those among the tokens that the rules allow, as in OpenAI's Whisper; `generate()` weighs its beams by
the model's tokens without rules.
Sampling is greedy search with a `Draw`. Left out: returning more than the best.

B utterances, K beams, R rows (B K at first, fewer as utterances finish), L tokens, V vocabulary, S encoder positions.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import torch
from torch import Tensor
from transformers.cache_utils import EncoderDecoderCache
from transformers.modeling_outputs import BaseModelOutput

from egrecho_inner.model.whisper import Whisper

NEVER = -1.0e9  # finite: the difference of two -inf would be NaN
COMPACT_BELOW = 0.75  # share of rows still at work under which the finished ones are dropped: that copies the cache
BLOCK = 256  # tokens; a vocabulary has about 200 blocks

Rules = Callable[[Tensor, Tensor], Tensor]
"""(tokens (R, L), logits (R, V)) -> logits with -inf where a token may not come."""
Draw = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""(logits (R, V), utterance of each row (R,)) -> the logit and the id of the token to take (R,)."""


class Best(NamedTuple):
    """The result for one utterance."""

    tokens: list[int]
    """New tokens, the end token not among them."""
    logprob: float
    """Sum over the tokens, the end token among them."""
    length: int
    """Tokens, the end token among them."""
    truncated: bool
    """Whether the limit came before the end token."""


class Rows(Protocol):
    """A decoder's state: what was decoded so far and the caches, row by row; K rows of one utterance are neighbours.

    `EncoderDecoderRows` is Whisper's, `CausalRows` (`causal.py`) that of a language model.
    """

    ids: Tensor
    """(R, L), the prefix first."""
    prefix: int
    """Columns of `ids` before the first new token."""

    def __len__(self) -> int: ...

    def repeat(self, times: int) -> None:
        """Make several rows of each."""
        ...

    def keep(self, utterances: Tensor) -> None:
        """Go on with some utterances, given by position."""
        ...

    def reorder(self, rows: Tensor) -> None:
        """Put rows of the same utterance in the place of others."""
        ...

    def step(self, tokens: Tensor) -> Tensor:
        """Append one token (R,) to each row and return the next logits (R, V)."""
        ...


@dataclass
class EncoderDecoderRows:
    """Whisper's decoder: caches of its own tokens and of the audio."""

    model: Whisper
    ids: Tensor
    """(R, L), the prefix first."""
    encoded: Tensor
    """(B, S, D) the encoder's output; only its shape is read, the cache has the keys."""
    mask: Tensor | None
    """(B, T) of frames."""
    cache: EncoderDecoderCache
    beams: int = 1
    """K."""
    prefix: int = field(init=False)

    def __post_init__(self) -> None:
        self.prefix = self.ids.shape[1]

    def __len__(self) -> int:
        return len(self.ids)

    def repeat(self, times: int) -> None:
        """Make several rows of each; the encoder's keys are there once (`model/length.py`)."""
        self.beams = times
        self.ids = self.ids.repeat_interleave(times, 0)
        self.cache.self_attention_cache.batch_repeat_interleave(times)

    def keep(self, utterances: Tensor) -> None:
        """Go on with some utterances, given by position."""
        rows = (utterances[:, None] * self.beams + torch.arange(self.beams, device=utterances.device)).flatten()
        self.ids = self.ids[rows]
        self.mask = None if self.mask is None else self.mask[utterances]
        self.cache.self_attention_cache.batch_select_indices(rows)
        self.cache.cross_attention_cache.batch_select_indices(utterances)

    def reorder(self, rows: Tensor) -> None:
        """Put rows of the same utterance in the place of others: the encoder's keys stay."""
        self.ids = self.ids[rows]
        self.cache.self_attention_cache.reorder_cache(rows)

    def step(self, tokens: Tensor) -> Tensor:
        """Append one token (R,) to each row and return the next logits (R, V)."""
        self.ids = torch.cat([self.ids, tokens[:, None]], 1)
        encoded = self.encoded[:1].expand(len(self) // self.beams, -1, -1)
        output = self.model(
            encoder_outputs=BaseModelOutput(last_hidden_state=encoded),
            attention_mask=self.mask,
            decoder_input_ids=tokens[:, None],
            past_key_values=self.cache,
            use_cache=True,
        )
        return output.logits[:, -1]


def greedy(rows: Rows, logits: Tensor, limits: Tensor, rules: Rules, eot: int, draw: Draw | None = None) -> list[Best]:
    """Take the likeliest token each time, or one that is drawn.

    Args:
        rows: State after the prefix, a row for each utterance.
        logits: (B, V) there.
        limits: New tokens of each utterance, the end token counted (B,).
        rules: What may come.
        eot: The end token.
        draw: Chooses a token of each row; None takes the likeliest.
    """
    best: list[Best | None] = [None] * len(rows)
    owners = torch.arange(len(rows), device=logits.device)  # (R,) utterance of each row
    live = torch.ones_like(owners, dtype=torch.bool)
    sums = torch.zeros(len(rows), device=logits.device)
    for length in range(1, int(limits.max()) + 1):
        scores = rules(rows.ids, logits.float())  # (R, V)
        top, tokens = scores.max(-1) if draw is None else draw(scores, owners)
        sums = sums + torch.where(live, top - scores.logsumexp(-1), 0.0)
        ended = live & ((tokens == eot) | (limits[owners] <= length))
        for row in ended.nonzero().flatten().tolist():
            found = [*rows.ids[row, rows.prefix :].tolist(), int(tokens[row])]
            truncated = found[-1] != eot
            best[int(owners[row])] = Best(found if truncated else found[:-1], float(sums[row]), length, truncated)
        live = live & ~ended
        at_work = int(live.sum())
        if at_work == 0:
            break
        if at_work < COMPACT_BELOW * len(rows):
            rows.keep(live.nonzero().flatten())
            owners, sums, tokens, live = owners[live], sums[live], tokens[live], live[live]
        logits = rows.step(tokens)
    return [each for each in best if each is not None]


def beam(
    rows: Rows, logits: Tensor, limits: Tensor, rules: Rules, eot: int, beams: int, length_penalty: float = 1.0
) -> list[Best]:
    """Follow the `beams` likeliest beginnings; a sequence is worth its log probability over length^penalty.

    An utterance is finished when it has `beams` endings and no beginning is worth more than the worst of them.
    """
    endings = [Endings(beams, length_penalty) for _ in range(len(rows))]
    device = logits.device
    sums = torch.full((len(rows), beams), NEVER, device=device)  # (B, K)
    sums[:, 0] = 0.0  # the beams are equal at first: only one of them may multiply
    rows.repeat(beams)
    logits = logits.repeat_interleave(beams, 0)
    owners = torch.arange(len(endings), device=device)  # (B,) utterance of each group of rows
    for length in range(1, int(limits.max()) + 1):
        scores, tokens = likeliest(rules(rows.ids, logits.float()), 2 * beams)  # (R, 2K)
        sums, places = (sums[:, :, None] + scores.view(len(owners), beams, -1)).flatten(1).topk(2 * beams)  # (B, 2K)
        origins, tokens = places // scores.shape[-1], tokens.view(len(owners), -1).gather(1, places)
        last = limits[owners] <= length  # (B,)
        ended = (tokens == eot) | last[:, None]
        for group, place in ended[:, :beams].nonzero().tolist():
            earlier = rows.ids[group * beams + int(origins[group, place]), rows.prefix :].tolist()
            endings[int(owners[group])].add(earlier, int(tokens[group, place]), float(sums[group, place]), eot)
        sums, chosen = (sums + ended * NEVER).topk(beams)  # (B, K) of those that go on
        hopes = sums[:, 0].tolist()
        groups = [
            group
            for group, (owner, over) in enumerate(zip(owners.tolist(), last.tolist(), strict=True))
            if not over and endings[owner].may_improve(hopes[group], length)
        ]
        if not groups:
            break
        going = torch.tensor(groups, device=device)
        if len(going) < len(owners):
            rows.keep(going)
        owners, sums, chosen = owners[going], sums[going], chosen[going]
        base = torch.arange(len(going), device=device)[:, None] * beams
        rows.reorder((base + origins[going].gather(1, chosen)).flatten())
        logits = rows.step(tokens[going].gather(1, chosen).flatten())
    return [found.best[0][1] for found in endings]


def likeliest(logits: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Return the log probabilities (R, count) of the likeliest tokens of each row, and the tokens.

    The n largest of all are among the n blocks with the largest maxima: a maximum is found at the speed of memory,
    while sorting 50,000 logits per row would take a good part of a step on a CPU.
    """
    rows, size = logits.shape
    blocks = -(-size // BLOCK)
    if blocks <= count:
        top, tokens = logits.topk(min(count, size))
        return top - logits.logsumexp(-1, keepdim=True), tokens
    padded = torch.nn.functional.pad(logits, (0, blocks * BLOCK - size), value=-torch.inf).view(rows, blocks, BLOCK)
    best = padded.amax(-1).topk(count).indices  # (R, count)
    found = padded.gather(1, best[:, :, None].expand(-1, -1, BLOCK))  # (R, count, BLOCK)
    top, places = found.flatten(1).topk(count)
    tokens = best.gather(1, places // BLOCK) * BLOCK + places % BLOCK
    return top - logits.logsumexp(-1, keepdim=True), tokens


class Endings:
    """The best finished sequences of one utterance."""

    def __init__(self, room: int, length_penalty: float):
        self.room, self.length_penalty = room, length_penalty
        self.best: list[tuple[float, Best]] = []

    def add(self, earlier: list[int], token: int, logprob: float, eot: int) -> None:
        """Offer a sequence and its last token; kept if among the best."""
        length, truncated = len(earlier) + 1, token != eot
        found = Best([*earlier, token] if truncated else earlier, logprob, length, truncated)
        self.best.append((logprob / length**self.length_penalty, found))
        self.best = sorted(self.best, key=lambda item: -item[0])[: self.room]

    def may_improve(self, logprob: float, length: int) -> bool:
        """Tell whether a beginning of this length is still worth more than the worst ending, or there is room."""
        return len(self.best) < self.room or logprob / length**self.length_penalty > self.best[-1][0]
