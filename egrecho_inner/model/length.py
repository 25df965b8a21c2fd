"""Whisper's encoder and decoder for input of any length: sliced positions, and masks by each utterance's own length.

Subclasses of Transformers' modules with the same names of weights. An utterance's values do not depend on its batch
mates: frames after its end are zeroed where a convolution could see them and masked in every attention. Where all
utterances of a batch are equally long there is nothing to mask, and attention takes its fastest way.
Several decoder rows may listen to the same utterance (the beams of a search): they share its keys and values.

B batch, F mel bins, T frames (10 ms), S encoder positions (20 ms), L tokens, D width, K rows per utterance.
"""

from typing import Any

import torch
from torch import Tensor, nn
from transformers import WhisperConfig
from transformers.masking_utils import create_bidirectional_mask
from transformers.modeling_outputs import BaseModelOutput
from transformers.models.whisper.modeling_whisper import (
    WhisperAttention,
    WhisperDecoder,
    WhisperDecoderLayer,
    WhisperEncoder,
    sinusoids,
)
from transformers.utils.generic import merge_with_config_defaults
from transformers.utils.output_capturing import capture_outputs


class LengthEncoder(WhisperEncoder):
    """Whisper's encoder for any length up to its position table, masked by true length."""

    def __init__(self, config: WhisperConfig):
        super().__init__(config)
        # Transformers passes over this table where a class is not its own, and leaves it random
        with torch.no_grad():
            self.embed_positions.weight.copy_(sinusoids(*self.embed_positions.weight.shape))

    @merge_with_config_defaults
    @capture_outputs
    def forward(self, input_features: Tensor, attention_mask: Tensor | None = None, **kwargs: Any) -> BaseModelOutput:
        if input_features.shape[-1] > 2 * self.max_source_positions:
            raise ValueError(f"{input_features.shape[-1]} frames; Whisper takes {2 * self.max_source_positions}")
        frames = None if attention_mask is None else attention_mask[:, None]  # (B, 1, T)
        hidden = input_features if frames is None else input_features * frames.to(input_features.dtype)
        hidden = nn.functional.gelu(self.conv1(hidden))  # (B, D, T)
        if frames is not None:
            hidden = hidden * frames.to(hidden.dtype)  # under autocast not the features' type
        hidden = nn.functional.gelu(self.conv2(hidden)).transpose(1, 2)  # (B, S, D)
        hidden = hidden + self.embed_positions.weight[: hidden.shape[1]]
        hidden = nn.functional.dropout(hidden, p=self.dropout, training=self.training)
        mask = create_bidirectional_mask(self.config, hidden, position_mask(attention_mask))
        for layer in self.layers:
            if self.training and self.layerdrop > 0 and torch.rand([]) < self.layerdrop:
                continue
            hidden = layer(hidden, mask, **kwargs)
        return BaseModelOutput(last_hidden_state=self.layer_norm(hidden))


class SharedCrossAttention(WhisperAttention):
    """Cross-attention in which K rows in a row listen to one utterance: they are K queries to one set of keys.

    Without it the keys and values of the whole audio would be copied for every beam, and read once for each.
    """

    def forward(
        self,
        hidden_states: Tensor,
        key_value_states: Tensor | None = None,
        past_key_values: Any = None,
        attention_mask: Tensor | None = None,
        output_attentions: bool = False,
        **kwargs: Any,
    ) -> tuple[Tensor, Tensor | None]:
        queries = hidden_states
        if key_value_states is not None and len(key_value_states) != len(hidden_states):
            queries = hidden_states.reshape(len(key_value_states), -1, hidden_states.shape[-1])  # (B, K L, D)
        output, weights = super().forward(
            queries, key_value_states, past_key_values, attention_mask, output_attentions, **kwargs
        )
        return output.view(hidden_states.shape), weights


class LengthDecoderLayer(WhisperDecoderLayer):
    """Whisper's decoder layer whose cross-attention sees an utterance's own frames only."""

    def __init__(self, config: WhisperConfig, layer_idx: int | None = None):
        super().__init__(config, layer_idx)
        heads, dropout = config.decoder_attention_heads, config.attention_dropout
        with torch.random.fork_rng(devices=[]):  # the class of a module must not decide what a seed's weights are
            self.encoder_attn = SharedCrossAttention(
                config.d_model, heads, dropout, is_decoder=True, layer_idx=layer_idx, config=config
            )

    def forward(
        self,
        hidden_states: Tensor,
        attention_mask: Tensor | None = None,
        encoder_hidden_states: Tensor | None = None,
        encoder_attention_mask: Tensor | None = None,
        past_key_values: Any = None,
        use_cache: bool | None = True,
        cross_mask: Tensor | None = None,
        **kwargs: Any,
    ) -> Tensor:
        # Whisper's decoder passes None for `encoder_attention_mask`; ours arrives among its keyword arguments
        return super().forward(
            hidden_states, attention_mask, encoder_hidden_states, cross_mask, past_key_values, use_cache, **kwargs
        )


class LengthDecoder(WhisperDecoder):
    """Whisper's decoder made of length-aware layers."""

    def __init__(self, config: WhisperConfig):
        super().__init__(config)
        self.layers = nn.ModuleList([LengthDecoderLayer(config, index) for index in range(config.decoder_layers)])
        self.post_init()


def cross_mask(config: WhisperConfig, encoded: Tensor, rows: int, length: int, frames: Tensor | None) -> Tensor | None:
    """Build the decoder's mask over encoder positions, in the form the attention kernel in force wants.

    Args:
        config: Of the model.
        encoded: Encoder's output (B, S, D).
        rows: Of the decoder, B or K B.
        length: L of the decoder's input.
        frames: 1 on an utterance's own frames (B, T); None where every frame counts.
    """
    if frames is None:
        return None
    queries = encoded.new_empty(
        len(encoded), rows // len(encoded) * length, 1
    )  # only its shape, dtype and device are read
    return create_bidirectional_mask(config, queries, position_mask(frames), encoder_hidden_states=encoded)


def position_mask(attention_mask: Tensor | None) -> Tensor | None:
    """Return the mask (B, S) of encoder positions for a mask (B, T) of frames: the convolution halves the rate."""
    return None if attention_mask is None else attention_mask[:, ::2].bool()
