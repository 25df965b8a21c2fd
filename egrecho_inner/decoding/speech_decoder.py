"""A speech LLM in place of Whisper for `resumable.decode_set`, and whether it listens.

A language model writes fluent text with or without audio. So a bounded sample of each set is decoded twice more: with
another cut's audio, and with silence of the same length. A model that listens has a high error rate on the first and
writes nothing on the second; one that has learned the prompt and the style of its texts does not show in the error rate
of the set alone.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import torch

from egrecho_inner.data.batches.speech_prompts import SpeechWindows
from egrecho_inner.data.cuts.index import CutIndex
from egrecho_inner.decoding.options import DecodeOptions
from egrecho_inner.decoding.resumable import Decoder, Placement, model_digest
from egrecho_inner.decoding.speech_text import Silenced, SpeechTranscriber, Swapped
from egrecho_inner.model.speech_loading import is_speech_llm, load_folder
from egrecho_inner.results.references import Reference
from egrecho_inner.results.scores import score_set
from egrecho_inner.results.utterance import Hypothesis
from egrecho_inner.text.refusals import is_refusal

SAMPLE = 100
"""Cuts that are decoded with other audio."""


class SpeechDecoder(Decoder):
    """A speech LLM that is loaded when there is something to decode."""

    def __init__(self, model_path: str, options: DecodeOptions, place: Placement):
        self.model_path, self.place, self.options = model_path, place, options
        self.digest = model_digest(model_path)
        self._transcriber: Any = None

    @property
    def transcriber(self) -> Any:
        """The model with its options."""
        if self._transcriber is None:
            model, labels, _ = load_folder(self.model_path, self.place.dtype)
            model = model.to(self.place.device).eval()
            windows = SpeechWindows(model.shape, float("inf"))
            self._transcriber = SpeechTranscriber(model, labels, windows, self.options)
        return self._transcriber


def make_decoder(model_path: str, options: DecodeOptions, place: Placement) -> Decoder:
    """Return the decoder of a model by the `model_type` of its config."""
    return (SpeechDecoder if is_speech_llm(model_path) else Decoder)(model_path, options, place)


def default_dtype(model_path: str, dtype: str) -> str:
    """Return the type of the weights: bfloat16 for a language model on a GPU, some of which overflow in float16."""
    return "bfloat16" if dtype == "auto" and torch.cuda.is_available() and is_speech_llm(model_path) else dtype


def listening(
    decoder: SpeechDecoder,
    cuts: CutIndex,
    references: Sequence[Reference],
    hypotheses: Mapping[str, Hypothesis],
    normalizer: str,
    metric: Literal["auto", "wer", "cer"],
) -> dict[str, Any]:
    """Return the error rates of a sample with its own audio, with other audio and with silence.

    Args:
        decoder: The model.
        cuts: The manifest.
        references: Of its first cuts, in their order.
        hypotheses: Of all of them, by id.
        normalizer: As for the set.
        metric: As for the set.
    """
    spoken = [place for place, each in enumerate(references) if each.text.strip()]
    if len(spoken) < 2:
        return {}
    chosen = [spoken[place] for place in np.linspace(0, len(spoken) - 1, min(SAMPLE, len(spoken))).astype(int)]
    sample, wanted = [cuts[place] for place in chosen], [references[place] for place in chosen]
    own = decoder.transcriber
    silenced = SpeechTranscriber(own.model, own.labels, Silenced(own.windows), own.options)
    found = {
        "audio": {each.id: hypotheses[each.id] for each in wanted},
        "swapped": {each.id: each for each in own(Swapped(sample))},
        "silent": {each.id: each for each in silenced(sample)},
    }
    rates = {name: score_set(wanted, each, normalizer, metric).score.error_rate for name, each in found.items()}
    empty = sum(not each.text for each in found["silent"].values()) / len(wanted)
    return {"cuts": len(wanted), **rates, "silent_empty": round(empty, 4)}


def count_refusals(references: Sequence[Reference], hypotheses: Mapping[str, Hypothesis]) -> int:
    """Count the texts that refuse the task or speak of the model itself."""
    return sum(is_refusal(hypotheses[each.id].text, each.text) for each in references)
