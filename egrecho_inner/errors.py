"""What goes wrong, as classes with an exit code: the lowest layer, imported by every other.

A message is for people: what is wrong, in which file:line or id, what was expected, what to do.
`config.run` prints it as one line `error: ...` and exits with the class's code; `--debug` adds the traceback.
"""


class UserError(Exception):
    """A fault that the user can fix; never a bug of ours."""

    exit_code = 1


class ConfigError(UserError):
    """A wrong option, config key or combination of options (exit 2)."""

    exit_code = 2


class DataError(UserError):
    """Wrong, missing or unreadable data (exit 3)."""

    exit_code = 3


class ModelError(UserError):
    """A model, adapter or tokenizer that is missing, broken or does not fit (exit 4)."""

    exit_code = 4


class MachineError(UserError):
    """Disk, memory, permissions, a missing program (exit 5)."""

    exit_code = 5


class Interrupted(UserError):
    """Stopped on request with everything saved; the same command continues (exit 75, EX_TEMPFAIL)."""

    exit_code = 75


def extra_missing(package: str, extra: str) -> MachineError:
    """Return the error of an optional package that is not installed."""
    return MachineError(f"{package} is not installed; it comes with the extra: pip install -e '.[{extra}]'")
