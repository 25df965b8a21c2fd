"""The parts of a speech LLM as others publish them: tokenizer and language model, speech encoder, adapter.

In: folders or hub ids. Out: models of Transformers, checked: safetensors only, no code of their own, audio normalised
as the encoder was trained with.
"""

import torch
from torch import nn
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, AutoTokenizer, PretrainedConfig, PreTrainedModel
from transformers.tokenization_utils_base import PreTrainedTokenizerBase

from egrecho_inner.errors import ConfigError, ModelError
from egrecho_inner.model.audio_encoder import AudioEncoder, shape_of
from egrecho_inner.model.loading import load_model, quiet_report
from egrecho_inner.model.refusals import check_path, explain, refuse_code
from egrecho_inner.model.speech_llm import MODEL_TYPE
from egrecho_inner.model.speech_options import LlmLoraOptions, SpeechModelOptions

CONFIG = "config.json"


def load_tokenizer(path: str) -> PreTrainedTokenizerBase:
    """Load the tokenizer of a language model.

    Raises:
        ModelError: There is none.
    """
    check_path(path)
    try:
        return AutoTokenizer.from_pretrained(path)
    except Exception as error:
        raise ModelError(explain(path, error)) from error


def load_llm(options: SpeechModelOptions, dtype: torch.dtype) -> PreTrainedModel:
    """Load a causal language model, safetensors only, or draw one of its config.

    Raises:
        ModelError: There is none, it is of another kind, or asks for code of its own.
    """
    path = options.llm
    check_path(path)
    try:
        config = AutoConfig.from_pretrained(path)
        refuse_code(path, CONFIG, getattr(config, "auto_map", None))
        if hasattr(config, "attention_dropout"):
            config.attention_dropout = options.dropout
        settings = {"attn_implementation": options.attention, "dtype": dtype}
        if options.random_llm:
            return AutoModelForCausalLM.from_config(config, **settings)
        with quiet_report():
            model, info = AutoModelForCausalLM.from_pretrained(
                path, config=config, use_safetensors=True, output_loading_info=True, **settings
            )
    except ModelError:
        raise
    except (ImportError, ValueError) as error:
        if options.attention != "sdpa":
            raise ConfigError(f"model.attention {options.attention} does not work here: {error}; take sdpa") from error
        raise ModelError(explain(path, error)) from error
    except Exception as error:
        raise ModelError(explain(path, error)) from error
    if info["missing_keys"]:
        raise ModelError(f"{path}: weights missing: {sorted(info['missing_keys'])[:5]}")
    return model


def load_encoder(path: str, normalize: bool | None, dtype: torch.dtype) -> AudioEncoder:
    """Load an encoder, safetensors only.

    Raises:
        ModelError: There is none, or it is of another kind.
        ConfigError: `normalize` contradicts the model's files.
    """
    check_path(path)
    try:
        config = AutoConfig.from_pretrained(path)
    except Exception as error:
        raise ModelError(explain(path, error)) from error
    if config.model_type == MODEL_TYPE:
        raise ModelError(f"{path} is a speech LLM; give the encoder it was made of")
    refuse_code(path, CONFIG, getattr(config, "auto_map", None))
    known = normalizes(path, config)
    if normalize is not None and known is not None and normalize != known:
        raise ConfigError(
            f"model.normalize {str(normalize).lower()} contradicts {path}/preprocessor_config.json (do_normalize "
            f"{str(known).lower()}), by which the encoder was trained; leave model.normalize out"
        )
    shape = shape_of(config, known if known is not None else normalize, path)
    if config.model_type == "whisper":
        return AudioEncoder(load_model(path, dtype).get_encoder(), shape)
    try:
        with quiet_report():
            model, info = AutoModel.from_pretrained(path, use_safetensors=True, dtype=dtype, output_loading_info=True)
    except Exception as error:
        raise ModelError(explain(path, error)) from error
    if missing := [name for name in info["missing_keys"] if name != "masked_spec_embed"]:
        raise ModelError(f"{path}: weights missing: {sorted(missing)[:5]}")
    return AudioEncoder(model, shape)


def normalizes(path: str, config: PretrainedConfig) -> bool | None:
    """Return `do_normalize` of a model's preprocessor; None where it has none."""
    if config.model_type == "whisper":
        return None
    from transformers import FeatureExtractionMixin

    try:
        found, _ = FeatureExtractionMixin.get_feature_extractor_dict(path)
    except OSError:
        return None
    return found.get("do_normalize")


def add_lora(llm: PreTrainedModel, options: LlmLoraOptions) -> nn.Module:
    """Put an adapter on a language model, whose own weights are frozen by it.

    Raises:
        ConfigError: It has no layers of these names.
    """
    from peft import LoraConfig, get_peft_model  # seconds to import, and not every run has an adapter

    config = LoraConfig(
        r=options.r,
        lora_alpha=options.alpha,
        lora_dropout=options.dropout,
        target_modules=list(options.target_modules),
        task_type="CAUSAL_LM",
    )
    try:
        return get_peft_model(llm, config)
    except ValueError as error:
        linear = sorted({n.split(".")[-1] for n, m in llm.named_modules() if isinstance(m, nn.Linear)})
        raise ConfigError(
            f"lora.target_modules {options.target_modules} does not fit the language model, whose linear layers are "
            f"called {', '.join(linear)}"
        ) from error
