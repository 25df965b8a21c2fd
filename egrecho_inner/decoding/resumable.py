"""Decoding a whole set on one or several processes: continued where it was killed, not repeated where it was finished.

In: a model's path, options, a manifest, a folder. Out: one hypothesis for every cut, the same for any number of
processes, and the facts that a result must carry: model, data, options, machine.
"""

import hashlib
import math
import os
import platform
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import timedelta
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from transformers import WhisperConfig

from egrecho_inner import __version__
from egrecho_inner.data.audio.features import FLOOR
from egrecho_inner.data.cuts.index import CutIndex
from egrecho_inner.decoding.ctranslate2 import ConvertedModel, choose_backend, load_shell
from egrecho_inner.decoding.hypotheses import HypothesisLog, deal, gather, remove_logs
from egrecho_inner.decoding.options import DecodeOptions
from egrecho_inner.decoding.pieces import Piece, durations_of, longest_first
from egrecho_inner.decoding.transcribe import Transcriber
from egrecho_inner.errors import ConfigError, DataError, ModelError
from egrecho_inner.model.loading import load_model, load_processor
from egrecho_inner.model.refusals import check_path, explain
from egrecho_inner.results.folder import SUMMARY, is_result, read_rows, read_summary, to_hypothesis
from egrecho_inner.results.utterance import Hypothesis, Reference
from egrecho_inner.runtime.devices import auto_device, peak_memory
from egrecho_inner.runtime.passes import make_key
from egrecho_inner.runtime.progress import watched

WARM_UP_FRAMES = 100
DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
FACTS = ("model", "data", "decode", "decoding_key", "device", "dtype", "threads", "processes", "versions")
MEMORY = "peak_memory_gb"
"""A fact too, but not of older results."""


@dataclass(frozen=True)
class Placement:
    """Where this process computes."""

    device: torch.device
    dtype: torch.dtype
    rank: int = 0
    world: int = 1


@dataclass(frozen=True)
class Decoded:
    """A decoded set."""

    hypotheses: dict[str, Hypothesis]
    """By id."""
    wall: float
    """Seconds of decoding, of the slowest process."""
    facts: dict[str, Any]
    """What results.json has of model, data and machine; empty on all processes but the first."""


class Decoder:
    """A model that is loaded when there is something to decode."""

    def __init__(self, model_path: str, options: DecodeOptions, place: Placement):
        self.model_path, self.place = model_path, place
        self.options = replace(options, backend=choose_backend(options.backend))
        self.digest = model_digest(model_path)
        self._transcriber: Transcriber | None = None

    @property
    def transcriber(self) -> Transcriber:
        """The model with its options, warm."""
        if self._transcriber is None:
            found = self.load()
            silence = np.full((WARM_UP_FRAMES, found.model.config.num_mel_bins), FLOOR, dtype=np.float32)
            found.recognise([Piece("warm-up", 0, 0, 1, silence, len(silence), "en")], found.recognizer)
            self._transcriber = found
        return self._transcriber

    def load(self) -> Transcriber:
        """Load the model for the backend in force."""
        path, place, backend = self.model_path, self.place, self.options.backend
        if backend == "torch":
            model = load_model(path, place.dtype, self.options.attention).to(place.device).eval()
            return Transcriber(model, load_processor(path), self.options)
        compute_type = "int8" if backend.endswith("int8") else str(place.dtype).removeprefix("torch.")
        engine, shell = ConvertedModel(path, self.digest, place.device, compute_type), load_shell(path)
        make = partial(engine.recognizer, shell)
        return Transcriber(shell, load_processor(path), self.options, torch.device("cpu"), make)

    def key(self, cuts: CutIndex, count: int) -> str:
        """Return the name of everything that a set's hypotheses depend on; batches are not among it."""
        options = {name: value for name, value in asdict(self.options).items() if not name.startswith("batch_")}
        return make_key(
            model=self.digest, cuts=cuts.digest, count=count, options=options, dtype=self.place.dtype, code=__version__
        )

    def facts(self, cuts: CutIndex, count: int) -> dict[str, Any]:
        """Return what a result holds beside its numbers."""
        model, place = self.transcriber.model, self.place
        cuda = place.device.type == "cuda"
        found = {
            "model": {
                "path": self.model_path,
                "digest": self.digest,
                "parameters": sum(each.numel() for each in model.parameters()),
                "window": "30s" if self.transcriber.padded else "longest",
            },
            "data": {"path": str(cuts.path), "sha256": cuts.digest, "cuts": len(cuts), "taken": count},
            "decode": asdict(self.options),
            "decoding_key": self.key(cuts, count),
            "device": torch.cuda.get_device_name(place.device) if cuda else processor_name(),
            "dtype": str(place.dtype).removeprefix("torch."),
            "threads": torch.get_num_threads(),
            "processes": place.world,
            "versions": {
                "egrecho": __version__,
                "python": platform.python_version(),
                **{name: version(name) for name in ("torch", "transformers", "lhotse", "kaldialign")},
            },
        }
        return {name: found[name] for name in FACTS} | {MEMORY: round(peak_memory() / 1e9, 3)}


