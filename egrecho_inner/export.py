#!/usr/bin/env python3
"""`egrecho export`: a model in another program's form, and the proof that it says the same there.

    egrecho export exp/mine/full/final --to ctranslate2 --type int8 --out exp/mine/full/ct2 --cuts data/cuts/dev.jsonl

In: a model folder, the form, cuts to prove it on. Out: the form in a new folder, with `export.json`: what was compared.
The form's own runtime (faster-whisper, onnxruntime, openai-whisper, whisper.cpp) decodes the clips; nothing is written
where its texts differ from ours by more than the bound.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from egrecho_inner.config import run
from egrecho_inner.config_types import NonNegativeFloat, PositiveInt
from egrecho_inner.errors import ConfigError, ModelError

if TYPE_CHECKING:
    from egrecho_inner.data.cuts.index import CutIndex
    from egrecho_inner.decoding.exports.forms import ExportForm

logger = logging.getLogger(__name__)

BOUNDS = {"float32": 0.5, "float16": 1.0, "int8": 5.0}
"""Per cent of words that may differ from ours, by the type of the weights."""


def export(
    model: str,
    to: Literal["ctranslate2", "onnx", "openai", "ggml"],
    out: str,
    cuts: str | None = None,
    type: Literal["float32", "float16", "int8"] | None = None,
    language: str | None = None,
    task: Literal["transcribe", "translate"] = "transcribe",
    limit: PositiveInt = 50,
    bound: NonNegativeFloat | None = None,
    prove: bool = True,
) -> None:
    """Write a model in another program's form, decode with that program and compare.

    Args:
        model: Model folder. An adapter is to be merged first (egrecho merge-lora-whisper).
        to: ctranslate2 (faster-whisper, WhisperX), onnx (onnxruntime, transformers.js), openai (openai-whisper) or
            ggml (whisper.cpp).
        out: Folder to write; it must be new or empty.
        cuts: Manifest of clips up to 30 s, with transcripts, that both decode.
        type: Of the weights; by default float16, of onnx float32.
        language: Of clips that name none.
        task: What is asked of both.
        limit: Clips to take.
        bound: Per cent of words that may differ from ours; by default 0.5 with float32, 1 with float16, 5 with int8.
        prove: Without it nothing is decoded, and nothing is known of the result.
    """
    from egrecho_inner.data.cuts.index import CutIndex
    from egrecho_inner.decoding.exports.table import FORMS
    from egrecho_inner.model.loading import load_model, load_processor
    from egrecho_inner.runtime.files import working_folder, write_json

    form = FORMS[to]
    kind = type or form.types[0]
    if kind not in form.types:
        raise ConfigError(f"{to} has no {kind} here; legal are {', '.join(form.types)}")
    if prove and cuts is None:
        raise ConfigError("give clips to --cuts, which both decode, or --prove false to go without a proof")
    place = Path(out)
    if place.exists() and (not place.is_dir() or any(place.iterdir())):
        raise ConfigError(f"{place} exists; give a new folder to --out")
    if not Path(model).is_dir():
        raise ModelError(f"{model} is no folder; export takes a model folder (local/hf_download.sh fetches one)")
    index = CutIndex(cuts) if prove and cuts else None
    loaded, processor = load_model(model).eval(), load_processor(model)
    with working_folder(place) as working:
        form.write(loaded, processor, Path(model), working, kind)
        made: dict[str, Any] = {"model": model, "form": to, "type": kind, "megabytes": megabytes(working)}
        logger.info("%s %s: %.1f MB", to, kind, made["megabytes"])
        if index is not None:
            made |= compare(form, kind, working, model, index, language, task, limit)
            logger.info("%s", in_words(made, to))
            refuse_difference(made, BOUNDS[kind] if bound is None else bound)
        write_json(working / "export.json", made)
    logger.info("saved %s", place)


export.positional = ["model"]


def compare(
    form: ExportForm, kind: str, folder: Path, model: str, cuts: CutIndex, language: str | None, task: str, limit: int
) -> dict[str, Any]:
    """Decode clips with the form's runtime and with ours, padded as that runtime pads, and compare texts and errors."""
    from egrecho_inner.data.audio.load import load_audio
    from egrecho_inner.data.cuts.fields import cut_language, reference_of
    from egrecho_inner.decoding.exports.forms import READ_SECONDS, Asked
    from egrecho_inner.decoding.options import DecodeOptions
    from egrecho_inner.decoding.resumable import Decoder, choose_place

    positions = [at for at in range(len(cuts)) if 0.1 <= cuts.durations[at] <= READ_SECONDS][:limit]
    if not positions:
        raise ConfigError(f"{cuts.path} has no cut of up to 30 s to prove the export on")
    # frames of 10 ms: of what is left of one, runtimes drop more or less
    clips = [
        cuts[at].truncate(duration=math.floor(100 * cuts[at].duration + 1e-6) / 100, preserve_id=True)
        for at in positions
    ]
    codes = {cut_language(clip) or language for clip in clips}
    if len(codes) > 1 or None in codes:
        raise ConfigError("the clips name no language, or several; give clips of one, or --language")
    options = DecodeOptions(language=codes.pop(), task=task, window=form.window)
    ours = Decoder(model, options, choose_place("cpu", "float32")).transcriber
    asked = Asked(
        ours.labels.language if ours.labels.multilingual else None, task, tuple(ours.recognizer.never.tolist())
    )
    waves = [load_audio(clip) for clip in clips]
    begin = time.perf_counter()
    by_id = {each.id: each.text for each in ours(clips)}
    middle = time.perf_counter()
    decode = form.reader(folder, ours.processor, asked, kind)
    loaded = time.perf_counter()
    theirs = decode(waves)
    end = time.perf_counter()
    seconds = sum(clip.duration for clip in clips)
    texts = [by_id[clip.id] for clip in clips]
    found = differences([clip.id for clip in clips], texts, theirs, [reference_of(clip).text for clip in clips])
    return {
        "clips": len(clips),
        "audio_seconds": round(seconds, 1),
        "RTF": round((end - loaded) / seconds, 4),
        "our_RTF": round((middle - begin) / seconds, 4),
        "window": form.window,
        **found,
    }


