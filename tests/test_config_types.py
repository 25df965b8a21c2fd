"""Values keep to the ranges of their types, from the command line, from YAML and from Python."""

import dataclasses
import math
import pickle
from pathlib import Path
from typing import Literal

import pytest
import yaml

from egrecho_inner.config import parse, to_yaml
from egrecho_inner.config_types import (
    ClosedUnitInterval,
    NonNegativeInt,
    Options,
    PositiveFloat,
    PositiveInt,
    Seed,
    ShareBelowOne,
    describe,
)
from egrecho_inner.errors import ConfigError


@dataclasses.dataclass(frozen=True)
class Inner(Options, group="train.inner"):
    """Inner."""

    share: ClosedUnitInterval = 0.5
    order: tuple[float, float] = (1.0, 2.0)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.order[0] > self.order[1]:
            raise ConfigError(f"train.inner.order is {list(self.order)}, expected the lower first")


@dataclasses.dataclass(frozen=True)
class Train(Options, group="train"):
    """Train."""

    steps: PositiveInt | None = None
    rate: PositiveFloat = 1e-3
    betas: tuple[ShareBelowOne, ShareBelowOne] = (0.9, 0.98)
    layers: PositiveInt | list[NonNegativeInt] = 2
    seed: Seed = 42
    gain: float = 0.0
    parts: tuple[Literal["encoder", "decoder"], ...] = ()
    freeze: list[Literal["encoder", "decoder"]] = dataclasses.field(default_factory=list)
    inner: Inner | None = None


def program(train: Train = Train(), limit: PositiveInt = 3, gain: float = 0.0) -> None:
    """Train.

    Args:
        train: How.
        limit: How many.
        gain: How loud.
    """


WRONG = [
    ("train.steps", "-3", "'-3', expected a whole number above 0 or null"),
    ("train.steps", "0", "expected a whole number above 0 or null"),
    ("train.steps", "1.5", "expected a whole number above 0 or null"),
    ("train.steps", "true", "expected a whole number above 0 or null"),
    ("train.rate", "-1", "expected a number above 0"),
    ("train.rate", ".nan", "expected a number above 0"),
    ("train.rate", "inf", "inf, expected a finite number"),
    ("train.betas", "[1.5, 2]", "expected [a number from 0 to below 1, a number from 0 to below 1]"),
    ("train.betas", "[0.9]", "expected [a number from 0 to below 1, a number from 0 to below 1]"),
    ("train.layers", "0", "expected a whole number above 0 or list[a whole number, 0 or more]"),
    ("train.layers", "[0, -1]", "expected a whole number above 0 or list[a whole number, 0 or more]"),
    ("train.seed", "-1", "expected a whole number from 0 to 4294967295"),
    ("train.seed", "4294967296", "expected a whole number from 0 to 4294967295"),
    ("train.gain", "-.inf", "-inf, expected a finite number"),
    ("train.inner.share", "1.01", "expected a number from 0 to 1"),
    ("train.inner.order", "[2, 1]", "[2.0, 1.0], expected the lower first"),
    ("train.inner.order", "[1, .inf]", "inf, expected a finite number"),
    ("train.freeze", "[encodr]", "expected list[one of 'encoder', 'decoder']"),
    ("limit", "0", "'0', expected a whole number above 0"),
    ("gain", ".nan", "nan, expected a finite number"),
]


@pytest.mark.parametrize(("key", "value", "words"), WRONG)
def test_a_value_outside_its_range_is_refused_with_key_and_range(
    key: str, value: str, words: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(program, [f"--{key}={value}"])
    assert str(caught.value).startswith(f"{key} is ") and str(caught.value).endswith(words)
    *groups, last = key.split(".")
    text = "".join(f"{'  ' * depth}{group}:\n" for depth, group in enumerate(groups))
    (tmp_path / "wrong.yaml").write_text(f"{text}{'  ' * len(groups)}{last}: {value}\n")
    with pytest.raises(ConfigError) as caught:
        parse(program, ["-c", str(tmp_path / "wrong.yaml")])
    place = f"{tmp_path / 'wrong.yaml'}:{len(groups) + 1}: {key} is "
    assert str(caught.value).startswith(place) and str(caught.value).endswith(words)


def test_what_is_added_to_a_list_is_checked() -> None:
    with pytest.raises(
        ConfigError, match=r"^train\.freeze is '\[encodr\]', expected list\[one of 'encoder', 'decoder'\]$"
    ):
        parse(program, ["--train.freeze+", "encodr"])
    assert parse(program, ["--train.freeze+", "encoder"])["train"].freeze == ["encoder"]


def test_python_gets_the_same_refusal() -> None:
    with pytest.raises(ConfigError, match=r"^train\.steps is -3, expected a whole number above 0 or null$"):
        Train(steps=-3)
    with pytest.raises(ConfigError, match=r"^train\.betas is 1\.5, expected a number from 0 to below 1$"):
        dataclasses.replace(Train(), betas=(1.5, 0.9))
    with pytest.raises(ConfigError, match=r"^train\.rate is nan, expected a finite number$"):
        Train(rate=math.nan)


def test_values_are_plain_numbers_afterwards() -> None:
    values = parse(program, ["--train.steps", "5", "--train.betas", "[0.5, 0]", "--limit", "2", "--train.rate=1e-3"])
    train = values["train"]
    numbers = [train.steps, train.rate, *train.betas, train.seed, values["limit"]]
    assert {type(number) for number in numbers} == {int, float} and train.betas == (0.5, 0.0)
    assert pickle.loads(pickle.dumps(train)) == train
    assert yaml.safe_load(to_yaml(values))["train"]["steps"] == 5


def test_types_have_words() -> None:
    assert describe(PositiveInt | None) == "a whole number above 0 or null"
    assert describe(list[str] | str) == "list[str] or str" and describe(tuple[float, ...]) == "list[float]"
    assert describe(dict[str, str]) == "dict[str, str]"
