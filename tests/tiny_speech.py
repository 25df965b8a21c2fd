"""Small parts of speech LLMs for tests: encoders and language models of random weights, and a byte tokenizer.

All made in memory or in a folder of the test, from a seed, in a fraction of a second; nothing is downloaded.
"""

import json
from functools import lru_cache
from pathlib import Path

import torch
from tiny import save_tiny
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    GemmaConfig,
    GemmaForCausalLM,
    HubertConfig,
    HubertModel,
    Lfm2Config,
    Lfm2ForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
    WavLMConfig,
    WavLMModel,
)

from egrecho_inner.model.audio_encoder import AudioEncoder, shape_of

WAVE = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 32,
    "conv_dim": (8, 8, 8),
    "conv_stride": (5, 8, 8),
    "conv_kernel": (10, 8, 8),
    "num_feat_extract_layers": 3,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
}
WAVE_KINDS = ("wavlm", "hubert-group", "hubert-layer")
LLM_KINDS = ("llama", "qwen", "gemma", "lfm2")


@lru_cache
def byte_tokenizer() -> PreTrainedTokenizerFast:
    """Make a tokenizer whose text tokens are the 256 bytes, with beginning, end, padding and a chat template."""
    vocab = {letter: index for index, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    backend = Tokenizer(models.BPE(vocab=vocab, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    found = PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>", eos_token="</s>", pad_token="<pad>")
    found.chat_template = "{% for m in messages %}[{{ m['role'] }}]{{ m['content'] }}{% endfor %}[assistant]"
    return found


def tiny_llm(kind: str = "llama", seed: int = 0) -> PreTrainedModel:
    """Make a causal language model of random weights; kind is one of LLM_KINDS."""
    shape = {
        "vocab_size": len(byte_tokenizer()),
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 512,
        "initializer_range": 0.2,
        "bos_token_id": byte_tokenizer().bos_token_id,
        "eos_token_id": byte_tokenizer().eos_token_id,
        "pad_token_id": None,
    }
    made = {
        "llama": lambda: LlamaForCausalLM(LlamaConfig(**shape, tie_word_embeddings=True)),
        "qwen": lambda: Qwen2ForCausalLM(Qwen2Config(**shape)),
        "gemma": lambda: GemmaForCausalLM(GemmaConfig(**shape, head_dim=8)),
        "lfm2": lambda: Lfm2ForCausalLM(
            Lfm2Config(**shape, block_auto_adjust_ff_dim=False, layer_types=["conv", "full_attention"])
        ),
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return made[kind]().eval()


def tiny_wave_encoder(kind: str, seed: int = 0) -> AudioEncoder:
    """Make an encoder of waves; kind is one of WAVE_KINDS."""
    return AudioEncoder(tiny_wave_model(kind, seed), shape_of(tiny_wave_model(kind, seed).config, normalize=True))


def tiny_wave_model(kind: str, seed: int = 0) -> PreTrainedModel:
    """Make a WavLM or HuBERT of random weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if kind == "wavlm":
            config = WavLMConfig(**WAVE, feat_extract_norm="layer", do_stable_layer_norm=True, conv_bias=False)
            return WavLMModel(config).eval()
        norm = kind.removeprefix("hubert-")
        config = HubertConfig(**WAVE, feat_extract_norm=norm, do_stable_layer_norm=norm == "layer")
        return HubertModel(config).eval()


def save_llm(folder: Path, kind: str = "llama", seed: int = 0) -> Path:
    """Save a language model with its tokenizer."""
    tiny_llm(kind, seed).save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    return folder


def save_wave_encoder(folder: Path, kind: str = "wavlm", normalize: bool = True) -> Path:
    """Save an encoder of waves with what its preprocessor says."""
    tiny_wave_model(kind).save_pretrained(folder)
    said = {"feature_extractor_type": "Wav2Vec2FeatureExtractor", "do_normalize": normalize, "sampling_rate": 16000}
    (folder / "preprocessor_config.json").write_text(json.dumps(said), encoding="utf-8")
    return folder


def save_parts(folder: Path, llm: str = "llama", encoder: str = "whisper") -> tuple[Path, Path]:
    """Save an encoder and a language model in folders of their own."""
    heard = save_tiny(folder / "encoder") if encoder == "whisper" else save_wave_encoder(folder / "encoder", encoder)
    return heard, save_llm(folder / "llm", llm)
