"""Conditions on tags, in order: what a document or window must fulfil to be kept.

In: a list of conditions from a YAML file, and the tags of one item. Out: the first condition that fails, or none. A
missing tag, an unknown key or a value of another type is an error: nothing passes because nobody looked.

    conditions:
      - {tag: text_language, equals: en}
      - {tag: casing, one_of: [mixed, lower]}
      - {tag: edit_distance, at_most: 0.5}
      - {tag: speech_share, at_least: 0.1, when: {tag: num_words, at_least: 1}}    # asked of windows with text only
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from egrecho_inner.errors import ConfigError, DataError

Scalar = bool | int | float | str
TESTS = ("equals", "one_of", "not_in", "at_least", "at_most")


@dataclass(frozen=True)
class Condition:
    """One condition on one tag."""

    tag: str
    """Name of the tag, of the document or of the window."""
    equals: Scalar | None = None
    """The tag is this."""
    one_of: list[Scalar] | None = None
    """The tag is one of these."""
    not_in: list[Scalar] | None = None
    """The tag is none of these."""
    at_least: float | None = None
    """The tag is this or more."""
    at_most: float | None = None
    """The tag is this or less."""
    when: Condition | None = None
    """It is asked only of what fulfils this one."""

    def __post_init__(self) -> None:
        given = [name for name in TESTS if getattr(self, name) is not None]
        if not given:
            raise ConfigError(f"the condition on '{self.tag}' tests nothing; give one of {', '.join(TESTS)}")
        if [] in (self.one_of, self.not_in):
            raise ConfigError(f"the condition on '{self.tag}' has an empty list; nothing is in it")
        if len(given) > 1 and set(given) != {"at_least", "at_most"}:
            raise ConfigError(f"the condition on '{self.tag}' has {' and '.join(given)}; make two conditions of them")
        if self.when is not None and self.when.when is not None:
            raise ConfigError(f"the condition on '{self.tag}' has a 'when' with another one in it; give one")

    def holds(self, value: Scalar) -> bool:
        """Tell whether a tag's value fulfils the condition.

        Raises:
            DataError: The value is of another type than what it is compared with.
        """
        if self.at_least is not None or self.at_most is not None:
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise DataError(f"tag '{self.tag}' is {value!r}, no number; at_least and at_most want one")
            low = self.at_least is None or value >= self.at_least
            return low and (self.at_most is None or value <= self.at_most)
        wanted = self.one_of or self.not_in or [self.equals]
        if not any(same_type(value, each) for each in wanted):
            raise DataError(
                f"tag '{self.tag}' is {value!r}, a {type(value).__name__}, but it is compared with {wanted[0]!r}; "
                "use the same type"
            )
        found = any(value == each for each in wanted if same_type(value, each))
        return not found if self.not_in is not None else found

    @property
    def tags(self) -> list[str]:
        """The tags that it asks for."""
        return [self.tag] if self.when is None else [self.tag, self.when.tag]

    def __str__(self) -> str:
        return self.test if self.when is None else f"{self.test} when {self.when}"

    @property
    def test(self) -> str:
        """The condition in words, without when it is asked."""
        if self.at_least is not None and self.at_most is not None:
            return f"{self.at_least:g} <= {self.tag} <= {self.at_most:g}"
        if self.at_least is not None or self.at_most is not None:
            return f"{self.tag} >= {self.at_least:g}" if self.at_most is None else f"{self.tag} <= {self.at_most:g}"
        if self.equals is not None:
            return f"{self.tag} = {str(self.equals).lower() if isinstance(self.equals, bool) else self.equals}"
        values = ", ".join(map(str, self.one_of or self.not_in or []))
        return f"{self.tag} {'in' if self.one_of else 'not in'} [{values}]"


def read_conditions(rows: Sequence[Mapping[str, Any]]) -> list[Condition]:
    """Make conditions of what a YAML file holds.

    Raises:
        ConfigError: One has an unknown key or a value of a wrong type, with its place in the list.
    """
    found = []
    for number, row in enumerate(rows, 1):
        where = f"conditions, number {number}"
        if unknown := [key for key in row if key not in ("tag", *TESTS, "when")]:
            near = difflib.get_close_matches(str(unknown[0]), TESTS, n=1)
            hint = f"did you mean '{near[0]}'?" if near else f"legal are tag, {', '.join(TESTS)}, when"
            raise ConfigError(f"{where}: unknown key '{unknown[0]}'; {hint}")
        if not isinstance(row.get("tag"), str):
            raise ConfigError(f"{where}: has no tag; expected {{tag: NAME, equals: VALUE}} or another test")
        for key, value in row.items():
            if key in WANTED and not WANTED[key][1](value):
                raise ConfigError(f"{where}: {key} of '{row['tag']}' is {value!r}; expected {WANTED[key][0]}")
        found.append(Condition(**row | {"when": read_conditions([row["when"]])[0]} if "when" in row else row))
    return found


def is_number(value: Any) -> bool:
    """Tell whether a value is a number; true and false are none."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def is_list(value: Any) -> bool:
    """Tell whether a value is a list of single values."""
    return isinstance(value, list) and all(isinstance(each, bool | int | float | str) for each in value)


WANTED: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "equals": ("true, false, a number or a word", lambda value: isinstance(value, bool | int | float | str)),
    "one_of": ("a list such as [a, b]", is_list),
    "not_in": ("a list such as [a, b]", is_list),
    "at_least": ("a number", is_number),
    "at_most": ("a number", is_number),
    "when": ("a condition such as {tag: num_words, at_least: 1}", lambda value: isinstance(value, Mapping)),
}


def same_type(one: Any, other: Any) -> bool:
    """Tell whether two values may be compared: both bool, both numbers, or both words."""
    if isinstance(one, bool) or isinstance(other, bool):
        return isinstance(one, bool) and isinstance(other, bool)
    if isinstance(one, int | float):
        return isinstance(other, int | float)
    return type(one) is type(other)


def first_failure(tags: Mapping[str, Scalar | None], conditions: Sequence[Condition], where: str) -> Condition | None:
    """Return the first condition that an item does not fulfil, or None.

    Args:
        tags: Of the item; those of its window and of its document together.
        conditions: In order.
        where: Names the item in an error.

    Raises:
        DataError: A tag is missing, or has no value, or is of another type.
    """
    for condition in conditions:
        value, asked = value_of(tags, condition.tag, where), True
        try:
            if condition.when is not None:
                asked = condition.when.holds(value_of(tags, condition.when.tag, where))
            if asked and not condition.holds(value):
                return condition
        except DataError as error:
            raise DataError(str(error) if str(error).startswith(where) else f"{where}: {error}") from error
    return None


def value_of(tags: Mapping[str, Scalar | None], name: str, where: str) -> Scalar:
    """Return a tag of an item.

    Raises:
        DataError: It is missing, or has no value.
    """
    value = tags.get(name)
    if value is None:
        state = "no value for" if name in tags else "no"
        raise DataError(
            f"{where} has {state} tag '{name}' (it has {', '.join(sorted(tags)) or 'none'}); compute it: "
            f"egrecho tag --tags {name}"
        )
    return value
