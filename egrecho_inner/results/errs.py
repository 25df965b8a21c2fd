"""The `errs` text file as icefall users know it: totals, every utterance aligned, confusions, figures by word.

In: (id, reference, hypothesis), normalised, and their score; out: one file for `less` and `grep`.
Errors stand in the line where they happened: `(ref->hyp)`, `(*->hyp)` for an insertion, `(ref->*)` for a deletion.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from egrecho_inner.runtime.files import atomic_file, write_lines
from egrecho_inner.text.alignment import Alignment, align, tokenize
from egrecho_inner.text.scoring import Score, percent

UNITS = {"wer": ("%WER", "words"), "cer": ("%CER", "characters")}


@dataclass(frozen=True)
class TokenErrors:
    """How often each token was right, confused, left out and put in."""

    correct: Counter[str] = field(default_factory=Counter)
    substituted: Counter[tuple[str, str]] = field(default_factory=Counter)
    deleted: Counter[str] = field(default_factory=Counter)
    inserted: Counter[str] = field(default_factory=Counter)

    def add(self, alignment: Alignment) -> None:
        """Count the pairs of one utterance."""
        for ref, hyp in alignment:
            if ref is None:
                self.inserted[hyp] += 1
            elif hyp is None:
                self.deleted[ref] += 1
            elif ref == hyp:
                self.correct[ref] += 1
            else:
                self.substituted[ref, hyp] += 1

    def by_token(self) -> list[tuple[str, int, int, int, int]]:
        """Return (token, correct, errors, count in references, count in hypotheses), most errors first."""
        refs, hyps = self.correct + self.deleted, self.correct + self.inserted
        for (ref, hyp), count in self.substituted.items():
            refs[ref] += count
            hyps[hyp] += count
        rows = [
            (token, self.correct[token], refs[token] + hyps[token] - 2 * self.correct[token], refs[token], hyps[token])
            for token in refs | hyps
        ]
        return sorted(rows, key=lambda row: (-row[2], -row[3], row[0]))


def write_errs(path: str | Path, rows: Iterable[tuple[str, str, str]], score: Score, note: str = "") -> None:
    """Write the errs file of a scored set.

    Args:
        path: Where to; replaced only when complete.
        rows: (id, reference, hypothesis) as they were scored.
        score: Their score.
        note: Put behind the rate, the normaliser for instance.
    """
    with atomic_file(path) as file:
        write_lines(file, errs_lines(rows, score, note), packed=False)


def errs_lines(rows: Iterable[tuple[str, str, str]], score: Score, note: str = "") -> Iterator[str]:
    """Yield the lines of the errs file."""
    name, units = UNITS[score.metric]
    yield f"{name} = {percent(score.error_rate)}{f' ({note})' if note else ''}"
    yield (
        f"Errors: {score.ins} insertions, {score.dels} deletions, {score.subs} substitutions, "
        f"over {score.total} reference {units} ({score.correct} correct)"
    )
    yield f"Utterances: {score.utterances}, of which {score.wrong_utterances} have an error"
    yield (
        "Search below for sections starting with PER-UTT DETAILS:, SUBSTITUTIONS:, DELETIONS:, INSERTIONS:, "
        "PER-WORD STATS:"
    )
    tally = TokenErrors()
    yield from ("", "PER-UTT DETAILS: corr or (ref->hyp)")
    for utterance, ref, hyp in rows:
        alignment = align(tokenize(ref, score.metric), tokenize(hyp, score.metric))
        tally.add(alignment)
        yield f"{utterance}:\t{inline(alignment, '' if score.metric == 'cer' else ' ')}"
    yield from _sections(tally)


def inline(alignment: Alignment, glue: str = " ") -> str:
    """Write an alignment in one line; neighbouring errors share one pair of parentheses."""
    parts: list[str] = []
    refs: list[str] = []
    hyps: list[str] = []
    for ref, hyp in [*alignment, ("", "")]:  # the last pair closes an open group
        if ref == hyp:
            if refs or hyps:
                parts.append(f"({_visible(refs, glue)}->{_visible(hyps, glue)})")
                refs, hyps = [], []
            parts.append(ref or "")
        else:
            refs += [ref] if ref is not None else []
            hyps += [hyp] if hyp is not None else []
    return glue.join(parts[:-1])


def _visible(tokens: list[str], glue: str) -> str:
    return glue.join(map(_token, tokens)) or "*"


def _sections(tally: TokenErrors) -> Iterator[str]:
    yield from ("", "SUBSTITUTIONS: count ref -> hyp")
    yield from (f"{count}\t{_token(ref)} -> {_token(hyp)}" for (ref, hyp), count in _ranked(tally.substituted))
    yield from ("", "DELETIONS: count ref")
    yield from (f"{count}\t{_token(ref)}" for ref, count in _ranked(tally.deleted))
    yield from ("", "INSERTIONS: count hyp")
    yield from (f"{count}\t{_token(hyp)}" for hyp, count in _ranked(tally.inserted))
    yield from ("", "PER-WORD STATS: word  corr tot_errs count_in_ref count_in_hyp")
    for token, correct, errors, in_ref, in_hyp in tally.by_token():
        yield f"{_token(token)}\t{correct}\t{errors}\t{in_ref}\t{in_hyp}"


def _ranked(counter: Counter) -> list[tuple]:
    return sorted(counter.items(), key=lambda item: (-item[1], item[0]))


def _token(token: str) -> str:
    """Make the space character visible where it is an error itself."""
    return "␣" if token == " " else token
