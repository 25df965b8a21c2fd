"""Which teacher's texts are good enough to learn from: rules with thresholds, each naming the value it used.

In: a cut's JSON with a teacher's text on it. Out: the first rule it fails with the value, or none; a survival table.
The error rate compares the teacher with the reference after normalisation, in words, or in characters where words have
no spaces: by words nearly every Japanese text is one wrong word. The other rules need no reference. A rule that is on
wants its field on every cut: a field that is missing is an error, never a pass.
"""

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from egrecho_inner.data.batches.options import RuleOptions
from egrecho_inner.data.cuts.fields import code_of, read_reference, supervision_row
from egrecho_inner.data.cuts.statistics import duration_of
from egrecho_inner.errors import ConfigError, DataError
from egrecho_inner.text.alignment import count_errors, tokenize
from egrecho_inner.text.languages import language_code
from egrecho_inner.text.normalize import default_metric, default_normalizer, get_normalizer

EXAMPLES = 3
UNSCORABLE = 9.99
"""Error rate of a text where the reference is empty: insertions have no reference to be divided by."""


@dataclass(frozen=True)
class Labelled:
    """What rules look at."""

    id: str
    duration: float
    language: str | None
    reference: str | None
    teacher: Mapping[str, Any]
    error: tuple[float, str] | None = None
    """Error rate and its metric, where one is asked for."""

    def of(self, name: str) -> Any:
        """Return a field of the teacher's.

        Raises:
            DataError: It is missing.
        """
        if name not in self.teacher:
            raise DataError(
                f"cut {self.id}: the teacher's '{name}' is missing, and a rule asks for it; label the cuts again "
                "(egrecho pseudo-label), or switch the rule off"
            )
        return self.teacher[name]


@dataclass(frozen=True)
class Rule:
    """A question to every cut."""

    name: str
    limit: str
    value: Callable[[Labelled], Any]
    passes: Callable[[Any], bool]


def read_labelled(row: Mapping[str, Any], options: RuleOptions, where: str) -> Labelled:
    """Take from a cut's JSON what rules look at.

    Raises:
        DataError: It has no teacher's text, or no reference where one is needed.
    """
    teacher = (supervision_row(row, where).get("custom") or {}).get("teacher")
    if teacher is None or "text" not in teacher:
        raise DataError(f"{where}: cut {row['id']} has no teacher's text; label the cuts first (egrecho pseudo-label)")
    try:
        found = read_reference(row)
    except DataError as fault:
        raise DataError(f"{where}: cut {row['id']}: {fault}") from fault
    language, reference = found.language or code_of(teacher.get("language")), found.text
    error = None
    if options.max_error_rate is not None:
        if reference is None:
            raise DataError(
                f"{where}: cut {row['id']} has no reference to compare the teacher with; set rules.max_error_rate null "
                "and filter by likelihood, repetition and speed"
            )
        error = error_rate(reference, teacher["text"], language, options)
    return Labelled(row["id"], duration_of(row), language, reference, teacher, error)


def error_rate(reference: str, text: str, language: str | None, options: RuleOptions) -> tuple[float, str]:
    """Return how far a text is from its reference, and by which metric."""
    name = default_normalizer(language) if options.normalizer == "auto" else options.normalizer
    normalize = get_normalizer(name, language)
    metric = default_metric(language) if options.metric == "auto" else options.metric
    ref, hyp = tokenize(normalize(reference), metric), tokenize(normalize(text), metric)
    errors = sum(count_errors(ref, hyp))
    if not len(ref):
        return (0.0 if errors == 0 else UNSCORABLE), metric
    return errors / len(ref), metric


