"""Signs that a language model talks about itself or its task instead of writing down what is spoken."""

import re

REFUSAL = re.compile(
    r"\b(as an? (ai|artificial intelligence|language model)|i'?m an? (ai|language model)|ai (language )?model|"
    r"i('m| am) (sorry|unable)\b.{0,40}\b(assist|help|transcri|process|audio)|"
    r"(cannot|can't|unable to) (transcribe|process|hear|listen|access)|no audio (was )?provided|"
    r"please provide (the|an) audio)",
    re.IGNORECASE | re.DOTALL,
)


def is_refusal(text: str, reference: str | None = None) -> bool:
    """Return whether a text refuses the task, or speaks of itself, where the reference does not."""
    return bool(REFUSAL.search(text)) and not (reference is not None and REFUSAL.search(reference))
