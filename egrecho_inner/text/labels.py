"""The one place where a transcript becomes token ids: for training, teacher forcing and scoring alike.

In: text, language, task, optionally timed segments and a prompt. Out: `Labels`, decoder inputs and targets of one
length, the target of place i being the token after input i, -100 where no loss is wanted:

    inputs   [<|startofprev|> prompt ...] <|startoftranscript|> <|xx|>  <|transcribe|>  <|notimestamps|>  text ...
    targets  [ -100 ...                 ] <|xx|>  <|transcribe|>  <|notimestamps|>  text ...  <|endoftext|>

Every id is asked of the tokenizer by name, never computed: they differ between Whisper versions.
"""

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from egrecho_inner.errors import ConfigError, DataError, ModelError
from egrecho_inner.runtime.passes import make_key
from egrecho_inner.text.constants import IGNORED, MAX_PROMPT_TOKENS, MAX_TOKENS, TIMESTAMP_STEP
from egrecho_inner.text.languages import BORROW, NO_SPACE_LANGUAGES, Task, language_code

CONTROL = re.compile(r"<\|.*\|>", re.DOTALL)
"""The form of every token that is not text: special, language, timestamp."""
LANGUAGE = re.compile(r"<\|([a-z]{2,3})\|>")
"""The form of a language's token; those of tasks and the like have longer names."""


@dataclass(frozen=True)
class Segment:
    """A timed part of a transcript."""

    start: float
    """Seconds from the beginning of the window."""
    end: float | None
    """Seconds from the beginning of the window; None where the window ends before the segment does."""
    text: str
    """The text."""


@dataclass(frozen=True)
class Labels:
    """Decoder inputs and targets of one utterance, of equal length."""

    inputs: list[int]
    targets: list[int]


