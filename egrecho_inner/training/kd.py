"""Knowledge distillation on the one trainer: alpha CE + beta T^2 KL, summed over the tokens of the global batch.

In: batches of `data/batches/targets.py`, a teacher (or its cached logits). Out: the loss of the student. The teacher is
given exactly the student's decoder inputs, prompts and start included; a frozen encoder that both have runs once,
without gradient. All sums are divided by the target tokens of the global batch, so processes and accumulation do not
matter. alpha 0.8, beta 1.0, T 2.0 are what the published checkpoints were trained with; the Distil-Whisper paper writes
the weights the other way round (0.8 on KL, 1.0 on CE; Gandhi et al. 2023, arXiv:2311.00430, eq. 6).
T^2 keeps the size of the gradient when T changes (Hinton et al. 2015, arXiv:1503.02531).

B utterances, L tokens, N target tokens, V vocabulary, K cached tokens of the teacher.
"""

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from transformers.modeling_outputs import BaseModelOutput

from egrecho_inner.errors import ConfigError, ModelError
from egrecho_inner.model.student import same_encoder
from egrecho_inner.model.whisper import Whisper
from egrecho_inner.text.constants import IGNORED
from egrecho_inner.training import collectives
from egrecho_inner.training.options import KdOptions
from egrecho_inner.training.trainer import PlanTrainer

ROUNDING = 1e-5
"""A mass below this is what half-precision logarithms leave of 1."""


