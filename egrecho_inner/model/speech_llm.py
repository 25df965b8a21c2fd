"""A speech LLM: an encoder's frames, projected, stand among the embeddings of a language model's tokens.

In: windows of audio, and token ids with AUDIO (-1) in the audio's place. Out: the loss of the text, or the state that
decoding goes on from. A row has one AUDIO, which is replaced by as many vectors as the projector made: they are counted
once. Sequences are padded on the right, so every token has the position it would have alone, and nothing an utterance
sees depends on its batch mates.

B utterances, R windows (each utterance's in a row), S frames, N vectors of a window, L tokens, E width, V vocabulary.
"""

from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from transformers import PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutputWithPast

from egrecho_inner.model.audio_encoder import AudioEncoder, AudioShape, with_reduction
from egrecho_inner.model.projector import Projector
from egrecho_inner.model.speech_options import SpeechLossOptions
from egrecho_inner.text.constants import IGNORED
from egrecho_inner.text.prompts import AUDIO

MODEL_TYPE = "speech_llm"


class SpeechLlm(nn.Module):
    """Encoder, projector and language model.

    Args:
        llm: Any causal language model of Transformers.
        encoder: None for text alone.
        projector: None for text alone.
        loss: What is learned beside the text.
        blank: Id that CTC takes for no token.
    """

    accepts_loss_kwargs = True

    def __init__(
        self,
        llm: PreTrainedModel,
        encoder: AudioEncoder | None,
        projector: Projector | None,
        loss: SpeechLossOptions = SpeechLossOptions(),
        blank: int = 0,
    ):
        super().__init__()
        self.encoder, self.projector, self.llm = encoder, projector, llm
        self.loss, self.blank = loss, blank

    @property
    def config(self) -> PretrainedConfig:
        """The language model's."""
        return self.llm.config

    @property
    def shape(self) -> AudioShape:
        """What the encoder takes and how many vectors come of it."""
        if self.encoder is None or self.projector is None:
            raise ValueError("a model of text alone takes no audio")
        return with_reduction(self.encoder.shape, self.projector.reduction)

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return next(self.llm.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """Type of the language model's weights."""
        return self.llm.get_input_embeddings().weight.dtype

    def train(self, mode: bool = True) -> "SpeechLlm":
        """Switch to training; a part of which nothing is trained has no dropout."""
        super().train(mode)
        if not trains(self.llm):
            self.llm.eval()
        return self

    def listen(self, features: Tensor, mask: Tensor, windows: Tensor, frames: Tensor | None = None) -> list[Tensor]:
        """Return the vectors of each utterance [(N, E), ...].

        Args:
            features: (R, F, T) log-mel or (R, T) waves.
            mask: 1 on a window's own part (R, T).
            windows: How many each utterance has (B,).
            frames: The encoder's output (R, S, D), where it is known.
        """
        if self.encoder is None or self.projector is None:
            raise ValueError("a model of text alone takes no audio")
        if frames is None:
            with nullcontext() if trains(self.encoder) else torch.no_grad():
                frames = self.encoder(features, mask).last_hidden_state
        if not torch.is_autocast_enabled(frames.device.type):
            frames = frames.to(next(self.projector.parameters()).dtype)
        vectors, counts = self.projector(frames, self.encoder.shape.frames(mask.sum(-1)))
        own = [row[:count] for row, count in zip(vectors, counts.tolist(), strict=True)]
        ends = windows.cumsum(0).tolist()
        return [torch.cat(own[begin:end]) for begin, end in zip([0, *ends], ends, strict=False)]

    def splice(self, ids: Tensor, vectors: list[Tensor], labels: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Put each utterance's vectors where its AUDIO is.

        Args:
            ids: (B, L), AUDIO at most once in a row.
            vectors: (N, E) of each utterance.
            labels: (B, L); without them none is learned.

        Returns:
            Embeddings (B, L', E) and labels (B, L'), padded on the right.
        """
        embedded = self.llm.get_input_embeddings()(ids.clamp(min=0))  # (B, L, E)
        labels = torch.full_like(ids, IGNORED) if labels is None else labels
        rows, wanted = [], []
        for row, targets, places, own in zip(embedded, labels, ids == AUDIO, vectors, strict=True):
            found = places.nonzero().flatten().tolist()
            if len(found) > 1:
                raise ValueError(f"{len(found)} places for one utterance's audio")
            if not found:
                rows.append(row)
                wanted.append(targets)
                continue
            place = found[0]
            rows.append(torch.cat([row[:place], own.to(row.dtype), row[place + 1 :]]))
            # what follows the audio is learned from its last vector
            none = targets.new_full((len(own),), IGNORED)
            none[-1:] = targets[place]
            wanted.append(torch.cat([targets[:place], none, targets[place + 1 :]]))
        return pad_sequence(rows, True), pad_sequence(wanted, True, IGNORED)

    def forward(
        self,
        input_ids: Tensor,
        labels: Tensor,
        input_features: Tensor | None = None,
        attention_mask: Tensor | None = None,
        windows: Tensor | None = None,
        encoder_outputs: tuple[Tensor, ...] | None = None,
        num_items_in_batch: Tensor | int | None = None,
    ) -> CausalLMOutputWithPast:
        """Return the loss: its sum over the text's tokens, divided by those of the global batch in training.

        Args:
            input_ids: (B, L), AUDIO where the audio goes.
            labels: (B, L), the token after each; -100 where none is learned.
            input_features: (R, F, T) log-mel or (R, T) waves; None of text alone.
            attention_mask: 1 on a window's own part (R, T).
            windows: How many each utterance has (B,).
            encoder_outputs: The encoder's output (R, S, D), where it is known.
            num_items_in_batch: Target tokens of the global batch.
        """
        vectors = [input_ids.new_zeros(0)] * len(input_ids)  # rows of text alone have no place for them
        if input_features is not None and attention_mask is not None and windows is not None:
            frames = encoder_outputs[0] if encoder_outputs else None
            vectors = self.listen(input_features, attention_mask, windows, frames)
        embedded, targets = self.splice(input_ids, vectors, labels)
        logits, wanted = self.text_logits(embedded, targets)
        total = nn.functional.cross_entropy(logits, wanted, reduction="sum")
        if not self.training:
            return CausalLMOutputWithPast(loss=total, logits=logits)
        if self.loss.kl_weight:
            total = total + self.loss.kl_weight * self.divergence(logits, input_ids, labels)
        if self.loss.ctc_weight:
            total = total + self.loss.ctc_weight * self.ctc(vectors, labels)
        items = max(len(wanted), 1) if num_items_in_batch is None else num_items_in_batch
        return CausalLMOutputWithPast(loss=total / items)

    def text_logits(self, embedded: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Return the logits (M, V) at the M targets of a batch, and the targets (M,).

        The vocabulary-wide matrix is made from the first column that any target is in.
        """
        wanted = labels != IGNORED  # (B, L)
        columns = wanted.any(0).nonzero()
        last = labels.shape[1] - (int(columns[0]) if len(columns) else labels.shape[1] - 1)
        output = self.llm(inputs_embeds=embedded, use_cache=False, logits_to_keep=last)
        logits = output.logits[:, -last:]  # models without the setting return all
        return logits[wanted[:, -last:]].float(), labels[wanted]

    def divergence(self, logits: Tensor, ids: Tensor, labels: Tensor) -> Tensor:
        """Return KL from the language model given the transcript, summed over the text's tokens (Ultravox)."""
        embed = self.llm.get_input_embeddings()
        was_training = self.llm.training
        self.llm.eval()
        with torch.no_grad(), self.llm.disable_adapter() if hasattr(self.llm, "disable_adapter") else nullcontext():
            given, targets = self.splice(ids, [embed(words) for words in words_of(labels)], labels)
            teacher, _ = self.text_logits(given, targets)
        self.llm.train(was_training)
        heat = self.loss.temperature
        return heat**2 * nn.functional.kl_div(
            (logits / heat).log_softmax(-1), (teacher / heat).log_softmax(-1), reduction="sum", log_target=True
        )

    def ctc(self, vectors: list[Tensor], labels: Tensor) -> Tensor:
        """Return the CTC loss of the vectors, read by the language model's embeddings, summed over utterances."""
        embed = self.llm.get_input_embeddings()
        with torch.no_grad():  # by a call: ZeRO-3 and FSDP gather a module's weights where it is called
            table = embed(torch.arange(embed.num_embeddings, device=labels.device))  # (V, E)
        table = nn.functional.normalize(table.float(), dim=-1)
        unit_vectors = nn.functional.normalize(pad_sequence(vectors, True).float(), dim=-1)  # (B, N, E)
        log_probs = (CTC_SCALE * unit_vectors @ table.T).log_softmax(-1).transpose(0, 1)  # (N, B, V)
        words = words_of(labels)
        counts, lengths = ([len(each) for each in given] for given in (vectors, words))
        return nn.functional.ctc_loss(
            log_probs, torch.cat(words), tuple(counts), tuple(lengths), self.blank, reduction="sum", zero_infinity=True
        )

    def gradient_checkpointing_enable(self, gradient_checkpointing_kwargs: dict[str, Any] | None = None) -> None:
        """Compute the activations of encoder and language model twice instead of keeping them."""
        self.llm.gradient_checkpointing_enable(gradient_checkpointing_kwargs)
        if self.encoder is not None:
            self.encoder.model.gradient_checkpointing_enable(gradient_checkpointing_kwargs)


CTC_SCALE = 20.0
"""Of cosines between vectors and embeddings, which are at most 1, before the softmax."""


def words_of(labels: Tensor) -> list[Tensor]:
    """Return the tokens of each transcript [(U,), ...], without the end."""
    return [row[row != IGNORED][:-1] for row in labels]


def trains(module: nn.Module) -> bool:
    """Return whether a weight of a module is trained."""
    return any(each.requires_grad for each in module.parameters())