class LabelEncoder:
    """Turn transcripts into `Labels` and generated ids back into text.

    Args:
        tokenizer: A Whisper tokenizer.
        language: Language of cuts that name none; a code (`vi`) or a name (`vietnamese`).
        task: Task of cuts that name none.
        multilingual: Whether the model's prefix holds language and task (false for `.en` models).
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        language: str | None = None,
        task: Task = "transcribe",
        multilingual: bool = True,
    ):
        self.tokenizer = tokenizer
        self.added = tokenizer.get_added_vocab()
        self.language = None if language is None else language_code(language)
        self.task = task
        self.multilingual = multilingual
        self.sot = self.id("<|startoftranscript|>")
        self.eot = self.id("<|endoftext|>")
        self.no_timestamps = self.id("<|notimestamps|>")
        # what a user added for a new alphabet is text; only <|...|> is not
        self.not_text = frozenset(i for name, i in self.added.items() if CONTROL.fullmatch(name)) | {self.eot}

    def id(self, token: str) -> int:
        """Return the id of a special token.

        Raises:
            ModelError: The tokenizer does not know it.
        """
        if token in self.added:
            return self.added[token]
        found = self.tokenizer.convert_tokens_to_ids(token)
        if found is None or (found == self.tokenizer.unk_token_id and token != self.tokenizer.unk_token):
            raise ModelError(f"the tokenizer has no {token}; is it Whisper's, saved with its added tokens?")
        return found

    def code_of(self, language: str | None) -> str | None:
        """Return the code of a cut's language, or the configured one where it names none.

        Raises:
            DataError: The cut's language is not Whisper's.
        """
        try:
            return language_code(language) if language else self.language
        except ConfigError as error:
            raise DataError(str(error)) from error

    def language_fault(self, language: str | None) -> str | None:
        """Return why a cut cannot be labelled in the language it names, or names not; None where it can.

        Args:
            language: As the cut has it.
        """
        if not self.multilingual:
            return None
        try:
            code = self.code_of(language)
        except DataError:
            return f"in '{language}', which is no language of Whisper's"
        if code is None:
            return "without a language (set data.language)"
        return None if self.has_token(code) else f"in {code}, which this model has no token for"

    def has_token(self, code: str) -> bool:
        """Tell whether the model has a token for a language; `yue` came with large-v3, others by `add-language`."""
        return f"<|{code}|>" in self.added

    @property
    def languages(self) -> dict[str, int]:
        """The code and the token of each language that the model has, added ones among them."""
        return languages_of(self.added)

    def prefix(self, language: str | None = None, task: Task | None = None, timestamps: bool = False) -> list[int]:
        """Return `<|startoftranscript|>` and what follows it before the text.

        Raises:
            DataError: No language is given by the cut or the configuration, or the cut's is not Whisper's.
        """
        ids = [self.sot]
        if self.multilingual:
            code = self.code_of(language)
            if code is None:
                raise DataError("no language: neither the cut nor the configuration names one; set --data.language")
            ids += [self.id(f"<|{code}|>"), self.id(f"<|{task or self.task}|>")]
        return ids if timestamps else [*ids, self.no_timestamps]

    def encode(
        self,
        text: str | None,
        language: str | None = None,
        task: Task | None = None,
        segments: Sequence[Segment] = (),
        prompt: str | None = None,
    ) -> Labels:
        """Build the decoder's inputs and targets of one utterance.

        Args:
            text: The transcript; empty text becomes `<|nospeech|>`, and None is none.
            language: The cut's language, before the configuration's.
            task: The cut's task, before the configuration's.
            segments: Timed parts; if given, they replace `text` and the prefix asks for timestamps.
            prompt: Previous text, its last 223 tokens, or as many as fit, are given to the decoder, without loss.

        Raises:
            DataError: There is no transcript, no language, or the model has no token for it.
        """
        if text is None:
            raise DataError("no transcript: a text is null or missing; the empty text is that of silence")
        code = self.code_of(language)
        if code and self.multilingual and not self.has_token(code):
            raise DataError(f"language {code}: this model has no token for it; {BORROW}")
        if segments:
            tokens = self.prefix(code, task, timestamps=True)
            for segment in segments:
                tokens += [self.timestamp(segment.start), *self.text_ids(segment.text, code)]
                if segment.end is not None:  # else only its start is learned, as Whisper's own data have it
                    tokens.append(self.timestamp(segment.end))
        elif text.strip():
            tokens = self.prefix(code, task) + self.text_ids(text, code)
        else:
            tokens = [self.sot, self.no_speech]
        tokens = [*tokens, self.eot]
        room = min(MAX_PROMPT_TOKENS, MAX_TOKENS - len(tokens))  # what a long transcript leaves of the 448 positions
        before = []
        if prompt and prompt.strip() and room > 0:
            before = [self.id("<|startofprev|>"), *self.text_ids(prompt, code)[-room:]]
        # the loss starts at the token after <|startoftranscript|>: prompt and start are given, never learned
        return Labels(before + tokens[:-1], [IGNORED] * len(before) + tokens[1:])

    def text_ids(self, text: str, language: str | None = None) -> list[int]:
        """Return the ids of plain text, with the leading space Whisper was trained with where words have spaces.

        Raises:
            DataError: The text holds a special token such as `<|endoftext|>`.
        """
        words = " ".join(text.split())
        if not words:
            return []
        ids = self.tokenizer.encode(words if language in NO_SPACE_LANGUAGES else f" {words}", add_special_tokens=False)
        if not self.not_text.isdisjoint(ids):
            raise DataError(f"special token inside a transcript: {words[:80]!r}; remove it from the text")
        return ids

    def length(self, text: str, language: str | None = None) -> int:
        """Return how many decoder positions (at most 448) a transcript takes, without prompt and timestamps."""
        return len(self.encode(text, language or self.language or "en").inputs)

    def fits(self, text: str, language: str | None = None) -> bool:
        """Tell whether a transcript fits the decoder; most are decided without the tokenizer."""
        # byte-level BPE never makes more tokens than bytes; prefix and end take five at most
        return len(text.encode()) + 5 <= MAX_TOKENS or self.length(text, language) <= MAX_TOKENS

    @property
    def max_tokens(self) -> int:
        """Positions of the decoder."""
        return MAX_TOKENS

    @property
    def always_fits(self) -> int:
        """Bytes up to which a text fits: byte-level BPE never makes more tokens than bytes, and a few are special."""
        return MAX_TOKENS - 8

    def digest(self) -> str:
        """Name all that `length` depends on."""
        tokenizer = hashlib.sha256(self.tokenizer.backend_tokenizer.to_str().encode()).hexdigest()
        return make_key(tokenizer=tokenizer, language=self.language, multilingual=self.multilingual)

    def nothing(self) -> Labels:
        """Return labels without a target, of a batch without a usable cut."""
        return Labels([self.sot], [IGNORED])

    def pad(self, labels: Sequence[Labels]) -> dict[str, list[list[int]]]:
        """Pad a batch on the right: rows (B, L) by the names of Whisper's inputs."""
        inputs, targets = pad_labels(labels, self.eot)
        return {"decoder_input_ids": inputs, "labels": targets}

    def timestamp(self, seconds: float) -> int:
        """Return the id of the nearest timestamp token, 0 to 30 s in steps of 0.02 s."""
        steps = min(max(round(seconds / TIMESTAMP_STEP), 0), 1500)
        return self.id(f"<|{steps * TIMESTAMP_STEP:.2f}|>")

    @property
    def no_speech(self) -> int:
        """The id of silence: `<|nospeech|>`, or `<|nocaptions|>` in the first Whispers."""
        return self.id("<|nospeech|>" if "<|nospeech|>" in self.added else "<|nocaptions|>")

    def decode(self, ids: Iterable[int]) -> str:
        """Return the text of generated ids: all that is not a special or timestamp token."""
        text = [i for i in ids if i not in self.not_text and i >= 0]
        return self.tokenizer.decode(text, skip_special_tokens=True, clean_up_tokenization_spaces=False).strip()


def languages_of(tokens: Mapping[str, int]) -> dict[str, int]:
    """Return the code and the id of each language among a tokenizer's added tokens."""
    return {found[1]: index for name, index in tokens.items() if (found := LANGUAGE.fullmatch(name))}


def pad_labels(labels: Sequence[Labels], pad: int) -> tuple[list[list[int]], list[list[int]]]:
    """Pad a batch on the right to (B, L): inputs with `pad`, targets with -100."""
    longest = max(len(each.inputs) for each in labels)
    inputs = [each.inputs + [pad] * (longest - len(each.inputs)) for each in labels]
    targets = [each.targets + [IGNORED] * (longest - len(each.targets)) for each in labels]
    return inputs, targets
