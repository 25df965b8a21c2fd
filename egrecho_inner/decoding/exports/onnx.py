"""ONNX: encoder and decoder with its cache as graphs, for onnxruntime, Optimum and transformers.js.

In: a model. Out: `encoder_model.onnx`, `decoder_model.onnx` (the prefix), `decoder_with_past_model.onnx` (a token a
time), with config and tokenizer beside them. int8 quantises the weights of matrix products (onnxruntime's dynamic way).
"""

import shutil
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from transformers import WhisperProcessor

from egrecho_inner.data.audio.files import SAMPLING_RATE
from egrecho_inner.decoding.exports.forms import Asked, Decode, ExportForm, WeightType
from egrecho_inner.decoding.exports.onnx_graphs import EncoderGraph, FirstStep, NextStep, cache_names
from egrecho_inner.decoding.transcribe import BASE_TOKENS, TOKENS_PER_SECOND
from egrecho_inner.errors import extra_missing
from egrecho_inner.model.whisper import Whisper
from egrecho_inner.text.constants import MAX_TOKENS
from egrecho_inner.text.labels import LabelEncoder

ENCODER, FIRST, NEXT = "encoder_model.onnx", "decoder_model.onnx", "decoder_with_past_model.onnx"
OPSET = 18


def write(model: Whisper, processor: WhisperProcessor, source: Path, out: Path, kind: WeightType) -> None:
    """Write the three graphs."""
    if not find_spec("onnx") or not find_spec("onnxruntime"):
        raise extra_missing("onnx and onnxruntime", "export")
    config, layers = model.config, model.config.decoder_layers
    feats = torch.zeros(2, config.num_mel_bins, 3000)
    batch = {0: "batch_size"}
    ids = torch.full((2, 3), config.decoder_start_token_id)
    encoded = torch.zeros(2, config.max_source_positions, config.d_model)
    present = cache_names(layers, "present")
    own = [name for name in present if ".decoder." in name]
    past_names = cache_names(layers, "past_key_values")
    with torch.no_grad():
        _, *past = FirstStep(model)(ids, encoded)
    options = {"opset_version": OPSET, "dynamo": False}
    grown = {name: {0: "batch_size", 2: "length"} for name in (*own, *(n for n in past_names if ".decoder." in n))}
    fixed = {name: batch for name in (*present, *past_names) if ".encoder." in name}
    torch.onnx.export(
        EncoderGraph(model),
        (feats,),
        out / ENCODER,
        input_names=["input_features"],
        output_names=["last_hidden_state"],
        dynamic_axes={"input_features": batch, "last_hidden_state": batch},
        **options,
    )
    prefix = {0: "batch_size", 1: "length"}
    axes = {"input_ids": prefix, "encoder_hidden_states": batch, "logits": prefix, **grown, **fixed}
    torch.onnx.export(
        FirstStep(model),
        (ids, encoded),
        out / FIRST,
        input_names=["input_ids", "encoder_hidden_states"],
        output_names=["logits", *present],
        dynamic_axes={name: axes[name] for name in ("input_ids", "encoder_hidden_states", "logits", *present)},
        **options,
    )
    axes |= {"input_ids": batch, "logits": batch}
    torch.onnx.export(
        NextStep(model),
        (ids[:, :1], past),
        out / NEXT,
        input_names=["input_ids", *past_names],
        output_names=["logits", *own],
        dynamic_axes={name: axes[name] for name in ("input_ids", "logits", *past_names, *own)},
        **options,
    )
    if kind == "int8":
        from onnxruntime.quantization import QuantType, quantize_dynamic

        for name in (ENCODER, FIRST, NEXT):
            small = out / f"q_{name}"
            # convolutions stay: their integer form is not on every processor
            quantize_dynamic(out / name, small, op_types_to_quantize=["MatMul"], weight_type=QuantType.QInt8)
            small.replace(out / name)
    for file in source.glob("*.json"):
        shutil.copyfile(file, out / file.name)


def reader(place: Path, processor: WhisperProcessor, asked: Asked, kind: WeightType) -> Decode:
    """Load with onnxruntime and search greedily, one utterance a time."""
    try:
        import onnxruntime  # an optional package
    except ImportError as error:
        raise extra_missing("onnxruntime", "export") from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    encoder, first, following = (
        onnxruntime.InferenceSession(str(place / name), options, providers=["CPUExecutionProvider"])
        for name in (ENCODER, FIRST, NEXT)
    )
    labels = LabelEncoder(processor.tokenizer, asked.language, asked.task, asked.language is not None)
    past_names = [each.name for each in following.get_inputs() if each.name != "input_ids"]

    def search(wave: np.ndarray) -> str:
        feats = processor.feature_extractor(wave, sampling_rate=SAMPLING_RATE, return_tensors="np").input_features
        (encoded,) = encoder.run(None, {"input_features": feats.astype(np.float32)})
        prefix = labels.prefix()
        logits, *caches = first.run(None, {"input_ids": np.array([prefix]), "encoder_hidden_states": encoded})
        past = dict(zip(past_names, caches, strict=True))
        tokens: list[int] = []
        limit = BASE_TOKENS + int(TOKENS_PER_SECOND * len(wave) / SAMPLING_RATE)  # as egrecho eval has it
        while len(tokens) < min(limit, MAX_TOKENS - len(prefix)):
            row = logits[0, -1]
            row[list(asked.suppressed)] = -np.inf
            token = int(row.argmax())
            if token == labels.eot:
                break
            tokens.append(token)
            logits, *grown = following.run(None, {"input_ids": np.array([[token]]), **past})
            past |= dict(zip((name for name in past_names if ".decoder." in name), grown, strict=True))
        return labels.decode(tokens)

    def decode(waves: Sequence[np.ndarray]) -> list[str]:
        return [search(wave) for wave in waves]

    return decode


FORM = ExportForm(("float32", "int8"), write, reader, "30s")
