"""Which clip belongs to train, dev and test: drawn by a hash, so that it stays where it is when clips are added.

In: keys with the group each belongs to. Out: a split or a fold for every key. A group (one sentence, one session) is
never divided. A group's place is a number in [0, 1) computed from the seed and its name alone; below `test` it is test,
below `test + dev` dev, above that train. Only where chance leaves a split far too small, the groups nearest to it are
moved there.
"""

import hashlib
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from egrecho_inner.config_types import NonNegativeInt, Options, PositiveInt, Seed, ShareBelowOne
from egrecho_inner.errors import ConfigError, DataError
from egrecho_inner.text.normalize import fold_text

Split = Literal["train", "dev", "test"]
SPLITS: tuple[Split, ...] = ("train", "dev", "test")
FEWEST_GROUPS = 20
"""With fewer different sentences than this, keeping each in one split would leave splits without common words."""
FILLED = 0.6
"""Share of its intended size that a split has at least."""


@dataclass(frozen=True)
class SplitOptions(Options, group="split"):
    """How clips are divided where no CSV file does."""

    dev: ShareBelowOne = 0.2
    """Share of the clips that chooses the best checkpoint."""
    test: ShareBelowOne = 0.2
    """Share of the clips that nothing is chosen by."""
    seed: Seed = 0
    """Another seed, another draw."""
    groups: Literal["auto", "sentence", "none"] = "auto"
    """Clips that stay together: those of the same sentence, or none; auto takes sentences if there are 20 of them."""
    session: str | None = None
    """Regular expression on the UID; clips with the same first group are of one session and stay together."""
    folds: PositiveInt | None = None
    """Cross-validation over so many folds instead of three splits; null takes at most 5 below `folds_below` clips."""
    folds_below: NonNegativeInt = 60
    """Number of clips under which three splits would each be too small."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not (self.dev > 0 and self.test > 0 and self.dev + self.test < 0.8):
            raise ConfigError(
                f"split.dev {self.dev:g} and split.test {self.test:g} must be above 0, together under 0.8"
            )
        if self.folds is not None and self.folds < 3:
            raise ConfigError(f"split.folds is {self.folds}; expected at least 3, or null")


def draw_splits(groups: Mapping[str, str], dev: float, test: float, seed: int) -> dict[str, Split]:
    """Draw a split for every key.

    Args:
        groups: The group of each key.
        dev: Share of the development split.
        test: Share of the test split.
        seed: Another seed, another draw.

    Raises:
        DataError: There are too few groups, or one group is nearly everything.
    """
    sizes = Counter(groups.values())
    order = sorted(sizes, key=lambda name: place_of(name, seed))
    wanted = {"test": test, "dev": dev}
    if len(order) < 3:
        raise DataError(f"{len(groups)} clips are {len(order)} groups; three splits need at least 3, add recordings")
    parts: dict[str, list[str]] = {"test": [], "dev": [], "train": []}
    for name in order:
        parts[draw_split(name, dev, test, seed)].append(name)
    # what a split lacks comes from its neighbour in the order of places, train last
    for part, giver in (("test", "dev"), ("dev", "train")):
        least = max(1, int(FILLED * wanted[part] * len(groups)))
        while sum(sizes[name] for name in parts[part]) < least:
            source = giver if parts[giver] else "train"
            if len(parts["train"]) <= 1 and source == "train":
                break
            parts[part].append(parts[source].pop(0))
    if not parts["train"] or sum(sizes[name] for name in parts["train"]) < 0.5 * (1 - dev - test) * len(groups):
        largest, count = sizes.most_common(1)[0]
        raise DataError(
            f"no split keeps groups together and leaves enough to train on: the largest group, '{largest[:60]}', is "
            f"{count} of {len(groups)} clips; give the splits as CSV files, or --groups none"
        )
    of = {name: part for part, names in parts.items() for name in names}
    return {key: of[name] for key, name in groups.items()}


def draw_split(group: str, dev: float, test: float, seed: int) -> Split:
    """Draw the split of one group."""
    place = place_of(group, seed)
    return "test" if place < test else "dev" if place < test + dev else "train"


def draw_folds(groups: Mapping[str, str], folds: int, seed: int) -> dict[str, int]:
    """Draw a fold for every key: groups in the order of their hash, each into the fold that is smallest so far.

    Raises:
        DataError: There are fewer groups than folds.
    """
    sizes = Counter(groups.values())
    if len(sizes) < folds:
        raise DataError(f"{len(groups)} clips are {len(sizes)} groups, too few for {folds} folds; add recordings")
    filled = [0] * folds
    fold_of: dict[str, int] = {}
    for name in sorted(sizes, key=lambda name: place_of(name, seed)):
        fold_of[name] = min(range(folds), key=lambda fold: (filled[fold], fold))
        filled[fold_of[name]] += sizes[name]
    return {key: fold_of[name] for key, name in groups.items()}


def place_of(name: str, seed: int) -> float:
    """Return a group's place in [0, 1)."""
    return int.from_bytes(hashlib.sha256(f"{seed} {name}".encode()).digest()[:8], "big") / 2**64


def group_clips(
    texts: Mapping[str, str], kind: Literal["auto", "sentence", "none"], session: str | None = None
) -> dict[str, str]:
    """Name the group of each clip: clips of one sentence, or of one session, are one group.

    Args:
        texts: Of each clip, by its UID.
        kind: sentence joins clips of the same words; none does not; auto does where there are enough sentences.
        session: Regular expression whose first group, found in a UID, names the session.

    Returns:
        The group of each clip, named after its first clip in the order of names.

    Raises:
        DataError: The expression is none, or has no group.
    """
    sentences = {uid: fold_text(text) for uid, text in texts.items()}
    if kind == "auto":
        kind = "sentence" if len(set(sentences.values())) >= FEWEST_GROUPS else "none"
    sessions = find_sessions(texts, session)
    parent: dict[str, str] = {}

    def root(node: str) -> str:
        while parent.setdefault(node, node) != node:
            node = parent[node]
        return node

    for uid in texts:
        for key in ([f"sentence {sentences[uid]}"] if kind == "sentence" else []) + sessions.get(uid, []):
            parent[root(f"clip {uid}")] = root(key)
    # a group of one sentence is named by it, so that the same sentence read again joins it
    return {uid: root(f"clip {uid}") for uid in texts}


def find_sessions(texts: Mapping[str, str], session: str | None) -> dict[str, list[str]]:
    """Return the session of each UID that names one, as a list of at most one key."""
    if session is None:
        return {}
    try:
        pattern = re.compile(session)
    except re.error as error:
        raise DataError(f"--session '{session}' is no regular expression ({error})") from error
    if pattern.groups < 1:
        raise DataError(f"--session '{session}' has no group; write the part that names the session in parentheses")
    found = {uid: pattern.search(uid) for uid in texts}
    return {uid: [f"session {match[1]}"] for uid, match in found.items() if match and match[1]}
