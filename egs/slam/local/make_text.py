#!/usr/bin/env python3
"""Make texts for a nano language model that is to repeat what it is given, however stretched and noisy it comes.

    make_text.py --lm exp/slam_lm/empty --out data/slam_lm/text.jsonl --lines 100000 --noise 1 --seed 1

A line has a key, a target and mostly `tokens`, which stand where audio will: the target's own tokens, each one to three
times, some left out or wrong, with <pad> between them, as a projector might make them of speech. As in CTC, which the
projector is trained with, equal neighbours are one token and <pad> parts two that are meant. Some lines are random
pieces, which only copying can predict; some have nothing but <pad> and an empty target, some are plain sentences. Texts
are those of the mini corpus's train split (`egs/mini/local/sentences.py`), so that no sentence of a test is among them.
"""

import json
import random
import sys
from functools import cache
from pathlib import Path

from tokenizers import Tokenizer

from egrecho_inner.config import run
from egrecho_inner.config_types import ClosedUnitInterval, PositiveInt, Seed
from egrecho_inner.runtime.files import write_jsonl

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "mini" / "local"))
from sentences import draw

PAD = "<pad>"
LONGEST = 100
"""Tokens of a stretched text."""


def make_text(lm: str, out: str, lines: PositiveInt = 100_000, noise: ClosedUnitInterval = 1.0, seed: Seed = 1) -> None:
    """Write lines of `egrecho import-jsonl` without audio.

    Args:
        lm: Folder with the tokenizer.
        out: File to write.
        lines: How many.
        noise: 0 gives the tokens as they are, 1 stretches and damages them in full.
        seed: Of the texts.
    """
    tokenizer = Tokenizer.from_file(str(Path(lm) / "tokenizer.json"))
    rng = random.Random(seed)
    count = write_jsonl(out, (json.dumps({"key": f"text{n:07d}", **line(rng, tokenizer, noise)}) for n in range(lines)))
    print(f"{out}: {count:,} lines")


def line(rng: random.Random, tokenizer: Tokenizer, noise: float) -> dict[str, object]:
    """Draw one line without its key."""
    pad, kind = tokenizer.token_to_id(PAD), rng.random()
    if kind < 0.06 * noise:
        return {"target": "", "tokens": [pad] * rng.randint(2, 40)}
    if kind < 0.06 * noise + 0.03:
        return {"target": " " + draw(rng, "train", 0.3, 0.35), "tokens": []}
    if rng.random() < 0.7 - 0.5 * noise:
        text = tokenizer.decode(rng.choices(letters(tokenizer), k=rng.randint(6, 20)))
    else:
        text = " " + draw(rng, "train", 0.3, 0.35)
    ids = tokenizer.encode(text, add_special_tokens=False).ids
    return {"target": text, "tokens": stretch(ids, rng, letters(tokenizer), pad, noise)}


@cache
def letters(tokenizer: Tokenizer) -> tuple[int, ...]:
    """Return the tokens that are letters, with or without a space before them."""
    texts = {index: tokenizer.decode([index]).strip() for index in range(tokenizer.get_vocab_size())}
    return tuple(index for index, text in texts.items() if text.isascii() and text.isalpha())


def stretch(ids: list[int], rng: random.Random, others: tuple[int, ...], pad: int, noise: float) -> list[int]:
    """Repeat, damage and space out tokens."""
    gap, wrong, again = (
        noise * rng.choice(choices) for choices in ((0, 0.2, 0.4, 0.6), (0, 0, 0, 0.05, 0.1), (0, 0.2, 0.4))
    )
    edge = round(3 * noise)
    found = [pad] * rng.randint(0, edge)
    for token in ids:
        if rng.random() < wrong:
            if rng.random() < 0.5:
                continue
            token = rng.choice(others)
        if found and found[-1] == token:
            found.append(pad)
        found.append(token)
        times = 1
        while times < 3 and rng.random() < again:
            found.append(token)
            times += 1
        while rng.random() < gap and len(found) < LONGEST:
            found.append(pad)
    return found + [pad] * rng.randint(0, edge)


if __name__ == "__main__":
    run(make_text)
