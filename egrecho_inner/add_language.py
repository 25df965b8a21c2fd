#!/usr/bin/env python3
"""Give a Whisper a token for a language that it has none for, to be trained next.

    egrecho add-language --model openai/whisper-small --code mdw --name Mboshi --init_from ln --out exp/models/small-mdw

In: a model folder. Out: the same model with `<|mdw|>` at the end of its vocabulary, its embedding row begun as another
language's, entered in tokenizer and generation config. `egrecho full`, `lora`, `eval` and `transcribe` take the code;
so do Transformers, CTranslate2 and, told of the code, faster-whisper (docs/new_language.md). What the model writes in
the new language is what it would write in the other one until it is trained.
"""

import logging
from pathlib import Path

from egrecho_inner.config import run
from egrecho_inner.errors import ConfigError
from egrecho_inner.text.languages import language_code

logger = logging.getLogger(__name__)


def add_language(model: str, code: str, out: str, name: str = "", init_from: str = "mean") -> None:
    """Give a Whisper a token for a language that it has none for.

    Args:
        model: Model folder or hub id; a multilingual one.
        code: Of the language, as ISO 639 has it: mdw; one of two letters where there is one.
        out: Folder of the model to write; it must be new or empty.
        name: In words, Mboshi: other programs may ask for it by name, too.
        init_from: Language whose embedding row the new one begins as, a related one best; mean of all languages' rows.

    Raises:
        ConfigError: No such code, the model has it already or knows English only, an output folder in use.
        ModelError: The model has no token for `init_from`.
    """
    from egrecho_inner.model import new_language
    from egrecho_inner.model.loading import load_model, load_processor, save_folder, window_of
    from egrecho_inner.runtime.files import working_folder, write_json
    from egrecho_inner.training.checkpoints.card import TRAINING, write_card

    folder, known = Path(out), language_code(code)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError(f"{folder} exists; give a new folder to --out")
    begin = init_from if init_from == new_language.MEAN else language_code(init_from)
    processor, whisper = load_processor(model), load_model(model)
    index = new_language.add_language(whisper, processor, known, begin, name)
    with working_folder(folder) as working:
        window = window_of(whisper)
        save_folder(whisper, processor, working, window)
        added = {"code": known, "name": name, "token": index, "init_from": begin}
        write_json(working / TRAINING, {"base": model, "input_window": window, "added_language": added})
        write_card(working)
        load_processor(str(working))  # its files agree with each other, by all checks of loading
    given = f" ({code} by ISO 639)" if known != code else ""
    logger.info("<|%s|>%s is token %d, begun as %s; saved in %s", known, given, index, begin, folder)


if __name__ == "__main__":
    run(add_language)
