"""When each word was spoken, from the decoder's attention to the audio (the way of OpenAI's Whisper, `timing.py`).

In: windows with the tokens recognised in them. Out: words with their times. The text goes through the decoder once
more; the attention of its alignment heads to the encoder's positions, normalised over the tokens and smoothed by a
median, is a matrix through which dynamic time warping finds the path that rises in both. `generation_config.json` names
the heads (`alignment_heads`); where it does not, they are those of the upper half of the layers.

B windows, H heads, L tokens, S encoder positions (20 ms).
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from scipy.ndimage import median_filter
from torch import Tensor
from transformers.models.whisper.tokenization_whisper import LANGUAGES, _combine_tokens_into_words

from egrecho_inner.decoding.pieces import to_tensors
from egrecho_inner.decoding.sequential import DecodedPiece
from egrecho_inner.decoding.transcribe import Transcriber, eval_mode
from egrecho_inner.model.whisper import Whisper
from egrecho_inner.text.transcripts import Word

POSITION_SECONDS = 0.02
FRAMES_PER_POSITION = 2


def word_times(transcriber: Transcriber, windows: Sequence[DecodedPiece]) -> list[list[Word]]:
    """Return the words of each window, in seconds from the window's beginning.

    Args:
        transcriber: With a PyTorch model.
        windows: What was recognised; timestamps among the tokens are passed over.
    """
    labels = transcriber.labels
    texts = [[token for token in window.found.tokens if token not in labels.not_text] for window in windows]
    words: list[list[Word]] = [[] for _ in windows]
    filled = [at for at, text in enumerate(texts) if text]
    size = max(1, int(transcriber.options.batch_seconds / 30))
    for first in range(0, len(filled), size):
        some = filled[first : first + size]
        matrices = attention_of(transcriber, [windows[at] for at in some], [texts[at] for at in some])
        for at, matrix in zip(some, matrices, strict=True):
            words[at] = words_of(labels.tokenizer, texts[at], windows[at].found.language, matrix)
    return words


def attention_of(
    transcriber: Transcriber, windows: Sequence[DecodedPiece], texts: Sequence[list[int]]
) -> list[np.ndarray]:
    """Return how well each text token and the end go with each encoder position: a matrix (L + 1, S) a window."""
    labels, model = transcriber.labels, transcriber.model
    prefixes = [labels.prefix(window.found.language) for window in windows]
    rows = [[*prefix, *text, labels.eot] for prefix, text in zip(prefixes, texts, strict=True)]
    width = max(map(len, rows))
    ids = torch.tensor([row + [labels.eot] * (width - len(row)) for row in rows], device=transcriber.device)
    pieces = [window.piece for window in windows]
    with eval_mode(model), eager(model):
        features, mask = to_tensors(pieces, transcriber.padded, model.device, model.dtype, transcriber.zeros)
        output = model(features, attention_mask=mask, decoder_input_ids=ids, use_cache=False, output_attentions=True)
    heads = alignment_heads(model)
    found = torch.stack([output.cross_attentions[layer][:, head] for layer, head in heads], 1).float()  # (B, H, L, S)
    matrices = []
    for weights, row, prefix, piece in zip(found, rows, prefixes, pieces, strict=True):
        positions = -(-piece.length // FRAMES_PER_POSITION)
        own = normalise(weights[:, : len(row), :positions], model.config.median_filter_width)
        # where a token comes in, the decoder looks for the next one: the row of the prefix's end is the first word's
        matrices.append(own[len(prefix) - 1 : len(row) - 1].numpy())
    return matrices


def normalise(weights: Tensor, width: int) -> Tensor:
    """Return the mean over heads (L, S) of attention (H, L, S) made comparable: shares of the audio, then z-scores."""
    weights = weights / weights.sum(-1, keepdim=True).clamp(min=1e-9)  # what went to the padding does not count
    deviation, mean = torch.std_mean(weights, dim=-2, keepdim=True, unbiased=False)
    scores = ((weights - mean) / deviation.clamp(min=1e-9)).cpu()
    return torch.from_numpy(median_filter(scores.numpy(), (1, 1, width), mode="mirror")).mean(0)


@contextmanager
def eager(model: Whisper) -> Iterator[None]:
    """Let the attention be computed in the one way that returns its weights."""
    before = model.config._attn_implementation
    model.set_attn_implementation("eager")
    try:
        yield
    finally:
        model.set_attn_implementation(before)


def alignment_heads(model: Whisper) -> list[tuple[int, int]]:
    """Return layer and head of each head that follows the audio."""
    given = getattr(model.generation_config, "alignment_heads", None)
    if given:
        return [(int(layer), int(head)) for layer, head in given]
    layers, heads = model.config.decoder_layers, model.config.decoder_attention_heads
    return [(layer, head) for layer in range(layers // 2, layers) for head in range(heads)]


def words_of(tokenizer: object, text: Sequence[int], language: str | None, matrix: np.ndarray) -> list[Word]:
    """Return the words of a text with their times.

    Args:
        tokenizer: Of the model.
        text: Its tokens.
        language: Code; some languages have no spaces between words.
        matrix: (L + 1, S), the last row that of the end.
    """
    name = LANGUAGES.get(language or "en", "english")
    spelled, tokens, _ = _combine_tokens_into_words(tokenizer, list(text), language=name)
    rows, columns = warp(-matrix)
    begins = columns[np.diff(rows, prepend=-1) > 0] * POSITION_SECONDS  # of each token, and of the end
    edges = np.cumsum([0, *(len(each) for each in tokens)])
    return [
        Word(word, round(float(begins[first]), 2), round(float(begins[last]), 2), int(last - first))
        for word, first, last in zip(spelled, edges[:-1], edges[1:], strict=True)
        if last > first
    ]


def warp(cost: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return rows and columns of the cheapest path from the first to the last cell that goes right, down or both.

    Computed diagonal by diagonal: cells of one do not depend on each other. Of equal ways the one through the fewest
    rows is taken, as in OpenAI's program.

    Args:
        cost: (N, M).
    """
    rows, columns = cost.shape
    total = np.full((rows + 1, columns + 1), np.inf)
    total[0, 0] = 0.0
    way = np.zeros((rows + 1, columns + 1), dtype=np.int8)  # 0 both, 1 down, 2 right
    for diagonal in range(2, rows + columns + 1):
        i = np.arange(max(1, diagonal - columns), min(rows, diagonal - 1) + 1)
        j = diagonal - i
        both, down, right = total[i - 1, j - 1], total[i - 1, j], total[i, j - 1]
        chosen = np.where((both < down) & (both < right), 0, np.where((down < both) & (down < right), 1, 2))
        way[i, j] = chosen
        total[i, j] = cost[i - 1, j - 1] + np.choose(chosen, [both, down, right])
    way[0, :], way[:, 0] = 2, 1
    i, j, path = rows, columns, []
    while i > 0 or j > 0:
        path.append((i - 1, j - 1))
        step = way[i, j]
        i, j = i - (step != 2), j - (step != 1)
    found = np.array(path[::-1])
    return found[:, 0], found[:, 1]
