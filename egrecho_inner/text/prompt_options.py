"""The options of prompts, apart from the code that uses them: a command line is read without a tokenizer."""

from dataclasses import dataclass, field
from typing import Literal

from egrecho_inner.config_types import Options
from egrecho_inner.errors import ConfigError

SLAM_TEMPLATE = "{audio}{bos}USER: {prompt}\n ASSISTANT:"


@dataclass(frozen=True)
class PromptOptions(Options, group="prompt"):
    """What stands around the audio and its text; kept with the model, for decoding must do the same."""

    template: str = SLAM_TEMPLATE
    """Everything before the text, with {audio}, {bos} and {prompt} in their places; `chat` takes the tokenizer's own
    chat template, the audio before the prompt."""
    prompts: dict[str, list[str]] = field(default_factory=lambda: {"asr": ["Transcribe speech to text. "]})
    """For each task its prompts, of which training draws one for a cut and epoch, and decoding takes the first. Braces
    {} are filled with what the cut has under the name of its task, such as hotwords."""
    case: Literal["keep", "lower", "upper"] = "keep"
    """Letters of the texts that are learned."""
    punctuation: Literal["keep", "remove"] = "keep"
    """Punctuation of the texts that are learned."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.template != "chat" and self.template.count("{audio}") != 1:
            raise ConfigError(f"prompt.template {self.template!r} has no place for the audio; expected {{audio}} once")
        if not self.prompts or not all(self.prompts.values()):
            raise ConfigError("prompt.prompts names a task without a prompt; expected one at least for each")
