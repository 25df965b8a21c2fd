"""The batch plan: every cut once an epoch, equal steps for all, bounded batches, and the same run after a resume."""

import time
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from egrecho_inner.data.batches.options import BatchOptions
from egrecho_inner.data.batches.plan import Batch, BatchPlan
from egrecho_inner.errors import ConfigError, DataError


def spec_durations(n: int, seed: int = 0) -> np.ndarray:
    """Draw durations like the spec's corpus: mean 5.7 s, standard deviation 2.0 s, 0.5 to 30 s."""
    return np.clip(np.random.default_rng(seed).gamma(5.7**2 / 2.0**2, 2.0**2 / 5.7, n), 0.5, 30.0)


def by_size(size: int, **options) -> BatchOptions:
    return BatchOptions(max_duration=None, batch_size=size, **options)


CORPORA = st.lists(st.floats(0.1, 30), min_size=1, max_size=150).map(np.array)
OPTIONS = st.builds(by_size, st.integers(1, 9)) | st.builds(
    BatchOptions, st.floats(1, 200), quadratic_duration=st.none() | st.floats(10, 40), short_first=st.booleans()
)
SHAPES = st.tuples(st.integers(1, 4), st.integers(1, 3))  # processes, accumulation


def cuts_of(batches: list[Batch]) -> list[int]:
    return [int(position) for batch in batches for position in batch.positions]


def key(batch: Batch) -> tuple:
    return batch.epoch, batch.positions.tolist(), batch.padded


@settings(max_examples=150, deadline=None)
@given(CORPORA, OPTIONS, SHAPES, st.sampled_from([0.0, 0.3, 1.0]), st.integers(0, 3))
def test_an_epoch_has_every_cut_once_in_whole_steps(durations, options, shape, padded_share, epoch) -> None:
    world, accumulation = shape
    group = world * accumulation
    assume(len(durations) >= group)
    plan = BatchPlan(durations, options, 7, world, accumulation, padded_share)
    steps = plan.steps_of(epoch)
    assert steps and all(len(step) == group for step in steps)
    batches = [batch for step in steps for batch in step]
    cuts = cuts_of(batches)
    assert len(cuts) == len(set(cuts)) and min(len(batch.positions) for batch in batches) >= 1
    # fewer cuts than batches in a step cannot be shared out: only so many may wait for the next epoch
    assert len(durations) - len(cuts) < group
    assert plan.steps_per_epoch(epoch) == len(steps)


@settings(max_examples=150, deadline=None)
@given(CORPORA, OPTIONS, SHAPES, st.sampled_from([0.0, 0.3, 1.0]))
def test_no_batch_is_over_its_limit(durations, options, shape, padded_share) -> None:
    assume(len(durations) >= shape[0] * shape[1])
    plan = BatchPlan(durations, options, 0, *shape, padded_share)
    for batch in (batch for step in plan.steps_of(0) for batch in step):
        size = len(batch.positions)
        if options.batch_size is not None:
            assert size <= options.batch_size
            continue
        longest = 30.0 if batch.padded else durations[batch.positions].max()
        cost = longest + (longest**2 / options.quadratic_duration if options.quadratic_duration else 0)
        assert size == 1 or size * cost <= options.max_duration * (1 + 1e-9)
        assert plan.padded_seconds(batch) == size * longest <= plan.padded_seconds(plan.largest())


def test_the_longest_cuts_are_trained_on_whatever_the_number_of_processes() -> None:
    """The steps that are not whole are at the end of a sorted order: what is left out must not be the longest."""
    durations = np.concatenate([spec_durations(200), np.full(7, 29.5)])
    for options in (BatchOptions(120.0), BatchOptions(30.0), by_size(4)):
        for world in range(1, 9):
            plan = BatchPlan(durations, options, world_size=world, accumulation=3)
            seen = {cut for epoch in range(6) for step in plan.steps_of(epoch) for cut in cuts_of(step)}
            assert set(range(200, 207)) <= seen


