"""Speech that has no words: recordings whose text is far shorter than their speech.

In: hypotheses with the seconds of speech in their audio. Out: the ids of those that have much more of it per word than
the set's own median, or more than anybody takes for a word. A model that was tuned on short utterances gives back a
fraction of a long recording's words, and no other sign of failure shows it.
"""

from collections.abc import Sequence
from statistics import median

from egrecho_inner.results.utterance import Hypothesis
from egrecho_inner.text.languages import NO_SPACE_LANGUAGES

SHORTEST = 2.0
"""Seconds of speech; in less there may be no word."""
FACTOR = 3.0
"""Times the set's median of seconds per word."""
SLOWEST = 2.0
"""Seconds of speech per word that no speaker needs."""
CHARACTERS_PER_WORD = 2
"""In languages without spaces."""


def words_in(hypothesis: Hypothesis) -> float:
    """Count the words of a text, in languages without spaces by its characters."""
    if hypothesis.language in NO_SPACE_LANGUAGES:
        return len("".join(hypothesis.text.split())) / CHARACTERS_PER_WORD
    return len(hypothesis.text.split())


def dropped_speech(hypotheses: Sequence[Hypothesis]) -> set[str]:
    """Return the ids of hypotheses with too few words for the speech in their audio."""
    spoken = [(each, words_in(each)) for each in hypotheses if each.speech_seconds > 0]
    paces = [each.speech_seconds / words for each, words in spoken if words]
    most = min(FACTOR * median(paces), SLOWEST) if paces else SLOWEST
    long = [(each, words) for each, words in spoken if each.speech_seconds >= SHORTEST]
    return {each.id for each, words in long if each.speech_seconds > most * max(words, 1)}
