"""What a client may ask of a job: each field with its type and bounds, and the command line it becomes.

In: a form's fields as text. Out: a `JobForm`, or a refusal that names the field and what was expected. Nothing of a
form reaches a shell, and no word of it is taken as an option.
"""

import re
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from egrecho_inner.serve.auth import Refusal
from egrecho_inner.serve.options import Settings
from egrecho_inner.text.languages import ISO_CODES

LANGUAGES = frozenset(row.split()[0] for row in ISO_CODES.split(";"))
WHOLE = re.compile(r"[0-9]{1,9}")
DECIMAL = re.compile(r"[0-9]{1,9}(\.[0-9]{1,12})?([eE]-?[0-9]{1,2})?")


class JobForm(BaseModel):
    """One job as a client asks for it."""

    model_config = ConfigDict(extra="forbid", strict=True)

    base_model_name: str = Field(max_length=100)
    epochs: int = Field(10, ge=1)
    language: str | None = None
    policy: Literal["encoder", "encoder-top", "full", "lora", "sweep"] = "encoder"
    top_layers: int = Field(2, ge=1, le=48)
    learning_rate: float | None = Field(None, gt=0, le=0.1)
    batch_size: int = Field(16, ge=1, le=256)
    patience: int = Field(6, ge=1, le=1000)
    seed: int = Field(42, ge=0, le=2**31)
    dev: float = Field(0.2, gt=0, lt=0.5)
    test: float = Field(0.2, gt=0, lt=0.5)
    groups: Literal["auto", "sentence", "none"] = "auto"
    normalizer: Literal["auto", "none", "whisper-basic", "whisper-english", "marks-preserving"] = "auto"
    engine: str = Field("local", max_length=40)
    name: str = Field("", max_length=80)
    """What the owner calls it; shown, never interpreted."""

    @field_validator("language")
    @classmethod
    def known(cls, value: str | None) -> str | None:
        """Take Whisper's codes; nothing is detected."""
        if value in (None, "", "auto"):
            return None
        if value not in LANGUAGES:
            raise ValueError(f"expected one of {' '.join(sorted(LANGUAGES))}")
        return value

    def options(self) -> dict[str, Any]:
        """Return the fields for the store."""
        return self.model_dump()

    def split(self) -> dict[str, Any]:
        """Return the options of the splits."""
        return {"dev": self.dev, "test": self.test, "seed": self.seed, "groups": self.groups}

    def arguments(self, settings: Settings) -> list[str]:
        """Return the command line of the job, for Python; `{job}` stands for its folder, wherever that is."""
        named: dict[str, Any] = {
            "folder": "{job}/data",
            "out": "{job}/run",
            "model": settings.models[self.base_model_name],
            "language": self.language,
            "tune.policy": self.policy,
            "tune.top_layers": self.top_layers,
            "tune.epochs": self.epochs,
            "tune.learning_rate": self.learning_rate,
            "tune.batch_size": self.batch_size,
            "tune.patience": self.patience,
            "tune.seed": self.seed,
            "scoring.normalizer": self.normalizer,
            **{f"split.{name}": value for name, value in self.split().items()},
        }
        words = [f"--{name}={'null' if value is None else value}" for name, value in named.items()]
        return [*settings.program, *words]


def read_form(fields: dict[str, str], settings: Settings, defaults: dict[str, str] | None = None) -> JobForm:
    """Make a job of a form's fields.

    Raises:
        Refusal: 422, naming the first wrong field and what was expected.
    """
    values: dict[str, Any] = {**(defaults or {}), **fields}
    for name, value in values.items():
        kind = str(JobForm.model_fields[name].annotation) if name in JobForm.model_fields else "str"
        if "int" in kind and WHOLE.fullmatch(value):
            values[name] = int(value)
        elif "float" in kind and DECIMAL.fullmatch(value):
            values[name] = float(value)
    try:
        form = JobForm(**values)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(map(str, first["loc"])) or "form"
        legal = f"; fields are {', '.join(JobForm.model_fields)}" if first["type"] == "extra_forbidden" else ""
        code = "missing_field" if first["type"] == "missing" else "bad_field"
        raise Refusal(
            422, code, f"{name[:60]}: {first['msg']}{legal}", {"X-Field": re.sub(r"\W", "", name, flags=re.ASCII)[:40]}
        ) from error
    if form.base_model_name not in settings.models:
        names = ", ".join(settings.models)
        raise Refusal(422, "unknown_model", f"base_model_name {form.base_model_name!r} is not offered; models: {names}")
    if form.epochs > settings.limits.epochs:
        raise Refusal(422, "bad_field", f"epochs: at most {settings.limits.epochs}", {"X-Field": "epochs"})
    if form.engine != "local" and form.engine not in settings.engines:
        raise Refusal(
            422, "unknown_engine", f"engine {form.engine!r} is not set up; engines: local {' '.join(settings.engines)}"
        )
    return form
