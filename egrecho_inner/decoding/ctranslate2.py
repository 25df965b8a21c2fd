"""Decoding by CTranslate2, the engine of faster-whisper: the same questions and answers as `recognizer.py`.

In: a model folder or hub id; it is converted once into a folder that its digest names, under `EGRECHO_CACHE` or
`~/.cache/egrecho`. Out: a recogniser that `Transcriber` takes in place of its own.
CTranslate2 knows no attention mask, so only utterances of the same length go through it together: no one's text
depends on padding. Its encoder takes input shorter than 30 s as it is. Greedy search gives PyTorch's tokens; beam
search stops at the first `num_beams` endings, so that it may miss a better one.
Needs the extra `egrecho[ct2]`. Left out: conversion to fewer bits on disk; `int8` quantises while loading.

B utterances, F mel bins, T frames.
"""

import logging
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from transformers import GenerationConfig, WhisperConfig

from egrecho_inner.decoding.recognize import FIRST_TIMESTAMP_INDEX, Found, Recognizer, forbidden
from egrecho_inner.errors import ConfigError, MachineError, ModelError
from egrecho_inner.model.whisper import Whisper
from egrecho_inner.runtime.files import cache_folder, locked, working_folder
from egrecho_inner.text.labels import LabelEncoder

try:  # an optional package
    import ctranslate2
    from ctranslate2.converters import TransformersConverter
except ImportError:
    ctranslate2 = None

logger = logging.getLogger(__name__)

Backend = Literal["auto", "torch", "ctranslate2", "ctranslate2-int8"]
NO_EARLY_EXIT = 1.01  # with exactly 1 and no penalty the search would stop at its first ending
COMPLETE = "config.json"  # written last by CTranslate2's converter


class ConvertedModel:
    """A converted model, loaded.

    Args:
        path: Model folder or hub id.
        digest: Names the conversion; another model has another.
        device: cpu or cuda, with an index or without.
        compute_type: float32, float16, bfloat16, int8, ...; of the arithmetic.
    """

    def __init__(self, path: str, digest: str, device: torch.device, compute_type: str):
        if ctranslate2 is None:
            raise ConfigError("decode.backend ctranslate2 is not installed: pip install 'egrecho[ct2]', or take torch")
        legal = ctranslate2.get_supported_compute_types(device.type)
        if compute_type not in legal:
            raise ConfigError(
                f"CTranslate2 cannot compute in {compute_type} here; legal are {', '.join(sorted(legal))}"
            )
        folder = converted(path, digest)
        self.model = ctranslate2.models.Whisper(
            str(folder),
            device=device.type,
            device_index=device.index or 0,
            compute_type=compute_type,
            intra_threads=torch.get_num_threads(),
        )

    def recognizer(
        self, shell: Whisper, labels: LabelEncoder, num_beams: int, length_penalty: float, timestamps: bool
    ) -> "ConvertedRecognizer":
        """Make a recogniser; the arguments are those of `Recognizer`."""
        return ConvertedRecognizer(self, shell, labels, num_beams, length_penalty, timestamps)


