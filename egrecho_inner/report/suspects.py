"""Utterances that deserve an ear before a model is trained on them, ranked, with the reason.

In: a `Survey`; the audio of some of its cuts. Out: a `Finding` for each kind of suspicion, worst first: how many
cuts, how many seconds, the worst of them. A suspicion is to be looked at, not a verdict.
Left out: which cuts to listen to, see `listening.py`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from egrecho_inner.report.listening import CheckedAudio
from egrecho_inner.report.survey import UNKNOWN, UNUSABLE, Survey, identified_languages
from egrecho_inner.text.constants import MAX_TOKENS, WINDOW_SECONDS
from egrecho_inner.text.languages import whisper_language
from egrecho_inner.text.scripts import expected_scripts

Severity = Literal["error", "warning", "hint"]

OUTLIER = 5.0
"""Robust standard deviations of log characters per second; a normal distribution has one such cut in two million."""
LEAST_SPREAD = 0.05
"""Of log characters per second: a corpus of one phrase must not make every cut an outlier."""
ENOUGH = 20
"""Cuts of a language from which its pace is known."""
DISTINCT, PROMPT = 6, 5
"""Letters below which a text is no evidence; times that training data may have it before it is a prompt."""
"""Seconds of Whisper's window."""
LEGIBLE = 4
"""Letters from which a text has a script."""
MARGIN = 12.0
"""Log likelihood ratio of another language from which py3langid is believed."""
SILENT, CLIPPED, OFFSET = 10 ** (-60 / 20), 0.001, 0.02
"""Peak of full scale (-60 dB), share of samples at full scale, mean sample."""


@dataclass(frozen=True)
class Suspect:
    """One cut with what is strange about it."""

    row: int
    why: str
    other: int | None = None
    """The cut it is like."""


@dataclass(frozen=True)
class Finding:
    """All cuts under one suspicion."""

    kind: str
    severity: Severity
    title: str
    advice: str
    count: int
    seconds: float
    worst: list[Suspect]


def find_suspects(survey: Survey, checked: Sequence[CheckedAudio] = (), top: int = 20) -> list[Finding]:
    """Gather every suspicion that some cut is under, errors first.

    Args:
        survey: Of all cuts.
        checked: Of those that were listened to.
        top: Cuts to name for each suspicion.
    """
    collect = _Collector(survey, top)
    digests = _digests(survey, checked)
    _leaks(survey, digests, collect)
    _ids(survey, collect)
    _copies(survey, digests, collect)
    _sounds(survey, checked, collect)
    _texts(survey, collect)
    _pace(survey, collect)
    _languages(survey, collect)
    rank = {"error": 0, "warning": 1, "hint": 2}
    return sorted(collect.findings, key=lambda finding: rank[finding.severity])


def unchecked(survey: Survey) -> list[str]:
    """Name the checks that could not be made: nothing found must not mean that nothing was looked at."""
    spoken = (survey.characters > 0) & (survey.duration > 0)
    few, unknown, identified = [], [], identified_languages()
    for number, name in enumerate(survey.languages):
        count = int((spoken & (survey.language == number)).sum())
        if 0 < count < ENOUGH:
            few.append(f"{name} ({count})")
        if count and whisper_language(name) not in identified:
            unknown.append(name)
    missing = [f"characters per second, which take {ENOUGH} utterances of a language: {', '.join(few)}"] if few else []
    if unknown:
        why = "py3langid does not know it" if identified else "py3langid is not installed: pip install py3langid"
        missing.append(f"whether a text looks like another language: {', '.join(unknown)} ({why})")
    return missing


def shared_speakers(survey: Survey) -> dict[str, tuple[float, float]]:
    """Return the speakers that are in training and in other data, with their seconds in each, most other data first."""
    count = len(survey.speakers)
    inside = np.bincount(survey.speaker[survey.training], survey.duration[survey.training], count)
    outside = np.bincount(survey.speaker[~survey.training], survey.duration[~survey.training], count)
    shared = sorted(np.flatnonzero((inside > 0) & (outside > 0)), key=lambda speaker: -outside[speaker])
    named = {survey.speakers[number]: (float(inside[number]), float(outside[number])) for number in shared}
    named.pop(UNKNOWN, None)
    return named


