"""Models in and out: a hub id, a folder or a named size becomes a Whisper; a Whisper becomes a complete folder.

A complete folder has config, generation config, safetensors, tokenizer and `preprocessor_config.json`, so that
Transformers, CTranslate2 and whisper.cpp's converter find what they look for. Nothing is downloaded without a hub id.
"""

import logging
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from transformers import (
    GenerationConfig,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperProcessor,
    WhisperTokenizer,
)
from transformers.utils import logging as transformers_logging

from egrecho_inner.errors import ModelError
from egrecho_inner.model.agreement import check_agreement, check_shapes, check_tokenizer_files
from egrecho_inner.model.options import SIZES, Attention, ModelOptions, Window
from egrecho_inner.model.refusals import check_path, explain, no_kernel, refuse_code
from egrecho_inner.model.tokenizer import ENGLISH_ONLY_VOCABULARY, names_language
from egrecho_inner.model.whisper import Whisper, freeze_sinusoids
from egrecho_inner.text.labels import languages_of

logger = logging.getLogger(__name__)

# of loading and writing weights, which takes no time worth a bar; downloads keep theirs
transformers_logging.disable_progress_bar()


def start_model(options: ModelOptions, processor: WhisperProcessor, seed: int, **overrides: Any) -> Whisper:
    """Load the trained weights that training starts from, or draw random ones."""
    overrides["dropout"] = options.dropout
    if options.attention != "sdpa":
        overrides["attn_implementation"] = options.attention
    if options.size is not None:
        named = names_language(options, read_generation_config(options.path), processor.tokenizer)
        return random_model(options.size, processor, seed, named, **overrides)
    model = load_model(options.path, **overrides)
    check_agreement(options.path, model.config, model.generation_config, processor)
    draw_ctc_head(model, seed)
    return model


def load_model(
    path: str, dtype: torch.dtype = torch.float32, attn_implementation: Attention = "sdpa", **overrides: Any
) -> Whisper:
    """Load a Whisper from a folder or a hub id, safetensors only.

    Args:
        path: Folder or hub id.
        dtype: Type of the weights.
        attn_implementation: Kernel of attention.
        **overrides: Values of the model's config to change, e.g. `dropout`.

    Raises:
        ModelError: Nothing there, not a Whisper, weights broken or of other shapes.
        ConfigError: The kernel of attention does not work here.
    """
    config = read_config(path)
    for key, value in overrides.items():
        setattr(config, key, value)
    try:
        with quiet_report():
            model, info = Whisper.from_pretrained(
                path,
                config=config,
                dtype=dtype,
                attn_implementation=attn_implementation,
                use_safetensors=True,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # refused below, with their sizes
            )
    except Exception as error:
        if attn_implementation != "sdpa" and isinstance(error, (ImportError, ValueError)):
            raise no_kernel(attn_implementation, error) from error
        raise ModelError(explain(path, error)) from error
    check_shapes(path, config, info["mismatched_keys"])
    if missing := required_weights(info["missing_keys"]):
        raise ModelError(f"{path}: weights missing or of another shape: {missing[:5]}")
    freeze_sinusoids(model)
    return model


def required_weights(missing: Iterable[str]) -> list[str]:
    """Return those of the weights missing from a file that a Whisper cannot do without.

    `proj_out` shares the embedding's matrix, which safetensors stores once; `ctc_head` belongs to training alone.
    """
    return [name for name in missing if name != "proj_out.weight" and not name.startswith("ctc_head.")]


def read_config(path: str) -> WhisperConfig:
    """Read the config of a folder or hub id.

    Raises:
        ModelError: There is none, it does not read, or it is not Whisper's.
    """
    check_path(path)
    try:
        found, _ = WhisperConfig.get_config_dict(path)
        config = WhisperConfig.from_pretrained(path)
    except Exception as error:
        raise ModelError(explain(path, error)) from error
    kind = found.get("model_type")
    if kind is None:
        raise ModelError(f"{path}: config.json names no model_type; expected one of a Whisper model, with 'whisper'")
    if kind != "whisper":
        raise ModelError(f"{path} holds a {kind} model; expected whisper")
    refuse_code(path, "config.json", getattr(config, "auto_map", None))
    return config


