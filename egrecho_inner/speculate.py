#!/usr/bin/env python
"""How much faster is a teacher whose student goes ahead, and is the text still the same? One utterance at a time.

    egrecho speculate openai/whisper-large-v3 exp/distil/student/final \\
      data/fbank_whisper80/mine_cuts_test.jsonl.gz --limit 100

In: teacher, student, cuts. Out: a table (seconds of search over seconds of audio, for the teacher alone, the student
alone and both together), the share of proposals taken, and the number of utterances with another result: none, or it
is an error. Reading audio and features is not counted: it is the same for all.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from tabulate import tabulate

from egrecho_inner.config import run
from egrecho_inner.config_types import PositiveInt
from egrecho_inner.decoding.options import DecodeOptions
from egrecho_inner.errors import ConfigError, ModelError
from egrecho_inner.runtime.files import write_json

if TYPE_CHECKING:
    from egrecho_inner.decoding.recognize import Found
    from egrecho_inner.decoding.speculative import SpeculativeRecognizer


def speculate(
    teacher: str,
    student: str,
    cuts: str,
    decode: DecodeOptions = DecodeOptions(),
    draft_tokens: PositiveInt = 5,
    limit: PositiveInt = 200,
    device: str = "auto",
    dtype: str = "auto",
    out: str | None = None,
) -> None:
    """Measure speculative decoding, and check that its text is the teacher's.

    Args:
        teacher: Decides; a folder or a hub id.
        student: Proposes.
        cuts: Manifest.
        decode: Language, task, window and timestamps; the search is greedy.
        draft_tokens: Tokens proposed at a time.
        limit: Take the first so many cuts.
        device: cpu, cuda, cuda:1, ...; auto is a GPU where there is one.
        dtype: Type of the weights; auto is float16 on a GPU, float32 elsewhere. Two ways to the same number differ by
            rounding, which half precision turns into another word now and then: float32 is exact.
        out: JSON file to write the numbers to.
    """
    import torch

    from egrecho_inner.data.cuts.index import CutIndex
    from egrecho_inner.decoding.pieces import load_pieces, to_tensors
    from egrecho_inner.decoding.recognize import Recognizer, label_encoder
    from egrecho_inner.decoding.resumable import choose_place
    from egrecho_inner.decoding.speculative import SpeculativeRecognizer
    from egrecho_inner.decoding.transcribe import Transcriber
    from egrecho_inner.model.loading import load_model, load_processor

    if decode.num_beams > 1:
        raise ConfigError("speculative decoding is greedy; decode.num_beams must be 1")
    place, index = choose_place(device, dtype), CutIndex(cuts)
    models = [load_model(path, place.dtype).to(place.device).eval() for path in (teacher, student)]
    guide = Transcriber(models[0], load_processor(teacher), decode)
    labels = label_encoder(models[0], load_processor(teacher).tokenizer, decode.language, decode.task)
    together = SpeculativeRecognizer(*models, labels, draft_tokens, decode.timestamps)
    alone = [Recognizer(model, labels, timestamps=decode.timestamps) for model in models]
    ways: dict[str, Callable] = {"teacher": alone[0], "student": alone[1], "both": together}
    seconds, audio, different = dict.fromkeys(ways, 0.0), 0.0, []
    with torch.inference_mode():
        for position in range(-1, min(limit, len(index))):  # -1: once to warm up
            pieces = load_pieces(index[max(position, 0)], max(position, 0), models[0].config.num_mel_bins)[:1]
            features, mask = to_tensors(pieces, guide.padded, place.device, place.dtype)
            given = features, mask, [guide.language_of(pieces[0].language)], [guide.limit(pieces[0].seconds)]
            found = {name: timed(way, given) for name, way in ways.items()}
            if position < 0:
                together.passes = type(together.passes)()
                continue
            audio += pieces[0].seconds
            for name, (_, took) in found.items():
                seconds[name] += took
            if found["both"][0].tokens != found["teacher"][0].tokens:
                different.append(pieces[0].id)
    report(seconds, audio, together, min(limit, len(index)), different, out)


speculate.positional = ["teacher", "student", "cuts"]


def timed(way: Callable, given: tuple) -> tuple[Found, float]:
    """Recognise one utterance, and measure the time."""
    begin = time.perf_counter()
    (found,) = way(*given)  # its tokens are on the CPU: a GPU has been waited for
    return found, time.perf_counter() - begin


def report(
    seconds: dict[str, float],
    audio: float,
    together: SpeculativeRecognizer,
    utterances: int,
    different: list[str],
    out: str | None,
) -> None:
    """Print the table, and write the numbers.

    Raises:
        ModelError: Some results are not the teacher's.
    """
    passes = together.passes
    rows = [(name, f"{took / audio:.4f}", f"{seconds['teacher'] / took:.2f}") for name, took in seconds.items()]
    print(tabulate(rows, ["decoder", "RTF", "x faster"], tablefmt="github", disable_numparse=True))
    taken = passes.accepted / max(passes.proposed, 1)
    print(
        f"{utterances} utterances one at a time; {100 * taken:.1f} % of the proposals taken, "
        f"{passes.tokens / max(passes.teacher, 1):.2f} tokens for each pass of the teacher; "
        f"{len(different)} results differ from the teacher's"
    )
    if out is not None:
        facts = {"seconds": seconds, "audio_seconds": audio, "utterances": utterances, **vars(passes)}
        write_json(out, {**facts, "different": different})
    if different:
        raise ModelError(
            f"{len(different)} results differ from the teacher's ({', '.join(different[:5])}); with --dtype float32 "
            "only ties can; is this a half-precision run?"
        )


if __name__ == "__main__":
    run(speculate)
