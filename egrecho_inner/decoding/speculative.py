"""Speculative decoding: a student proposes a few tokens, its teacher checks them all in one pass.

What is accepted is what the teacher would have found itself, greedily, so the result is the teacher's (Leviathan et al.
2023, arXiv:2211.17192).
In: a teacher and a student with the same tokens. Out: a `Recognizer` for one utterance at a time. Where both have the
same encoder it runs once. The teacher is worth a pass over several tokens only where it is much slower than the
student: `egrecho speculate` measures it.
Left out: batches, sampling, beams; rows that accept different numbers of tokens would have to wait for each other.

L tokens, V vocabulary, K proposed tokens.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers.cache_utils import EncoderDecoderCache
from transformers.modeling_outputs import BaseModelOutput

from egrecho_inner.decoding.recognize import Found, Recognizer
from egrecho_inner.decoding.search import Best, EncoderDecoderRows, Rules
from egrecho_inner.errors import ConfigError
from egrecho_inner.model.student import same_encoder
from egrecho_inner.model.whisper import Whisper
from egrecho_inner.text.labels import LabelEncoder


@dataclass
class Passes:
    """What speculation cost and gave."""

    teacher: int = 0
    """Passes of the teacher after the prefix."""
    proposed: int = 0
    """Tokens of the student."""
    accepted: int = 0
    """Of those, tokens that were the teacher's too."""
    tokens: int = 0
    """Of the results, ends counted."""


class SpeculativeRecognizer(Recognizer):
    """A teacher that lets a student go ahead.

    Args:
        teacher: Decides.
        student: Proposes; with the teacher's tokens and mel bins.
        labels: Gives prefixes and ids.
        draft_tokens: Tokens proposed at a time.
        timestamps: Ask for timestamps.
    """

    def __init__(
        self,
        teacher: Whisper,
        student: Whisper,
        labels: LabelEncoder,
        draft_tokens: int = 5,
        timestamps: bool = False,
    ):
        super().__init__(teacher, labels, timestamps=timestamps)
        for name in ("vocab_size", "num_mel_bins", "max_target_positions"):
            if getattr(teacher.config, name) != getattr(student.config, name):
                raise ConfigError(f"student and teacher differ in {name}; make the student from it (init-student)")
        if draft_tokens < 1:
            raise ConfigError(f"draft_tokens is {draft_tokens}; expected at least 1")
        self.student, self.draft_tokens = student, draft_tokens
        self.shared = same_encoder(student, teacher)
        self.passes = Passes()
        self.features: Tensor | None = None

    def __call__(
        self, features: Tensor, mask: Tensor | None, languages: Sequence[str | None], limits: Sequence[int]
    ) -> list[Found]:
        """Recognise a batch of one."""
        if len(features) != 1:
            raise ConfigError(f"speculative decoding takes one utterance at a time, not {len(features)}; batch_size 1")
        self.features = features
        return super().__call__(features, mask, languages, limits)

    def search(self, rows: EncoderDecoderRows, logits: Tensor, limits: Tensor) -> list[Best]:
        """Let the student propose and the teacher decide, from the prefix on."""
        limit, eot = int(limits[0]), self.labels.eot
        draft = Draft(self.student, rows, None if self.shared else self.features)
        pending, logprob = self.decide(rows.ids, logits)
        accepted, total = [pending], logprob
        while pending != eot and len(accepted) < limit:
            room = limit - len(accepted)
            # the last token that may come needs no proposal behind it
            proposed = draft.propose(accepted, min(self.draft_tokens, room), self.rules) if room > 1 else []
            tokens = torch.tensor([[pending, *proposed]], device=rows.ids.device)
            checked = forward(self.model, rows.encoded, rows.mask, tokens, rows.cache)  # (1, K + 1, V)
            rows.ids = torch.cat([rows.ids, tokens], 1)
            before = rows.ids.shape[1] - tokens.shape[1]
            self.passes.teacher += 1
            self.passes.proposed += len(proposed)
            for place in range(len(proposed) + 1):
                pending, logprob = self.decide(rows.ids[:, : before + place + 1], checked[:, place])
                accepted.append(pending)
                total += logprob
                agrees = place < len(proposed) and proposed[place] == pending
                self.passes.accepted += agrees
                if not agrees or pending == eot or len(accepted) == limit:
                    break
            # what the teacher did not accept is dropped; its own last token is given to it in the next pass
            rows.ids = torch.cat([rows.ids[:, : rows.prefix], torch.tensor([accepted[:-1]], device=rows.ids.device)], 1)
            forget(rows.cache, rows.ids.shape[1])
        self.passes.tokens += len(accepted)
        truncated = accepted[-1] != eot
        return [Best(accepted if truncated else accepted[:-1], total, len(accepted), truncated)]

    def decide(self, ids: Tensor, logits: Tensor) -> tuple[int, float]:
        """Return the teacher's token after these (1, L), with its log probability, as a greedy search does."""
        scores = self.rules(ids, logits.float())
        top, token = scores.max(-1)
        return int(token), float(top - scores.logsumexp(-1))


class Draft:
    """The student's side: what its cache holds, and what it proposes.

    Args:
        student: Proposes.
        rows: The teacher's state behind the prefix.
        features: For its own encoder; None where the teacher's encoding will do.
    """

    def __init__(self, student: Whisper, rows: EncoderDecoderRows, features: Tensor | None):
        self.student, self.mask, self.prefix = student, rows.mask, rows.ids
        encoded = {"encoder_outputs": BaseModelOutput(last_hidden_state=rows.encoded)}
        if features is not None:
            encoded = {"input_features": features}
        output = student(attention_mask=rows.mask, decoder_input_ids=rows.ids, use_cache=True, **encoded)
        self.encoded, self.cache = output.encoder_last_hidden_state, output.past_key_values
        self.held: list[int] = []  # tokens behind the prefix that the cache knows

    def propose(self, accepted: list[int], most: int, rules: Rules) -> list[int]:
        """Return the student's next tokens after the accepted ones, up to an end token."""
        same = next((at for at, pair in enumerate(zip(self.held, accepted, strict=False)) if pair[0] != pair[1]), None)
        kept = min(len(self.held), len(accepted) - 1) if same is None else same
        forget(self.cache, self.prefix.shape[1] + kept)  # what it proposed and the teacher did not take
        ids = torch.cat([self.prefix, torch.tensor([accepted], device=self.prefix.device)], 1)
        self.held, tokens, proposed = accepted[:kept], accepted[kept:], []
        while True:
            given = torch.tensor([tokens], device=ids.device)
            logits = forward(self.student, self.encoded, self.mask, given, self.cache)[:, -1]
            self.held = [*self.held, *tokens]
            token = int(rules(ids, logits.float()).argmax(-1))
            proposed.append(token)
            if len(proposed) == most or token == self.student.config.eos_token_id:
                return proposed
            tokens = [token]
            ids = torch.cat([ids, torch.tensor([tokens], device=ids.device)], 1)


def forget(cache: EncoderDecoderCache, keep: int) -> None:
    """Drop what a cache holds of the tokens behind the first `keep`."""
    extra = cache.get_seq_length() - keep
    if extra > 0:
        cache.crop(-extra)


def forward(model: Whisper, encoded: Tensor, mask: Tensor | None, tokens: Tensor, cache: EncoderDecoderCache) -> Tensor:
    """Return the logits (1, L, V) of tokens (1, L) that follow what a cache holds."""
    return model(
        encoder_outputs=BaseModelOutput(last_hidden_state=encoded),
        attention_mask=mask,
        decoder_input_ids=tokens,
        past_key_values=cache,
        use_cache=True,
    ).logits
