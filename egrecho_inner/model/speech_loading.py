"""Speech LLMs in and out: encoder, language model and options become a model; its trained parts become a folder.

A folder is small: `config.json` (`model_type: speech_llm`) names encoder and language model with a hash of each, and
holds projector, adapter and prompt; `trained.safetensors` holds the weights that were trained and no others, under the
names they have in `SpeechLlm`. All of them are there, and nothing else, or the folder is refused.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import AutoConfig
from transformers.tokenization_utils_base import PreTrainedTokenizerBase

from egrecho_inner.errors import ModelError
from egrecho_inner.model.projector import make_projector
from egrecho_inner.model.speech_llm import MODEL_TYPE, SpeechLlm
from egrecho_inner.model.speech_options import LlmLoraOptions, ProjectorOptions, SpeechLossOptions, SpeechModelOptions
from egrecho_inner.model.speech_parts import add_lora, load_encoder, load_llm, load_tokenizer
from egrecho_inner.runtime.files import write_json
from egrecho_inner.text.prompt_options import PromptOptions
from egrecho_inner.text.prompts import PromptEncoder

CONFIG, TRAINED = "config.json", "trained.safetensors"
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
EDGE = 1 << 20


@dataclass(frozen=True)
class SpeechConfig:
    """All that a model is made of but its trained weights: what `config.json` holds."""

    model: SpeechModelOptions
    projector: ProjectorOptions = field(default_factory=ProjectorOptions)
    prompt: PromptOptions = field(default_factory=PromptOptions)
    lora: LlmLoraOptions | None = None
    digests: Mapping[str, str] = field(default_factory=dict)
    """Of encoder, language model and prompt; empty before they are known."""

    def to_dict(self) -> dict[str, Any]:
        """Return what `config.json` holds."""
        lora = self.lora and asdict(self.lora)
        kept = {"encoder": self.model.encoder, "llm": self.model.llm, "normalize": self.model.normalize}
        return {
            "model_type": MODEL_TYPE,
            **kept,
            "projector": asdict(self.projector),
            "prompt": asdict(self.prompt),
            "lora": lora,
            "digests": dict(self.digests),
        }


def read_config(folder: str | Path) -> SpeechConfig:
    """Read the config of a folder.

    Raises:
        ModelError: There is none, or it is not a speech LLM's.
    """
    path = Path(folder) / CONFIG
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if found["model_type"] != MODEL_TYPE:
            raise ValueError(f"model_type {found['model_type']}")
        return SpeechConfig(
            SpeechModelOptions(llm=found["llm"], encoder=found["encoder"], normalize=found["normalize"]),
            ProjectorOptions(**found["projector"]),
            PromptOptions(**found["prompt"]),
            LlmLoraOptions(**found["lora"]) if found["lora"] else None,
            found["digests"],
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(
            f"{path} does not read as a speech LLM's config ({error!r}); train or import it anew"
        ) from error


def is_speech_llm(path: str | Path) -> bool:
    """Return whether a path is a folder with a speech LLM."""
    file = Path(path) / CONFIG
    try:
        return json.loads(file.read_text(encoding="utf-8")).get("model_type") == MODEL_TYPE
    except (OSError, ValueError, AttributeError):
        return False


def encoder_bins(folder: str) -> int:
    """Return the mel bins of a folder's encoder; 0 for one that takes waves."""
    config = read_config(folder)
    return int(getattr(AutoConfig.from_pretrained(config.model.encoder), "num_mel_bins", 0))


def build(
    config: SpeechConfig,
    loss: SpeechLossOptions = SpeechLossOptions(),
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
) -> tuple[SpeechLlm, PreTrainedTokenizerBase]:
    """Load encoder and language model and join them; projector and adapter are drawn from the seed.

    Args:
        config: What the model is made of.
        loss: What is learned beside the text.
        seed: Of random weights.
        dtype: Of encoder and language model; projector and adapter are float32.
    """
    options = config.model
    tokenizer = load_tokenizer(options.llm)
    state = torch.random.get_rng_state()
    torch.manual_seed(seed)
    try:
        llm = load_llm(options, dtype)
        encoder = None if options.encoder is None else load_encoder(options.encoder, options.normalize, dtype)
        width = llm.get_input_embeddings().weight.shape[1]
        projector = None if encoder is None else make_projector(config.projector, encoder.width, width)
        if projector is not None and projector.out_norm is not None:  # the vectors begin as large as the embeddings
            size = llm.get_input_embeddings().weight.detach().float().square().mean().sqrt()
            nn.init.constant_(projector.out_norm.weight, float(size))
        if config.lora is not None:
            llm = add_lora(llm, config.lora)
    finally:
        torch.random.set_rng_state(state)
    if len(tokenizer) > llm.get_input_embeddings().weight.shape[0]:
        raise ModelError(
            f"{options.llm}: the tokenizer has {len(tokenizer)} entries, the model {llm.config.vocab_size} rows; they "
            "do not belong together"
        )
    blank = tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id
    return SpeechLlm(llm, encoder, projector, loss, int(blank)), tokenizer


