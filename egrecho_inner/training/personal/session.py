"""A personal run from folder to verdict.

In: a folder of recordings, a base. Out: the run folder:

    cuts/                    manifests, the ledger `skipped.jsonl`
    base/SET/  tuned/SET/    result folders: dev and test, or fold0, fold1, ...; guard_dev and guard_test
    train/POLICY/            run folders of `fit()`
    mixes/ALPHA/             base and tuned model mixed, where the tuned one forgot too much
    final/                   the model to use: the tuned one if it was adopted, else the base
    faster_whisper/          the same for faster-whisper, weights in 16 bits
    compare.json             every test recording, word by word, of both models
    report.html              the same to look at and listen to
    report.json              written last; a run that has it is finished
    events.jsonl             phases and results as they came

Every step finds what it made before, so the same command continues a killed run.
"""

import importlib.util
import json
import logging
import shutil
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from egrecho_inner.data.sources.folder import STAGE, FolderData, SplitOptions, read_folder, write_splits
from egrecho_inner.data.sources.folder_cuts import cut_folder
from egrecho_inner.data.sources.splits import SPLITS
from egrecho_inner.decoding.exports.table import FORMS
from egrecho_inner.errors import ConfigError, DataError, MachineError, ModelError
from egrecho_inner.model.loading import load_model, load_processor, save_folder, window_of
from egrecho_inner.report.page import write_page
from egrecho_inner.report.personal_page import result_page
from egrecho_inner.runtime import files
from egrecho_inner.runtime.events import NAME, Events
from egrecho_inner.runtime.ledger import Ledger
from egrecho_inner.text.languages import language_code
from egrecho_inner.text.scoring import percent
from egrecho_inner.training.guards.lock import RunLock
from egrecho_inner.training.personal.assess import (
    Assessed,
    Verdict,
    about,
    assess,
    compare_words,
    detect_language,
    judge,
    write_json,
    write_text,
)
from egrecho_inner.training.personal.curve import extrapolate, write_parts
from egrecho_inner.training.personal.guard import HALVES, choose_alpha, exceeds, open_guard
from egrecho_inner.training.personal.options import GuardOptions, Scoring, TuneOptions
from egrecho_inner.training.personal.summary import scores, summary
from egrecho_inner.training.personal.tune import Tuned, Way, tune, tune_folds

logger = logging.getLogger(__name__)

REPORT = "report.json"
CONFIG = "config.yaml"


@dataclass(frozen=True)
class FolderOptions:
    """What is learned from."""

    folder: Path
    """With UID.wav and UID.txt for each recording."""
    language: str | None
    """Of all recordings; None detects it."""
    split: SplitOptions
    """How clips are divided where no CSV file says so."""
    max_skip_ratio: float
    """Share of the recordings that may be unusable."""


@dataclass
class RunState:
    """What a run found, as it goes into the report."""

    notes: list[str]
    base: dict[str, Assessed] = field(default_factory=dict)
    tuned: dict[str, Assessed] = field(default_factory=dict)
    tried: dict[str, Any] = field(default_factory=dict)
    guard: dict[str, Any] | None = None
    curve: dict[str, Any] | None = None


