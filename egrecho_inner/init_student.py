#!/usr/bin/env python
"""A teacher's folder in, a student's out: complete, ready for `egrecho_inner/distil.py`. A thin program over
`model/student.py`, which has the rules. `student.json` in the folder has where every layer came from.


    egrecho init-student openai/whisper-large-v3 exp/distil/init --decoder_layers 2
"""

import json
import logging
from dataclasses import asdict
from pathlib import Path

from egrecho_inner.config import run
from egrecho_inner.config_types import NonNegativeInt, PositiveInt, Seed
from egrecho_inner.errors import ConfigError
from egrecho_inner.model.options import Part
from egrecho_inner.runtime.files import working_folder, write_json

logger = logging.getLogger(__name__)


def init_student(
    teacher: str,
    out: str,
    encoder_layers: PositiveInt | list[NonNegativeInt] | None = None,
    decoder_layers: PositiveInt | list[NonNegativeInt] = 2,
    random: Part = "none",
    seed: Seed = 0,
    overwrite: bool = False,
) -> None:
    """Make a student from a teacher's layers.

    Args:
        teacher: Folder or hub id of the teacher.
        out: The student's folder.
        encoder_layers: How many of the teacher's layers, spaced, or which (counted from 0); null takes all.
        decoder_layers: How many of the teacher's layers, spaced, or which (counted from 0).
        random: What gets random weights instead, for comparison: the decoder, or all.
        seed: Of random weights.
        overwrite: Replace a student that is there.
    """
    from egrecho_inner.decoding.resumable import model_digest
    from egrecho_inner.model.loading import load_model, load_processor, save_folder, window_of
    from egrecho_inner.model.student import make_student

    place, facts = Path(out), Path(out, "student.json")
    wanted = {
        "teacher": teacher,
        "digest": model_digest(teacher),
        "layers": [encoder_layers, decoder_layers],
        "random": random,
        "seed": seed,
    }
    if place.exists() and not overwrite:
        if facts.is_file() and json.loads(facts.read_text())["made_from"] == wanted:
            logger.info("%s is there already", out)
            return
        raise ConfigError(f"{out} is there and was made otherwise; choose another folder, or --overwrite")
    model = load_model(teacher)
    maps = [
        chosen(encoder_layers, model.config.encoder_layers, "encoder"),
        chosen(decoder_layers, model.config.decoder_layers, "decoder"),
    ]
    student, origin = make_student(model, *maps, random=random, seed=seed)
    with working_folder(place) as working:
        save_folder(student, load_processor(teacher), working, window_of(model))
        write_json(working / "student.json", {"made_from": wanted, **asdict(origin)})
        load_model(str(working))  # what was written is complete
    print(
        f"{out}: encoder layers {maps[0]}, decoder layers {maps[1]}; {origin.copied:,} parameters copied, "
        f"{origin.drawn:,} drawn, {origin.left:,} of the teacher's left behind"
    )


init_student.positional = ["teacher", "out"]


def chosen(layers: int | list[int] | None, have: int, part: str) -> list[int]:
    """Turn an option into a list of the teacher's layers."""
    from egrecho_inner.model.student import check_map, layer_map

    if isinstance(layers, list):
        return check_map(layers, have, part)
    return layer_map(have, have if layers is None else layers)


if __name__ == "__main__":
    run(init_student)
