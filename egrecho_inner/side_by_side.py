#!/usr/bin/env python
"""Result folders of `egrecho eval` in, one table out: models beside each other on every set, the first one the measure.

    egrecho side-by-side "[teacher=exp/distil/teacher/eval,student=exp/distil/student/eval]"

Word and character error rates with each language's normaliser and without any, the 95 % interval of the first
(bootstrap over utterances), parameters, real-time factor and how many times faster than the first model. Scored again
from `hyps.jsonl`, so that all rows are counted by one ruler; a set that not all folders have decoded with the same
utterances is refused.

    egrecho side-by-side "[mine=exp/tiny/eval,base=exp/base/eval]" --published egs/pretrain/published.tsv

With `--wide` a line is a model and a column a set, with both averages; `--published` puts figures of others below.
"""

from collections.abc import Mapping

from tabulate import tabulate

from egrecho_inner.config import run
from egrecho_inner.config_names import parse_named
from egrecho_inner.errors import DataError
from egrecho_inner.results.folder import ResultFolder, read_sets
from egrecho_inner.results.rescored import normalize_rows
from egrecho_inner.results.wide import Published, read_published, wide_table
from egrecho_inner.runtime.files import write_text
from egrecho_inner.text.bootstrap import bootstrap_interval
from egrecho_inner.text.normalize import default_metric, load_normalizer
from egrecho_inner.text.scoring import Score, score

HEADS = ["set", "model", "M params", "WER %", "95 %", "raw", "CER %", "raw", "RTF", "x faster"]
Sets = Mapping[str, ResultFolder]
"""The results of a model by set."""


def side_by_side(
    results: list[str],
    normalizer: str = "auto",
    wide: bool = False,
    published: str | None = None,
    out: str | None = None,
    normalizer_file: str = "",
) -> None:
    """Print one table of several models on the same sets.

    Args:
        results: NAME=DIR for each model; DIR is what `egrecho eval` wrote for one set or for several.
        normalizer: Of the columns that are not raw; auto is the language's own.
        wide: A line for each model and a column for each set, with macro and pooled average.
        published: Table of published figures to put below, marked as theirs; with it the table is wide.
        out: Markdown file to write the table to.
        normalizer_file: Python file with a function normalize(text) or normalize(text, language), used instead; on the
            command line only, for it is run.
    """
    if normalizer_file:
        normalizer = load_normalizer(normalizer_file, normalizer)
    named = [parse_named(word, "results", "NAME=DIR, DIR written by egrecho eval") for word in results]
    figures = None if published is None else read_published(published)
    models = {name: read_sets(folder) for name, folder in named}
    text = wide_lines(models, normalizer, figures) if wide or figures else long_lines(models, normalizer)
    print(text)
    if out is not None:
        write_text(out, f"{text}\n")


side_by_side.positional = ["results"]
side_by_side.command_line_only = ["normalizer_file"]


def wide_lines(models: Mapping[str, Sets], normalizer: str, figures: Published | None) -> str:
    """Return the table of models by sets; a set is scored by characters where a language of it is, else by words."""
    scores: dict[str, dict[str, Score]] = {model: {} for model in models}
    for name in dict.fromkeys(name for sets in models.values() for name in sets):
        found = {model: sets[name] for model, sets in models.items() if name in sets}
        check_same(name, found)
        for model, result in found.items():
            characters = "cer" in {default_metric(row.get("language")) for row in result.rows}
            pairs = normalize_rows(result.rows, normalizer)
            scores[model][name] = score(pairs, "cer" if characters else "wer")
    return wide_table(scores, figures)


def long_lines(models: Mapping[str, Sets], normalizer: str) -> str:
    """Return the table of a line for each set and model."""
    sets = list(dict.fromkeys(name for found in models.values() for name in found))
    table: list[list[str]] = []
    by_model: dict[str, list[list[float]]] = {}
    for name in sets:
        found = {model: sets[name] for model, sets in models.items() if name in sets}
        check_same(name, found)
        real_time = next(iter(found.values())).summary["RTF"]
        for model, result in found.items():
            scores = scores_of(result, normalizer)
            by_model.setdefault(model, []).append([in_percent(each) for each in scores])
            table.append([name, model, *line(result, scores, real_time)])
    if len(sets) > 1:
        for model, rates in by_model.items():
            if len(rates) == len(sets):
                means = [sum(column) / len(column) for column in zip(*rates, strict=True)]
                first, *others = (f"{mean:.2f}" for mean in means)
                table.append(["mean", model, "", first, "", *others, "", ""])
    return tabulate(table, HEADS, tablefmt="github", disable_numparse=True, colalign=["left"] * 2 + ["right"] * 8)


def scores_of(result: ResultFolder, normalizer: str) -> list[Score]:
    """Return the four scores: words, words raw, characters, characters raw."""
    texts = [normalize_rows(result.rows, name) for name in (normalizer, "none")]
    return [score(pairs, metric) for metric in ("wer", "cer") for pairs in texts]


def check_same(name: str, found: dict[str, ResultFolder]) -> None:
    """Refuse to compare different utterances.

    Raises:
        DataError: Naming both models.
    """
    (model, first), *others = found.items()
    expected = [(row["id"], row["ref"]) for row in first.rows]
    for other, result in others:
        if [(row["id"], row["ref"]) for row in result.rows] != expected:
            raise DataError(f"set {name}: {model} and {other} decoded different utterances; evaluate both on one set")


def in_percent(scored: Score) -> float:
    """Return an error rate in percent, NaN where there is no reference."""
    return float("nan") if scored.error_rate is None else 100 * scored.error_rate


def line(result: ResultFolder, scores: list[Score], measure: float) -> list[str]:
    """Return a row of the table behind set and model; `measure` is the real-time factor of the first model."""
    interval = bootstrap_interval(scores[0].counts)
    between = "" if interval is None else "-".join(f"{100 * bound:.1f}" for bound in interval)
    first, *others = (f"{in_percent(each):.2f}" for each in scores)
    parameters = result.summary.get("model", {}).get("parameters")
    real_time = result.summary["RTF"]
    faster = f"{measure / real_time:.2f}" if real_time else "n/a"
    size = "" if parameters is None else f"{parameters / 1e6:.2f}"
    return [size, first, between, *others, f"{real_time:.4f}", faster]


if __name__ == "__main__":
    run(side_by_side)
