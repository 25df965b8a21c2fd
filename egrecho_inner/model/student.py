"""A student from a teacher: some of its layers copied, everything else as it is, every weight accounted for.

In: a Whisper and which of its layers the student has, by number or as a list (which may name a layer twice: that makes
a deeper model to go on training). Out: a Whisper. Spaced layers, first and last among them, are the rule of DistilBART
(Shleifer and Rush 2020, arXiv:2010.13002) and Distil-Whisper (Gandhi et al. 2023, arXiv:2311.00430).
`alignment_heads` of the generation config name layers of the teacher and are removed: word timestamps read from
layers that are not there crash programs, and attention changes in training anyway.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from transformers import GenerationConfig

from egrecho_inner.errors import ConfigError, ModelError
from egrecho_inner.model.options import Part
from egrecho_inner.model.whisper import Whisper, freeze_sinusoids

STALE = ("alignment_heads", "forced_decoder_ids")
"""Entries of a generation config that are the teacher's own, or force tokens that labels contain."""


@dataclass(frozen=True)
class Origin:
    """Where a student's weights come from."""

    encoder: tuple[int, ...]
    """Teacher layer of each layer."""
    decoder: tuple[int, ...]
    copied: int
    """Parameters taken over."""
    drawn: int
    """Parameters drawn at random, by request."""
    left: int
    """Parameters of the teacher that the student does not have."""


def layer_map(have: int, want: int) -> list[int]:
    """Choose `want` of `have` layers, spaced as far as they go, the last one always among them.

    Raises:
        ConfigError: More are wanted than there are, or none.
    """
    if not 1 <= want <= have:
        raise ConfigError(f"{want} layers of {have}: expected 1 to {have}, or an explicit list of layers")
    if want == 1:
        return [have - 1]
    return [i * (have - 1) // (want - 1) for i in range(want)]


def check_map(layers: Sequence[int], have: int, part: str) -> list[int]:
    """Return an explicit list of layers, counted from 0, after a look at its range.

    Raises:
        ConfigError: It is empty or names a layer the teacher does not have.
    """
    wrong = [layer for layer in layers if not 0 <= layer < have]
    if wrong or not layers:
        raise ConfigError(f"{part} layers {list(layers)}: expected numbers from 0 to {have - 1}, at least one")
    return list(layers)


def make_student(
    teacher: Whisper, encoder: Sequence[int], decoder: Sequence[int], random: Part = "none", seed: int = 0
) -> tuple[Whisper, Origin]:
    """Make a student of a teacher's layers.

    Args:
        teacher: The model to take them from.
        encoder: Teacher layer of each encoder layer.
        decoder: Teacher layer of each decoder layer.
        random: What keeps random weights instead: nothing, the decoder (with the vocabulary), or all.
        seed: Of random weights.

    Raises:
        ModelError: A weight of the student has no place in the teacher.
    """
    config = copy.deepcopy(teacher.config)
    config.encoder_layers, config.decoder_layers = len(encoder), len(decoder)
    config.num_hidden_layers = len(encoder)
    state = torch.random.get_rng_state()
    torch.manual_seed(seed)
    with torch.device(teacher.device):
        student = Whisper(config).to(teacher.dtype)
    torch.random.set_rng_state(state)
    have, copied, drawn, used = dict(teacher.named_parameters()), 0, 0, set()
    with torch.no_grad():
        for name, parameter in student.named_parameters():
            if random == "all" or (random == "decoder" and not name.startswith("model.encoder.")):
                drawn += parameter.numel()
                continue
            source = source_name(name, encoder, decoder)
            if source not in have or have[source].shape != parameter.shape:
                raise ModelError(f"{name} of the student has no place in the teacher ({source})")
            if not parameter.is_meta:
                parameter.copy_(have[source])
            copied += parameter.numel()
            used.add(source)
    freeze_sinusoids(student)
    student.generation_config = clean_generation_config(teacher.generation_config)
    left = sum(parameter.numel() for name, parameter in have.items() if name not in used)
    return student.eval(), Origin(tuple(encoder), tuple(decoder), copied, drawn, left)


def source_name(name: str, encoder: Sequence[int], decoder: Sequence[int]) -> str:
    """Return the teacher's name of a student's parameter."""
    for part, layers in (("encoder", encoder), ("decoder", decoder)):
        begin = f"model.{part}.layers."
        if name.startswith(begin):
            layer, rest = name[len(begin) :].split(".", 1)
            return f"{begin}{layers[int(layer)]}.{rest}"
    return name


def clean_generation_config(config: GenerationConfig) -> GenerationConfig:
    """Return a copy without what is the teacher's alone."""
    kept = {key: value for key, value in config.to_dict().items() if key not in STALE}
    return GenerationConfig.from_dict(kept)


def same_encoder(one: Whisper, other: Whisper) -> bool:
    """Return whether two models encode alike: encoders of the same shape with the same weights."""
    first, second = one.model.encoder.state_dict(), other.model.encoder.state_dict()
    return first.keys() == second.keys() and all(
        value.shape == second[name].shape and torch.equal(value.cpu(), second[name].cpu().to(value.dtype))
        for name, value in first.items()
    )
