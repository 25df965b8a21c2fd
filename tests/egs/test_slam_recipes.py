"""The texts that the nano language model of egs/slam learns to copy from."""

import importlib
import random
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from tokenizers import Tokenizer

ROOT = Path(__file__).parents[2]
LOCAL = ROOT / "egs/slam/local"


@pytest.fixture(scope="module")
def made() -> Iterator[ModuleType]:
    """make_text.py, which imports its neighbours as a script does."""
    path, names = list(sys.path), set(sys.modules)
    sys.path.insert(0, str(LOCAL))
    try:
        yield importlib.import_module("make_text")
    finally:
        sys.path[:] = path
        for name in set(sys.modules) - names:
            if str(getattr(sys.modules[name], "__file__", "")).startswith(str(ROOT / "egs")):
                del sys.modules[name]


@pytest.mark.parametrize("noise", [0.0, 1.0])
def test_equal_neighbours_of_a_text_are_parted_as_ctc_reads_them(made: ModuleType, noise: float) -> None:
    rng, pad, others = random.Random(1), 99, (7, 8)
    for _ in range(300):
        ids = [rng.randrange(4) for _ in range(6)]
        found = made.stretch(ids, rng, others, pad, noise)
        collapsed = [a for a, b in zip(found, [None, *found], strict=False) if a != b and a != pad]
        if noise == 0:
            assert collapsed == ids
        assert max(collapsed.count(each) for each in range(4)) <= max(ids.count(each) for each in range(4)), found


def test_lines_are_repeated_plain_or_empty(made: ModuleType) -> None:
    tokenizer = Tokenizer.from_file(str(ROOT / "egs/slam/lm/tokenizer.json"))
    pad, rng = tokenizer.token_to_id("<pad>"), random.Random(3)
    lines = [made.line(rng, tokenizer, 1.0) for _ in range(400)]
    silent = [each for each in lines if not each["target"]]
    assert 5 < len(silent) < 60 and all(set(each["tokens"]) == {pad} for each in silent)
    assert 2 < sum(each["target"] != "" and not each["tokens"] for each in lines) < 40
    clean = [made.line(rng, tokenizer, 0.0) for _ in range(200)]
    assert all(set(each["tokens"]) <= {*tokenizer.encode(each["target"]).ids, pad} for each in clean)
    assert len(made.letters(tokenizer)) > 200