class ConvertedRecognizer(Recognizer):
    """What `Recognizer` does, done by CTranslate2; the model is only asked for its configuration."""

    def __init__(
        self,
        engine: ConvertedModel,
        shell: Whisper,
        labels: LabelEncoder,
        num_beams: int = 1,
        length_penalty: float = 1.0,
        timestamps: bool = False,
    ):
        super().__init__(shell, labels, num_beams, length_penalty, timestamps)
        if behind := [code for code, index in labels.languages.items() if index > labels.no_timestamps]:
            raise ConfigError(
                f"decode.backend ctranslate2 takes the token of an added language ({behind[0]}) for text; use torch, "
                "or egrecho export --to ctranslate2 and faster-whisper"
            )
        self.engine, self.suppressed = engine, forbidden(shell, labels).tolist()

    def __call__(
        self, features: Tensor, mask: Tensor | None, languages: Sequence[str | None], limits: Sequence[int]
    ) -> list[Found]:
        lengths = [features.shape[-1]] * len(features) if mask is None else mask.sum(-1).tolist()
        limits = [min(max(limit, 1), self.max_new_tokens) for limit in limits]
        groups: dict[tuple[int, int], list[int]] = defaultdict(list)
        for row, key in enumerate(zip(lengths, limits, strict=True)):
            groups[key].append(row)
        found: dict[int, Found] = {}
        for (length, limit), rows in groups.items():
            waves = features[rows, :, :length].float().cpu().numpy()
            together = self.recognise_equals(waves, [languages[row] for row in rows], limit)
            found |= dict(zip(rows, together, strict=True))
        return [found[row] for row in range(len(features))]

    def recognise_equals(self, features: np.ndarray, languages: list[str | None], limit: int) -> list[Found]:
        """Recognise utterances of one length (B, F, T)."""
        model = self.engine.model
        encoded = model.encode(ctranslate2.StorageView.from_array(np.ascontiguousarray(features)))
        if self.labels.multilingual and None in languages:
            best = [max(pairs, key=lambda pair: pair[1])[0] for pairs in model.detect_language(encoded)]
            languages = [given or name.strip("<|>") for given, name in zip(languages, best, strict=True)]
        results = model.generate(
            encoded,
            [self.labels.prefix(code, timestamps=self.timestamps) for code in languages],
            beam_size=self.num_beams,
            num_hypotheses=self.num_beams,
            # its own way to divide by the length makes an empty text infinitely bad: `found` divides instead
            length_penalty=0.0,
            patience=NO_EARLY_EXIT,
            # of this CTranslate2 takes half, or what the prefix leaves of it, whichever is less
            max_length=max(2 * limit, limit + self.prefix_length),
            return_scores=True,
            return_no_speech_prob=True,
            suppress_blank=True,
            suppress_tokens=self.suppressed,
            max_initial_timestamp_index=FIRST_TIMESTAMP_INDEX,
        )
        return [
            self.found(result, language if self.labels.multilingual else None, limit)
            for result, language in zip(results, languages, strict=True)
        ]

    def found(self, result: Any, language: str | None, limit: int) -> Found:
        """Choose the best ending, as `search.Endings` does."""
        endings = [
            (logprob, len(tokens) + (len(tokens) < limit), tokens)
            for logprob, tokens in zip(result.scores, result.sequences_ids, strict=True)
        ]
        logprob, length, tokens = max(endings, key=lambda each: each[0] / each[1] ** self.length_penalty)
        return Found(tokens, logprob / length, result.no_speech_prob, len(tokens) >= limit, language)


def choose_backend(asked: Backend) -> Backend:
    """Return the backend that auto stands for."""
    return "torch" if asked == "auto" else asked


def load_shell(path: str) -> Whisper:
    """Load a model's configuration without its weights: what prefixes, limits and forbidden tokens are read from."""
    with torch.device("meta"):
        shell = Whisper(WhisperConfig.from_pretrained(path))
    try:
        shell.generation_config = GenerationConfig.from_pretrained(path)
    except OSError:  # an old folder without the file: the defaults that the model's config gives
        logger.info("%s has no generation_config.json", path)
    return shell.eval()


def converted(path: str, digest: str) -> Path:
    """Return the folder of a model in CTranslate2's format, converting it on first use."""
    root = cache_folder("ctranslate2")
    folder = root / digest.replace("/", "--")
    if not (folder / COMPLETE).is_file():
        try:
            root.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise MachineError(f"{root} cannot be written ({error}); set EGRECHO_CACHE to a folder that can") from error
        with locked(root / f"{folder.name}.making"):  # the processes of a run wait for the first
            if not (folder / COMPLETE).is_file():
                with working_folder(folder) as working:
                    working.rmdir()  # the converter makes it
                    convert(path, working)
    return folder


def convert(path: str, folder: Path) -> None:
    """Convert a model.

    Raises:
        ModelError: It is not one that CTranslate2 can take.
    """
    try:
        TransformersConverter(path).convert(str(folder))
    except (RuntimeError, ValueError, NotImplementedError, OSError, KeyError) as error:
        text = " ".join(str(error).split())[:300]
        raise ModelError(f"{path} does not convert to CTranslate2 ({text}); decode.backend torch decodes it") from error
