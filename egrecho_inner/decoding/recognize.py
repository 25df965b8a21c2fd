"""One batch of features in, tokens out: languages, prefixes, limits and the tokens that Whisper suppresses.

In: log-mel features, their mask, a language and a token limit for each utterance. Out: a `Found` for each.
Language, task and timestamps become the prefix that `text/labels.py` defines, row by row, so that one batch may hold
many languages; a missing language is detected as Whisper does. `forced_decoder_ids` of old checkpoints are not obeyed.
A prompt (previous text, hotwords) may stand before the prefix; fallback to higher temperatures is `fallback.py`'s.

B utterances, F mel bins, T frames, L tokens, V vocabulary.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from transformers import GenerationConfig, WhisperTimeStampLogitsProcessor
from transformers.modeling_outputs import BaseModelOutput

from egrecho_inner.decoding.search import Best, Draw, EncoderDecoderRows, Rows, beam, greedy
from egrecho_inner.errors import ConfigError, ModelError
from egrecho_inner.model.loading import is_multilingual
from egrecho_inner.model.whisper import Whisper
from egrecho_inner.text.labels import LabelEncoder
from egrecho_inner.text.languages import BORROW, Task

FIRST_TIMESTAMP_INDEX = 50  # the first timestamp is at most 1 s (Radford et al. 2022, the published configs)


@dataclass(frozen=True)
class Found:
    """The result of one utterance."""

    tokens: list[int]
    """Ids after the prefix, `<|endoftext|>` not among them."""
    avg_logprob: float
    """Mean log probability of the tokens, `<|endoftext|>` among them."""
    no_speech: float
    """Probability of `<|nospeech|>` at the position of the language token."""
    truncated: bool
    """Whether the limit came before `<|endoftext|>`."""
    language: str | None
    """As given, or as detected; None for English-only models."""
    temperature: float = 0.0
    """Of the sampling; 0 where the likeliest tokens were taken."""


class Recognizer:
    """A model with the options of a search; the model is to be in eval mode, under no_grad.

    Args:
        model: The model.
        labels: Gives prefixes and ids, see `label_encoder`.
        num_beams: 1 is greedy.
        length_penalty: Exponent of the length that a beam's log probability is divided by.
        timestamps: Ask for timestamps, and hold the model to their grammar.
    """

    def __init__(
        self,
        model: Whisper,
        labels: LabelEncoder,
        num_beams: int = 1,
        length_penalty: float = 1.0,
        timestamps: bool = False,
    ):
        self.model, self.labels = model, labels
        self.num_beams, self.length_penalty, self.timestamps = num_beams, length_penalty, timestamps
        self.prefix_length = 1 + 2 * labels.multilingual + (not timestamps)
        self.max_new_tokens = model.config.max_target_positions - self.prefix_length
        device = model.device
        self.never = forbidden(model, labels).to(device)
        self.not_first = listed(model, "begin_suppress_tokens").to(device)
        self.languages = {index: code for code, index in labels.languages.items()}
        self.grammar_config = GenerationConfig(
            no_timestamps_token_id=labels.no_timestamps,
            eos_token_id=labels.eot,
            max_initial_timestamp_index=FIRST_TIMESTAMP_INDEX,
        )

    def __call__(
        self,
        features: Tensor,
        mask: Tensor | None,
        languages: Sequence[str | None],
        limits: Sequence[int],
        prompts: Sequence[Sequence[int]] = (),
        draw: Draw | None = None,
    ) -> list[Found]:
        """Recognise a batch.

        Args:
            features: (B, F, T).
            mask: (B, T), 1 on an utterance's own frames; None where every frame counts.
            languages: A code each; None is detected.
            limits: New tokens each at most, `<|endoftext|>` counted.
            prompts: Ids that stand before the prefix, from `<|startofprev|>` on, of one length for all; none if empty.
            draw: Chooses each token; None takes the likeliest, or a beam.
        """
        inputs: dict[str, Tensor | BaseModelOutput] = {"input_features": features}
        languages = list(languages)
        if self.labels.multilingual and None in languages:
            encoded, detected = self.detect(features, mask)
            languages = [given or found for given, found in zip(languages, detected, strict=True)]
            inputs = {"encoder_outputs": encoded}
        prefixes = [self.labels.prefix(code, timestamps=self.timestamps) for code in languages]
        before = len(prompts[0]) if prompts else 0
        if prompts:
            prefixes = [[*prompt, *prefix] for prompt, prefix in zip(prompts, prefixes, strict=True)]
        ids = torch.tensor(prefixes, device=features.device)
        output = self.model(attention_mask=mask, decoder_input_ids=ids, use_cache=True, **inputs)
        no_speech = output.logits[:, before].float().softmax(-1)[:, self.labels.no_speech].tolist()
        rows = EncoderDecoderRows(self.model, ids, output.encoder_last_hidden_state, mask, output.past_key_values)
        search = self.search if draw is None else partial(self.search, draw=draw)
        room = torch.tensor(limits, device=features.device).clamp(1, self.max_new_tokens - before)  # (B,)
        return [
            Found(best.tokens, best.logprob / best.length, silence, best.truncated, language)
            for best, silence, language in zip(
                search(rows, output.logits[:, -1], room), no_speech, languages, strict=True
            )
        ]

    def search(self, rows: Rows, logits: Tensor, limits: Tensor, draw: Draw | None = None) -> list[Best]:
        """Search from the prefix on."""
        rules = partial(self.rules, begin=rows.prefix)
        if self.num_beams == 1 or draw is not None:
            return greedy(rows, logits, limits, rules, self.labels.eot, draw)
        return beam(rows, logits, limits, rules, self.labels.eot, self.num_beams, self.length_penalty)

    def rules(self, ids: Tensor, logits: Tensor, begin: int | None = None) -> Tensor:
        """Forbid what may not come after these tokens.

        Args:
            ids: (R, L), prompt and prefix first.
            logits: (R, V).
            begin: Length of prompt and prefix; None where there is no prompt.
        """
        begin = begin or self.prefix_length
        if len(self.never):
            logits.index_fill_(1, self.never, -torch.inf)
        if len(self.not_first) and ids.shape[1] == begin:
            logits.index_fill_(1, self.not_first, -torch.inf)
        return WhisperTimeStampLogitsProcessor(self.grammar_config, begin)(ids, logits) if self.timestamps else logits

    def detect(self, features: Tensor, mask: Tensor | None) -> tuple[BaseModelOutput, list[str]]:
        """Return the encoder's output and the likeliest language of each utterance."""
        start = torch.full((len(features), 1), self.labels.sot, device=features.device)
        output = self.model(features, attention_mask=mask, decoder_input_ids=start, use_cache=False)
        ids = list(self.languages)
        best = output.logits[:, -1, ids].argmax(-1).tolist()
        return BaseModelOutput(last_hidden_state=output.encoder_last_hidden_state), [
            self.languages[ids[place]] for place in best
        ]