class _Collector:
    """Turns rows with reasons into findings; a kind without rows leaves no trace."""

    def __init__(self, survey: Survey, top: int):
        self.survey, self.top = survey, top
        self.findings: list[Finding] = []

    def add(self, kind: str, severity: Severity, title: str, advice: str, suspects: Sequence[Suspect]) -> None:
        """Add suspects, worst first."""
        if suspects:
            seconds = float(self.survey.duration[[each.row for each in suspects]].sum())
            self.findings.append(
                Finding(kind, severity, title, advice, len(suspects), seconds, list(suspects[: self.top]))
            )


def _leaks(survey: Survey, digests: np.ndarray, collect: _Collector) -> None:
    """Find test cuts that are also in train, by audio and by text; an id proves nothing: many corpora count anew."""
    same_audio = dict(_across(survey.source, survey)) | dict(_across(digests, survey))
    suspects = [Suspect(row, f"the same audio in {_split(survey, other)}", other) for row, other in same_audio.items()]
    suspects.sort(key=lambda each: each.row)
    advice = "Remove them from train: a score on audio the model was trained on is no evidence."
    collect.add("leak", "error", "Test utterance that is in train", advice, suspects)

    prompts = _frequent(survey.text[survey.training])
    rare = np.where((survey.letters >= DISTINCT) & ~np.isin(survey.text, prompts), survey.text, 0)
    pairs = [pair for pair in _across(rare, survey) if pair[0] not in same_audio]
    pairs.sort(key=lambda pair: -survey.letters[pair[0]])
    suspects = [Suspect(row, f"the same text in {_split(survey, other)}", other) for row, other in pairs]
    advice = (
        "Fine for read prompts; where speech is free, the same sentence twice may be the same recording. Texts of "
        f"under {DISTINCT} letters, and those that train has more than {PROMPT} times, are not counted."
    )
    collect.add("text", "warning", "Test transcript that is also in train", advice, suspects)


def _ids(survey: Survey, collect: _Collector) -> None:
    """Find ids that are not unique: features, hypotheses and scores are found by them."""
    suspects = [Suspect(row, "the id of an earlier cut", other) for row, other in sorted(_within(survey.id, survey))]
    advice = "Programs refuse such a manifest; give each cut an id of its own, as the imports do."
    collect.add("id", "error", "Id more than once in a split", advice, suspects)
    pairs = sorted(_across(survey.id, survey))
    suspects = [Suspect(row, f"the id of a cut in {_split(survey, other)}", other) for row, other in pairs]
    advice = "No leak by itself, but results of both splits cannot be joined; egrecho import-kaldi makes ids unique."
    collect.add("shared-id", "hint", "Test id that train has, too", advice, suspects)


def _copies(survey: Survey, digests: np.ndarray, collect: _Collector) -> None:
    """Find the same audio twice in a split: the same piece of a file, or the same samples."""
    twins = dict(_within(survey.source, survey)) | dict(_within(digests, survey))
    differ = {row: other for row, other in sorted(twins.items()) if survey.text[row] != survey.text[other]}
    suspects = [Suspect(row, "another transcript of the same audio", other) for row, other in differ.items()]
    advice = "At most one of the transcripts is right."
    collect.add("conflict", "warning", "Same audio, different transcripts", advice, suspects)
    suspects = [Suspect(row, "a copy", other) for row, other in sorted(twins.items()) if row not in differ]
    advice = "Harmless if few; many copies of one recording pull the model towards it."
    collect.add("copy", "hint", "Same audio more than once in a split", advice, suspects)


def _digests(survey: Survey, checked: Sequence[CheckedAudio]) -> np.ndarray:
    """Return a digest of the audio of each cut (N,) uint64; 0 where it was not checked."""
    digests = np.zeros(len(survey), dtype=np.uint64)
    for each in checked:
        if each.sound is not None and each.sound.peak > SILENT:  # silences of one length are alike, and no leak
            digests[each.row] = int.from_bytes(each.sound.digest[:8], "big") or 1
    return digests


