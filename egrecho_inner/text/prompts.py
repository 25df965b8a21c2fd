"""The one place where a prompt, the audio's place and a transcript become token ids of a causal language model.

In: a prompt, a transcript. Out: `Labels` as in `labels.py`, with one AUDIO where the vectors of the audio go, and the
loss on the text alone:

    inputs   AUDIO <s> USER: Transcribe speech to text. \\n ASSISTANT:  text ...
    targets  -100  ...                                    text      ... </s>

Prompt and text are tokens of one string, as in SLAM-LLM: a tokenizer that puts a space before every string would put
one there otherwise. Where the last letter of the prompt and the first of the text would become one token, the text is
taken apart instead, for at decoding the prompt stands alone. The end of the prompt is known by counting, never by
looking for a word in the tokens.
"""

import hashlib
import json
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any
from zlib import crc32

from transformers import PreTrainedTokenizerBase

from egrecho_inner.errors import ConfigError, DataError, ModelError
from egrecho_inner.text.constants import IGNORED
from egrecho_inner.text.labels import Labels, Segment, pad_labels
from egrecho_inner.text.prompt_options import PromptOptions

AUDIO = -1
"""Stands for one vector of audio."""
MARK = "\ue000audio\ue001"
"""Stands for the audio in a chat template; private characters that no text has."""
DEFAULT_TASK = "asr"
PLACES = re.compile(r"(\{audio\}|\{bos\})")


