"""Scores against an independent scorer, and the corners where error rates go wrong."""

import json
import random
import time

import numpy as np
import pytest

from egrecho_inner.errors import DataError
from egrecho_inner.text.alignment import align, tokenize
from egrecho_inner.text.bootstrap import bootstrap_interval, paired_bootstrap
from egrecho_inner.text.scoring import REF, match_ids, percent, pool, score


def levenshtein(ref: list[str], hyp: list[str]) -> int:
    """Fewest errors by the textbook recursion, row by row."""
    row = list(range(len(hyp) + 1))
    for i, r in enumerate(ref, start=1):
        diagonal, row[0] = row[0], i
        for j, h in enumerate(hyp, start=1):
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, diagonal + (r != h))
    return row[-1]


def random_pairs(words: list[str], glue: str, n: int) -> list[tuple[str, str, str]]:
    rng = random.Random(0)
    pairs = []
    for i in range(n):
        ref = rng.choices(words, k=rng.choice([0, 1, 2, 5, 9, 14]))
        hyp = [rng.choice(words) if rng.random() < 0.2 else word for word in ref if rng.random() > 0.15]
        hyp += rng.choices(words, k=rng.choice([0, 0, 1, 3]))
        pairs.append((f"utt{i}", glue.join(ref), glue.join(hyp)))
    return pairs


WORDS = ["a", "the", "sự", "xuất", "किताब", "كَتَبَ", "東京", "ไม่", "ß", "ọ̀tá", "don't", "𠮷野家"]


@pytest.mark.parametrize(("metric", "glue"), [("wer", " "), ("cer", " "), ("cer", "")])
def test_against_an_independent_scorer(metric: str, glue: str) -> None:
    pairs = random_pairs(WORDS, glue, 2000)
    result = score(pairs, metric)
    for (_, ref, hyp), row in zip(pairs, result.counts, strict=True):
        r, h = list(tokenize(ref, metric)), list(tokenize(hyp, metric))
        ins, dels, subs, total = row
        assert ins + dels + subs == levenshtein(r, h)
        assert ins - dels == len(h) - len(r)
        assert total == len(r)
        alignment = align(tokenize(ref, metric), tokenize(hyp, metric))
        assert [x for x, _ in alignment if x is not None] == r
        assert [y for _, y in alignment if y is not None] == h
        kinds = [(x is None, y is None, x != y) for x, y in alignment]
        assert (kinds.count((True, False, True)), kinds.count((False, True, True))) == (ins, dels)
        assert kinds.count((False, False, True)) == subs
    assert result.errors == result.counts[:, :REF].sum()
    assert result.correct + result.dels + result.subs == result.total


def test_rates_are_of_the_corpus_and_begin_results_json() -> None:
    result = score([("1", "a b c d", "a x c"), ("2", "e", "e f")])
    assert list(result.as_dict()) == ["error_rate", "ins_rate", "del_rate", "sub_rate", "total"]
    assert result.as_dict() == {"error_rate": 0.6, "ins_rate": 0.2, "del_rate": 0.2, "sub_rate": 0.2, "total": 5}
    json.dumps(result.as_dict())  # plain numbers, no numpy ones
    assert result.wrong_utterances == 2
    assert score([("1", "a b c", "a b")]).as_dict()["error_rate"] == 0.33333


def test_an_empty_reference_counts_its_insertions() -> None:
    result = score([("silence", "", "thank you"), ("speech", "a b", "a b")])
    assert (result.ins, result.total, result.error_rate) == (2, 2, 1.0)


@pytest.mark.parametrize("pairs", [[], [("1", "", "")], [("1", "", "word")]])
def test_without_reference_tokens_there_is_no_rate(pairs: list) -> None:
    result = score(pairs)
    assert result.as_dict() == {"error_rate": None, "ins_rate": None, "del_rate": None, "sub_rate": None, "total": 0}
    assert percent(result.error_rate) == "n/a"
    assert bootstrap_interval(result.counts) is None
    assert paired_bootstrap(result.counts, result.counts) is None