def _sounds(survey: Survey, checked: Sequence[CheckedAudio], collect: _Collector) -> None:
    """Find audio that is broken, silent, clipped or off its zero line."""
    faults = [Suspect(each.row, each.fault) for each in checked if each.sound is None]
    advice = "Training and evaluation will stop or leave these out; egrecho validate-data lists them all."
    collect.add("broken", "error", "Audio that cannot be loaded", advice, faults)
    sounds = [(each.row, each.sound) for each in checked if each.sound is not None]
    with_text = [(row, sound) for row, sound in sounds if survey.characters[row]]
    silent = sorted(((row, sound) for row, sound in with_text if sound.peak < SILENT), key=lambda pair: pair[1].peak)
    suspects = [Suspect(row, f"peak {_decibels(sound.peak)}") for row, sound in silent]
    advice = "Remove them: a transcript over silence teaches the model to invent text."
    collect.add("silent", "warning", "Silence with a transcript", advice, suspects)
    clipped = sorted((pair for pair in sounds if pair[1].clipped >= CLIPPED), key=lambda pair: -pair[1].clipped)
    suspects = [Suspect(row, f"{100 * sound.clipped:.1f} % of the samples at full scale") for row, sound in clipped]
    advice = "Distorted by a level that was too high; keep them if the use is like that."
    collect.add("clipped", "hint", "Clipped audio", advice, suspects)
    shifted = sorted((pair for pair in sounds if abs(pair[1].offset) > OFFSET), key=lambda pair: -abs(pair[1].offset))
    suspects = [Suspect(row, f"mean sample {sound.offset:+.3f} of full scale") for row, sound in shifted]
    collect.add("offset", "hint", "Audio off its zero line", "A fault of the recorder; filter it out.", suspects)


def _texts(survey: Survey, collect: _Collector) -> None:
    """Find texts and lengths that Whisper cannot learn."""
    training = survey.training
    rows = _worst(np.where(survey.tokens > MAX_TOKENS, survey.tokens, 0))
    suspects = [Suspect(row, f"{survey.tokens[row]:,} label tokens, {MAX_TOKENS} fit") for row in rows]
    advice = "Training leaves them out. Split them, or look for a transcript of more than this utterance."
    collect.add("tokens", "warning", f"More than {MAX_TOKENS} label tokens", advice, suspects)
    suspects = [Suspect(int(row), "holds a token such as <|en|>") for row in np.flatnonzero(survey.tokens == UNUSABLE)]
    collect.add("special", "error", "Special token in a transcript", "Remove it from the text.", suspects)
    rows = _worst(np.where(training & (survey.duration > WINDOW_SECONDS), survey.duration, 0))
    suspects = [Suspect(row, f"{survey.duration[row]:.1f} s") for row in rows]
    advice = "Training leaves them out; cut them at silences."
    collect.add("long", "warning", f"Training utterance over {WINDOW_SECONDS:g} s", advice, suspects)
    rows = _worst(np.where(survey.characters == 0, survey.duration, 0))
    suspects = [Suspect(row, f"{survey.duration[row]:.1f} s without text") for row in rows]
    advice = "Right for noise and silence, and then useful; wrong if somebody speaks."
    collect.add("empty", "hint", "No transcript", advice, suspects)


def _pace(survey: Survey, collect: _Collector) -> None:
    """Find cuts spoken far faster or slower than others of their language."""
    z, median = np.zeros(len(survey)), np.zeros(len(survey))
    spoken = (survey.characters > 0) & (survey.duration > 0)
    pace = np.log(np.maximum(survey.characters, 1) / np.maximum(survey.duration, 1e-3))
    for language in np.unique(survey.language):
        rows = np.flatnonzero(spoken & (survey.language == language))
        if len(rows) < ENOUGH:
            continue
        middle = np.median(pace[rows])
        spread = max(1.4826 * float(np.median(np.abs(pace[rows] - middle))), LEAST_SPREAD)
        z[rows], median[rows] = (pace[rows] - middle) / spread, np.exp(middle)
    rows = _worst(np.where(np.abs(z) > OUTLIER, np.abs(z), 0))
    suspects = [
        Suspect(
            row,
            f"{np.exp(pace[row]):.1f} characters per second where {survey.languages[survey.language[row]]} has "
            f"{median[row]:.1f} in the middle",
        )
        for row in rows
    ]
    advice = (
        "Too fast: words are missing in the audio. Too slow: words are missing in the transcript, or it is a pause."
    )
    collect.add("pace", "warning", "Characters per second far from the rest", advice, suspects)


