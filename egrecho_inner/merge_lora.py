#!/usr/bin/env python3
"""Merge an adapter into its base, and prove that the merged model computes the same.

    egrecho merge-lora-whisper exp/mine/adapter exp/mine/final --cuts data/fbank_whisper80/mine_cuts_val.jsonl.gz

In: the adapter of a LoRA run, its base, a few cuts. Out: a complete model folder, in the form of a full fine-tune, with
its card. The proof compares logits of adapter-on-base and merged model on a real batch; when they differ nothing is
written.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from egrecho_inner.config import run
from egrecho_inner.data.batches.plan import Batch
from egrecho_inner.errors import ConfigError, DataError, ModelError
from egrecho_inner.runtime.files import working_folder, write_json
from egrecho_inner.text.constants import WHISPER_FRAMES

if TYPE_CHECKING:
    import torch
    from peft import PeftModel

logger = logging.getLogger(__name__)

TOLERANCE = 1e-3
"""Of the largest logit difference, as a share of the largest logit; fp32 rounding stays under 1e-5."""


def merge_lora(
    adapter: str, out: str, base: str | None = None, cuts: str | None = None, language: str | None = None
) -> None:
    """Merge an adapter into its base, and prove that the merged model computes the same.

    Args:
        adapter: Folder of the adapter (exp/NAME/adapter).
        out: Folder of the merged model to write (exp/NAME/final); complete or not there.
        base: Folder or hub id of the base; what the adapter names if not given.
        cuts: Manifest whose first cuts make the batch of the proof; noise is used if not given.
        language: Language of cuts that name none.
    """
    import torch

    from egrecho_inner.model.adapters import load_adapter, read_adapter_config, read_training
    from egrecho_inner.model.loading import load_model, load_processor, save_folder
    from egrecho_inner.training.checkpoints.card import TRAINING, write_card
    from egrecho_inner.training.checkpoints.resume import digest_weights

    base = base or read_adapter_config(Path(adapter)).get("base_model_name_or_path")
    if not base:
        raise ConfigError(f"{adapter} does not name its base; give --base")
    folder = Path(out)
    check_outdir(folder, Path(adapter), Path(base))
    made = read_training(Path(adapter))
    window = made.get("input_window", "30s")
    model, processor = load_model(base), load_processor(base)
    found = digest_weights(model)
    adapted = load_adapter(model, adapter).eval()
    if made.get("base_digest", found) != found:
        raise ModelError(
            f"{adapter} was trained on another base than {base}: its weights are others; give its own, "
            f"{made.get('base')}, to --base"
        )
    batch = proof_batch(adapted, processor, cuts, language)
    with torch.no_grad():
        before = adapted(**batch).logits
        merged = adapted.merge_and_unload(safe_merge=True).eval()
        after = merged(**batch).logits
    prove(before, after)
    with working_folder(folder) as working:
        save_folder(merged, processor, working, window, made.get("timestamps"), made.get("learned_seconds"))
        with torch.no_grad():
            prove(before, load_model(str(working)).eval()(**batch).logits)
        write_json(working / TRAINING, {"base": base, "input_window": window, **made, "adapter": adapter})
        write_card(working)
    logger.info("merged %s into %s: %s", adapter, base, out)


def check_outdir(folder: Path, adapter: Path, base: Path) -> None:
    """Refuse to write over anything but an earlier model of ours.

    Raises:
        ConfigError: The folder holds something else, or is the adapter's or the base's.
    """
    if folder.resolve() in (adapter.resolve(), base.resolve()):
        raise ConfigError(f"{folder} is what is merged; give a new folder to --out")
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    config = folder / "config.json"
    if not config.is_file() or "input_window" not in config.read_text(encoding="utf-8", errors="replace"):
        raise ConfigError(f"{folder} exists and is no model folder of ours; give an empty or new folder to --out")


def proof_batch(
    model: PeftModel, processor: object, manifest: str | None, language: str | None
) -> dict[str, torch.Tensor]:
    """Return a batch to compare on: the first cuts of a manifest, or noise.

    Raises:
        DataError: None of these cuts can be used.
    """
    import torch

    from egrecho_inner.data.batches.cut_list import CutList
    from egrecho_inner.data.batches.log_mel import LogMel
    from egrecho_inner.data.batches.tensors import CutBatches
    from egrecho_inner.model.loading import is_multilingual
    from egrecho_inner.text.labels import LabelEncoder

    config = model.get_base_model().config
    if manifest is None:
        generator = torch.Generator().manual_seed(0)
        features = torch.rand(2, config.num_mel_bins, WHISPER_FRAMES, generator=generator) - 0.5
        ids = torch.randint(0, config.vocab_size, (2, 16), generator=generator)
        return {"input_features": features, "decoder_input_ids": ids}
    labels = LabelEncoder(processor.tokenizer, language, multilingual=is_multilingual(model.get_base_model()))
    listed = CutList([manifest])
    remedy = "give --language CODE where they name none, or other --cuts"
    try:
        listed.keep_trainable(labels, max_skip_ratio=1.0)
    except DataError as error:
        raise DataError(f"{manifest}: {error}, so nothing is proven; {remedy}") from error
    first = range(min(4, len(listed)))
    loaded = CutBatches(listed, labels, LogMel(config.num_mel_bins))[Batch(0, first, padded=False)]
    if not loaded.ids:
        name, reason = loaded.skipped[0]
        raise DataError(
            f"{manifest}: none of its first {len(first)} cuts can be used, so nothing is proven: {name}: {reason}; "
            f"{remedy}"
        )
    names = ("input_features", "attention_mask", "decoder_input_ids")
    return {name: loaded.inputs[name] for name in names}


def prove(before: torch.Tensor, after: torch.Tensor) -> None:
    """Compare two models' logits (B, L, V).

    Raises:
        ModelError: They differ by more than rounding.
    """
    scale = before.abs().max().item()
    difference = (before - after).abs().max().item()
    if not difference <= TOLERANCE * scale:
        raise ModelError(
            f"the merged model differs from adapter on base: {difference:.2e} of logits up to {scale:.1f}; nothing was "
            "written; an adapter of a quantised or changed base cannot be merged into this one"
        )
    logger.info("logits of adapter-on-base and merged model agree: largest difference %.1e of %.1f", difference, scale)


merge_lora.positional = ["adapter", "out"]

if __name__ == "__main__":
    run(merge_lora)
