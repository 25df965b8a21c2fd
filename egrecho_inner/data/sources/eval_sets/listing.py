"""What the readers of published test sets share: the list they fill, the registry they are in, ways to find files.

In: the folder of a local copy. Out: an `EvalSet`, a list of which part of which file is scored against which text.
What a set's own rules leave out of scoring is listed too, with its reason, so that no line is lost without a trace.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from egrecho_inner.data.sources.kaldi import Utterance
from egrecho_inner.data.sources.manifests import Channel
from egrecho_inner.data.sources.scan import Source
from egrecho_inner.errors import DataError

SUFFIXES = {".wav", ".flac", ".mp3", ".sph", ".ogg", ".opus", ".m4a", ".mp4", ".webm", ".aac"}
NOTHING = "nothing to score"


@dataclass(frozen=True)
class Excluded:
    """A line that the set itself does not score."""

    id: str
    reason: str
    seconds: float = 0.0


@dataclass
class EvalSet:
    """The utterances of a test set and the audio they are in."""

    language: str = "en"
    allow_pipes: bool = False
    """Run the commands of a wav.scp, in known forms."""
    copies: Path | None = None
    """Folder for what those commands write."""
    sources: dict[str, Source] = field(default_factory=dict)
    """By recording."""
    channels: dict[str, Channel] = field(default_factory=dict)
    """By recording: the channel that is read, or `mix`."""
    utterances: list[Utterance] = field(default_factory=list)
    excluded: list[Excluded] = field(default_factory=list)

    def add(
        self,
        id: str,
        audio: Path | Source,
        text: str,
        *,
        recording: str | None = None,
        start: float = 0.0,
        end: float | None = None,
        speaker: str | None = None,
        gender: str | None = None,
        channel: Channel = "mix",
    ) -> None:
        """Add an utterance; one without a word to score is listed as excluded.

        Args:
            id: Of the utterance.
            audio: Its file.
            text: What is spoken, cleaned of the set's own marks.
            recording: Name of the file or of one side of it; by default the utterance's.
            start: In seconds.
            end: In seconds; None is the end of the file.
            speaker: As the set names them.
            gender: As the set names it.
            channel: The channel to read, or `mix`.
        """
        text = " ".join(text.split())
        if not text:
            self.excluded.append(Excluded(id, NOTHING, max(0.0, (end or start) - start)))
            return
        name = recording or id
        if name not in self.sources:
            self.sources[name] = audio if isinstance(audio, Source) else Source(name, str(audio.absolute()))
            self.channels[name] = channel
        self.utterances.append(Utterance(id, name, start, end, text, self.language, speaker or None, gender or None))

    def exclude(self, id: str, reason: str, seconds: float = 0.0) -> None:
        """List a line that the set's rules do not score."""
        self.excluded.append(Excluded(id, reason, seconds))


Reader = Callable[[Path, EvalSet], None]


@dataclass(frozen=True)
class Entry:
    """A set of the registry."""

    read: Reader
    column: str
    """Its heading in published tables."""
    layout: str
    """What the folder holds."""
    long: bool = False


READERS: dict[str, Entry] = {}
"""By name, in the order of published tables."""


def reader(name: str, column: str, layout: str, long: bool = False) -> Callable[[Reader], Reader]:
    """Put a reader into the registry; one function may serve several sets."""

    def register(function: Reader) -> Reader:
        READERS[name] = Entry(function, column, layout, long)
        return function

    return register


def find_one(root: Path, name: str) -> Path:
    """Find the one file or folder of a name in a folder, at any depth.

    Args:
        root: The folder; it may be the wanted one itself.
        name: Its last parts, `test/stm` for instance.

    Raises:
        DataError: There is none, or there are several.
    """
    if not root.is_dir():
        raise DataError(f"{root}: no such folder")
    if root.absolute().match(name):
        return root
    found = sorted(root.rglob(name))
    if len(found) == 1:
        return found[0]
    if found:
        raise DataError(f"{root} holds {name} more than once ({found[0]}, {found[1]}); give the folder of one of them")
    raise DataError(f"{root}: no {name} in it")


class AudioFiles:
    """The audio files below a folder, found by their name wherever and in whatever format a copy keeps them."""

    def __init__(self, root: Path):
        self.root = root
        self.by_stem: dict[str, list[Path]] = {}
        for path in sorted(root.rglob("*")):
            if path.suffix.lower() in SUFFIXES:
                self.by_stem.setdefault(path.stem.lower(), []).append(path)

    def find(self, name: str) -> Path:
        """Return the file of a name, whose ending may be missing or another; where there is none, its proper place.

        Raises:
            DataError: Several files of that name are no better match than each other.
        """
        if (self.root / name).is_file():
            return self.root / name
        path = Path(name)
        stem = path.stem if path.suffix.lower() in SUFFIXES else path.name
        found = self.by_stem.get(stem.lower(), [])
        exact = [each for each in found if each.suffix.lower() == path.suffix.lower()] or found
        if len(exact) > 1:
            raise DataError(f"{exact[0]} and {exact[1]}: two files are called {name}; remove the wrong one")
        return exact[0] if exact else self.root / name
