"""Whisper as three graphs for ONNX: the encoder, the decoder's first step, and its later steps with their cache.

The modules below hold the model's own layers and compute what they do in plain matrix products, so that a graph has
nothing in it but those: no masks to build, no cache objects. Names of files, inputs and outputs are those that
Optimum and transformers.js look for.

B utterances, T frames, S encoder positions, L tokens so far, P tokens in the cache, H heads, D width, V vocabulary.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu

from egrecho_inner.model.whisper import Whisper


def heads_apart(values: Tensor, heads: int) -> Tensor:
    """Return (B, H, L, D / H) from (B, L, D)."""
    batch, length, width = values.shape
    return values.view(batch, length, heads, width // heads).transpose(1, 2)


def attend(attention: nn.Module, inputs: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None = None) -> Tensor:
    """Return what queries made of the inputs (B, L, D) read from keys and values (B, H, S, D / H)."""
    queries = heads_apart(attention.q_proj(inputs) * attention.scaling, attention.num_heads)
    scores = queries @ keys.transpose(2, 3)
    if mask is not None:
        scores = scores + mask
    mixed = (scores.softmax(-1) @ values).transpose(1, 2)
    return attention.out_proj(mixed.reshape(inputs.shape))


def keys_and_values(attention: nn.Module, inputs: Tensor) -> tuple[Tensor, Tensor]:
    """Return keys and values (B, H, S, D / H) of the inputs (B, S, D)."""
    heads = attention.num_heads
    return heads_apart(attention.k_proj(inputs), heads), heads_apart(attention.v_proj(inputs), heads)


class EncoderGraph(nn.Module):
    """Log-mel (B, F, 3000) -> encoder output (B, 1500, D)."""

    def __init__(self, model: Whisper):
        super().__init__()
        self.encoder = model.get_encoder()

    def forward(self, input_features: Tensor) -> Tensor:
        encoder = self.encoder
        hidden = gelu(encoder.conv2(gelu(encoder.conv1(input_features)))).transpose(1, 2)
        hidden = hidden + encoder.embed_positions.weight
        for layer in encoder.layers:
            normed = layer.self_attn_layer_norm(hidden)
            hidden = hidden + attend(layer.self_attn, normed, *keys_and_values(layer.self_attn, normed))
            hidden = hidden + layer.fc2(gelu(layer.fc1(layer.final_layer_norm(hidden))))
        return encoder.layer_norm(hidden)


class FirstStep(nn.Module):
    """Prefix (B, L) and encoder output -> logits (B, L, V) and the caches of all layers."""

    def __init__(self, model: Whisper):
        super().__init__()
        self.decoder, self.proj_out = model.get_decoder(), model.proj_out

    def forward(self, input_ids: Tensor, encoder_hidden_states: Tensor) -> tuple[Tensor, ...]:
        decoder, length = self.decoder, input_ids.shape[1]
        positions = torch.arange(length, device=input_ids.device)
        hidden = decoder.embed_tokens(input_ids) + decoder.embed_positions.weight[positions]
        mask = torch.where(positions[:, None] >= positions[None], 0.0, -1.0e9)
        caches: list[Tensor] = []
        for layer in decoder.layers:
            normed = layer.self_attn_layer_norm(hidden)
            own = keys_and_values(layer.self_attn, normed)
            hidden = hidden + attend(layer.self_attn, normed, *own, mask)
            encoder_states = keys_and_values(layer.encoder_attn, encoder_hidden_states)
            hidden = hidden + attend(layer.encoder_attn, layer.encoder_attn_layer_norm(hidden), *encoder_states)
            hidden = hidden + layer.fc2(gelu(layer.fc1(layer.final_layer_norm(hidden))))
            caches += [*own, *encoder_states]
        return self.proj_out(decoder.layer_norm(hidden)), *caches


class NextStep(nn.Module):
    """One token (B, 1) and the caches -> logits (B, 1, V) and the decoder's own caches, one token longer."""

    def __init__(self, model: Whisper):
        super().__init__()
        self.decoder, self.proj_out = model.get_decoder(), model.proj_out

    def forward(self, input_ids: Tensor, past: Sequence[Tensor]) -> tuple[Tensor, ...]:
        decoder = self.decoder
        place = past[0].shape[2]
        row = decoder.embed_positions.weight.index_select(0, torch.full((1,), place, dtype=torch.int64))
        hidden = decoder.embed_tokens(input_ids) + row
        caches: list[Tensor] = []
        for at, layer in enumerate(decoder.layers):
            keys, values, heard_keys, heard_values = past[4 * at : 4 * at + 4]
            normed = layer.self_attn_layer_norm(hidden)
            key, value = keys_and_values(layer.self_attn, normed)
            keys, values = torch.cat([keys, key], 2), torch.cat([values, value], 2)
            hidden = hidden + attend(layer.self_attn, normed, keys, values)
            normed = layer.encoder_attn_layer_norm(hidden)
            hidden = hidden + attend(layer.encoder_attn, normed, heard_keys, heard_values)
            hidden = hidden + layer.fc2(gelu(layer.fc1(layer.final_layer_norm(hidden))))
            caches += [keys, values]
        return self.proj_out(decoder.layer_norm(hidden)), *caches


def cache_names(layers: int, kind: str) -> list[str]:
    """Return the names of the caches of all layers: `past_key_values` or `present`."""
    parts = ("decoder.key", "decoder.value", "encoder.key", "encoder.value")
    return [f"{kind}.{at}.{part}" for at in range(layers) for part in parts]
