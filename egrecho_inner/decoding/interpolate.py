"""Error rates of the models between a base and what it was tuned to.

In: two model folders, weights, sets. Out: a rate for each weight and set. The weights of a model between are mixed in
memory, nothing is written.
"""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from egrecho_inner.data.cuts.index import CutIndex
from egrecho_inner.decoding.options import DecodeOptions
from egrecho_inner.decoding.resumable import choose_place
from egrecho_inner.decoding.transcribe import transcribe
from egrecho_inner.model.averaging import average_weights
from egrecho_inner.model.loading import load_model, load_processor
from egrecho_inner.results.references import read_references
from egrecho_inner.results.scores import score_set
from egrecho_inner.text.scoring import percent

logger = logging.getLogger(__name__)

Rates = dict[str, dict[float, float | None]]
"""Error rate by set and weight."""


def interpolated_rates(
    base: str,
    tuned: str,
    weights: Sequence[float],
    sets: Mapping[str, str],
    decode: DecodeOptions,
    normalizer: str = "auto",
    metric: Literal["auto", "wer", "cer"] = "auto",
    limit: int | None = None,
    device: str = "auto",
) -> Rates:
    """Return the error rate of each model on each set.

    Args:
        base: Model folder.
        tuned: Model folder of the same shapes.
        weights: Of the tuned one.
        sets: Manifests by name.
        decode: How to search.
        normalizer: A name, or auto.
        metric: wer, cer or auto.
        limit: Take the first so many cuts of each set.
        device: A name, or auto.

    Raises:
        ModelError: The two are not of one shape.
        DataError: A cut has no transcript.
    """
    place = choose_place(device, "float32")
    model, processor = load_model(tuned).to(place.device).eval(), load_processor(tuned)
    cuts = {name: CutIndex(path) for name, path in sets.items()}
    references = {
        name: read_references(index, limit, model.config.num_mel_bins, decode.language) for name, index in cuts.items()
    }
    rates: Rates = {name: {} for name in sets}
    for weight in weights:
        mixed = average_weights([Path(base), Path(tuned)], [1 - weight, weight])
        model.load_state_dict(mixed, strict=False)  # tied tensors are stored once
        for name, index in cuts.items():
            positions = range(len(references[name]))
            found = {each.id: each for each in transcribe(model, processor, index, decode, positions=positions)}
            rates[name][weight] = score_set(references[name], found, normalizer, metric).score.error_rate
            logger.info("%g of the tuned model: %s %s %%", weight, name, percent(rates[name][weight]))
    return rates
