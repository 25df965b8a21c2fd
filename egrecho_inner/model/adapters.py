"""Low-rank adapters on Whisper, through peft: LoRA, DoRA, AdaLoRA.

In: a Whisper. Out: a PeftModel of it, and back: an adapter folder checked against its base, name by name and shape by
shape, before peft may load it (peft itself only warns when an adapter fits half a model).
"""

import json
import re
from pathlib import Path
from typing import Any, get_args

import torch
from peft import AdaLoraConfig, LoraConfig, PeftModel, get_peft_model
from safetensors import SafetensorError, safe_open

from egrecho_inner.errors import ConfigError, ModelError
from egrecho_inner.model.options import LoraOptions, Window
from egrecho_inner.model.whisper import Whisper

RANKS = {"LORA": ("r",), "ADALORA": ("init_r", "target_r")}
"""Kinds of adapters that are loaded, and where their configs have ranks."""


def add_adapter(model: Whisper, options: LoraOptions, total_steps: int, seed: int = 0) -> PeftModel:
    """Put a fresh adapter on a Whisper; only the adapter is trained.

    Args:
        model: The base.
        options: Shape and place.
        total_steps: Optimizer steps of the run, for AdaLoRA's schedule.
        seed: Of its random weights.

    Raises:
        ConfigError: The target modules are not in the model.
    """
    names = [name for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)]
    inside = {"both": r"(encoder|decoder)", "encoder": "encoder", "decoder": "decoder"}[options.parts]
    pattern = rf".*\b{inside}\b.*\.({'|'.join(map(re.escape, options.target_modules))})"
    if not any(re.fullmatch(pattern, name) for name in names):
        legal = sorted({name.split(".")[-1] for name in names})
        raise ConfigError(f"lora.target_modules {options.target_modules}: none in the model; legal are {legal}")
    shared: dict[str, Any] = {
        "target_modules": pattern,
        "lora_alpha": options.alpha,
        "lora_dropout": options.dropout,
        "bias": "none",
        # no task_type: peft's SEQ_2_SEQ_LM wrapper passes `input_ids`, which Whisper does not have
    }
    if options.method == "adalora":
        config = AdaLoraConfig(
            init_r=options.init_r,
            target_r=options.r,
            tinit=int(options.warmup * total_steps),
            tfinal=int(options.settle * total_steps),
            deltaT=options.delta,
            total_step=total_steps,
            **shared,
        )
    else:
        config = LoraConfig(r=options.r, use_dora=options.method == "dora", use_rslora=options.use_rslora, **shared)
    state = torch.random.get_rng_state()
    torch.manual_seed(seed)
    adapted = get_peft_model(model, config)
    torch.random.set_rng_state(state)
    return adapted


def load_adapter(model: Whisper, folder: str | Path) -> PeftModel:
    """Put a saved adapter on its base.

    Raises:
        ModelError: Not an adapter, broken, or made for a model of other width, depth or vocabulary.
    """
    check_adapter(model, Path(folder))
    try:
        return PeftModel.from_pretrained(model, str(folder))
    except (ValueError, TypeError, KeyError, RuntimeError) as error:
        raise ModelError(f"{folder} does not load: {' '.join(str(error).split())[:300]}; train it again") from error


def check_adapter(model: Whisper, folder: Path) -> None:
    """Compare an adapter's tensors with the layers of a model: every one has a place, every place is filled.

    Raises:
        ModelError: With the first difference and both sizes.
    """
    config, made = read_adapter_config(folder), read_training(folder)
    check_kind(folder, config)
    for key in ("vocab_size", "num_mel_bins"):  # an adapter's own tensors do not show them
        if made.get(key, getattr(model.config, key)) != getattr(model.config, key):
            raise ModelError(
                f"{folder} was made for a model with {key} {made[key]}, the base's is {getattr(model.config, key)}; "
                f"give its own base, {config.get('base_model_name_or_path')}"
            )
    shapes = adapter_shapes(folder / "adapter_model.safetensors")
    layers = {name: module for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)}
    adapted = {name.split(".lora_")[0].removeprefix("base_model.model.") for name in shapes if ".lora_" in name}
    unknown = sorted(adapted - set(layers))
    if unknown:
        raise ModelError(
            f"{folder} adapts {unknown[0]}, which the base does not have ({len(unknown)} such); "
            f"it was made for another model, {config.get('base_model_name_or_path')}"
        )
    wanted = targets(config, set(layers))
    bare = sorted(wanted - adapted)
    if bare:
        raise ModelError(
            f"{folder} has weights for {len(adapted)} of the base's {len(wanted)} target modules ({bare[0]} has none); "
            f"it was made for a shallower model, {config.get('base_model_name_or_path')}"
        )
    for name in sorted(adapted):
        check_layer(folder, config, name, layers[name], shapes)


