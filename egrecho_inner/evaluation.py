#!/usr/bin/env python3
"""`egrecho eval`: a model and test sets in, hypotheses and error rates out.

    egrecho eval -c config/eval.yaml exp/mine/final --out exp/mine/eval \\
      --cuts data/fbank_whisper80/mine_cuts_test.jsonl.gz
    egrecho eval openai/whisper-small --cuts clean=a.jsonl.gz other=b.jsonl.gz --out exp/small --decode.num_beams 5

Writes for each set `results.json` (the six keys of the spec first), `hyps.jsonl` and `errs.txt`, over several sets also
`table.md` and a `results.json` of them all. A killed evaluation continues with what it had decoded; a finished one is
scored again without decoding, with another normaliser for instance. Under torchrun every process decodes its share,
with the same result.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from egrecho_inner.config import run
from egrecho_inner.config_names import name_manifests
from egrecho_inner.config_types import PositiveInt
from egrecho_inner.decoding.options import DecodeOptions
from egrecho_inner.errors import ModelError
from egrecho_inner.text.languages import language_code
from egrecho_inner.text.normalize import get_normalizer, load_normalizer
from egrecho_inner.text.scoring import percent

if TYPE_CHECKING:
    from egrecho_inner.data.cuts.index import CutIndex
    from egrecho_inner.decoding.resumable import Decoded, Decoder
    from egrecho_inner.results.references import Reference
    from egrecho_inner.results.scores import SetScores

logger = logging.getLogger(__name__)

WINDOWS: dict[Literal["longest", "30s"], str] = {"longest": "own length", "30s": "padded to 30 s"}
"""What `decode.window both` decodes with, and how people call it."""


def evaluate(
    model: str,
    out: str,
    cuts: list[str] | str,
    normalizer: str = "auto",
    metric: Literal["auto", "wer", "cer"] = "auto",
    decode: DecodeOptions = DecodeOptions(),
    device: str = "auto",
    dtype: Literal["auto", "float32", "float16", "bfloat16"] = "auto",
    limit: PositiveInt | None = None,
    overwrite: bool = False,
    normalizer_file: str = "",
) -> None:
    """Decode test sets with a Whisper or a speech LLM and score them.

    Args:
        model: Model folder or hub id. An adapter is to be merged first (egrecho merge-lora-whisper).
        out: Folder of the results; with several sets, one folder in it for each.
        cuts: Manifest of cuts, or a list of them; NAME=PATH names a set other than by its file.
        normalizer: Applied to both sides before scoring: none, whisper-basic, whisper-english, marks-preserving,
            open-asr-leaderboard-rules; auto is the right one for the language.
        metric: Word or character errors; auto takes characters where words have no spaces between them.
        decode: How to search.
        device: cpu, cuda, cuda:1, ...; auto is a GPU where there is one.
        dtype: Type of the weights; auto is float16 on a GPU, float32 elsewhere.
        limit: Take the first so many cuts of each set.
        overwrite: Decode again what was decoded before.
        normalizer_file: Python file with a function normalize(text) or normalize(text, language), used instead; on the
            command line only, for it is run.
    """
    from transformers.utils import logging as transformers_logging

    from egrecho_inner.decoding.resumable import choose_place, processes
    from egrecho_inner.decoding.speech_decoder import default_dtype, make_decoder
    from egrecho_inner.results.references import read_references
    from egrecho_inner.training.checkpoints.card import note_evaluations

    transformers_logging.disable_progress_bar()
    if normalizer_file:
        normalizer = load_normalizer(normalizer_file, normalizer)
    elif normalizer != "auto":
        get_normalizer(normalizer)
    sets = open_sets(cuts)
    n_mels = check_model(model)
    language = decode.language and language_code(decode.language)
    references = {name: read_references(index, limit, n_mels, language) for name, index in sets.items()}
    with processes() as (rank, world):
        place = choose_place(device, default_dtype(model, dtype), rank, world)
        pair: dict[str, dict[str, dict[str, Any]]] = {}
        for window in WINDOWS if decode.window == "both" else (decode.window,):
            folder = Path(out, window) if decode.window == "both" else Path(out)
            decoder = make_decoder(model, replace(decode, window=window), place)
            one = partial(evaluate_set, decoder, overwrite, rank, normalizer, metric)
            places = {name: folder / name if len(sets) > 1 else folder for name in sets}
            found = {name: one(name, index, references[name], places[name]) for name, index in sets.items()}
            if rank == 0:
                written = {name: each[0] for name, each in found.items()}
                finish(folder, written, {name: each[1] for name, each in found.items()})
                note_evaluations(Path(model), written)
                pair[window] = written
        if len(pair) > 1:
            print(write_pair(Path(out), pair))


evaluate.positional = ["model"]
evaluate.command_line_only = ["normalizer_file"]


def evaluate_set(
    decoder: Decoder,
    overwrite: bool,
    rank: int,
    normalizer: str,
    metric: Any,
    name: str,
    index: CutIndex,
    references: list[Reference],
    folder: Path,
) -> tuple[dict[str, Any], SetScores | None]:
    """Decode one set, score it and write its results; return its results.json and its scores.

    Args:
        decoder: The model.
        overwrite: Decode again what was decoded before.
        rank: Of this process; only the first scores and writes.
        normalizer: Applied to both sides.
        metric: What is counted.
        name: Of the set.
        index: Its manifest.
        references: Of its cuts.
        folder: Of its results.
    """
    from egrecho_inner.decoding.hypotheses import remove_logs
    from egrecho_inner.decoding.resumable import decode_set
    from egrecho_inner.results.folder import write_result
    from egrecho_inner.results.scores import score_set, summarize

    decoded = decode_set(decoder, index, references, folder, overwrite)
    if rank > 0:
        return {}, None
    scored = score_set(references, decoded.hypotheses, normalizer, metric)
    written = summarize(scored, list(decoded.hypotheses.values()), decoded.wall) | decoded.facts
    written |= speech_facts(decoder, index, references, decoded, normalizer, metric)
    write_result(folder, references, decoded.hypotheses, scored, written)
    remove_logs(folder)
    log_set(name, written)
    return written, scored


def open_sets(cuts: list[str] | str) -> dict[str, CutIndex]:
    """Open manifests under the names their results will have.

    Raises:
        ConfigError: No set, or two of one name.
        DataError: A manifest is missing or broken.
    """
    from egrecho_inner.data.cuts.index import CutIndex

    return {name: CutIndex(path) for name, path in name_manifests(cuts).items()}


def check_model(path: str) -> int:
    """Refuse what is no model before anything is loaded; return its mel bins."""
    from egrecho_inner.model.loading import read_config
    from egrecho_inner.model.speech_loading import encoder_bins, is_speech_llm

    folder = Path(path)
    if (folder / "adapter_config.json").is_file() and not (folder / "config.json").is_file():
        from egrecho_inner.model.adapters import read_adapter_config  # peft takes seconds to import

        base = read_adapter_config(folder).get("base_model_name_or_path")
        raise ModelError(
            f"{path} is an adapter of {base}, not a model; merge it first: "
            f"egrecho merge-lora-whisper --adapter {path} --out MERGED, then --model MERGED"
        )
    if is_speech_llm(path):
        return encoder_bins(path)
    return int(read_config(path).num_mel_bins)


def speech_facts(
    decoder: Decoder, cuts: CutIndex, references: list[Reference], decoded: Decoded, normalizer: str, metric: Any
) -> dict[str, Any]:
    """Return what a speech LLM's result says beside Whisper's: refusals, and whether it listens."""
    from egrecho_inner.decoding.speech_decoder import SpeechDecoder, count_refusals, listening

    if not isinstance(decoder, SpeechDecoder):
        return {}
    found = listening(decoder, cuts, references, decoded.hypotheses, normalizer, metric)
    if found:
        rates = [percent(found[name]) for name in ("audio", "swapped", "silent")]
        logger.info(
            "with its own audio %s %%, with another's %s %%, with silence %s %% (%.0f %% of the texts empty); %d cuts",
            *(*rates, 100 * found["silent_empty"], found["cuts"]),
        )
    return {"refused": count_refusals(references, decoded.hypotheses), "listening": found}


def log_set(name: str, summary: Mapping[str, Any]) -> None:
    """Log one set in a line."""
    rate = "n/a, as no reference has a word"
    if summary["interval"]:
        low, high = map(percent, summary["interval"])
        rate = f"{percent(summary['error_rate'])} % ({low} to {high})"
    logger.info(
        "%s: %s %s, normaliser %s, %d utterances, %.0f s, RTFx %.1f; "
        "empty %d, truncated %d, looped %d, dropped speech %d",
        *(name, summary["metric"].upper(), rate),
        *(summary["normalizer"]["name"], summary["utterances"], summary["audio_seconds"], summary["RTFx"]),
        *(summary["empty"], summary["truncated"], summary["looped"], summary["dropped_speech"]),
    )
    if summary["dropped_speech"]:
        logger.warning(
            "%s: %d recordings have far fewer words than speech; a lower --decode.max_part_seconds helps long ones",
            *(name, summary["dropped_speech"]),
        )


def finish(out: Path, written: Mapping[str, dict[str, Any]], scored: Mapping[str, Any]) -> None:
    """Print the six numbers of one set; of several sets, write the overview and print its table."""
    from egrecho_inner.results.folder import SIX_KEYS, write_overview

    if len(written) == 1:
        (summary,) = written.values()
        print(json.dumps({key: summary[key] for key in SIX_KEYS}, indent=2))
    else:
        print(write_overview(out, written, scored))


def write_pair(out: Path, pair: Mapping[str, Mapping[str, dict[str, Any]]]) -> str:
    """Write table.md with the error rates of each window beside each other; return it.

    Args:
        out: Where to.
        pair: For each window the results.json of each set, by its name.
    """
    from egrecho_inner.results.folder import TABLE
    from egrecho_inner.runtime.files import write_text

    lines = [f"| set | {' | '.join(WINDOWS.values())} |", "|---|" + "---|" * len(WINDOWS)]
    for name in next(iter(pair.values())):
        rates = [pair[window][name]["error_rate"] for window in WINDOWS]
        cells = ["n/a" if rate is None else percent(rate) for rate in rates]
        lines.append(f"| {name} ({pair['longest'][name]['metric'].upper()} %) | {' | '.join(cells)} |")
    table = "\n".join(lines)
    write_text(out / TABLE, f"{table}\n")
    return table


if __name__ == "__main__":
    run(evaluate)