class PersonalRun:
    """One run folder on its way to a verdict.

    Args:
        data: The recordings.
        outdir: The run folder.
        base: Folder or hub id.
        options: How the recordings are learned.
        scoring: How texts are compared.
        guard: What must not be forgotten.
        config: All settings as YAML, kept in the run folder.
        faster_whisper: Also write the model for faster-whisper; None does where CTranslate2 is installed.
    """

    def __init__(
        self,
        data: FolderOptions,
        outdir: Path,
        base: str,
        options: TuneOptions,
        scoring: Scoring,
        guard: GuardOptions,
        config: str,
        faster_whisper: bool | None = None,
    ):
        self.data, self.outdir, self.base = data, outdir, base
        self.faster_whisper = faster_whisper
        self.language = language_code(data.language) if data.language else None
        self.options, self.scoring, self.guard, self.config = options, scoring, guard, config
        self.events = Events(outdir / NAME)
        self.began = time.monotonic()
        self.cuts: dict[str, Path] = {}
        self.way = Way(base, self.language, options, scoring.normalizer)

    def complete(self) -> str:
        """Run every step that is not done; return the summary for people."""
        with RunLock(self.outdir):
            self.check_config()
            report = self.outdir / REPORT
            if not report.is_file():
                write_json(report, self.run())
            return summary(json.loads(report.read_text(encoding="utf-8")))

    def check_config(self) -> None:
        """Keep the settings, and refuse to continue with others.

        Raises:
            ConfigError: The folder was begun with other settings.
        """
        path = self.outdir / CONFIG
        if path.is_file() and path.read_text(encoding="utf-8") != self.config:
            raise ConfigError(f"{self.outdir} was begun with other settings ({path}); give another --out")
        files.write_text(path, self.config)

    def run(self) -> dict[str, Any]:
        """Prepare, measure, train, choose, measure, decide."""
        self.events.phase("preparing training")
        found = RunState(self.prepare().notes)
        if self.language is None:
            found.notes.append(self.detect_language())
        folds = sorted(name for name in self.cuts if name.startswith("fold"))
        sets = folds or ["dev", "test"]
        self.events.phase("running base model evaluation")
        found.base = self.measure_all(self.base, "base", [*sets, *(half for half in HALVES if half in self.cuts)])
        write_text(self.outdir / "basemodel_eval_result.txt", self.base, found.base)
        self.events.phase("running training")
        model = self.train_folds(found, folds) if folds else self.train(found)
        self.events.phase("saving best model")
        if HALVES[0] in self.cuts:
            model, found.guard = choose_alpha(
                self.guard, self.base, model, found.base[HALVES[0]], self.outdir / "mixes", self.measure, not folds
            )
        self.events.phase("running final model evaluation")
        sets = [] if folds else sets
        found.tuned |= self.measure_all(model, "tuned", [*sets, *([HALVES[1]] if found.guard else [])])
        decisive = folds or ["test"]
        verdict = self.decide(found, decisive)
        self.release(model if verdict.adopted else None)
        found.notes += self.convert()
        name = "tuned" if verdict.adopted else f"tuned, not adopted ({verdict.word}): keep {self.base}"
        write_text(self.outdir / "final_eval_result.txt", name, found.tuned)
        pairs = [[part[name] for name in decisive] for part in (found.base, found.tuned)]
        write_json(self.outdir / "compare.json", compare_words(*pairs))
        if self.options.curve and not folds:
            found.curve = self.measure_curve(found)
        report = self.report(found, decisive, verdict)
        rows = compare_words(*pairs)["recordings"]
        write_page(self.outdir / "report.html", result_page(report, rows, [self.cuts[name] for name in decisive]))
        self.events.add(verdict=verdict.word)
        return report

    def prepare(self) -> FolderData:
        """Read and divide the folder, and write its cuts and those of the guard."""
        place = self.outdir / "cuts"
        ledger = Ledger(place / "skipped.jsonl")
        data = read_folder(self.data.folder, self.data.split, ledger)
        total = len(data.clips) + len(ledger.skips)
        try:
            write_splits(data)
        except MachineError as error:  # a folder that can only be read is no reason to stop
            data.notes.append(f"the splits are not written into {data.folder}: {error}")
        self.cuts = cut_folder(data, place, self.language, ledger)
        ledger.write(STAGE)
        ledger.check_limit(total, self.data.max_skip_ratio, str(data.folder))
        logger.info("%s: %s", data.folder, ledger.summary(total, "recordings"))
        missing = [] if data.folds else [split for split in SPLITS if split not in self.cuts]
        if missing:
            raise DataError(f"{data.folder}: no recording is in {' and '.join(missing)}; see {missing[0]}_files.csv")
        self.cuts |= open_guard(self.guard, place, self.language)
        return data

    def detect_language(self) -> str:
        """Let the base detect the language of some recordings, and take what it finds most; return what was found."""
        code, share, count = detect_language(self.base, next(iter(self.cuts.values())))
        self.language, self.way = code, replace(self.way, language=code)
        return f"the language is {code}: the base finds it in {100 * share:.0f} % of {count} recordings"

    def measure(self, model: Path | str, name: str, part: str) -> Assessed:
        """Evaluate a model on one set."""
        found = assess(model, self.cuts[part], self.outdir / name / part, self.language, self.scoring)
        rate = found.score.error_rate
        self.events.add(model=name, set=part, error_rate=rate, interval=about([found])["interval"])
        logger.info("%s on %s: %s %%", name, part, percent(rate))
        return found

    def measure_all(self, model: Path | str, name: str, parts: list[str]) -> dict[str, Assessed]:
        """Evaluate a model on several sets."""
        return {part: self.measure(model, name, part) for part in parts}

    def train(self, found: RunState) -> Path:
        """Train with every policy that is asked for; return the one that is best on dev."""
        tried: dict[str, Tuned] = {}
        for policy in self.options.policies:
            place = self.outdir / "train" / policy
            tried[policy] = tune(self.way, [self.cuts["train"]], self.cuts["dev"], place, policy)
            found.tried[policy] = tried[policy].about()
            self.events.add(policy=policy, **found.tried[policy])
        return min(tried.values(), key=lambda each: each.best if each.best is not None else 0.0).folder

    def train_folds(self, found: RunState, folds: list[str]) -> Path:
        """Train and test on every fold, then train on all recordings for as long as was best; return that model."""
        manifests = {fold: self.cuts[fold] for fold in folds}
        tried = {}
        for policy in self.options.policies:
            tried[policy] = tune_folds(self.way, manifests, self.outdir / "train", policy)
            found.tried[policy] = tried[policy].about()
            self.events.add(policy=policy, **found.tried[policy])
        policy = min(tried, key=lambda name: tried[name].best)
        for fold, model in tried[policy].models.items():
            found.tuned[fold] = self.measure(model.folder, "tuned", fold)
        found.notes.append(
            f"{len(folds)} folds: each recording was tested by a model that had not learned it; the final model "
            "learned them all"
        )
        place = self.outdir / "train" / f"{policy}-all"
        return tune(self.way, list(manifests.values()), None, place, policy, tried[policy].steps).folder

    def decide(self, found: RunState, decisive: list[str]) -> Verdict:
        """Compare the tuned model with the base where nothing was chosen, and look at what it forgot."""
        verdict = judge([found.base[name] for name in decisive], [found.tuned[name] for name in decisive])
        if found.guard:
            change = judge([found.base[HALVES[1]]], [found.tuned[HALVES[1]]])
            found.guard |= {"forgotten": change.delta, "interval": [change.low, change.high], "word": change.word}
            if verdict.adopted and exceeds(change, self.guard.budget):
                return Verdict("forgets", verdict.delta, verdict.low, verdict.high)
        return verdict

    def measure_curve(self, found: RunState) -> dict[str, Any]:
        """Train on parts of the recordings and see what more of them would give."""
        policy = min(found.tried, key=lambda name: found.tried[name]["dev"])
        points, shown = [], []
        for fraction, part in write_parts(self.cuts["train"], self.options.curve, self.outdir / "cuts").items():
            name = f"part{round(100 * fraction)}"
            model = tune(self.way.longer(1 / fraction), [part], self.cuts["dev"], self.outdir / "train" / name, policy)
            score = self.measure(model.folder, name, "test")
            points.append((model.recordings, score.score.error_rate or 0.0))
            shown.append({"recordings": model.recordings, **about([score])})
        full = found.tuned["test"]
        points.append((found.tried[policy]["recordings"], full.score.error_rate or 0.0))
        shown.append({"recordings": points[-1][0], **about([full])})
        return {"points": shown, **extrapolate(points, full.score.total)}

    def release(self, tuned: Path | None) -> None:
        """Put the model to use into `final/`: the tuned one, or the base where there is none better."""
        with files.working_folder(self.outdir / "final") as working:
            if tuned is not None:
                shutil.copytree(tuned, working, dirs_exist_ok=True)
            else:
                model = load_model(self.base)
                save_folder(model, load_processor(self.base), working, window_of(model))

    def convert(self) -> list[str]:
        """Write `final/` once more, for faster-whisper; return what to note.

        Raises:
            UserError: It was asked for and cannot be done.
        """
        wanted, final = self.faster_whisper, self.outdir / "final"
        if wanted is False or (wanted is None and importlib.util.find_spec("ctranslate2") is None):
            return []
        try:
            with files.working_folder(self.outdir / "faster_whisper") as working:
                FORMS["ctranslate2"].write(load_model(final), load_processor(final), final, working, "float16")
        except ModelError as error:
            if wanted:
                raise
            return [f"no faster_whisper/: {error}"]
        return []

    def report(self, found: RunState, decisive: list[str], verdict: Verdict) -> dict[str, Any]:
        """Return everything that was found."""
        first = found.base[decisive[0]]
        return {
            "verdict": verdict.word,
            "adopted": verdict.adopted,
            "delta": verdict.delta,
            "interval": [verdict.low, verdict.high],
            "base": self.base,
            "metric": first.score.metric,
            "normalizer": first.normalizer,
            "base_scores": scores(found.base, decisive),
            "tuned_scores": scores(found.tuned, decisive),
            "tried": found.tried,
            "guard": found.guard,
            "curve": found.curve,
            "notes": found.notes,
            "seconds": round(time.monotonic() - self.began, 1),
        }