def differences(
    ids: Sequence[str], ours: Sequence[str], theirs: Sequence[str], references: Sequence[str | None]
) -> dict[str, Any]:
    """Return how many words differ between two texts of each clip, and the error rates of both."""
    from egrecho_inner.text.normalize import get_normalizer
    from egrecho_inner.text.scoring import score

    normalize = get_normalizer("none")
    rows = [tuple(map(normalize, (a, b))) for a, b in zip(ours, theirs, strict=True)]
    same = score([(name, a, b) for name, (a, b) in zip(ids, rows, strict=True)], "wer")
    odd = next(((name, a, b) for name, (a, b) in zip(ids, rows, strict=True) if a != b), None)
    found: dict[str, Any] = {
        "identical": sum(a == b for a, b in rows),
        "different": round(100 * (same.error_rate or 0.0), 3),
        "first_difference": odd and f"{odd[0]}: '{odd[1]}' here, '{odd[2]}' there",
    }
    if all(text is not None for text in references):
        for name, texts in (("our_WER", ours), ("WER", theirs)):
            rate = score(list(zip(ids, references, texts, strict=True)), "wer").error_rate
            found[name] = None if rate is None else round(100 * rate, 2)
    return found


def refuse_difference(made: dict[str, Any], bound: float) -> None:
    """Refuse an export whose texts differ from ours by more than a bound in per cent of the words.

    Raises:
        ModelError: With the first clip that differs.
    """
    if made["different"] > bound:
        raise ModelError(
            f"{made['form']} differs from ours in {made['different']:.2f} % of the words, more than {bound:g} %; "
            f"nothing was written. First: {made['first_difference']}"
        )


def in_words(made: dict[str, Any], form: str) -> str:
    """Return what was compared, in a line."""
    errors = f"; WER {made['WER']} % there, {made['our_WER']} % here" if "WER" in made else ""
    return (
        f"{form}: {made['identical']} of {made['clips']} texts are identical, {made['different']:.2f} % of the words "
        f"differ{errors}; RTF {made['RTF']:.4f} there, {made['our_RTF']:.4f} here"
    )


def megabytes(folder: Path) -> float:
    """Return the size of what is in a folder."""
    return round(sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) / 1e6, 3)


if __name__ == "__main__":
    run(export)