def _languages(survey: Survey, collect: _Collector) -> None:
    """Find texts in a script their language does not have, and texts that look like another language."""
    wrong = np.zeros(len(survey))
    for number, name in enumerate(survey.languages):
        rows = np.flatnonzero((survey.language == number) & (survey.letters >= LEGIBLE))
        if not len(rows):
            continue
        code = whisper_language(name)
        usual = survey.scripts[np.bincount(survey.script[rows]).argmax()]
        expected = expected_scripts(code) if code else {usual}
        strange = [script not in expected for script in survey.scripts]
        wrong[rows] = np.where(np.array(strange)[survey.script[rows]], survey.letters[rows], 0)
    suspects = [
        Suspect(
            row,
            f"{survey.scripts[survey.script[row]].capitalize()} letters, labelled "
            f"{survey.languages[survey.language[row]]}",
        )
        for row in _worst(wrong)
    ]
    advice = "Mend the language or the transcript: a wrong language token trains in silence."
    collect.add("script", "warning", "Script that the language is not written in", advice, suspects)
    rows = _worst(np.where((survey.margin > MARGIN) & (wrong == 0), survey.margin, 0))
    suspects = [
        Suspect(
            row,
            f"looks like {survey.languages[survey.lookalike[row]]}, labelled {survey.languages[survey.language[row]]}",
        )
        for row in rows
    ]
    advice = "A guess of py3langid from the letters alone; languages it does not know look like others."
    collect.add("language", "hint", "Text that looks like another language", advice, suspects)


def _across(keys: np.ndarray, survey: Survey) -> list[tuple[int, int]]:
    """Return (row, row in train) of the rows outside train whose key, if not 0, is in train too."""
    training = survey.training
    inside, outside = np.flatnonzero(training & (keys != 0)), np.flatnonzero(~training & (keys != 0))
    if not len(inside) or not len(outside):
        return []
    inside = inside[np.argsort(keys[inside], kind="stable")]
    at = np.minimum(np.searchsorted(keys[inside], keys[outside]), len(inside) - 1)
    found = keys[inside][at] == keys[outside]
    return list(zip(outside[found].tolist(), inside[at[found]].tolist(), strict=True))


def _within(keys: np.ndarray, survey: Survey) -> list[tuple[int, int]]:
    """Return (row, first row of the same key and split) of the rows whose key, if not 0, came before."""
    rows = np.flatnonzero(keys != 0)
    rows = rows[np.lexsort((rows, keys[rows], survey.split[rows]))]
    same = (keys[rows][1:] == keys[rows][:-1]) & (survey.split[rows][1:] == survey.split[rows][:-1])
    starts = np.maximum.accumulate(np.where(np.concatenate([[False], same])[: len(rows)], 0, np.arange(len(rows))))
    again = np.flatnonzero(same) + 1
    return list(zip(rows[again].tolist(), rows[starts[again]].tolist(), strict=True))


def _worst(values: np.ndarray) -> list[int]:
    """Return the rows of the positive values, largest first."""
    order = np.argsort(-values, kind="stable")
    return order[: int((values > 0).sum())].tolist()


def _frequent(keys: np.ndarray) -> np.ndarray:
    values, counts = np.unique(keys, return_counts=True)
    return values[counts > PROMPT]


def _split(survey: Survey, row: int) -> str:
    return survey.splits[survey.split[row]]


def _decibels(peak: float) -> str:
    return f"{20 * np.log10(peak):.0f} dB" if peak > 0 else "0: digital silence"
