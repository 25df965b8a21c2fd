"""Whisper that computes only an utterance's own frames: any length up to 30 s, each utterance masked by its own length.

In: log-mel (B, F, T) with T <= 3000 and `attention_mask` (B, T), 1 on an utterance's own frames. Out: Transformers'
outputs. Subclasses, nothing patched: weights, names, config and saved files are plain Whisper's, and without a mask at
T = 3000 every value equals Transformers' own. An utterance's logits do not depend on its batch mates (`length.py`).

B batch, F mel bins, T frames (10 ms), S encoder positions (20 ms), L tokens, D width, V vocabulary.
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import GenerationConfig, WhisperConfig, WhisperForConditionalGeneration
from transformers.modeling_outputs import BaseModelOutput, Seq2SeqLMOutput, Seq2SeqModelOutput
from transformers.models.whisper.modeling_whisper import WhisperModel, WhisperPreTrainedModel

from egrecho_inner.model.length import LengthDecoder, LengthEncoder, cross_mask, position_mask
from egrecho_inner.text.constants import IGNORED, WHISPER_FRAMES


class LengthWhisperModel(WhisperModel):
    """Encoder and decoder with the mask handed to both."""

    def __init__(self, config: WhisperConfig):
        WhisperPreTrainedModel.__init__(self, config)
        self.encoder = LengthEncoder(config)
        self.decoder = LengthDecoder(config)
        self.post_init()

    def forward(
        self,
        input_features: Tensor | None = None,
        attention_mask: Tensor | None = None,
        decoder_input_ids: Tensor | None = None,
        decoder_attention_mask: Tensor | None = None,
        encoder_outputs: BaseModelOutput | tuple[Tensor, ...] | None = None,
        past_key_values: Any = None,
        decoder_inputs_embeds: Tensor | None = None,
        decoder_position_ids: Tensor | None = None,
        use_cache: bool | None = None,
        **kwargs: Any,
    ) -> Seq2SeqModelOutput:
        if encoder_outputs is None:
            encoder_outputs = self.encoder(input_features, attention_mask=attention_mask, **kwargs)
        elif not isinstance(encoder_outputs, BaseModelOutput):
            encoder_outputs = BaseModelOutput(*encoder_outputs[:3])
        encoded = encoder_outputs.last_hidden_state  # (B, S, D)
        decoder_inputs = decoder_input_ids if decoder_inputs_embeds is None else decoder_inputs_embeds
        decoded = self.decoder(
            input_ids=decoder_input_ids,
            attention_mask=decoder_attention_mask,
            encoder_hidden_states=encoded,
            past_key_values=past_key_values,
            inputs_embeds=decoder_inputs_embeds,
            position_ids=decoder_position_ids,
            use_cache=use_cache,
            cross_mask=cross_mask(self.config, encoded, *decoder_inputs.shape[:2], attention_mask),
            **kwargs,
        )
        return Seq2SeqModelOutput(
            last_hidden_state=decoded.last_hidden_state,
            past_key_values=decoded.past_key_values,
            decoder_hidden_states=decoded.hidden_states,
            decoder_attentions=decoded.attentions,
            cross_attentions=decoded.cross_attentions,
            encoder_last_hidden_state=encoded,
            encoder_hidden_states=encoder_outputs.hidden_states,
            encoder_attentions=encoder_outputs.attentions,
        )


class Whisper(WhisperForConditionalGeneration):
    """Whisper with variable-length input, a loss without logits for padding, and generate() on both.

    `forward(labels=...)` in training mode returns the loss alone: the sum over target tokens divided by
    `num_items_in_batch` (the tokens of the global batch, given by the trainer) or by the batch's own tokens.
    With `config.ctc_weight` > 0 the loss is (1 - w) CE + w CTC, a linear layer on the encoder's output that teaches
    the attention to align from random weights (Watanabe et al. 2017, arXiv:1609.06773); the layer is not saved.
    """

    accepts_loss_kwargs = True
    chunked_loss = False
    """Never hold the logits of all tokens at once (PyTorch's linear_cross_entropy): saves their memory, costs time; not
    for sharded weights or an adapter on the output."""
    _keys_to_ignore_on_load_unexpected = (r"^ctc_head\.",)

    def __init__(self, config: WhisperConfig):
        WhisperPreTrainedModel.__init__(self, config)
        self.model = LengthWhisperModel(config)
        self.proj_out = nn.Linear(config.d_model, config.vocab_size, bias=False)
        self.max_target_positions = config.max_target_positions
        if getattr(config, "ctc_weight", 0.0) > 0:
            self.ctc_head = nn.Linear(config.d_model, config.vocab_size)
        self.post_init()

    def forward(
        self,
        input_features: Tensor | None = None,
        attention_mask: Tensor | None = None,
        decoder_input_ids: Tensor | None = None,
        labels: Tensor | None = None,
        num_items_in_batch: Tensor | int | None = None,
        **kwargs: Any,
    ) -> Seq2SeqLMOutput:
        """Run the model.

        Args:
            input_features: Log-mel (B, F, T).
            attention_mask: 1 on the utterance's own frames, 0 after (B, T); None where every frame counts.
            decoder_input_ids: Tokens (B, L), one place to the right of the labels.
            labels: Target tokens (B, L), -100 where no loss is wanted.
            num_items_in_batch: Target tokens of the global batch.
            **kwargs: Handed to Transformers' model (cache, encoder outputs, ...).
        """
        if labels is None or not self.training:
            kwargs.pop("num_items_in_batch", None)
            return super().forward(
                input_features,
                attention_mask=attention_mask,
                decoder_input_ids=decoder_input_ids,
                labels=labels,
                **kwargs,
            )
        if decoder_input_ids is None:
            raise ValueError("training wants decoder_input_ids beside labels; text/labels.py makes both")
        output = self.model(
            input_features,
            attention_mask=attention_mask,
            decoder_input_ids=decoder_input_ids,
            use_cache=False,
            **kwargs,
        )
        targets = labels != IGNORED
        # only where there is a target: padding costs no row of the vocabulary-wide matrix
        loss = self.token_loss(output.last_hidden_state[targets], labels[targets])
        items = targets.sum().clamp(min=1) if num_items_in_batch is None else num_items_in_batch
        loss = loss / items
        weight = getattr(self.config, "ctc_weight", 0.0)
        if weight > 0:
            ctc = self.ctc_loss(output.encoder_last_hidden_state, attention_mask, labels)
            loss = (1 - weight) * loss + weight * ctc / items
        return Seq2SeqLMOutput(loss=loss, encoder_last_hidden_state=output.encoder_last_hidden_state)

    def token_loss(self, hidden: Tensor, labels: Tensor) -> Tensor:
        """Return the cross-entropy summed over N tokens, from hidden states (N, D) and labels (N,)."""
        if self.chunked_loss:
            options = nn.LinearCrossEntropyOptions()
            return nn.functional.linear_cross_entropy(
                hidden, self.proj_out.weight, labels, reduction="sum", options=options
            )
        return nn.functional.cross_entropy(self.proj_out(hidden).float(), labels, reduction="sum")

    def ctc_loss(self, encoded: Tensor, attention_mask: Tensor | None, labels: Tensor) -> Tensor:
        """Return the CTC loss summed over the batch, the text tokens of the labels as its targets.

        `<|endoftext|>` serves as the blank: every text token's id is below it in every Whisper vocabulary.
        """
        blank = self.config.eos_token_id
        words = (labels >= 0) & (labels < blank)
        log_probs = self.ctc_head(encoded).float().log_softmax(-1).transpose(0, 1)  # (S, B, V)
        lengths = labels.new_full((len(labels),), encoded.shape[1])
        if attention_mask is not None:
            lengths = position_mask(attention_mask).sum(-1)
        return nn.functional.ctc_loss(
            log_probs, labels[words], lengths, words.sum(-1), blank=blank, reduction="sum", zero_infinity=True
        )

    def generate(
        self,
        input_features: Tensor | None = None,
        generation_config: GenerationConfig | None = None,
        attention_mask: Tensor | None = None,
        language: str | list[str] | None = None,
        **kwargs: Any,
    ) -> Any:
        """Generate as Transformers does, but detect languages from an utterance's own frames, not its padding too."""
        config = generation_config or self.generation_config
        named = language or getattr(config, "language", None)
        if input_features is not None and attention_mask is not None and not named and hasattr(config, "lang_to_id"):
            start = torch.full((len(input_features), 1), config.decoder_start_token_id, device=self.device)
            window = {"input_features": input_features[..., :WHISPER_FRAMES], "decoder_input_ids": start}
            with torch.no_grad():
                logits = self(**window, attention_mask=attention_mask[:, :WHISPER_FRAMES], use_cache=False).logits[
                    :, -1
                ]
            names = {i: name for name, i in config.lang_to_id.items()}
            legal = sorted(names)
            language = [names[legal[place]] for place in logits[:, legal].argmax(-1).tolist()]
        return super().generate(
            input_features, generation_config, attention_mask=attention_mask, language=language, **kwargs
        )

    @staticmethod
    def _get_input_segment(
        input_features: Tensor,
        seek: Tensor,
        seek_num_frames: Tensor,
        num_segment_frames: int,
        cur_bsz: int,
        batch_idx_map: list[int],
    ) -> Tensor:
        """Cut the next window of generate(): short input as it is, long-form windows padded with silence, not 0."""
        if input_features is None or (input_features.shape[-1] <= num_segment_frames and not any(seek)):
            return input_features
        segments = []
        for i in range(cur_bsz):
            start, frames = seek[batch_idx_map[i]], seek_num_frames[batch_idx_map[i]]
            segment = input_features[i : i + 1, :, start : start + frames]
            floor = (input_features[i].max() - 2).clamp(min=-1.5).item()
            segments.append(nn.functional.pad(segment, (0, num_segment_frames - segment.shape[-1]), value=floor))
        return torch.cat(segments)

    def generate_with_fallback(
        self,
        segment_input: Tensor,
        *args: Any,
        seek: Tensor,
        batch_idx_map: list[int],
        attention_mask: Tensor | None,
        is_shortform: bool,
        **kwargs: Any,
    ) -> Any:
        """Decode one window, with the attention mask of that window instead of the whole recording's."""
        if attention_mask is not None and segment_input is not None:
            if segment_input.shape[-1] == WHISPER_FRAMES and not is_shortform:
                attention_mask = None  # Whisper's own 30 s window: silence is input like any other, not masked
            else:
                left = attention_mask.sum(-1)[batch_idx_map] - seek.to(attention_mask.device)[batch_idx_map]
                steps = torch.arange(segment_input.shape[-1], device=attention_mask.device)
                attention_mask = (steps[None] < left[:, None]).to(attention_mask.dtype)
        return super().generate_with_fallback(
            segment_input,
            *args,
            seek=seek,
            batch_idx_map=batch_idx_map,
            attention_mask=attention_mask,
            is_shortform=is_shortform,
            **kwargs,
        )

    def save_pretrained(self, save_directory: str | Path, **kwargs: Any) -> None:
        """Save as plain Whisper: Transformers, CTranslate2 and others load it without this class."""
        state = kwargs.pop("state_dict", None) or self.state_dict()
        kwargs["state_dict"] = {name: value for name, value in state.items() if not name.startswith("ctc_head.")}
        super().save_pretrained(save_directory, **kwargs)
        if kwargs.get("is_main_process", True):
            # Transformers writes the name of this class, which other programs do not know
            self.config.architectures = [WhisperForConditionalGeneration.__name__]
            self.config.save_pretrained(save_directory)


def freeze_sinusoids(model: nn.Module) -> None:
    """Freeze the encoder's position table again: `from_pretrained` makes it trainable."""
    model.get_encoder().embed_positions.requires_grad_(False)
