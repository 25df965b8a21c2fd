"""Small things for tests: a byte-level Whisper processor, random Whispers, and cuts of tones that stand for words.

All made in memory or in a folder of the test, from a seed, in a fraction of a second; nothing is downloaded.
"""

from functools import lru_cache
from pathlib import Path

import numpy as np
import soundfile
import torch
from lhotse import CutSet, MonoCut, Recording, SupervisionSegment
from tokenizers.pre_tokenizers import ByteLevel
from transformers import WhisperConfig, WhisperFeatureExtractor, WhisperProcessor, WhisperTokenizer
from transformers.models.whisper.tokenization_whisper import LANGUAGES

from egrecho_inner.model.loading import generation_config, save_folder
from egrecho_inner.model.options import Window
from egrecho_inner.model.whisper import Whisper, freeze_sinusoids

RATE = 16000
WORDS = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]


@lru_cache
def tiny_processor(n_mels: int = 80) -> WhisperProcessor:
    """Make a processor whose text tokens are the 256 bytes and whose special tokens are Whisper's."""
    vocab = {letter: index for index, letter in enumerate(sorted(ByteLevel.alphabet()))}
    vocab[""] = len(vocab)
    end = "<|endoftext|>"
    tokenizer = WhisperTokenizer(vocab=vocab, merges=[], pad_token=end, bos_token=end, eos_token=end, unk_token=end)
    controls = ["translate", "transcribe", "startoflm", "startofprev", "nospeech", "notimestamps"]
    names = ["startoftranscript", *LANGUAGES, *controls]
    tokenizer.add_special_tokens({"extra_special_tokens": [f"<|{name}|>" for name in names]})
    tokenizer.add_tokens([f"<|{step * 0.02:.2f}|>" for step in range(1501)])
    return WhisperProcessor(WhisperFeatureExtractor(feature_size=n_mels), tokenizer)


def tiny_model(
    processor: WhisperProcessor, layers: int = 2, width: int = 32, seed: int = 0, ending: float = 0.0
) -> Whisper:
    """Make a Whisper with random weights.

    Args:
        processor: Gives vocabulary and mel bins.
        layers: Of encoder and decoder each.
        width: Of the model; a multiple of 4.
        seed: Of the weights.
        ending: Added to the logit of `<|endoftext|>`; with 0 a random model never stops by itself, with 3.3 after some
            tokens or some tens.
    """
    tokenizer = processor.tokenizer
    end = tokenizer.convert_tokens_to_ids("<|endoftext|>")
    config = WhisperConfig(
        vocab_size=len(tokenizer),
        num_mel_bins=processor.feature_extractor.feature_size,
        d_model=width,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
        encoder_layers=layers,
        decoder_layers=layers,
        encoder_ffn_dim=4 * width,
        decoder_ffn_dim=4 * width,
        init_std=0.2,  # far enough from 0 that two logits are seldom within rounding of each other
        pad_token_id=end,
        bos_token_id=end,
        eos_token_id=end,
        decoder_start_token_id=tokenizer.convert_tokens_to_ids("<|startoftranscript|>"),
    )
    state = torch.random.get_rng_state()
    torch.manual_seed(seed)
    model = Whisper(config)
    torch.random.set_rng_state(state)
    freeze_sinusoids(model)
    with torch.no_grad():
        rows = model.proj_out.weight
        rows[end + 1 :] *= 0.3  # or most of the 1,600 special tokens would be what it says
        if ending:  # a constant part of the last hidden state that only one row of the output sees
            model.model.decoder.layer_norm.bias.fill_(0.5)
            rows -= rows.mean(dim=1, keepdim=True)
            rows[end] += ending / (0.5 * width)
    model.generation_config = generation_config(processor)
    return model.eval()


def save_tiny(folder: Path, window: Window = "longest", n_mels: int = 80, seed: int = 0, ending: float = 0.0) -> Path:
    """Save a random model with its processor as a complete folder."""
    processor = tiny_processor(n_mels)
    save_folder(tiny_model(processor, seed=seed, ending=ending), processor, folder, window)
    return folder


def without_language(folder: Path, code: str) -> Path:
    """Take a language from a saved model, as models before large-v3 have no `<|yue|>`: its token gets another name."""
    for name in ("tokenizer.json", "tokenizer_config.json", "generation_config.json"):
        path = folder / name
        path.write_text(path.read_text(encoding="utf-8").replace(f"<|{code}|>", "<|unused|>"), encoding="utf-8")
    return folder


def tones(words: list[str], seconds: float, rng: np.random.Generator) -> np.ndarray:
    """Say words as two-tone beeps of their own pitch, with pauses and a little noise, (N,) float32."""
    samples = round(seconds * RATE)
    wave = rng.normal(0, 0.002, samples)
    slot = samples // max(len(words), 1)
    length = int(slot * 0.7)
    time = np.arange(length) / RATE
    for place, word in enumerate(words):
        pitch = 250 + 180 * WORDS.index(word)
        sound = np.sin(2 * np.pi * pitch * time) + 0.5 * np.sin(2 * np.pi * 2.1 * pitch * time)
        wave[place * slot : place * slot + length] += 0.2 * np.hanning(length) * sound
    return wave.astype(np.float32)


def speech_cut(
    folder: Path,
    name: str,
    seconds: float,
    text: str = "one two",
    language: str | None = "en",
    speaker: str | None = "s1",
    seed: int = 0,
) -> MonoCut:
    """Write one wave file and return the cut that covers it."""
    folder.mkdir(parents=True, exist_ok=True)
    wave = tones([word for word in text.split() if word in WORDS], seconds, np.random.default_rng(seed))
    soundfile.write(folder / f"{name}.wav", wave, RATE)
    recording = Recording.from_file(folder / f"{name}.wav", recording_id=name)
    supervision = SupervisionSegment(
        name, name, 0.0, recording.duration, 0, text=text, language=language, speaker=speaker
    )
    return MonoCut(f"{name}-0", 0, recording.duration, 0, [supervision], recording=recording)


def speech_cuts(folder: Path, n: int = 8, seed: int = 0, language: str | None = "en", name: str = "cuts") -> Path:
    """Write n utterances of 0.6 to 3 s and their manifest; the text is what the tones say.

    Returns:
        The manifest, `folder/NAME.jsonl`.
    """
    rng = np.random.default_rng(seed)
    cuts: list[MonoCut] = []
    for number in range(n):
        words = [str(word) for word in rng.choice(WORDS, size=int(rng.integers(1, 6)))]
        seconds = round(0.6 * len(words) + float(rng.uniform(0, 0.2)), 3)
        utterance, speaker = f"{name}{number:03d}", f"s{number % 3}"
        cuts.append(speech_cut(folder / name, utterance, seconds, " ".join(words), language, speaker, seed + number))
    manifest = folder / f"{name}.jsonl"
    CutSet.from_cuts(cuts).to_file(manifest)
    return manifest