@pytest.mark.parametrize(
    ("text", "characters"),
    [
        ("我 爱 编程", "我爱编程"),
        ("我 爱 python code", "我爱python code"),
        ("  two  words ", "two words"),
        ("ผม ไม่ รู้", "ผมไม่รู้"),
        ("한국어 문장", "한국어 문장"),
    ],
)
def test_spaces_count_only_where_the_script_has_them(text: str, characters: str) -> None:
    assert tokenize(text, "cer") == characters


def test_ids_must_match_on_both_sides() -> None:
    assert match_ids({"b": "x", "a": "y"}, {"a": "1", "b": "2"}) == [("b", "x", "2"), ("a", "y", "1")]
    with pytest.raises(DataError, match=r"6 ids \(u0, u1, u2, u3, u4, \.\.\.\) missing, 1 ids \(z\) without"):
        match_ids({f"u{i}": "" for i in range(6)}, {"z": ""})


def test_pooling_equals_scoring_together() -> None:
    pairs = random_pairs(WORDS, " ", 50)
    assert (pool([score(pairs[:20]), score(pairs[20:])]).counts == score(pairs).counts).all()
    with pytest.raises(DataError, match="cannot be pooled"):
        pool([score(pairs, "wer"), score(pairs, "cer")])


def binomial_counts(rate: float, n: int, seed: int) -> np.ndarray:
    """Utterances of 10 words with independent word errors, all substitutions."""
    errors = np.random.default_rng(seed).binomial(10, rate, size=n)
    return np.stack([0 * errors, 0 * errors, errors, 0 * errors + 10], axis=1)


def test_interval_has_the_width_that_theory_gives() -> None:
    low, high = bootstrap_interval(binomial_counts(0.2, 2000, seed=1))
    assert high - low == pytest.approx(2 * 1.96 * np.sqrt(0.2 * 0.8 / 20000), rel=0.1)
    assert low < 0.2 < high
    assert (low, high) == bootstrap_interval(binomial_counts(0.2, 2000, seed=1))


def test_interval_of_equal_draws_by_brute_force() -> None:
    counts = score(random_pairs(WORDS, " ", 40)).counts
    rng = np.random.default_rng(3)
    draws = counts[rng.integers(len(counts), size=(20000, len(counts)))].sum(axis=1)
    expected = np.quantile(draws[:, :REF].sum(axis=1) / draws[:, REF], [0.025, 0.975])
    assert bootstrap_interval(counts, n=20000) == pytest.approx(expected, rel=0.02)


def test_dependent_utterances_widen_the_interval() -> None:
    by_speaker = np.repeat(binomial_counts(0.2, 20, seed=2), 30, axis=0)
    speakers = np.repeat(np.arange(20), 30).tolist()
    low, high = bootstrap_interval(by_speaker)
    wide_low, wide_high = bootstrap_interval(by_speaker, groups=speakers)
    assert wide_high - wide_low > 3 * (high - low)


def test_paired_bootstrap_finds_what_unpaired_cannot() -> None:
    a = binomial_counts(0.2, 400, seed=1)
    b = a.copy()
    b[np.flatnonzero(a[:, 2])[:25], 2] -= 1  # 25 of 800 errors mended: inside the noise of either system alone
    difference = paired_bootstrap(a, b)
    assert difference.delta == pytest.approx(-25 / 4000)
    assert difference.significant
    assert difference.probability_b_better > 0.99
    low, high = bootstrap_interval(a)
    assert low < b[:, 2].sum() / 4000 < high


def test_paired_bootstrap_of_equals_is_no_difference() -> None:
    a = binomial_counts(0.2, 100, seed=1)
    same = paired_bootstrap(a, a)
    assert (same.delta, same.low, same.high, same.probability_b_better) == (0, 0, 0, 0.5)
    assert not same.significant
    with pytest.raises(ValueError, match="same references"):
        paired_bootstrap(a, a[:-1])


def test_bootstrap_of_ten_thousand_utterances_takes_seconds() -> None:
    rng = np.random.default_rng(0)
    total = rng.integers(1, 60, size=10_000)
    errors = rng.binomial(total, 0.1)
    start = time.perf_counter()
    bootstrap_interval(np.stack([0 * total, 0 * total, errors, total], axis=1))
    assert time.perf_counter() - start < 10
