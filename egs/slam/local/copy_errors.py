#!/usr/bin/env python3
"""Print how well a nano language model copies: the word error rate of its text, given tokens in the audio's place.

    copy_errors.py --lm egs/slam/lm

The texts are of the mini corpus's test split, which `make_text.py` never draws, in the mix of `mini.sh`'s speech. Noise
0 gives a text's own tokens, 1 what training gave. Not all tokens that were left out or replaced can be known: `given`
is the error rate of the tokens themselves, read as CTC reads them.
"""

import random
from itertools import groupby
from pathlib import Path

import torch
from kaldialign import edit_distance
from make_text import PAD, draw, letters, stretch
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM

from egrecho_inner.config import run
from egrecho_inner.config_types import PositiveInt, Seed


def copy_errors(lm: str, lines: PositiveInt = 200, seed: Seed = 7) -> None:
    """Print the error rates without noise, with half of it and with all.

    Args:
        lm: Folder of the language model.
        lines: Texts for each.
        seed: Of texts and noise.
    """
    tokenizer = Tokenizer.from_file(str(Path(lm) / "tokenizer.json"))
    model = AutoModelForCausalLM.from_pretrained(lm, use_safetensors=True).eval()
    pad = tokenizer.token_to_id(PAD)
    print("| noise | WER % | given | right lines |\n|---|---|---|---|")
    for noise in (0.0, 0.5, 1.0):
        rng, wrong, given, right, words = random.Random(seed), 0, 0, 0, 0
        for _ in range(lines):
            text = draw(rng, "test", 0.4, 0.1)
            ids = tokenizer.encode(" " + text, add_special_tokens=False).ids
            tokens = stretch(ids, rng, letters(tokenizer), pad, noise)
            reference, found = text.split(), copy(model, tokenizer, tokens).split()
            kept = tokenizer.decode([token for token, _ in groupby(tokens) if token != pad]).split()
            wrong += edit_distance(reference, found)["total"]
            given += edit_distance(reference, kept)["total"]
            right, words = right + (found == reference), words + len(reference)
        print(f"| {noise} | {100 * wrong / words:.1f} | {100 * given / words:.1f} | {right} of {lines} |", flush=True)


def copy(model: torch.nn.Module, tokenizer: Tokenizer, tokens: list[int]) -> str:
    """Return the text that a model writes behind some tokens, taking the likeliest token each time."""
    ids = torch.tensor([[*tokens, tokenizer.token_to_id("<|text|>")]])
    end = tokenizer.token_to_id("</s>")
    with torch.no_grad():
        found = model.generate(ids, max_new_tokens=60, do_sample=False, eos_token_id=end, pad_token_id=end)
    return tokenizer.decode(found[0, ids.shape[1] :].tolist(), skip_special_tokens=True)


if __name__ == "__main__":
    run(copy_errors)
