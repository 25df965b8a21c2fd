#!/usr/bin/env python3
"""Time the decoder's steps with a growing and with a preallocated cache, turn by turn, on the same model.

    python benchmarks/decoder_cache.py

The growing one copies the keys of the tokens said so far at every step; the preallocated one attends to its whole
length at every step. Tiny's dimensions with random weights, 32 rows of 3.2 s.
"""

import argparse
import copy
from collections.abc import Callable

import torch
from speech import CLOCKS, add_clock, interleave, machine, quiet, show
from transformers import WhisperConfig
from transformers.cache_utils import Cache, DynamicCache, EncoderDecoderCache, StaticCache

from egrecho_inner.model.whisper import Whisper

PEER = "growing (DynamicCache)"
POSITIONS = 160  # of 3.2 s


def main() -> None:
    """Time both, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=32, metavar="N", help="sequences at once")
    parser.add_argument("--tokens", type=int, default=30, metavar="N", help="steps")
    parser.add_argument("--room", type=int, default=112, metavar="N", help="tokens that are preallocated")
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="times each way is run")
    parser.add_argument("--threads", type=int, default=1, metavar="N", help="of torch")
    add_clock(parser)
    options = parser.parse_args()
    quiet()
    torch.set_num_threads(options.threads)
    model = Whisper(WhisperConfig(d_model=384, encoder_layers=4, decoder_layers=4, vocab_size=51865)).eval()
    config = copy.deepcopy(model.config)
    config.num_hidden_layers = config.decoder_layers
    clock = CLOCKS[options.clock]

    def run(make: Callable[[], Cache]) -> float:
        begin = clock()
        step(model, EncoderDecoderCache(make(), DynamicCache(config=config)), options.rows, options.tokens)
        return options.rows * options.tokens / (clock() - begin)

    ways = {
        PEER: lambda: run(lambda: DynamicCache(config=config)),
        f"preallocated for {options.room} (StaticCache)": lambda: run(
            lambda: StaticCache(config=config, max_cache_len=options.room)
        ),
    }
    interleave(ways, 1)
    speeds = interleave(ways, options.rounds)
    show(
        f"{options.rows} rows, {options.tokens} steps, {options.clock} time; {machine()}", speeds, PEER, unit="tokens/s"
    )


@torch.inference_mode()
def step(model: Whisper, cache: EncoderDecoderCache, rows: int, tokens: int) -> None:
    """Say some tokens; which ones does not matter for the time."""
    heard = torch.zeros(rows, POSITIONS, model.config.d_model)
    ids = torch.zeros(rows, 1, dtype=torch.int64)
    for _ in range(tokens):
        model(encoder_outputs=(heard,), decoder_input_ids=ids, past_key_values=cache, use_cache=True)


if __name__ == "__main__":
    main()
