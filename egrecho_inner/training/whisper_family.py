"""Whisper, for fit(): 30 s of log-mel in, tokens with Whisper's special ones out; full training, adapters, students."""

import copy
import hashlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel, get_peft_model
from torch import Tensor, nn
from transformers import WhisperProcessor

from egrecho_inner.data.batches.cut_list import CutList
from egrecho_inner.data.batches.log_mel import LogMel, LogMelOnDevice
from egrecho_inner.data.batches.options import DataOptions
from egrecho_inner.data.batches.tensors import CutBatches, LoadedBatch
from egrecho_inner.decoding.options import DecodeOptions
from egrecho_inner.decoding.transcribe import transcribe
from egrecho_inner.model.length import LengthEncoder
from egrecho_inner.model.loading import is_multilingual, save_folder
from egrecho_inner.model.options import Window
from egrecho_inner.model.whisper import Whisper
from egrecho_inner.results.utterance import Hypothesis
from egrecho_inner.text.constants import IGNORED, WINDOW_SECONDS
from egrecho_inner.text.labels import LabelEncoder
from egrecho_inner.training.checkpoints.resume import add_weights
from egrecho_inner.training.options import TrainOptions
from egrecho_inner.training.whisper_cost import Counter


class WhisperFamily:
    """Whisper as fit() trains it; `training/family.py` has what each member is for.

    Args:
        model: The base.
        processor: Its tokenizer and feature extractor.
        data: Language, task and place of the features.
        window: The input the model is trained with, and scored with.
    """

    name = "Whisper"
    ties = frozenset({"proj_out.weight"})
    extras = ("ctc_head.",)

    def __init__(self, model: Whisper, processor: WhisperProcessor, data: DataOptions, window: Window = "longest"):
        self.processor, self.data = processor, data
        self.window: Window = window
        self.labels = LabelEncoder(processor.tokenizer, data.language, data.task, is_multilingual(model))
        self.inputs = (LogMelOnDevice if data.features == "device" else LogMel)(model.config.num_mel_bins)

    def prepare(self, model: Whisper, train: TrainOptions) -> None:
        """Choose the form of the loss."""
        model.chunked_loss = train.chunked_loss

    def parts(self, model: nn.Module) -> dict[str, list[nn.Module]]:
        """Name encoder, decoder, and what is worth freezing inside them."""
        return parts_of(model)

    def encoder(self, model: nn.Module) -> nn.Module:
        """Return the encoder."""
        return model.get_encoder()

    def cost(self, model: nn.Module) -> Callable[[LoadedBatch], float]:
        """Count by the shapes of the batch."""
        return Counter(model).count

    def scored(self, cuts: CutList) -> CutBatches:
        """Make inputs and targets as in training, without augmentation."""
        return CutBatches(cuts, self.labels, self.inputs)

    def loss_sum(self, model: nn.Module, inputs: dict[str, Any]) -> Tensor:
        """Return the cross-entropy summed over the targets."""
        labels = inputs.pop("labels")
        weight = next(model.parameters())
        inputs["input_features"] = inputs["input_features"].to(weight.dtype)  # under DeepSpeed bf16 or fp16
        logits = model(**inputs).logits.flatten(0, 1).float()  # or the loss would have the 8 bits of bf16
        return nn.functional.cross_entropy(logits, labels.flatten(), ignore_index=IGNORED, reduction="sum")

    def recognize(
        self, model: nn.Module, cuts: CutList, positions: Iterable[int], batch_seconds: float | None = None
    ) -> Iterable[Hypothesis]:
        """Decode as `egrecho eval` does."""
        window = "30s" if self.window == "30s" else "longest"
        given = {} if batch_seconds is None else {"batch_seconds": batch_seconds}
        given["max_part_seconds"] = WINDOW_SECONDS  # cuts are decoded undivided, whatever the base had learned
        options = DecodeOptions(language=self.data.language, task=self.data.task, window=window, **given)
        return transcribe(model, self.processor, cuts, options, positions=positions)

    def kept(self, model: nn.Module) -> None:
        """Keep all, in Transformers' format; of an adapter peft keeps its own."""

    def plain(self, module: nn.Module) -> nn.Module:
        """Build a Whisper, one under an adapter, or an encoder: every Whisper fits one device."""
        return build_plain(module)

    def digest(self, model: nn.Module) -> str:
        """Hash the tokenizer, the tensors' names and shapes, and 64 values of each tensor."""
        found = hashlib.sha256(self.processor.tokenizer.backend_tokenizer.to_str().encode())
        add_weights(model, found, self.extras)
        return found.hexdigest()[:16]

    def facts(self, model: nn.Module) -> dict[str, Any]:
        """Return what an adapter's tensors do not show of the model they belong to."""
        return {"vocab_size": model.config.vocab_size, "num_mel_bins": model.config.num_mel_bins}

    def save(self, model: Whisper, folder: Path, made: Mapping[str, Any]) -> None:
        """Save what Transformers, CTranslate2 and whisper.cpp's converter look for."""
        learned = made.get("learned_seconds")
        save_folder(model, self.processor, folder, made["input_window"], made["timestamps"], learned)


def parts_of(model: nn.Module) -> dict[str, list[nn.Module]]:
    """Name the parts of a Whisper, or of one under an adapter."""
    core = (model.get_base_model() if isinstance(model, PeftModel) else model).model
    return {
        "encoder": [core.encoder],
        "decoder": [core.decoder],
        "embeddings": [core.decoder.embed_tokens],
        "convolutions": [core.encoder.conv1, core.encoder.conv2],
        "positions": [core.encoder.embed_positions, core.decoder.embed_positions],
    }


def build_plain(module: nn.Module) -> nn.Module:
    """Build a Whisper, one under an adapter, or an encoder, of the shape of a sharded one, with random weights."""
    with torch.random.fork_rng(devices=[]):  # the draws must not be missed by what is random in training
        if isinstance(module, LengthEncoder):
            return LengthEncoder(module.config).requires_grad_(False)
        base = Whisper(module.config)
        plain = base
        if isinstance(module, PeftModel):
            plain = get_peft_model(base, copy.deepcopy(module.peft_config["default"]))
    base.generation_config = module.generation_config
    return plain