class PromptEncoder:
    """Turn prompts and transcripts into `Labels`, and generated ids back into text.

    Args:
        tokenizer: Of the language model.
        options: Template and prompts.
        max_tokens: Most that prompt and text may take together; the rest of the context is the audio's.

    Raises:
        ModelError: The tokenizer has no end token, or no chat template where one is asked for.
    """

    language: str | None = None
    """Of cuts that name none; the prompt names the language, if anything does."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, options: PromptOptions, max_tokens: int = 512):
        if tokenizer.eos_token_id is None:
            raise ModelError("the language model's tokenizer has no end token (eos_token); a text could not end")
        self.tokenizer, self.options, self.max_tokens = tokenizer, options, max_tokens
        self.eos = int(tokenizer.eos_token_id)
        pad = tokenizer.pad_token_id
        self.padding = self.eos if pad is None else int(pad)
        self.special = frozenset(tokenizer.all_special_ids)
        self.template = self.chat() if options.template == "chat" else options.template

    def chat(self) -> str:
        """Return the tokenizer's chat template for one message, as ours with {audio} and {prompt}."""
        if not self.tokenizer.chat_template:
            raise ModelError("prompt.template chat: the tokenizer has no chat template; write one with {audio}")
        message = [{"role": "user", "content": f"{MARK}{{prompt}}"}]
        # Qwen3 would think aloud first; other templates do not look at the setting
        text = self.tokenizer.apply_chat_template(
            message, tokenize=False, add_generation_prompt=True, enable_thinking=False
        )
        if text.count(MARK) != 1:
            raise ModelError("prompt.template chat: the tokenizer's chat template leaves the message out")
        return text.replace(MARK, "{audio}")

    def prompt_of(self, custom: Mapping[str, Any], draw: tuple[int, int, str] | None = None) -> str:
        """Return the prompt of a cut.

        Args:
            custom: The fields of its supervision: `prompt` is taken as it is, else `task` chooses among the options'.
            draw: Seed, epoch and id, to draw one of several by; None takes the first.

        Raises:
            DataError: The task has no prompt, or the cut does not have what its braces are filled with.
        """
        if given := custom.get("prompt"):
            return str(given)
        task = str(custom.get("task") or DEFAULT_TASK)
        known = self.options.prompts
        choices = known.get(task) or known.get(task.lower())
        if not choices:
            raise DataError(f"task '{task}' has no prompt; prompt.prompts knows {', '.join(sorted(known))}")
        prompt = choices[0 if draw is None else crc32(repr(("prompt", *draw)).encode()) % len(choices)]
        if "{}" in prompt:
            if task not in custom:
                raise DataError(f"the prompt of task '{task}' wants '{task}' of the cut, which has none")
            prompt = prompt.replace("{}", str(custom[task]))
        return prompt

    def before(self, prompt: str, audio: Sequence[int] = (AUDIO,)) -> tuple[list[int], str]:
        """Return the ids up to the text, and the string that the last of them were made of.

        Args:
            prompt: Of the cut.
            audio: The audio's place, or the ids of a text to stand in it.
        """
        bos = [] if self.tokenizer.bos_token_id is None else [int(self.tokenizer.bos_token_id)]
        ids: list[int] = []
        last = ""
        for piece in PLACES.split(self.template):
            if piece in ("{audio}", "{bos}"):
                ids += audio if piece == "{audio}" else bos
                last = ""
            elif piece:
                last = piece.replace("{prompt}", prompt)
                ids += self.ids(last)
        return ids, last

    def ids(self, text: str) -> list[int]:
        """Return the ids of a string, nothing added."""
        return self.tokenizer.encode(text, add_special_tokens=False) if text else []

    def build(self, prompt: str, text: str | None, audio: Sequence[int] = (AUDIO,)) -> Labels:
        """Build inputs and targets of one utterance.

        Args:
            prompt: What the model is asked, from `prompt_of`.
            text: The transcript, empty where nothing is spoken.
            audio: The audio's place, or ids in it.

        Raises:
            DataError: There is no transcript, it is too long, or it holds a special token.
        """
        if text is None:
            raise DataError("no transcript: a text is null or missing; the empty text is that of silence")
        ids, last = self.before(prompt, audio)
        targets = [IGNORED] * (len(ids) - 1)
        learned = [*self.text_ids(self.style(text), last), self.eos]
        if len(ids) + len(learned) > self.max_tokens + len(audio):
            raise DataError(
                f"{len(ids) + len(learned)} tokens of prompt and text, over {self.max_tokens}; leave it out"
            )
        return Labels([*ids, *learned[:-1]], [*targets, *learned])

    def encode(
        self,
        text: str | None,
        language: str | None = None,
        task: Any = None,
        segments: Sequence[Segment] = (),
        prompt: str | None = None,
    ) -> Labels:
        """Build inputs and targets of one text, with the first prompt of the default task."""
        return self.build(self.prompt_of({}), text)

    def text_ids(self, text: str, before: str = "") -> list[int]:
        """Return the ids of a transcript behind a string."""
        if not text:
            return []
        head, both = self.ids(before), self.ids(before + text)
        ids = both[len(head) :] if both[: len(head)] == head else self.ids(text)
        if not self.special.isdisjoint(ids):
            raise DataError(f"special token inside a transcript: {text[:80]!r}; remove it from the text")
        return ids

    def style(self, text: str) -> str:
        """Return a text as it is to be learned."""
        if self.options.punctuation == "remove":  # an apostrophe is part of its word
            kept = (" " if unicodedata.category(c)[0] == "P" and c not in "'’" else c for c in text)
            text = " ".join("".join(kept).split())
        return {"keep": text, "lower": text.lower(), "upper": text.upper()}[self.options.case]

    def length(self, text: str, language: str | None = None) -> int:
        """Return how many positions a text takes with the longest prompt."""
        prompts = max((each for choices in self.options.prompts.values() for each in choices), key=len)
        return len(self.before(prompts)[0]) + len(self.ids(text)) + 1

    @property
    def always_fits(self) -> int:
        """Bytes of a text that always fits: no tokenizer in use makes more tokens than bytes."""
        return max(self.max_tokens - self.length("") - 8, 0)

    def language_fault(self, language: str | None) -> None:
        """Return None: any language is text here."""

    def nothing(self) -> Labels:
        """Return labels without a target, of a batch without a usable cut."""
        ids, _ = self.before("")
        return Labels(ids, [IGNORED] * len(ids))

    def pad(self, labels: Sequence[Labels]) -> dict[str, list[list[int]]]:
        """Pad a batch on the right: rows (B, L) by the names of the model's inputs."""
        inputs, targets = pad_labels(labels, self.padding)
        return {"input_ids": inputs, "labels": targets}

    def decode(self, ids: Iterable[int]) -> str:
        """Return the text of generated ids."""
        return self.tokenizer.decode(list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False).strip()

    def digest(self) -> str:
        """Return a hash of all that stands around a text: template, prompts, tokenizer."""
        kept = json.dumps([asdict(self.options), self.template, self.tokenizer.bos_token_id, self.eos], sort_keys=True)
        return hashlib.sha256((kept + digest_of(self.tokenizer)).encode()).hexdigest()[:16]


def digest_of(tokenizer: PreTrainedTokenizerBase) -> str:
    """Return a hash of all that a tokenizer is made of."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise ConfigError("the language model's tokenizer is not a fast one; expected a folder with tokenizer.json")
    return hashlib.sha256(backend.to_str().encode()).hexdigest()
