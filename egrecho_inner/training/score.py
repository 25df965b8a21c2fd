"""The development score of a run: loss by teacher forcing, error rate by real decoding.

Every process scores its share of the cuts; the sums and hypotheses are gathered, so that all have the same answer.
"""

from collections.abc import Iterator

import numpy as np
import torch
import torch.distributed as dist
from torch import nn
from transformers import WhisperProcessor

from egrecho_inner.data.batching import WINDOW_SECONDS, Batch
from egrecho_inner.data.dataset import CutBatches, CutList
from egrecho_inner.data.options import DataOptions
from egrecho_inner.decoding.decode import transcribe
from egrecho_inner.decoding.options import DecodeOptions
from egrecho_inner.model.options import Window
from egrecho_inner.text.bootstrap import bootstrap_interval
from egrecho_inner.text.labels import LabelEncoder
from egrecho_inner.text.normalize import default_normalizer, get_normalizer
from egrecho_inner.text.scoring import score
from egrecho_inner.training.options import TrainOptions

BATCH_SECONDS = 240.0


class DevScorer:
    """Score a model on the development cuts; without any, the score is empty.

    Args:
        processor: Tokenizer and feature extractor.
        labels: Makes the targets.
        data: Which cuts.
        window: The input the model is trained with, and scored with.
        train: Which error rate.
    """

    def __init__(
        self, processor: WhisperProcessor, labels: LabelEncoder, data: DataOptions, window: Window, train: TrainOptions
    ):
        self.processor, self.labels, self.data, self.train = processor, labels, data, train
        self.window: Window = window
        self.normalizers: set[str] = set()
        self.cuts = None if data.dev is None else CutList(data.dev)
        if self.cuts is not None:
            self.cuts.keep_trainable(labels, max_skip_ratio=1.0)
            self.cuts.draw(data.dev_limit, train.seed)

    def __call__(self, model: nn.Module) -> dict[str, float]:
        if self.cuts is None:
            return {}
        was_training = model.training
        model.eval()
        with torch.no_grad():
            scores = {"loss": self.loss(model), "cuts": len(self.cuts)}
            if self.train.metric != "loss":
                scores |= self.error_rate(model)
        model.train(was_training)
        return scores

    def error_rate(self, model: nn.Module) -> dict[str, float]:
        """Return the corpus error rate of greedy decoding with its 95 % interval, both sides normalised."""
        window = "30s" if self.window == "30s" else "longest"
        rank, world = ranks()
        mine = range(rank, len(self.cuts), world)
        options = DecodeOptions(language=self.data.language, task=self.data.task, window=window)
        found = {h.id: h.text for h in transcribe(model, self.processor, self.cuts, options, positions=mine)}
        pairs = []
        for position in mine:
            cut = self.cuts[position]
            spoken = cut.supervisions[0]
            language = spoken.language or self.data.language
            name = default_normalizer(language) if self.data.normalizer == "auto" else self.data.normalizer
            normalize = get_normalizer(name, language)
            self.normalizers.add(f"{normalize.name} {normalize.version}")
            pairs.append((cut.id, normalize(spoken.text or ""), normalize(found[cut.id])))
        if dist.is_initialized():
            shares: list[list[tuple[str, str, str]]] = [[] for _ in range(world)]
            dist.all_gather_object(shares, pairs)
            pairs = [pair for share in shares for pair in share]
        metric = self.train.metric
        scored = score(sorted(pairs), metric)
        if scored.error_rate is None:
            return {metric: float("inf")}
        low, high = bootstrap_interval(scored.counts, n=1000)
        return {metric: scored.error_rate, f"{metric}_low": low, f"{metric}_high": high}

    def loss(self, model: nn.Module) -> float:
        """Return the mean loss per target token, by teacher forcing."""
        config = getattr(model, "module", model).config
        batches = CutBatches(self.cuts, self.labels, config.num_mel_bins)
        device = next(model.parameters()).device
        sums = torch.zeros(2, dtype=torch.float64, device=device)  # NCCL moves nothing that lies elsewhere
        for batch in self.batches():
            inputs = batches[batch]
            inputs = {name: value.to(device) for name, value in inputs.items() if isinstance(value, torch.Tensor)}
            tokens = (inputs["labels"] != -100).sum().item()
            sums += torch.tensor([model(**inputs).loss.item() * tokens, tokens], dtype=torch.float64, device=device)
        if dist.is_initialized():
            dist.all_reduce(sums)
        return (sums[0] / sums[1]).item()

    def batches(self) -> Iterator[Batch]:
        """Yield this process's batches, longest cuts first."""
        durations = self.cuts.durations
        rank, world = ranks()
        mine = np.argsort(-durations, kind="stable")[rank::world]
        padded = self.window == "30s"
        while len(mine):
            longest = WINDOW_SECONDS if padded else durations[mine[0]]
            size = max(int(BATCH_SECONDS / longest), 1)
            yield Batch(0, mine[:size], padded)
            mine = mine[size:]


def ranks() -> tuple[int, int]:
    """Return this process's number and how many there are."""
    return (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
