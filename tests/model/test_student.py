"""A student has exactly the layers asked for, every weight is the teacher's, and nothing points at layers it lacks."""

from pathlib import Path

import pytest
import torch
from tiny import save_tiny, tiny_model, tiny_processor
from transformers.models.whisper.modeling_whisper import sinusoids

from egrecho_inner.errors import ConfigError
from egrecho_inner.init_student import init_student
from egrecho_inner.model.loading import load_model
from egrecho_inner.model.student import check_map, layer_map, make_student, same_encoder


@pytest.mark.parametrize(
    ("have", "want", "layers"),
    [
        (32, 2, [0, 31]),
        (32, 3, [0, 15, 31]),
        (32, 4, [0, 10, 20, 31]),
        (32, 8, [0, 4, 8, 13, 17, 22, 26, 31]),
        (24, 2, [0, 23]),
        (12, 4, [0, 3, 7, 11]),
        (4, 2, [0, 3]),
        (4, 1, [3]),
        (6, 6, [0, 1, 2, 3, 4, 5]),
    ],
)
def test_published_maps(have: int, want: int, layers: list[int]) -> None:
    assert layer_map(have, want) == layers


def test_maps_are_spaced_and_end_with_the_last_layer() -> None:
    for have in range(1, 33):
        for want in range(1, have + 1):
            found = layer_map(have, want)
            assert len(set(found)) == want
            assert found == sorted(found)
            assert found[-1] == have - 1
            assert want == 1 or found[0] == 0


@pytest.mark.parametrize("layers", [[], [2], [0, -1]])
def test_a_layer_the_teacher_lacks_is_refused(layers: list[int]) -> None:
    # -1 was silently ignored by the published script, and the layer kept another's weights
    with pytest.raises(ConfigError):
        check_map(layers, 2, "decoder")
    with pytest.raises(ConfigError):
        layer_map(4, 5)


def test_all_layers_are_the_teacher_again() -> None:
    teacher = tiny_model(tiny_processor())
    student, origin = make_student(teacher, [0, 1], [0, 1])
    for name, value in teacher.state_dict().items():
        assert torch.equal(value, student.state_dict()[name]), name
    assert origin.left == origin.drawn == 0
    assert origin.copied == sum(p.numel() for p in teacher.parameters())


def test_every_weight_is_accounted_for() -> None:
    teacher = tiny_model(tiny_processor(), layers=3)
    student, origin = make_student(teacher, [0, 1, 2], [2])
    assert origin.copied == sum(p.numel() for p in student.parameters())
    assert origin.copied + origin.left == sum(p.numel() for p in teacher.parameters())
    ours, theirs = student.state_dict(), teacher.state_dict()
    for name, value in ours.items():
        source = name.replace("decoder.layers.0.", "decoder.layers.2.")
        assert torch.equal(value, theirs[source]), name
    assert same_encoder(student, teacher)
    assert student.config.decoder_layers == len(student.model.decoder.layers) == 1


def test_a_layer_may_be_named_twice() -> None:
    teacher = tiny_model(tiny_processor())
    deeper, _ = make_student(teacher, [0, 0, 1, 1], [0, 1])
    first, second = deeper.model.encoder.layers[:2]
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    assert deeper.config.encoder_layers == 4
    assert not same_encoder(deeper, teacher)


def test_random_parts_are_random_and_the_same_for_a_seed() -> None:
    teacher = tiny_model(tiny_processor())
    states = [make_student(teacher, [0, 1], [1], random="decoder", seed=seed)[0] for seed in (1, 1, 2)]
    name = "model.decoder.layers.0.fc1.weight"
    one, same, other = (state.state_dict()[name] for state in states)
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    assert same_encoder(states[0], teacher)
    before = torch.random.get_rng_state()
    whole, _ = make_student(teacher, [0], [0], random="all")
    positions = whole.model.encoder.embed_positions.weight
    assert torch.equal(positions, sinusoids(*positions.shape))  # a table that is never learned cannot be random
    assert torch.equal(before, torch.random.get_rng_state())


def test_a_student_folder_is_whole_and_says_where_it_is_from(tmp_path: Path) -> None:
    teacher = load_model(str(save_tiny(tmp_path / "teacher")))
    teacher.generation_config.alignment_heads = [[1, 0], [1, 3]]
    teacher.generation_config.save_pretrained(tmp_path / "teacher")
    out = tmp_path / "student"
    init_student(str(tmp_path / "teacher"), str(out), decoder_layers=1)
    student = load_model(str(out))
    # alignment heads of layers that are not there crash word timestamps (SYSTRAN/faster-whisper#1283)
    assert getattr(student.generation_config, "alignment_heads", None) is None
    assert student.generation_config.lang_to_id == teacher.generation_config.lang_to_id
    assert student.config.input_window == "longest"
    assert '"decoder": [' in (out / "student.json").read_text()
    before = (out / "model.safetensors").stat().st_mtime_ns
    init_student(str(tmp_path / "teacher"), str(out), decoder_layers=1)
    assert (out / "model.safetensors").stat().st_mtime_ns == before
    with pytest.raises(ConfigError, match="made otherwise"):
        init_student(str(tmp_path / "teacher"), str(out), decoder_layers=[0])
    init_student(str(tmp_path / "teacher"), str(out), decoder_layers=[0], overwrite=True)


def test_large_v3_is_cut_on_the_meta_device() -> None:
    from transformers import WhisperConfig

    from egrecho_inner.model.whisper import Whisper

    config = WhisperConfig(
        vocab_size=51866,
        num_mel_bins=128,
        d_model=1280,
        encoder_layers=32,
        decoder_layers=32,
        encoder_attention_heads=20,
        decoder_attention_heads=20,
        encoder_ffn_dim=5120,
        decoder_ffn_dim=5120,
    )
    with torch.device("meta"):
        teacher = Whisper(config)
    student, origin = make_student(teacher, layer_map(32, 32), layer_map(32, 2))
    assert origin.decoder == (0, 31)
    assert sum(p.numel() for p in teacher.parameters()) == 1_543_490_560  # large-v3, as published
    assert sum(p.numel() for p in student.parameters()) // 10**6 == 756  # as distil-large-v3