@contextmanager
def quiet_report() -> Iterator[None]:
    """Keep Transformers' table of missing and mismatched weights off the screen; ours is one line."""
    before = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(before)


def draw_ctc_head(model: Whisper, seed: int) -> None:
    """Draw the CTC layer, which no model is saved with, from the seed of the run: every start draws the same."""
    if hasattr(model, "ctc_head"):
        generator = torch.Generator().manual_seed(seed)
        torch.nn.init.normal_(model.ctc_head.weight, std=model.config.init_std, generator=generator)
        torch.nn.init.zeros_(model.ctc_head.bias)
        favour_blank(model)


def favour_blank(model: Whisper) -> None:
    """Let a fresh CTC layer begin with what most frames are; saves the first hundred steps."""
    if hasattr(model, "ctc_head"):
        torch.nn.init.constant_(model.ctc_head.bias[model.config.eos_token_id], 6.0)


def random_model(
    size: str, processor: WhisperProcessor, seed: int = 0, multilingual: bool = True, **overrides: Any
) -> Whisper:
    """Make a Whisper of a named size with random weights for a processor's vocabulary and mel bins.

    Args:
        size: One of `SIZES`.
        processor: Tokenizer and feature extractor.
        seed: Of the weights.
        multilingual: Whether the prefix names language and task.
        **overrides: Values of the model's config.

    Raises:
        ModelError: There is no such size.
    """
    if size not in SIZES:
        raise ModelError(f"unknown size '{size}'; legal are {', '.join(SIZES)}")
    width, heads, encoder, decoder, _ = SIZES[size]
    tokenizer = processor.tokenizer
    ids = {name: tokenizer.convert_tokens_to_ids(f"<|{name}|>") for name in ("endoftext", "startoftranscript")}
    config = WhisperConfig(
        vocab_size=len(tokenizer),
        num_mel_bins=processor.feature_extractor.feature_size,
        d_model=width,
        encoder_attention_heads=heads,
        decoder_attention_heads=heads,
        encoder_layers=encoder,
        decoder_layers=decoder,
        encoder_ffn_dim=4 * width,
        decoder_ffn_dim=4 * width,
        pad_token_id=ids["endoftext"],
        bos_token_id=ids["endoftext"],
        eos_token_id=ids["endoftext"],
        decoder_start_token_id=ids["startoftranscript"],
        suppress_tokens=None,  # the defaults are ids of OpenAI's vocabulary
        begin_suppress_tokens=None,
        init_std=0.02 * max(1.0, 768 / width) ** 0.5,  # 0.02 suits wide models; narrow ones would start nearly silent
        **overrides,
    )
    state = torch.random.get_rng_state()
    torch.manual_seed(seed)
    model = Whisper(config)
    for convolution in (model.model.encoder.conv1, model.model.encoder.conv2):
        # at init_std the sound would be a twentieth of the position table it is added to
        torch.nn.init.kaiming_normal_(convolution.weight)
    favour_blank(model)
    torch.random.set_rng_state(state)
    model.generation_config = generation_config(processor, multilingual)
    return model


def generation_config(processor: WhisperProcessor, multilingual: bool = True) -> GenerationConfig:
    """Build the generation config of a tokenizer: every id by name, nothing forced, nothing suppressed."""
    tokenizer = processor.tokenizer
    added = tokenizer.get_added_vocab()
    languages = {f"<|{code}|>": index for code, index in languages_of(added).items()}
    tables = {
        "lang_to_id": languages,
        "task_to_id": {task: added[f"<|{task}|>"] for task in ("transcribe", "translate")},
    }
    return GenerationConfig(
        is_multilingual=multilingual,
        **(tables if multilingual else {}),
        no_timestamps_token_id=added["<|notimestamps|>"],
        prev_sot_token_id=added["<|startofprev|>"],
        decoder_start_token_id=added["<|startoftranscript|>"],
        bos_token_id=tokenizer.eos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.eos_token_id,
        max_length=448,
        max_initial_timestamp_index=50,
        return_timestamps=False,
    )