def make_rules(options: RuleOptions) -> list[Rule]:
    """Return the rules that are on, in the order in which they are asked.

    Raises:
        ConfigError: None is, or a threshold makes no sense.
    """
    if options.max_error_rate is not None and options.max_error_rate < 0:
        raise ConfigError(f"rules.max_error_rate is {options.max_error_rate}; expected a fraction such as 0.1")
    if options.max_error_rate is not None and options.max_error_rate > 2:
        raise ConfigError(f"rules.max_error_rate is {options.max_error_rate}; it is a fraction, 10 % is 0.1")
    if options.normalizer != "auto":
        get_normalizer(options.normalizer)
    rules = [
        *bounds("duration", options.min_duration, options.max_duration, lambda cut: round(cut.duration, 3)),
        *unless("truncated", options.truncated, lambda cut: cut.of("truncated")),
        *unless("looped", options.looped, lambda cut: cut.of("looped")),
        *unless("empty", options.empty, lambda cut: not cut.of("text").strip()),
        *bounds("tokens", None, options.max_tokens, lambda cut: cut.of("tokens")),
        *bounds("avg_logprob", options.min_avg_logprob, None, lambda cut: cut.of("avg_logprob")),
        *bounds("compression_ratio", None, options.max_compression_ratio, lambda cut: cut.of("compression_ratio")),
        *bounds(
            "no_speech", None, options.max_no_speech, lambda cut: cut.of("no_speech") if cut.of("text").strip() else 0.0
        ),
        *bounds(
            "characters_per_second",
            options.min_characters_per_second,
            options.max_characters_per_second,
            lambda cut: round(len(cut.of("text")) / max(cut.duration, 1e-3), 3),
        ),
    ]
    if options.languages is not None:
        known = frozenset(map(language_code, options.languages))
        named = " ".join(sorted(known))
        rules.append(Rule("language", named, lambda cut: code_of(cut.of("language")), known.__contains__))
    limit = options.max_error_rate
    if limit is not None:
        rules.append(
            Rule("error_rate", f"<= {limit:g}", lambda cut: round(cut.error[0], 5), lambda value: value <= limit + 1e-9)
        )
    if not rules:
        raise ConfigError("rules: none is on; everything would be kept")
    return rules


def bounds(name: str, low: float | None, high: float | None, value: Callable[[Labelled], float]) -> list[Rule]:
    """Make the rules of a lower and an upper bound."""
    rules = []
    if low is not None:
        rules.append(Rule(f"{name} low" if high is not None else name, f">= {low:g}", value, lambda each: each >= low))
    if high is not None:
        rules.append(Rule(name, f"<= {high:g}", value, lambda each: each <= high))
    return rules


def unless(name: str, kept: bool, value: Callable[[Labelled], bool]) -> list[Rule]:
    """Make the rule that drops what has a mark, unless it is kept."""
    return [] if kept else [Rule(name, "dropped", value, lambda each: not each)]


@dataclass
class RuleCount:
    """What one rule did."""

    alone: int = 0
    """Cuts it would drop by itself."""
    first: int = 0
    """Cuts it drops, having been asked before the others that would."""
    seconds: float = 0.0
    """Of those."""
    examples: list[tuple[Labelled, Any]] = field(default_factory=list)


class Survival:
    """Asks all rules about every cut and counts.

    Args:
        rules: In their order.
        seed: Of the choice of examples.
    """

    def __init__(self, rules: list[Rule], seed: int = 0):
        self.rules, self.total, self.seconds = rules, 0, 0.0
        self.tallies = {rule.name: RuleCount() for rule in rules}
        self.random = random.Random(seed)

    def evaluate(self, cut: Labelled) -> tuple[Rule, Any] | None:
        """Return the first rule that a cut fails with the value it fails by, or None."""
        self.total += 1
        self.seconds += cut.duration
        failed = [(rule, value) for rule in self.rules if not rule.passes(value := rule.value(cut))]
        for rule, _ in failed:
            self.tallies[rule.name].alone += 1
        if not failed:
            return None
        rule, value = failed[0]
        tally = self.tallies[rule.name]
        tally.first += 1
        tally.seconds += cut.duration
        if len(tally.examples) < EXAMPLES:  # each cut is an example with the same probability
            tally.examples.append((cut, value))
        elif (place := self.random.randrange(tally.first)) < EXAMPLES:
            tally.examples[place] = (cut, value)
        return rule, value

    def table(self) -> list[list[str]]:
        """Return the rows: rule, limit, drops alone, drops here, cuts left, hours left, share of hours left."""
        left, seconds = self.total, self.seconds
        rows = [["all", "", "", "", f"{left:,}", f"{seconds / 3600:.2f}", "100.0"]]
        for rule in self.rules:
            tally = self.tallies[rule.name]
            left, seconds = left - tally.first, seconds - tally.seconds
            seconds = max(seconds, 0.0)  # rounding
            share = 100 * seconds / self.seconds if self.seconds else 0.0
            numbers = [f"{tally.alone:,}", f"{tally.first:,}", f"{left:,}", f"{seconds / 3600:.2f}", f"{share:.1f}"]
            rows.append([rule.name, rule.limit, *numbers])
        return rows

    @property
    def kept(self) -> int:
        """Cuts that passed all rules."""
        return self.total - sum(tally.first for tally in self.tallies.values())