@settings(max_examples=60, deadline=None)
@given(CORPORA, OPTIONS, SHAPES, st.sampled_from([0.0, 0.3]), st.integers(0, 2**31))
def test_the_plan_is_a_pure_function_of_its_arguments(durations, options, shape, padded_share, seed) -> None:
    assume(len(durations) >= shape[0] * shape[1])

    def whole(rank: int) -> list[tuple]:
        plan = BatchPlan(durations.copy(), options, seed, *shape, padded_share)
        np.random.default_rng().random()  # nobody's global state is read
        np.random.random()
        return [key(batch) for batch in islice(plan.batches(rank), 40)]

    ranks = [whole(rank) for rank in range(shape[0])]
    assert ranks == [whole(rank) for rank in range(shape[0])]
    for taken in zip(*ranks, strict=True):  # what the processes work on at the same time
        together = [cut for _, cuts, _ in taken for cut in cuts]
        assert len(together) == len(set(together)) and len({epoch for epoch, _, _ in taken}) == 1


def test_seeds_and_epochs_differ_and_short_first_is_of_the_first_epoch_only() -> None:
    durations = spec_durations(300)
    plan = BatchPlan(durations, BatchOptions(60.0), seed=1)
    orders = [cuts_of([b for step in p.steps_of(e) for b in step]) for p, e in ((plan, 0), (plan, 1))]
    orders.append(cuts_of([b for step in BatchPlan(durations, BatchOptions(60.0), seed=2).steps_of(0) for b in step]))
    assert len({tuple(order) for order in orders}) == 3
    rising = BatchPlan(durations, BatchOptions(60.0, short_first=True))
    longest = [[durations[step[0].positions].max() for step in rising.steps_of(epoch)] for epoch in (0, 1)]
    assert np.all(np.diff(longest[0]) > -1.0) and not np.all(np.diff(longest[1]) > -1.0)


@pytest.mark.parametrize("n", [64, 200, 203, 206])
def test_the_cuts_of_a_global_step_do_not_depend_on_how_it_is_divided(n: int) -> None:
    durations = spec_durations(n)
    shapes = [(8, 1, 1), (4, 2, 1), (2, 1, 4), (2, 4, 1), (1, 4, 2)]
    divided = []
    for size, world, accumulation in shapes:
        plan = BatchPlan(durations, by_size(size), 3, world, accumulation)
        if 0 < n % 8 < world * accumulation:  # the last cuts cannot be shared out: see the first test
            continue
        divided.append([sorted(cuts_of(step)) for epoch in (0, 1) for step in plan.steps_of(epoch)])
    assert len(divided) >= 2 and all(steps == divided[0] for steps in divided)


@settings(max_examples=40, deadline=None)
@given(CORPORA, OPTIONS, SHAPES, st.integers(0, 60))
def test_a_resumed_run_is_the_tail_of_the_run(durations, options, shape, step) -> None:
    world, accumulation = shape
    assume(len(durations) >= world * accumulation)
    for rank in range(world):
        run = BatchPlan(durations, options, 5, world, accumulation).batches(rank)
        resumed = BatchPlan(durations, options, 5, world, accumulation).batches(rank, step)
        tail = islice(run, step * accumulation, step * accumulation + 10)
        assert [key(batch) for batch in tail] == [key(batch) for batch in islice(resumed, 10)]


@settings(max_examples=40, deadline=None)
@given(CORPORA, OPTIONS, st.integers(0, 200))
def test_a_step_of_the_run_is_found_in_its_epoch(durations, options, step) -> None:
    plan = BatchPlan(durations, options)
    epoch, within = plan.locate(step)
    assert plan.first_step(0) == 0 and plan.first_step(epoch) + within == step
    assert 0 <= within < plan.steps_per_epoch(epoch)
    assert plan.first_step(epoch + 1) == plan.first_step(epoch) + plan.steps_per_epoch(epoch)
    assert epoch <= plan.epochs_at(step) < epoch + 1 and plan.epochs_at(plan.first_step(epoch)) == epoch


@pytest.mark.parametrize(("max_duration", "world"), [(120.0, 1), (120.0, 8), (240.0, 2), (60.0, 1)])
def test_padding_is_at_most_5_percent_on_the_specs_durations(max_duration: float, world: int) -> None:
    plan = BatchPlan(spec_durations(10_000), BatchOptions(max_duration), world_size=world)
    shares = [plan.padding_share(epoch) for epoch in range(2)]
    assert min(shares) >= 0 and max(shares) <= 0.05
    # the limit is used: hardly more batches than the seconds need
    batches = sum(map(len, plan.steps_of(0)))
    assert batches <= 1.15 * plan.durations.sum() / max_duration + world


