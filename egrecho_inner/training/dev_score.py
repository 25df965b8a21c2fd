"""The development score of a run: loss by teacher forcing, error rate by real decoding.

Every process scores its share of the cuts; the sums and hypotheses are gathered, so that all have the same answer.
"""

import logging
import statistics
from collections.abc import Iterator
from typing import TypeVar

import numpy as np
import torch
import torch.distributed as dist
from torch import nn

from egrecho_inner.data.batches.cut_list import CutList
from egrecho_inner.data.batches.options import DataOptions
from egrecho_inner.data.batches.plan import Batch
from egrecho_inner.errors import ConfigError, DataError
from egrecho_inner.model.options import Window
from egrecho_inner.results.references import reference_in
from egrecho_inner.results.scores import overall_metric, score_set
from egrecho_inner.runtime.devices import exact_device
from egrecho_inner.text.bootstrap import bootstrap_interval
from egrecho_inner.training.family import Family
from egrecho_inner.training.guards.sharding import is_sharded
from egrecho_inner.training.options import TrainOptions

logger = logging.getLogger(__name__)


class DevScorer:
    """Score a model on the development sets; without any, the score is empty.

    Args:
        family: Makes inputs and targets, and decodes.
        data: Which cuts.
        window: The input the model is trained with, and scored with.
        train: Which error rate.

    Attributes:
        metric: What decides the best checkpoint; with `train.metric auto`, what `egrecho eval` takes for these cuts.
    """

    def __init__(self, family: Family, data: DataOptions, window: Window, train: TrainOptions):
        self.sets = {name: DevSet(family, paths, data, window, train) for name, paths in data.dev_sets.items()}
        languages = [code or data.language for each in self.sets.values() for code in each.cuts.languages]
        metric = "loss" if family.recognize is None and train.metric == "auto" else train.metric
        self.metric = metric if metric == "loss" else overall_metric(languages or [data.language], metric)
        if self.metric != "loss" and family.recognize is None:
            raise ConfigError(f"train.metric {metric}: {family.name} cannot decode; set it to loss")

    def __call__(self, model: nn.Module) -> dict[str, float]:
        """Return the scores by name; every process calls it.

        Of sets with names each score has the name behind it, and stands without one as the mean over the sets.

        Args:
            model: Of the family; one that is sharded is scored by its loss alone.

        Raises:
            ConfigError: An error rate is wanted of a sharded model: each process would decode other cuts, and wait.
        """
        if not self.sets:
            return {}
        was_training, sharded = model.training, is_sharded(model)
        model.eval()
        found: dict[str, dict[str, float]] = {}
        with torch.no_grad():
            for name, each in self.sets.items():
                found[name] = {"loss": each.loss(model, together=sharded)}
                if self.metric != "loss":
                    if sharded:
                        raise ConfigError(
                            f"train.metric {self.metric}: one process cannot hold this model; set it to loss"
                        )
                    found[name] |= each.error_rate(model, self.metric)
        model.train(was_training)
        return joined(found, self.metric) | {
            "cuts": sum(len(each.cuts) for each in self.sets.values()),
            "batches": sum(sum(1 for _ in each.batches()) for each in self.sets.values()),
        }

    @property
    def digest(self) -> str | None:
        """One hash over all sets; None without any."""
        return "+".join(f"{name}:" * bool(name) + each.cuts.digest for name, each in self.sets.items()) or None

    @property
    def normalizers(self) -> set[str]:
        """Names and versions of what was applied before the error rates were counted."""
        return set().union(*(each.normalizers for each in self.sets.values()))


def joined(found: dict[str, dict[str, float]], metric: str) -> dict[str, float]:
    """Return the scores of all sets in one: of one set without a name as they are.

    Args:
        found: Scores of each set by its name.
        metric: The error rate, or `loss`.
    """
    if "" in found:
        return found[""]
    scores = {key: statistics.fmean(each[key] for each in found.values()) for key in dict.fromkeys(["loss", metric])}
    for name, each in found.items():
        for key, value in each.items():
            rate, _, bound = key.partition("_")
            scores[f"{rate}_{name}" + (f"_{bound}" if bound else "")] = value
    return scores


