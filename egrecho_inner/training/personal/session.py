"""A personal run from folder to verdict.

In: a folder of recordings, a base. Out: the run folder:

    cuts/                    manifests, the ledger `skipped.jsonl`
    base/SET/  tuned/SET/    result folders on dev and test
    train/POLICY/            run folders of `fit()`
    final/                   the model to use: the tuned one if it was adopted, else the base
    compare.json             every test recording, word by word, of both models
    report.json              written last; a run that has it is finished
    events.jsonl             phases and results as they came

Every step finds what it made before, so the same command continues a killed run.
"""

import json
import logging
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from egrecho_inner.data.sources.folder import STAGE, FolderData, SplitOptions, read_folder, write_splits
from egrecho_inner.data.sources.folder_cuts import cut_folder
from egrecho_inner.errors import ConfigError, MachineError
from egrecho_inner.model.loading import load_model, load_processor, save_folder, window_of
from egrecho_inner.runtime.events import NAME, Events
from egrecho_inner.runtime.ledger import Ledger
from egrecho_inner.text.languages import language_code
from egrecho_inner.text.scoring import percent
from egrecho_inner.training import checkpoint
from egrecho_inner.training.lock import RunLock
from egrecho_inner.training.personal.assess import (
    Assessed,
    Scoring,
    Verdict,
    assess,
    compare_words,
    judge,
    write_json,
    write_text,
)
from egrecho_inner.training.personal.recipe import TuneOptions
from egrecho_inner.training.personal.tune import Tuned, tune

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


class PersonalRun:
    """One run folder on its way to a verdict.

    Args:
        data: The recordings.
        outdir: The run folder.
        base: Folder or hub id.
        options: How the recordings are learned.
        scoring: How texts are compared.
        config: All settings as YAML, kept in the run folder.
    """

    def __init__(
        self, data: FolderOptions, outdir: Path, base: str, options: TuneOptions, scoring: Scoring, config: str
    ):
        self.data, self.outdir, self.base = data, outdir, base
        self.language = language_code(data.language) if data.language else None
        self.options, self.scoring, self.config = options, scoring, config
        self.events = Events(outdir / NAME)
        self.began = time.monotonic()
        self.cuts: dict[str, Path] = {}

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
            raise ConfigError(f"{self.outdir} was begun with other settings ({path}); give another --outdir")
        checkpoint.write_text(path, self.config)

    def run(self) -> dict[str, Any]:
        """Prepare, measure, train, choose, measure, decide."""
        self.events.phase("preparing training")
        data = self.prepare()
        self.events.phase("running base model evaluation")
        base = self.measure(self.base, "base")
        write_text(self.outdir / "basemodel_eval_result.txt", self.base, base)
        self.events.phase("running training")
        tuned, tried = self.train()
        self.events.phase("saving best model")
        self.events.phase("running final model evaluation")
        after = self.measure(tuned.folder, "tuned")
        verdict = judge([base["test"]], [after["test"]])
        self.release(tuned.folder if verdict.adopted else None)
        name = "tuned" if verdict.adopted else f"tuned, not adopted ({verdict.word}): keep {self.base}"
        write_text(self.outdir / "final_eval_result.txt", name, after)
        write_json(self.outdir / "compare.json", compare_words([base["test"]], [after["test"]]))
        report = self.report(data, base, after, verdict, tried)
        self.events.add(verdict=verdict.word)
        return report

    def prepare(self) -> FolderData:
        """Read and divide the folder, and write its cuts."""
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
        return data

    def measure(self, model: Path | str, name: str) -> dict[str, Assessed]:
        """Evaluate a model on dev and test."""
        found = {}
        for part in ("dev", "test"):
            place = self.outdir / name / part
            found[part] = assess(model, self.cuts[part], place, self.language, self.scoring)
            about = found[part].about()
            self.events.add(model=name, set=part, error_rate=about["error_rate"], interval=about["interval"])
            logger.info("%s on %s: %s %%", name, part, percent(about["error_rate"]))
        return found

    def train(self) -> tuple[Tuned, dict[str, Any]]:
        """Train with every policy that is asked for; return the one that is best on dev, and all figures."""
        best: Tuned | None = None
        tried: dict[str, Any] = {}
        for policy in self.options.policies:
            began = time.monotonic()
            found = tune(
                self.base, [self.cuts["train"]], self.cuts["dev"], self.outdir / "train" / policy,
                self.language, self.options, policy, self.scoring.normalizer,
            )  # fmt: skip
            tried[policy] = {"dev": found.best, "step": found.step, "seconds": round(time.monotonic() - began, 1)}
            self.events.add(policy=policy, **tried[policy])
            if best is None or (found.best is not None and found.best < best.best):
                best = found
        return best, tried

    def release(self, tuned: Path | None) -> None:
        """Put the model to use into `final/`: the tuned one, or the base where there is none better."""
        place, working = self.outdir / "final", self.outdir / ".final.writing"
        shutil.rmtree(working, ignore_errors=True)
        if tuned is not None:
            shutil.copytree(tuned, working)
        else:
            model = load_model(self.base)
            save_folder(model, load_processor(self.base), working, window_of(model))
        checkpoint.publish(working, place)

    def report(
        self,
        data: FolderData,
        base: dict[str, Assessed],
        after: dict[str, Assessed],
        verdict: Verdict,
        tried: dict[str, Any],
    ) -> dict[str, Any]:
        """Return everything that was found."""
        return {
            "verdict": verdict.word,
            "adopted": verdict.adopted,
            "delta": verdict.delta,
            "interval": [verdict.low, verdict.high],
            "base": self.base,
            "clips": {part: found.score.utterances for part, found in base.items()},
            "base_scores": {part: found.about() for part, found in base.items()},
            "tuned_scores": {part: found.about() for part, found in after.items()},
            "metric": base["test"].score.metric,
            "normalizer": base["test"].normalizer,
            "tried": tried,
            "notes": data.notes,
            "seconds": round(time.monotonic() - self.began, 1),
        }


def summary(report: dict[str, Any]) -> str:
    """Say in a few lines what a run found."""
    metric = report["metric"].upper()
    before, after = report["base_scores"]["test"], report["tuned_scores"]["test"]
    lines = [
        f"{name:6} {metric} {percent(part['error_rate']):>6} %  (95 % interval {interval(part['interval'])}), "
        f"{part['utterances']} test recordings"
        for name, part in (("base", before), ("tuned", after))
    ]
    if report["adopted"]:
        lines.append(f"better by {100 * -report['delta']:.2f} points: use final/")
    else:
        lines.append(f"{report['verdict']}: keep the base (final/ holds it); more recordings may help")
    return "\n".join(lines)


def interval(bounds: list[float] | None) -> str:
    """Write an interval in percent."""
    return "n/a" if bounds is None else f"{percent(bounds[0])} to {percent(bounds[1])}"