def test_padding_share_is_that_of_its_batches() -> None:
    plan = BatchPlan(np.array([1.0, 3.0]), by_size(2))
    assert plan.padding_share() == pytest.approx(1 - 4 / 6)
    assert BatchPlan(np.array([10.0, 20.0]), by_size(2), padded_share=1.0).padding_share() == pytest.approx(0.5)


def test_mixed_windows_pad_their_share_of_cuts() -> None:
    plan = BatchPlan(spec_durations(4000), BatchOptions(120.0), padded_share=0.25)
    batches = [batch for step in plan.steps_of(0) for batch in step]
    padded = sum(len(batch.positions) for batch in batches if batch.padded)
    assert padded / 4000 == pytest.approx(0.25, abs=0.03)
    none, whole = (BatchPlan(spec_durations(50), by_size(4), padded_share=share) for share in (0.0, 1.0))
    assert {b.padded for s in none.steps_of(0) for b in s} == {False}
    assert {b.padded for s in whole.steps_of(0) for b in s} == {True}


def test_200_thousand_cuts_are_planned_in_seconds() -> None:
    durations = spec_durations(200_000)
    begin = time.process_time()  # other programs may have the cores
    plan = BatchPlan(durations, BatchOptions(120.0), world_size=8)
    next(plan.batches(rank=3, step=plan.steps_per_epoch(0) + 5))
    assert time.process_time() - begin < 6


def test_wrong_options_are_refused() -> None:
    for options in ({"batch_size": 8}, {"max_duration": None}):
        with pytest.raises(ConfigError, match="give one and set the other to null"):
            BatchOptions(**options)
    for name, options in (
        ("max_duration", {"max_duration": 0}),
        ("batch_size", {"max_duration": None, "batch_size": 0}),
    ):
        with pytest.raises(ConfigError, match=rf"^batch\.{name} is 0, expected a (whole )?number above 0 or null$"):
            BatchOptions(**options)
    with pytest.raises(DataError, match="3 cuts cannot fill one step of 2 processes x 2 batches"):
        BatchPlan(np.ones(3), BatchOptions(), world_size=2, accumulation=2)


@pytest.mark.parametrize("padded_share", [0.0, 0.3])
def test_a_resumed_run_plans_no_epoch_again_but_the_one_it_is_in(tmp_path: Path, padded_share: float) -> None:
    durations, options = spec_durations(500), BatchOptions(40.0)
    plan = BatchPlan(durations, options, 3, 2, 1, padded_share)
    step = plan.first_step(6) + 2
    plan.epochs_at(step)
    plan.remember(tmp_path / "epochs.json")
    for world, accumulation in ((2, 1), (1, 2)):  # the same steps, divided otherwise
        again = BatchPlan(durations, options, 3, world, accumulation, padded_share)
        again.recall(tmp_path / "epochs.json")
        planned: list[int] = []
        kept = again._steps_of
        again.steps_of = lambda epoch, kept=kept, planned=planned: planned.append(epoch) or kept(epoch)
        assert again.epochs_at(step) == plan.epochs_at(step)
        next(again.batches(0, step))
        assert planned == [6]


@pytest.mark.parametrize("change", ["durations", "options", "seed", "share", "torn", "absent"])
def test_what_another_plan_remembered_counts_for_nothing(tmp_path: Path, change: str) -> None:
    durations, options, seed, share = spec_durations(300), BatchOptions(40.0), 3, 0.0
    plan, path = BatchPlan(durations, options, seed, padded_share=share), tmp_path / "epochs.json"
    plan.first_step(4)
    plan.remember(path)
    if change == "torn":
        path.write_text(path.read_text()[:-9])
    elif change == "absent":
        path.unlink()
    else:
        durations = spec_durations(300, seed=1) if change == "durations" else durations
        options = BatchOptions(50.0) if change == "options" else options
        seed, share = seed + (change == "seed"), 0.2 * (change == "share")
    other = BatchPlan(durations, options, seed, padded_share=share)
    other.recall(path)
    fresh = BatchPlan(durations, options, seed, padded_share=share)
    assert [other.first_step(epoch) for epoch in range(5)] == [fresh.first_step(epoch) for epoch in range(5)]
    assert other._first is not plan._first