class DevSet:
    """One development set; the arguments are those of `DevScorer`, but for its manifests.

    Raises:
        DataError: None of its cuts can be used.
    """

    def __init__(self, family: Family, paths: list[str] | str, data: DataOptions, window: Window, train: TrainOptions):
        self.family, self.data, self.batch_seconds = family, data, train.eval_seconds
        self.window: Window = window
        self.normalizers: set[str] = set()
        self.cuts = CutList(paths, "data.dev")
        longest = family.inputs.max_seconds
        self.cuts.keep_trainable(family.labels, 1.0, no_speech=data.no_speech, longest=longest)
        self.cuts.draw(data.dev_limit, train.seed)

    def error_rate(self, model: nn.Module, metric: str) -> dict[str, float]:
        """Return the corpus error rate of greedy decoding with its 95 % interval, as `egrecho eval` computes it."""
        rank, world = ranks()
        mine = range(rank, len(self.cuts), world)
        hypotheses = {h.id: h for h in self.family.recognize(model, self.cuts, mine, self.batch_seconds)}
        found = [
            (reference_in(cut, self.data.language), hypotheses[cut.id]) for cut in map(self.cuts.__getitem__, mine)
        ]
        found = sorted(gather(found), key=lambda pair: pair[0].id)
        scored = score_set([ref for ref, _ in found], {h.id: h for _, h in found}, self.data.normalizer, metric)
        self.normalizers = {f"{scored.normalizer.name} {scored.normalizer.version}"}
        if scored.score.error_rate is None:
            return {metric: float("inf")}
        low, high = bootstrap_interval(scored.score.counts, n=1000)
        return {metric: scored.score.error_rate, f"{metric}_low": low, f"{metric}_high": high}

    def loss(self, model: nn.Module, together: bool = False) -> float:
        """Return the mean loss per target token, by teacher forcing; cuts that do not read are left out from here on.

        Args:
            model: In eval mode.
            together: All processes take the same number of batches, as a sharded model needs.

        Raises:
            DataError: None reads.
        """
        makes = self.family.scored(self.cuts)
        device = next(model.parameters()).device
        exact = exact_device(device)
        sums = torch.zeros(2, dtype=torch.float64, device=exact)  # NCCL moves nothing that lies elsewhere
        skipped: list[tuple[str, str]] = []
        mine = list(self.batches())
        extra = max(gather([len(mine)])) - len(mine) if together else 0
        for number, batch in enumerate(mine + extra * [Batch(0, [], False)]):
            loaded = makes[batch]
            skipped += loaded.skipped
            makes.inputs.to_device(loaded.inputs, device)
            inputs = {k: v.to(device) if isinstance(v, torch.Tensor) else v for k, v in loaded.inputs.items()}
            loss = self.family.loss_sum(model, inputs)
            if number < len(mine):
                sums += torch.stack([loss.to(exact).double(), torch.tensor(loaded.targets, device=exact).double()])
        if dist.is_initialized():
            dist.all_reduce(sums)
        self.leave_out(dict(gather(skipped)))
        return (sums[0] / sums[1]).item()

    def leave_out(self, skipped: dict[str, str]) -> None:
        """Leave out cuts that could not be loaded, by id with the reason, and log it.

        Raises:
            DataError: No cut is left.
        """
        if not skipped:
            return
        total, first = len(self.cuts), next(iter(skipped.values()))
        self.cuts.kept = np.array(
            [where for place, where in enumerate(self.cuts.kept) if self.cuts[place].id not in skipped], dtype=np.int64
        )
        if not len(self.cuts):
            raise DataError(f"none of the {total} development cuts can be used; first: {first}; fix data.dev")
        if ranks()[0] == 0:
            logger.warning(
                "%d of %d development cuts cannot be used and are left out of every score; first: %s",
                len(skipped), total, first,
            )  # fmt: skip

    def batches(self) -> Iterator[Batch]:
        """Yield this process's batches, longest cuts first."""
        durations = self.cuts.durations
        rank, world = ranks()
        mine = np.argsort(-durations, kind="stable")[rank::world]
        padded = self.window == "30s"
        while len(mine):
            longest = self.family.inputs.max_seconds if padded else durations[mine[0]]
            size = max(int(self.batch_seconds / longest), 1)
            yield Batch(0, mine[:size], padded)
            mine = mine[size:]


def ranks() -> tuple[int, int]:
    """Return this process's number and how many there are."""
    return (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)


Item = TypeVar("Item")


def gather(mine: list[Item]) -> list[Item]:
    """Return the items of all processes, in the order of their ranks."""
    if not dist.is_initialized():
        return mine
    shares: list[list[Item]] = [[] for _ in range(dist.get_world_size())]
    dist.all_gather_object(shares, mine)
    return [item for share in shares for item in share]
