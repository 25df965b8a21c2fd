"""Writing while training goes on: copies are taken in the step, a thread brings them to the disk.

In: Transformers' and peft's own saving, whose large files are put off (`put_off`). Out: the files of a checkpoint, one
checkpoint at a time. What goes wrong in the thread is raised in the trainer, at its next step at the latest.
"""

import contextlib
import logging
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import peft.peft_model
import torch
import transformers.modeling_utils
from safetensors.torch import save_file

logger = logging.getLogger(__name__)

Write = Callable[[], None]
SAVERS = (transformers.modeling_utils, peft.peft_model)
"""Modules that write weights by a name of their own, `safe_save_file`."""


class Writer:
    """Do one piece of work at a time in a thread."""

    def __init__(self) -> None:
        self.thread: threading.Thread | None = None
        self.error: BaseException | None = None

    def start(self, work: Write) -> None:
        """Begin; what was begun before is waited for.

        Raises:
            BaseException: What went wrong with the work before.
        """
        self.wait()
        self.thread = threading.Thread(target=self.run, args=(work,), name="checkpoint writer")
        self.thread.start()

    def run(self, work: Write) -> None:
        """Work, and keep what goes wrong."""
        try:
            work()
        except BaseException as error:
            self.error = error

    def wait(self) -> None:
        """Come back when nothing is being written.

        Raises:
            BaseException: What went wrong.
        """
        if self.thread is not None:
            self.thread.join()
            self.thread = None
        self.raise_fault()

    def raise_fault(self) -> None:
        """Raise once what went wrong so far, without waiting.

        Raises:
            BaseException: What went wrong.
        """
        error, self.error = self.error, None
        if error is not None:
            raise error


@contextlib.contextmanager
def put_off(writes: list[Write]) -> Iterator[None]:
    """Let `save_pretrained` take copies of the weights instead of writing them.

    Args:
        writes: Gets one call for each file, which writes it.
    """
    kept = [module.safe_save_file for module in SAVERS]

    def copy(tensors: dict[str, torch.Tensor], path: str | Path, metadata: dict[str, str] | None = None) -> None:
        taken = copy_of(tensors)
        writes.append(lambda: save_file(taken, path, metadata))

    for module in SAVERS:
        module.safe_save_file = copy
    try:
        yield
    finally:
        for module, own in zip(SAVERS, kept, strict=True):
            module.safe_save_file = own


def copy_of(tree: Any) -> Any:
    """Copy a tree of dictionaries and lists, its tensors into the machine's memory."""
    if isinstance(tree, torch.Tensor):
        return tree.detach().to("cpu", copy=True)
    if isinstance(tree, dict):
        return {key: copy_of(value) for key, value in tree.items()}
    if isinstance(tree, (list, tuple)):
        return type(tree)(copy_of(value) for value in tree)
    return tree
