"""The state of a causal language model between two steps of a search: `Rows` for `search.greedy` and `search.beam`.

In: embeddings of prompts with their audio, of different lengths. They are moved to the right, so that all end in one
column and every next token is the last; each keeps the positions it would have alone, and what is before its beginning
is masked. Out: the caches, row by row.

B utterances, K beams, R rows (B K, fewer as utterances finish), P longest prompt, L new tokens, E width, V vocabulary.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import DynamicCache


@dataclass
class CausalRows:
    """A language model behind its prompts; K rows of one utterance are neighbours."""

    llm: nn.Module
    ids: Tensor
    """(R, L) of new tokens."""
    mask: Tensor
    """(R, P + L) 1 where a row has a token."""
    cache: DynamicCache
    beams: int = 1
    """K."""
    prefix: int = 0
    """All columns of `ids` are new."""

    def __len__(self) -> int:
        return len(self.ids)

    def repeat(self, times: int) -> None:
        """Make several rows of each."""
        self.beams = times
        self.ids, self.mask = (each.repeat_interleave(times, 0) for each in (self.ids, self.mask))
        rows = torch.arange(len(self.ids), device=self.ids.device) // times
        self.cache.reorder_cache(rows)  # layers of convolutions have no batch_repeat_interleave

    def keep(self, utterances: Tensor) -> None:
        """Go on with some utterances, given by position."""
        rows = (utterances[:, None] * self.beams + torch.arange(self.beams, device=utterances.device)).flatten()
        self.ids, self.mask = self.ids[rows], self.mask[rows]
        self.cache.reorder_cache(rows)

    def reorder(self, rows: Tensor) -> None:
        """Put rows of the same utterance in the place of others; their masks are equal."""
        self.ids = self.ids[rows]
        self.cache.reorder_cache(rows)

    def step(self, tokens: Tensor) -> Tensor:
        """Append one token (R,) to each row and return the next logits (R, V)."""
        self.ids = torch.cat([self.ids, tokens[:, None]], 1)
        self.mask = torch.cat([self.mask, self.mask.new_ones(len(self), 1)], 1)
        output = self.llm(
            input_ids=tokens[:, None],
            attention_mask=self.mask,
            position_ids=self.mask.sum(-1, keepdim=True) - 1,
            past_key_values=self.cache,
            use_cache=True,
        )
        return output.logits[:, -1]


def start(llm: nn.Module, embedded: Tensor, lengths: Tensor) -> tuple[CausalRows, Tensor]:
    """Run prompts and return the state behind them, with the logits (B, V) there.

    Args:
        llm: In eval mode.
        embedded: (B, P, E), padded on the right.
        lengths: Of each (B,).
    """
    width = embedded.shape[1]
    places = torch.arange(width, device=embedded.device)[None] - (width - lengths)[:, None]  # (B, P)
    mask = (places >= 0).long()
    positions = places.clamp(min=0)
    rows = torch.arange(len(embedded), device=embedded.device)[:, None]
    moved = embedded[rows, positions] * mask[:, :, None].to(embedded.dtype)  # what is before the beginning is finite
    cache = DynamicCache(config=getattr(llm, "config", None))
    output = llm(
        inputs_embeds=moved,
        attention_mask=mask,
        position_ids=positions,
        past_key_values=cache,
        use_cache=True,
        logits_to_keep=1,
    )
    ids = torch.zeros(len(embedded), 0, dtype=torch.long, device=embedded.device)
    return CausalRows(llm, ids, mask, output.past_key_values), output.logits[:, -1]