def decode_set(
    decoder: Decoder, cuts: CutIndex, references: Sequence[Reference], folder: Path, overwrite: bool = False
) -> Decoded:
    """Return a hypothesis for every reference, decoding what the folder does not have yet.

    Args:
        decoder: The model.
        cuts: The manifest.
        references: Of its first cuts, in their order.
        folder: Of the results.
        overwrite: Decode everything again.
    """
    place, key = decoder.place, decoder.key(cuts, len(references))
    if overwrite and place.rank == 0:
        remove_logs(folder)
        (folder / SUMMARY).unlink(missing_ok=True)
    wait()
    finished = None if overwrite else read_finished(folder, key)
    wait()  # or the first process could write what another is about to read
    if finished is not None:
        return finished
    check_languages(decoder, references)
    folder.mkdir(parents=True, exist_ok=True)
    log = HypothesisLog(folder, key, place.rank)
    mine = deal(longest_first(durations_of(cuts), range(len(references))), place.rank, place.world)
    have = [log.done[references[at].id] for at in mine if references[at].id in log.done]
    left = [int(at) for at in mine if references[at].id not in log.done]
    if left:
        for each in watched(decoder.transcriber(cuts, left), len(left), "decoding", "cuts"):
            if not math.isfinite(each.avg_logprob):
                raise ModelError(f"cut {each.id}: the model's scores are not numbers; try --dtype float32")
            log.add(each)
            have.append(each)
    log.close()
    shares = gather(have)
    found = {each.id: each for share in shares for each in share}
    wall = max(sum(each.decode_seconds for each in share) for share in shares)
    return Decoded(found, wall, decoder.facts(cuts, len(references)) if place.rank == 0 else {})


def check_languages(decoder: Decoder, references: Sequence[Reference]) -> None:
    """Refuse cuts in a language that the model has no token for, before the work.

    Raises:
        ModelError: With their number and the first of them.
    """
    if decoder.options.force_language:
        return
    for code in sorted({each.language for each in references} - {None}):
        if fault := decoder.transcriber.labels.language_fault(code):
            ids = [each.id for each in references if each.language == code]
            raise ModelError(
                f"{len(ids)} cuts are {fault} ({decoder.model_path}); first: {', '.join(sorted(ids)[:3])}; take "
                "another model, or the --decode.language of a related one with --decode.force_language true"
            )


def read_finished(folder: Path, key: str) -> Decoded | None:
    """Return what an earlier evaluation with this key finished in the folder."""
    if not is_result(folder):
        return None
    try:
        old = read_summary(folder)
        if old.get("decoding_key") != key:
            return None
        found = [to_hypothesis(row) for row in read_rows(folder)]
        then = {name: old[name] for name in FACTS} | {name: old[name] for name in (MEMORY,) if name in old}
        return Decoded({each.id: each for each in found}, old["decode_seconds"], then)
    except (DataError, KeyError, TypeError) as error:
        raise DataError(f"{folder} holds results that do not read ({error!r}); repeat with --overwrite true") from error


def model_digest(path: str) -> str:
    """Return the SHA-256 over a folder's model and tokenizer files, or the commit of a hub id.

    Raises:
        ModelError: There is no such folder, and the hub gives none of that name.
    """
    if not os.path.isdir(path):
        check_path(path)
        try:
            return f"{path}@{getattr(WhisperConfig.from_pretrained(path), '_commit_hash', None)}"
        except Exception as error:
            raise ModelError(explain(path, error)) from error
    digest = hashlib.sha256()
    for file in sorted(Path(path).iterdir()):
        if file.suffix in (".json", ".safetensors", ".txt") and file.is_file():
            digest.update(f"{file.name} {file.stat().st_size}\n".encode())
            with open(file, "rb") as data:
                while block := data.read(1 << 24):
                    digest.update(block)
    return digest.hexdigest()


def choose_place(device: str, dtype: str, rank: int = 0, world: int = 1) -> Placement:
    """Choose device and type of the weights.

    Raises:
        ConfigError: No such device here.
    """
    name = device
    if device == "auto":
        name = auto_device()
    try:
        place = torch.device(name)
        torch.empty(1, device=place)
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(f"device '{device}' is not usable here ({str(error).splitlines()[0]}); try cpu") from error
    if dtype == "auto":
        dtype = "float16" if place.type == "cuda" else "float32"
    return Placement(place, DTYPES[dtype], rank, world)


@contextmanager
def processes() -> Iterator[tuple[int, int]]:
    """Join the processes that torchrun started; yield this one's number and how many there are."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield 0, 1
        return
    dist.init_process_group("gloo", timeout=timedelta(days=2))  # a fast process waits for a slow one's whole share
    try:
        yield dist.get_rank(), dist.get_world_size()
    finally:
        dist.destroy_process_group()


def wait() -> None:
    """Wait until all processes are here."""
    if dist.is_initialized():
        dist.barrier()


def processor_name() -> str:
    """Return the CPU's model."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
