#!/usr/bin/env python3
"""Average the weights of several models: the last checkpoints of a run, or a base and its fine-tuned model.

    egrecho average exp/mine/full --last 5 --out exp/mine/full/averaged
    egrecho average openai-whisper-small/ exp/mine/full/final --weights '[0.3, 0.7]' --out exp/mine/full/between

In: model folders, or one run folder. Out: a complete model folder with a card. Left out: choosing the weights;
`egrecho eval` on the sets that matter shows what each choice costs.
"""

import logging
from pathlib import Path

from egrecho_inner.config import run
from egrecho_inner.config_types import PositiveInt
from egrecho_inner.errors import ConfigError
from egrecho_inner.runtime.files import working_folder, write_json
from egrecho_inner.training.checkpoints import folder as checkpoint

logger = logging.getLogger(__name__)


def average(
    models: list[str],
    out: str,
    weights: list[float] | None = None,
    last: PositiveInt = 5,
    processor: str | None = None,
) -> None:
    """Average the weights of several models into one.

    Args:
        models: Two or more model folders, or one run folder (exp/NAME), whose newest checkpoints are taken.
        out: Folder of the model to write; it must be new or empty.
        weights: One for each model, with the sum 1; equal ones if not given.
        last: Checkpoints of a run folder to take.
        processor: Folder of tokenizer and feature extractor; that of the first model or of the run's result if not
            given.

    Raises:
        ConfigError: Too few models, weights that do not fit them, or an output folder in use.
        ModelError: The models are not of one shape.
    """
    from egrecho_inner.model.averaging import average_weights
    from egrecho_inner.model.loading import load_model, load_processor, save_folder, window_of
    from egrecho_inner.training.checkpoints.card import TRAINING, write_card

    folders = [Path(model) for model in models]
    if len(folders) == 1:
        folders = checkpoints_of(folders[0], last)
    shares = weights or [1 / len(folders)] * len(folders)
    if len(shares) != len(folders):
        raise ConfigError(f"--weights has {len(shares)} values for {len(folders)} models; give one for each")
    if abs(sum(shares) - 1) > 1e-6:
        raise ConfigError(f"--weights add up to {sum(shares):g}; expected 1")
    folder = Path(out)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError(f"{folder} exists; give a new folder to --out")
    source = processor or str(processor_folder(folders[0], Path(models[0])))
    found = load_processor(source)
    model = load_model(str(folders[0]))
    model.load_state_dict(average_weights(folders, shares), strict=False)  # tied tensors are stored once
    with working_folder(folder) as working:
        window = window_of(load_model(source)) if (Path(source) / "config.json").is_file() else window_of(model)
        save_folder(model, found, working, window)
        made = {
            "base": models[0],
            "input_window": window,
            "averaged": dict(zip(map(str, folders), shares, strict=True)),
        }
        write_json(working / TRAINING, made)
        write_card(working)
    for folder, share in zip(folders, shares, strict=True):
        logger.info("%.3f of %s", share, folder)
    logger.info("saved the average in %s", folder)


def checkpoints_of(run_folder: Path, last: int) -> list[Path]:
    """Return the newest complete checkpoints of a run, oldest first.

    Raises:
        ConfigError: Fewer than two.
    """
    complete = [folder for _, folder in checkpoint.steps(run_folder) if checkpoint.fault(folder) is None]
    if len(complete) < 2:
        raise ConfigError(
            f"{run_folder} has {len(complete)} complete checkpoints; two or more are averaged (train.keep_checkpoints)"
        )
    return complete[:last][::-1]


def processor_folder(folder: Path, given: Path) -> Path:
    """Return where the tokenizer of a model or a run lies.

    Raises:
        ConfigError: Nowhere.
    """
    for place in (folder, given / "final", given):
        if (place / "tokenizer_config.json").is_file():
            return place
    raise ConfigError(f"{folder} has no tokenizer and {given} no final/; give its folder to --processor")


average.positional = ["models"]

if __name__ == "__main__":
    run(average)