def load_folder(folder: str, dtype: torch.dtype = torch.float32) -> tuple[SpeechLlm, PromptEncoder, SpeechConfig]:
    """Load a trained speech LLM, with all that it was trained with unchanged.

    Raises:
        ModelError: Encoder, language model, tokenizer or prompt are others than in training, or weights do not fit.
    """
    config = read_config(folder)
    model, tokenizer = build(config, dtype=dtype)
    labels = PromptEncoder(tokenizer, config.prompt)
    now = digests_of(config, labels)
    for name, then in config.digests.items():
        if now.get(name) != then:
            where = {"encoder": config.model.encoder, "llm": config.model.llm}.get(name, "the prompt or the tokenizer")
            raise ModelError(
                f"{folder}: {where} is not what the model was trained with ({name} {now.get(name)}, then {then}); put "
                f"the files of then in place, or correct {name} in {CONFIG}"
            )
    load_trained(model, Path(folder) / TRAINED)
    return model, labels, config


def load_trained(model: SpeechLlm, path: Path) -> None:
    """Load trained weights, each of them a weight of the model's and none of its own parts left out.

    Raises:
        ModelError: A weight is missing, unknown or of another shape.
    """
    take_weights(model, load_file(path), str(path))


def take_weights(model: SpeechLlm, state: Mapping[str, Tensor], where: str) -> None:
    """Put weights into a model by name; projector and adapter are to be complete.

    Raises:
        ModelError: A weight is missing, unknown or of another shape.
    """
    own = dict(model.named_parameters()) | dict(model.named_buffers())
    unknown = [name for name in state if name not in own]
    missing = [name for name in own if is_new(name) and name not in state]
    if unknown or missing:
        what = ", ".join(f"{kind} {names[:3]}" for kind, names in (("unknown", unknown), ("missing", missing)) if names)
        raise ModelError(f"{where}: its weights are not this model's: {what}; check projector and lora")
    for name, value in state.items():
        if own[name].shape != value.shape:
            raise ModelError(
                f"{where}: {name} has shape {tuple(value.shape)}, this model's is {tuple(own[name].shape)}; check the "
                "projector's kind, stride and hidden width, and that encoder and language model are those it was "
                "trained with"
            )
    with torch.no_grad():
        for name, value in state.items():
            own[name].copy_(value)


def take_start(model: SpeechLlm, start: str) -> None:
    """Begin with the trained parts of another run, or of SLAM-LLM's `model.pt`; an adapter may be new.

    Raises:
        ModelError: They are another model's.
    """
    path = Path(start)
    if path.suffix == ".pt":
        from egrecho_inner.model.slam_checkpoint import read_checkpoint

        state = read_checkpoint(path)
    else:
        read_config(path)
        state = load_file(path / TRAINED)
    fresh = {name: value for name, value in model.named_parameters() if ".lora_" in name and name not in state}
    if any(".lora_" in name for name in state):
        fresh = {}  # it has an adapter, which is to be this one
    take_weights(model, {**state, **fresh}, start)


def is_new(name: str) -> bool:
    """Return whether a weight is of a part that only training makes."""
    return name.startswith("projector.") or ".lora_" in name


def trained_weights(model: SpeechLlm) -> dict[str, Tensor]:
    """Return the weights that a folder keeps: those that are trained, and projector and adapter in any case."""
    seen: set[int] = set()
    found = {}
    for name, weight in model.named_parameters():
        if (weight.requires_grad or is_new(name)) and id(weight) not in seen:
            seen.add(id(weight))
            found[name] = weight.detach().to("cpu").contiguous()
    return found


def save_speech_llm(state: Mapping[str, Tensor], config: SpeechConfig, folder: Path) -> None:
    """Write a folder; the caller renames it into place."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file({name: value.contiguous() for name, value in state.items()}, folder / TRAINED, {"format": "pt"})
    write_json(folder / CONFIG, config.to_dict(), indent=2)


def digests_of(config: SpeechConfig, labels: PromptEncoder) -> dict[str, str]:
    """Return the hashes that a folder is checked by."""
    found = {"llm": digest_folder(config.model.llm), "prompt": labels.digest()}
    return found if config.model.encoder is None else {"encoder": digest_folder(config.model.encoder), **found}


def digest_folder(path: str) -> str:
    """Return a hash of a model: of its small files, and of beginning, end and size of its weights."""
    digest = hashlib.sha256()
    folder = Path(path)
    if not folder.is_dir():
        return f"{path}@{getattr(AutoConfig.from_pretrained(path), '_commit_hash', None)}"
    for file in sorted(folder.iterdir()):
        size = file.stat().st_size
        if file.name in ("config.json", "preprocessor_config.json"):
            digest.update(f"{file.name} {size}\n".encode() + file.read_bytes())
        elif file.suffix == ".safetensors":
            with open(file, "rb") as data:
                digest.update(f"{file.name} {size}\n".encode() + data.read(EDGE))
                data.seek(max(size - EDGE, 0))
                digest.update(data.read())
    return digest.hexdigest()[:16]
