"""Guided attention: a penalty that shows a decoder from random weights to listen from left to right.

In: queries and keys of a cross-attention. Out: how far it strays from the diagonal. Small decoders on little speech
learn which words they hear long before their order; the penalty gives them that in some hundred steps (Tachibana et
al. 2018, arXiv:1710.08969, eq. 8). Speech is not even, so the diagonal is wide and only half of the heads are guided.

B batch, H heads, L tokens, S encoder positions, E width of a head.
"""

import torch
from torch import Tensor

WIDTH = 0.15
"""Of the diagonal, as a share of the utterance."""


def stray(queries: Tensor, keys: Tensor, heard: Tensor, words: Tensor) -> Tensor:
    """Return the attention that lies off the diagonal, mean of the guided heads, summed over words' tokens.

    Args:
        queries: Scaled (B, H, L, E).
        keys: (B, H, S, E).
        heard: The utterances' own positions (B, S) bool.
        words: Where the next token is one of the text (B, L) bool.
    """
    guided = slice(queries.shape[1] // 2)
    scores = (queries[:, guided] @ keys[:, guided].transpose(-1, -2)).float()
    weights = scores.masked_fill(~heard[:, None, None], float("-inf")).softmax(-1)  # (B, H, L, S)
    place = (words.cumsum(1) - 0.5) / words.sum(1, keepdim=True).clamp(min=1)  # (B, L)
    time = (torch.arange(heard.shape[1], device=heard.device) + 0.5) / heard.sum(1, keepdim=True)  # (B, S)
    off = 1 - torch.exp(-((place[:, :, None] - time[:, None]) ** 2) / (2 * WIDTH**2))  # (B, L, S)
    return (weights * off[:, None]).sum(-1).mean(1)[words].sum()
