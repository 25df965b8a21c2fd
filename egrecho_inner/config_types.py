"""Option values that have a range: their types, and the base of option groups.

In: annotations such as `max_steps: PositiveInt | None`. Out: a value outside is refused with its key and range, by the
command line and YAML (jsonargparse knows the types) and by Python (`Options` checks itself when it is made). Values
leave as plain int and float: YAML's writer and torch.compile do not know subclasses of them.
"""

import dataclasses
import math
from argparse import ArgumentError
from functools import cache
from types import UnionType
from typing import Any, ClassVar, Literal, Union, get_args, get_origin, get_type_hints

from jsonargparse import ArgumentParser
from jsonargparse.typing import (
    ClosedUnitInterval,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    restricted_number_type,
)

from egrecho_inner.errors import ConfigError

Seed = restricted_number_type("Seed", int, [(">=", 0), ("<", 2**32)])  # what numpy takes
ShareBelowOne = restricted_number_type("ShareBelowOne", float, [(">=", 0), ("<", 1)])
ShareAboveZero = restricted_number_type("ShareAboveZero", float, [(">", 0), ("<=", 1)])
Port = restricted_number_type("Port", int, [(">=", 0), ("<", 2**16)])
TickPower = restricted_number_type("TickPower", int, [(">=", -14), ("<=", -3)])
TICK_POWER = -8  # stored features: largest error 2^-9 = 0.002, where they have a standard deviation of 0.3 to 0.5
NonPositiveFloat = restricted_number_type("NonPositiveFloat", float, ("<=", 0))

RANGES: dict[Any, str] = {
    PositiveInt: "a whole number above 0",
    NonNegativeInt: "a whole number, 0 or more",
    Seed: "a whole number from 0 to 4294967295",
    Port: "a whole number from 0 to 65535",
    TickPower: "a whole number from -14 to -3",
    PositiveFloat: "a number above 0",
    NonNegativeFloat: "a number, 0 or more",
    NonPositiveFloat: "a number, 0 or less",
    ClosedUnitInterval: "a number from 0 to 1",
    ShareBelowOne: "a number from 0 to below 1",
    ShareAboveZero: "a number above 0, 1 at most",
}
"""How messages put the ranges."""


@dataclasses.dataclass(frozen=True)
class Options:
    """Base of the option groups: a dataclass whose values keep to the ranges of their types.

    Raises:
        ConfigError: When one is made with a value outside, with key and range.
    """

    group: ClassVar[str] = ""
    """What it is called in YAML and on the command line."""

    def __init_subclass__(cls, group: str, **others: Any) -> None:
        super().__init_subclass__(**others)
        cls.group = group

    def __post_init__(self) -> None:
        for name, hint in hints_of(type(self)).items():
            object.__setattr__(self, name, checked(f"{self.group}.{name}", getattr(self, name), hint))


@cache
def hints_of(owner: type[Options]) -> dict[str, Any]:
    """Return the type of every field."""
    hints = get_type_hints(owner)
    return {field.name: hints[field.name] for field in dataclasses.fields(owner)}


def choices_of(hint: Any) -> tuple[Any, ...]:
    """Return the members of a union, or the type itself."""
    return get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)


def checked(key: str, value: Any, hint: Any) -> Any:
    """Return a value, numbers as plain ones.

    Args:
        key: What it is called, for the message.
        value: A number, a list, tuple or dictionary of numbers, or anything else, which passes.
        hint: Its type.

    Raises:
        ConfigError: A number is outside its type's range, infinite or not a number.
    """
    choices = choices_of(hint)
    if isinstance(value, (list, tuple)):
        kinds = next((get_args(choice) for choice in choices if get_origin(choice) in (list, tuple)), ())
        each = (kinds[:1] if len(kinds) < 2 or kinds[1] is ... else kinds) or (Any,)
        return type(value)(checked(key, item, each[min(place, len(each) - 1)]) for place, item in enumerate(value))
    if isinstance(value, dict):
        kinds = next((get_args(choice) for choice in choices if get_origin(choice) is dict), (Any, Any))
        return {name: checked(key, item, kinds[1]) for name, item in value.items()}
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return value
    if not math.isfinite(value):
        raise ConfigError(f"{key} is {value}, expected a finite number")
    ranges = [choice for choice in choices if choice in RANGES]
    if ranges and not any(fits(value, each) for each in ranges):
        wanted = " or ".join([*(RANGES[each] for each in ranges), *["null"] * (type(None) in choices)])
        raise ConfigError(f"{key} is {value}, expected {wanted}")
    return float(value) if isinstance(value, float) else int(value)


def fits(value: float, kind: Any) -> bool:
    """Tell whether a number is in a type's range."""
    try:
        kind(value)
    except ValueError:
        return False
    return True


def describe(hint: Any) -> str:
    """Return a type in words, as a message and the help put it."""
    if hint in RANGES:
        return RANGES[hint]
    inner, origin = get_args(hint), get_origin(hint)
    if origin in (Union, UnionType):
        return " or ".join(describe(each) for each in inner)
    if origin is Literal:
        return f"one of {', '.join(map(repr, inner))}" if len(inner) > 1 else repr(inner[0])
    if origin is tuple and ... not in inner:
        return f"[{', '.join(map(describe, inner))}]"
    if origin in (list, tuple):
        return f"list[{describe(inner[0])}]"
    return "null" if hint is type(None) else str(hint) if inner else hint.__name__


def accepts(hint: Any, value: Any) -> bool:
    """Tell whether a value, a string of the command line or anything of YAML, can be one of a type."""
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--value", type=hint)
    try:
        if isinstance(value, str):
            parser.parse_args([f"--value={value}"])
        else:
            parser.parse_object({"value": value})
    except ArgumentError:
        return False
    return True
