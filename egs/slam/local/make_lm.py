#!/usr/bin/env python3
"""Make the config and the tokenizer of a nano language model, without weights; `egrecho slam` draws and trains them.

    make_lm.py --processor egs/mini/nano --out exp/slam_lm/empty

The tokenizer has the byte-level BPE of a Whisper folder and, behind it, <s>, </s>, <pad> (nothing is spoken here) and
<|text|> (the text begins). The model is an LFM2 with tied embeddings: short convolutions and attention take turns. To
copy is to find the place whose last tokens are those just written; the convolutions have the last three at hand from
the beginning, which attention alone has to learn first.
"""

import json
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import Lfm2Config, PreTrainedTokenizerFast

from egrecho_inner.config import run
from egrecho_inner.runtime.files import working_folder

BEGIN, END, PAD, TEXT = "<s>", "</s>", "<pad>", "<|text|>"


def make_lm(processor: str, out: str, width: int = 128, layers: int = 4, heads: int = 4, hidden: int = 384) -> None:
    """Make a language model's folder without weights.

    Args:
        processor: Folder with the tokenizer.json of a Whisper.
        out: Folder to write.
        width: Of the embeddings.
        layers: Of the model, convolutions and attention by turns.
        heads: Of attention.
        hidden: Width of the feed-forward layers.
    """
    known = json.loads((Path(processor) / "tokenizer.json").read_text(encoding="utf-8"))["model"]
    vocab = {piece: index for piece, index in known["vocab"].items() if piece}  # without the empty token
    backend = Tokenizer(models.BPE(vocab=vocab, merges=[tuple(merge) for merge in known["merges"]]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    names = {"bos_token": BEGIN, "eos_token": END, "pad_token": PAD, "additional_special_tokens": [TEXT]}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, **names)
    config = Lfm2Config(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=hidden,
        block_auto_adjust_ff_dim=False,
        num_hidden_layers=layers,
        layer_types=[("conv", "full_attention")[place % 2] for place in range(layers)],
        num_attention_heads=heads,
        num_key_value_heads=heads,
        rope_parameters={"rope_type": "default", "rope_theta": 10_000.0},
        max_position_embeddings=1024,
        initializer_range=width**-0.5,  # the usual 0.02 is that of models twenty times as wide
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=None,  # <pad> is learned like any token: it stands for a vector in which nothing is spoken
        architectures=["Lfm2ForCausalLM"],
    )
    with working_folder(Path(out)) as folder:
        config.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    print(f"{out}: {len(tokenizer)} tokens")


if __name__ == "__main__":
    run(make_lm)