def load_processor(path: str) -> WhisperProcessor:
    """Load tokenizer and feature extractor of a folder or hub id.

    Raises:
        ModelError: Nothing there, not Whisper's, or not those of the model that is there too.
    """
    check_path(path)
    check_tokenizer_files(Path(path))
    try:
        tokenizer = WhisperTokenizer.from_pretrained(path)
        refuse_code(path, "tokenizer_config.json", tokenizer.init_kwargs.get("auto_map"))
        processor = WhisperProcessor(WhisperFeatureExtractor.from_pretrained(path), tokenizer)
    except ModelError:
        raise
    except Exception as error:
        raise ModelError(explain(path, error)) from error
    if "<|startoftranscript|>" not in tokenizer.get_vocab():  # without its files, Transformers makes an empty one
        raise ModelError(f"{path} has no tokenizer of Whisper's; copy tokenizer.json and tokenizer_config.json there")
    if not Path(path).is_dir() or (Path(path) / "config.json").is_file():
        check_agreement(path, read_config(path), read_generation_config(path), processor)
    return processor


def read_generation_config(path: str) -> GenerationConfig | None:
    """Read the generation config of a folder or hub id; None where it has none.

    Raises:
        ModelError: It does not read.
    """
    folder = Path(path)
    try:
        return GenerationConfig.from_pretrained(path)
    except OSError as error:
        if (folder / "generation_config.json").is_file():
            raise ModelError(explain(path, error)) from error
        return None
    except Exception as error:
        raise ModelError(explain(path, error)) from error


def save_folder(
    model: Whisper,
    processor: WhisperProcessor,
    folder: str | Path,
    window: Window,
    timestamps: bool | None = None,
    learned: Sequence[float] | None = None,
) -> None:
    """Save everything that programs look for in a Whisper folder; the caller renames it into place.

    Args:
        model: The model; saved in plain Whisper format.
        processor: Tokenizer and feature extractor, saved in today's and in the older single-file form.
        folder: Where to.
        window: The input the model was trained with; `egrecho eval` reads it from config.json.
        timestamps: Whether it was trained on the times of parts, to be followed by them through long audio; None leaves
            what its config has. `egrecho eval` reads it there too.
        learned: Seconds of the median and the longest utterance it was trained on: long audio is cut into parts as
            long. None leaves what its config has.
    """
    model.config.input_window = window
    if learned is not None:
        model.config.learned_seconds = list(learned)
    if timestamps is not None:
        model.config.timestamps = timestamps
    model.config.ctc_weight = 0.0
    model.save_pretrained(folder)
    model.generation_config.save_pretrained(folder)
    processor.save_pretrained(folder)
    processor.feature_extractor.save_pretrained(folder)


def window_of(model: Whisper) -> Window:
    """Return the input a model was trained with; 30 s for any Whisper this project did not train."""
    return getattr(model.config, "input_window", "30s")


def learned_seconds(model: Whisper) -> tuple[float, float] | None:
    """Return how long the utterances were that a model was trained on, the median and the longest; None if unknown."""
    found = getattr(model.config, "learned_seconds", None)
    return (float(found[0]), float(found[1])) if found else None


def is_multilingual(model: Whisper) -> bool:
    """Tell whether a model's prefix holds language and task."""
    flag = getattr(model.generation_config, "is_multilingual", None)
    return model.config.vocab_size != ENGLISH_ONLY_VOCABULARY if flag is None else bool(flag)