def check_kind(folder: Path, config: dict[str, Any]) -> None:
    """Refuse adapters of other kinds, without a rank, or with code of their own.

    Raises:
        ModelError: With what adapter_config.json holds.
    """
    file, kind, mapping = folder / "adapter_config.json", config.get("peft_type"), config.get("auto_mapping") or {}
    if kind not in RANKS:
        raise ModelError(f"{file}: peft_type is {kind}; expected LORA (DoRA is one) or ADALORA")
    for name in RANKS[kind]:
        if type(config.get(name)) is not int or config[name] < 1:
            raise ModelError(f"{file}: {name} is {config.get(name)}; expected a rank of at least 1")
    library = mapping.get("parent_library", "") if isinstance(mapping, dict) else str(mapping)
    foreign = library and library.split(".")[0] not in ("transformers", "egrecho_inner")
    if foreign or config.get("megatron_config"):  # peft would import whatever module is named there
        named = library or config.get("megatron_core")
        raise ModelError(f"{file} asks for a module of its own ({named}); code of an adapter is never run")


def check_layer(
    folder: Path, config: dict[str, Any], name: str, layer: torch.nn.Linear, shapes: dict[str, tuple[int, ...]]
) -> None:
    """Compare the matrices of one adapted layer with the base and with each other.

    Raises:
        ModelError: One is missing, or of another shape.
    """
    stem, found = f"base_model.model.{name}.", {}
    for tensor, axis, size, of in (("lora_A", 1, layer.in_features, "in"), ("lora_B", 0, layer.out_features, "out")):
        shape = next((shape for key, shape in shapes.items() if key.startswith(stem + tensor)), None)
        if shape is None or len(shape) != 2:
            raise ModelError(f"{folder}: {name} has no {tensor} matrix; copy or train the adapter again")
        if shape[axis] != size:
            raise ModelError(
                f"{folder}: {name} was adapted with {shape[axis]} {of}puts, the base's has {size}; it was made for "
                f"another model, {config.get('base_model_name_or_path')}"
            )
        found[tensor] = shape[1 - axis]
    if config["peft_type"] == "LORA" and not config.get("rank_pattern"):
        found["adapter_config.json (r)"] = config["r"]
    if len(set(found.values())) > 1:
        ranks = ", ".join(f"{rank} by {source}" for source, rank in found.items())
        raise ModelError(f"{folder}: the rank of {name} is {ranks}; copy both files of the adapter again")
    if config.get("use_dora") and not any(key.startswith(f"{stem}lora_magnitude_vector") for key in shapes):
        raise ModelError(f"{folder}: {name} has no lora_magnitude_vector, which DoRA needs; train the adapter again")


def targets(config: dict[str, Any], layers: set[str]) -> set[str]:
    """Return the layers that an adapter's config names, as peft reads it; none where it names them in other ways."""
    named = config.get("target_modules")
    if any(config.get(key) for key in ("layers_to_transform", "exclude_modules")):
        return set()
    if isinstance(named, str):
        return {layer for layer in layers if re.fullmatch(named, layer)}
    return {layer for layer in layers if any(f".{layer}".endswith(f".{name}") for name in named or ())}


def read_adapter_config(folder: Path) -> dict[str, Any]:
    """Read the configuration of an adapter."""
    try:
        config = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ModelError(
            f"{folder} has no adapter_config.json; expected an adapter such as exp/NAME/adapter"
        ) from error
    except ValueError as error:
        raise ModelError(f"{folder}/adapter_config.json does not read: {error}") from error
    if not isinstance(config, dict):
        raise ModelError(f"{folder}/adapter_config.json is no adapter's; expected an adapter such as exp/NAME/adapter")
    return config


def read_training(folder: Path) -> dict[str, Any]:
    """Read what our training wrote beside an adapter; empty for one made elsewhere."""
    path = folder / "training.json"
    try:
        made = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        if not isinstance(made, dict) or made.get("input_window", "30s") not in get_args(Window):
            raise ValueError(f"expected an object with input_window one of {', '.join(get_args(Window))}")
    except ValueError as error:
        raise ModelError(f"{path} does not read ({error}); copy it again, or delete it to merge without") from error
    return made


def adapter_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Return the shapes of an adapter's tensors, refusing a broken file or non-finite values."""
    try:
        with safe_open(path, framework="pt") as tensors:
            shapes = {}
            for name in tensors.keys():  # noqa: SIM118 - safe_open is no mapping
                value = tensors.get_tensor(name)
                if not torch.isfinite(value).all():
                    raise ModelError(f"{path}: {name} holds NaN or infinite values; train again")
                shapes[name] = tuple(value.shape)
            return shapes
    except FileNotFoundError as error:
        raise ModelError(f"{path} is missing; only safetensors adapters are loaded") from error
    except SafetensorError as error:
        raise ModelError(f"{path} is broken ({error}); copy or train it again") from error