def kl_sum(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Return T^2 times KL(teacher || student) of logits (N, V), summed over the tokens."""
    p = (student.float() / temperature).log_softmax(-1)
    q = (teacher.float() / temperature).log_softmax(-1)
    return temperature**2 * (q.exp() * (q - p)).sum()


def kl_top_sum(student: Tensor, ids: Tensor, log_q: Tensor, temperature: float) -> Tensor:
    """Return the same from the teacher's K likeliest tokens alone, what is left of both as one more outcome.

    It is never more than `kl_sum`, and equal to it when K is the vocabulary.

    Args:
        student: Logits (N, V).
        ids: The teacher's tokens (N, K).
        log_q: Their log probabilities at this temperature (N, K).
        temperature: T.
    """
    p = (student.float() / temperature).log_softmax(-1)
    log_q, top = log_q.float(), p.gather(1, ids)
    kl = (log_q.exp() * (log_q - top)).sum()
    if ids.shape[1] < student.shape[1]:
        rest_q = 1 - log_q.exp().sum(-1)
        rest_p = p.scatter(1, ids, -torch.inf).logsumexp(-1)
        some = rest_q > ROUNDING
        kl = kl + (rest_q[some] * (rest_q[some].log() - rest_p[some])).sum()
    return temperature**2 * kl


def check_pair(student: Whisper, teacher: Whisper) -> None:
    """Refuse a teacher whose tokens or features are not the student's.

    Raises:
        ModelError: Naming the first difference.
    """
    for name in ("vocab_size", "num_mel_bins", "decoder_start_token_id", "max_source_positions"):
        ours, theirs = getattr(student.config, name), getattr(teacher.config, name)
        if ours != theirs:
            raise ModelError(
                f"{name} is {ours} in the student, {theirs} in the teacher; make the student from it (init-student)"
            )


def share_encoder(student: Whisper, teacher: Whisper, frozen: bool, wanted: bool | None) -> bool:
    """Give the teacher the student's encoder where that is the same; return whether it has it.

    Raises:
        ConfigError: It is asked for, but the encoder is trained or not the teacher's.
    """
    if wanted is False or (wanted is None and not frozen):
        return False
    equal = same_encoder(student, teacher)
    if wanted and not (equal and frozen):
        reason = "is not the teacher's" if frozen else "is trained (train.freeze does not name it)"
        raise ConfigError(f"kd.share_encoder: the student's encoder {reason}; leave it null, or make them one")
    if equal:
        teacher.model.encoder = student.model.encoder
    return equal


class DistilTrainer(PlanTrainer):
    """Train a student; the further arguments are those of `PlanTrainer`.

    Args:
        teacher: Not trained, not saved; None where `kd.kl_weight` is 0 or its logits are cached.
        shared: Whether its encoder is the student's.
        kd: What the loss is made of.
    """

    def __init__(self, *args: Any, teacher: Whisper | None, shared: bool, kd: KdOptions, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.kd, self.shared = kd, shared
        self.teacher = None if teacher is None else teacher.requires_grad_(False).eval().to(self.args.device)
        self.terms: dict[str, Tensor] = {}
        self.items: Tensor | int = 0

    def compute_loss(self, model: nn.Module, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        """Compute the loss of a batch; Transformers scales what `distil` returns for several processes."""
        return super().compute_loss(partial(self.distil, model), inputs, *args, **kwargs)

    def distil(
        self,
        model: nn.Module,
        input_features: Tensor,
        decoder_input_ids: Tensor,
        labels: Tensor,
        attention_mask: Tensor | None = None,
        num_items_in_batch: Tensor | int | None = None,
        reference_input_ids: Tensor | None = None,
        reference_labels: Tensor | None = None,
        top_ids: Tensor | None = None,
        top_log_q: Tensor | None = None,
        encoder_outputs: tuple[Tensor] | None = None,
    ) -> dict[str, Tensor]:
        """Return the loss of a batch, a share of the global batch's.

        Args:
            model: The student, as the trainer wraps it.
            input_features: Log-mel (B, F, T).
            decoder_input_ids: Tokens (B, L), given to student and teacher alike.
            labels: Target tokens (B, L), -100 where no loss is wanted.
            attention_mask: (B, T); None where every frame counts.
            num_items_in_batch: Target tokens of the global batch.
            reference_input_ids: Tokens of the true transcripts (B, L').
            reference_labels: Their targets (B, L').
            top_ids: The teacher's likeliest tokens (B, L, K).
            top_log_q: Their log probabilities (B, L, K).
            encoder_outputs: The frozen encoder's output (B, S, D), if it is known.
        """
        self.set_frozen_encoder_to_eval(model)
        known = encoder_outputs is not None
        audio = {"encoder_outputs": encoder_outputs} if known else {"input_features": input_features}
        output = model(**audio, attention_mask=attention_mask, decoder_input_ids=decoder_input_ids, use_cache=False)
        targets = labels != IGNORED  # (B, L)
        items = targets.sum() if num_items_in_batch is None else num_items_in_batch
        logits = output.logits[targets]  # (N, V)
        ce = cross_entropy(logits.float(), labels[targets], reduction="sum")
        terms = {"ce": ce}
        loss = self.kd.ce_weight * ce
        if self.kd.kl_weight:
            if top_ids is not None:
                terms["kl"] = kl_top_sum(logits, top_ids[targets], top_log_q[targets], self.kd.temperature)
            else:
                encoded = output.encoder_last_hidden_state
                taught = self.teach(input_features, encoded, attention_mask, decoder_input_ids, targets)
                terms["kl"] = kl_sum(logits, taught, self.kd.temperature)
            loss = loss + self.kd.kl_weight * terms["kl"]
        if reference_labels is not None:
            encoded = BaseModelOutput(last_hidden_state=output.encoder_last_hidden_state)
            again = model(
                encoder_outputs=encoded, attention_mask=attention_mask, decoder_input_ids=reference_input_ids,
                use_cache=False,
            )  # fmt: skip
            terms["reference"] = cross_entropy(
                again.logits.flatten(0, 1).float(), reference_labels.flatten(), ignore_index=IGNORED, reduction="sum"
            )
            loss = loss + self.kd.reference_weight * terms["reference"]
        self.note(terms, targets.sum())
        return {"loss": loss / items}

    def set_frozen_encoder_to_eval(self, model: nn.Module) -> None:
        """Switch a frozen encoder's dropout off: it is the teacher's too. Without gradients it keeps no activations."""
        encoder = self.accelerator.unwrap_model(model).get_encoder()
        if not any(parameter.requires_grad for parameter in encoder.parameters()):
            encoder.eval()

    @torch.no_grad()
    def teach(
        self,
        input_features: Tensor,
        encoded: Tensor,
        attention_mask: Tensor | None,
        decoder_input_ids: Tensor,
        targets: Tensor,
    ) -> Tensor:
        """Return the teacher's logits (N, V) where there is a target, for the student's own inputs.

        Args:
            input_features: Log-mel (B, F, T).
            encoded: The student's encoder output (B, S, D), taken where the encoder is the teacher's too.
            attention_mask: (B, T); None where every frame counts.
            decoder_input_ids: Tokens (B, L).
            targets: Where there is a target (B, L).
        """
        teacher, dtype = self.teacher, self.teacher.proj_out.weight.dtype
        given: dict[str, Any] = {"input_features": input_features.to(dtype)}
        if self.shared:
            given = {"encoder_outputs": BaseModelOutput(last_hidden_state=encoded.to(dtype))}
        with self.accelerator.autocast():
            output = teacher.model(
                **given, attention_mask=attention_mask, decoder_input_ids=decoder_input_ids, use_cache=False
            )
            return teacher.proj_out(output.last_hidden_state[targets])

    def note(self, terms: dict[str, Tensor], items: Tensor) -> None:
        """Keep the parts of the loss for the log."""
        for name, value in terms.items():
            self.terms[name] = self.terms.get(name, 0.0) + value.detach()  # no float(): a GPU would be waited for
        self.items += items

    def forget_figures(self) -> None:
        """Begin a new line of the log."""
        self.terms, self.items = {}, 0

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add the parts of the loss, per target token of all processes, to the training line."""
        if "loss" in logs and self.terms:
            names = sorted(self.terms)  # the same on all: they follow from the weights
            mine = [*(float(self.terms[name]) for name in names), float(self.items)]
            *sums, items = collectives.total(mine, self.args.device)
            logs |= {name: round(value / max(items, 1), 5) for name, value in zip(names, sums, strict=True)}
            self.forget_figures()
        super().log(logs, start_time)
