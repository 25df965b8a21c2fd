#!/usr/bin/env python3
"""Personalise a Whisper on a folder of recordings: split, measure, train, measure again, decide.

    egrecho personal my_recordings exp/me -c config/personal.yaml --model openai/whisper-tiny --language en

The base is measured first. Dev chooses the checkpoint, test alone decides: the tuned model is adopted if it is better
there, else the verdict is to keep the base. Out: `final/`, the model to use; `report.json`; `basemodel_eval_result.txt`
and `final_eval_result.txt`; `events.jsonl`, the phases as they came. The same command continues what stopped.
"""

from pathlib import Path

from egrecho_inner.config import run, to_yaml
from egrecho_inner.config_types import ClosedUnitInterval
from egrecho_inner.data.sources.folder import SplitOptions
from egrecho_inner.training.personal.options import GuardOptions, Scoring, TuneOptions


def personal(
    folder: str,
    out: str,
    model: str = "openai/whisper-tiny",
    language: str | None = None,
    tune: TuneOptions = TuneOptions(),
    split: SplitOptions = SplitOptions(),
    guard: GuardOptions = GuardOptions(),
    scoring: Scoring = Scoring(),
    max_skip_ratio: ClosedUnitInterval = 0.1,
    faster_whisper: bool | None = None,
) -> None:
    """Personalise a Whisper on a folder of recordings.

    Args:
        folder: With UID.wav (or mp3, flac, m4a, ogg, ...) and UID.txt for each recording.
        out: The run folder; the same command continues what stopped there.
        model: Folder or hub id of the base.
        language: Code of the language of all recordings; null detects it.
        tune: How the recordings are learned.
        split: How they are divided where no CSV file does.
        guard: What must not be forgotten.
        scoring: How texts are compared.
        max_skip_ratio: Share of the recordings that may be unusable.
        faster_whisper: Also write the model for faster-whisper, in 16-bit weights; null does where CTranslate2 is
            installed (extra ct2).
    """
    config = to_yaml(locals())  # before any other name is local
    from egrecho_inner.training.personal.session import FolderOptions, PersonalRun

    data = FolderOptions(Path(folder), language, split, max_skip_ratio)
    print(PersonalRun(data, Path(out), model, tune, scoring, guard, config, faster_whisper).complete())


personal.positional = ["folder", "out"]

if __name__ == "__main__":
    run(personal)