def label_encoder(
    model: Whisper, tokenizer: object, language: str | None = None, task: Task = "transcribe"
) -> LabelEncoder:
    """Make the label encoder that fits a model.

    Raises:
        ConfigError: Another language or task is asked of an English-only model.
        ModelError: The tokenizer is another model's, or the model has no token for the language.
    """
    if len(tokenizer) > model.config.vocab_size:
        raise ModelError(
            f"the tokenizer has {len(tokenizer)} tokens, the model {model.config.vocab_size}; are they of one model?"
        )
    labels = LabelEncoder(tokenizer, language, task, is_multilingual(model))
    if not labels.multilingual and (labels.language not in (None, "en") or task != "transcribe"):
        raise ConfigError(f"the model knows English only; language {language}, task {task} need a multilingual one")
    if labels.multilingual and labels.language and not labels.has_token(labels.language):
        raise ModelError(f"language {labels.language}: this model has no token for it; {BORROW}")
    return labels


def forbidden(model: Whisper, labels: LabelEncoder) -> Tensor:
    """Return the ids that are never chosen: those of the generation config, and rows that only round the matrix up."""
    unnamed = torch.arange(len(labels.tokenizer), model.config.vocab_size)
    return torch.cat([listed(model, "suppress_tokens"), unnamed])


def listed(model: Whisper, name: str) -> Tensor:
    """Return a list of token ids of the generation config, (N,)."""
    ids = getattr(model.generation_config, name, None) or []
    return torch.tensor([each for each in ids if 0 <= each < model.config.vocab_size], dtype=torch.int64)
