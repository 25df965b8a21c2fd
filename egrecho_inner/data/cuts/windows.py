"""Windows of at most 30 s from the cues of a long recording: where each begins, what is in it, and where it ends.

In: disjoint cues in order (`text/cues.py`). Out: windows, each with its cues in seconds from its own beginning. Pure
arithmetic; `egrecho segment` makes cuts of it. The rule is OLMoASR's (Ngo et al. 2025, section 3; its code decides
where the paper is silent):

- a window begins where the one before it ends, which is the end of that one's last cue, so that the pause before the
  next cue belongs to the window that has that cue;
- cues are taken as long as the last one ends within the window;
- a pause of a full window or more becomes windows without speech, as many as fit; the rest goes with the next cue;
- a shorter pause after which the next cue does not fit becomes one window without speech.

What differs from that code, because it teaches a model wrong things there: a window ends with its last cue instead of
running on over the beginning of the next one, which nobody transcribed; a cue longer than a window is left out with
the audio under it and counted, or begins a window that it does not end (`cut_long`); the text of a recording that
ends late is not shifted; no document loses its end after 120 windows.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from egrecho_inner.errors import ConfigError
from egrecho_inner.text.constants import WINDOW_SECONDS
from egrecho_inner.text.cues import Cue

EPSILON = 1e-6  # seconds; times are decimal and their differences are not exact


@dataclass(frozen=True)
class WindowRule:
    """How a recording is divided."""

    max_seconds: float = WINDOW_SECONDS
    """Of a window; smaller for models that are trained on less."""
    no_speech: bool = True
    """Keep windows without speech, whose text is empty."""
    cut_long: bool = False
    """A cue longer than a window begins one, without an end: it is learned with its start time only."""

    def __post_init__(self) -> None:
        if not 0 < self.max_seconds <= WINDOW_SECONDS:
            raise ConfigError(f"max_seconds is {self.max_seconds:g}; expected more than 0 and at most 30")


@dataclass(frozen=True)
class Window:
    """A piece of a recording with the cues inside it."""

    start: float
    """Seconds from the beginning of the recording."""
    duration: float
    cues: tuple[Cue, ...] = ()
    """In seconds from the window's start; empty where nobody speaks. The end of one that is cut is None."""

    @property
    def end(self) -> float:
        """Seconds from the beginning of the recording."""
        return self.start + self.duration


def windows_of(cues: Sequence[Cue], duration: float, rule: WindowRule) -> tuple[list[Window], Counter[str]]:
    """Divide a recording into windows.

    Args:
        cues: Disjoint, in order, of positive length.
        duration: Seconds of the recording; what lies before the first and after the last cue is never used.
        rule: How long windows are.

    Returns:
        The windows in order, disjoint, and how many cues were left out for which reason.
    """
    counts: Counter[str] = Counter()
    inside = clip(cues, duration, counts)
    windows: list[Window] = []
    begin = inside[0].start if inside else 0.0
    taken: list[Cue] = []
    for cue in inside:
        if taken and cue.end - begin > rule.max_seconds + EPSILON:
            windows.append(speech(begin, taken))
            begin, taken = taken[-1].end, []
        if not taken and cue.end - begin > rule.max_seconds + EPSILON:
            silent, begin = silence(begin, cue, rule)
            windows += silent
        if cue.seconds > rule.max_seconds + EPSILON:
            if rule.cut_long:
                windows.append(Window(begin, rule.max_seconds, (Cue(0.0, None, cue.text),)))
            counts["cue longer than a window"] += 1
            begin = cue.end
            continue
        taken.append(cue)
    if taken:
        windows.append(speech(begin, taken))
    kept = windows if rule.no_speech else [window for window in windows if window.cues]
    return kept, counts


def clip(cues: Sequence[Cue], duration: float, counts: Counter[str]) -> list[Cue]:
    """Leave out cues behind the end of the recording, and end the last one there."""
    inside = []
    for cue in cues:
        if cue.start >= duration - EPSILON:
            counts["cue behind the end of the recording"] += 1
        elif cue.end > duration + EPSILON:
            counts["cue past the end of the recording, shortened"] += 1
            inside.append(replace(cue, end=duration))
        else:
            inside.append(cue)
    return inside


def speech(begin: float, cues: Sequence[Cue]) -> Window:
    """Make a window that ends with its last cue."""
    moved = tuple(
        Cue(round(max(cue.start - begin, 0.0), 3), round(cue.end - begin, 3), cue.text) for cue in cues
    )  # a repaired cue may begin a rounding error before its window
    return Window(round(begin, 3), round(cues[-1].end - begin, 3), moved)


def silence(begin: float, cue: Cue, rule: WindowRule) -> tuple[list[Window], float]:
    """Make the windows without speech before a cue that does not fit behind the pause before it.

    Returns:
        The windows, and where the cue's own window begins: the rest of a long pause stays with the cue if it fits.
    """
    gap = cue.start - begin
    full = int((gap + EPSILON) // rule.max_seconds)
    if not full:
        return ([Window(round(begin, 3), round(gap, 3))] if gap > EPSILON else []), cue.start
    windows = [Window(round(begin + number * rule.max_seconds, 3), rule.max_seconds) for number in range(full)]
    rest = begin + full * rule.max_seconds
    return windows, rest if cue.end - rest <= rule.max_seconds + EPSILON else cue.start
