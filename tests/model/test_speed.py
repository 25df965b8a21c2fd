"""What makes the model fast changes no value, and is really taken."""

import pytest
import torch
from tiny import tiny_model, tiny_processor
from torch import Tensor, nn

from egrecho_inner.model.length import cross_mask
from egrecho_inner.model.whisper import Whisper

LENGTHS = torch.tensor([200, 120, 61])


def batch(lengths: Tensor = LENGTHS) -> dict[str, Tensor]:
    draw = torch.Generator().manual_seed(0)
    mask = (torch.arange(int(lengths.max()))[None] < lengths[:, None]).long()
    ids = torch.randint(0, 256, (len(lengths), 7), generator=draw)
    features = torch.randn(len(lengths), 80, int(lengths.max()), generator=draw)
    return {"input_features": features, "attention_mask": mask, "decoder_input_ids": ids, "labels": ids.roll(-1, 1)}


def masks_of(model: Whisper, inputs: dict[str, Tensor]) -> list[Tensor | None]:
    """Return the masks that encoder self-attention and decoder cross-attention were given."""
    seen: list[Tensor | None] = []
    for attention in (model.model.encoder.layers[0].self_attn, model.model.decoder.layers[0].encoder_attn):
        attention.register_forward_hook(
            lambda _, args, kwargs, __: seen.append(kwargs.get("attention_mask", args[3] if len(args) > 3 else None)),
            with_kwargs=True,
        )
    model(**inputs)
    return seen


def test_nothing_is_masked_where_all_are_equally_long() -> None:
    assert masks_of(tiny_model(tiny_processor()), batch(torch.tensor([80, 80, 80]))) == [None, None]
    assert all(mask is not None for mask in masks_of(tiny_model(tiny_processor()), batch()))


@pytest.mark.parametrize("beams", [2, 5])
def test_beams_hear_the_same_through_one_set_of_keys(beams: int) -> None:
    model, inputs = tiny_model(tiny_processor()), batch()
    ids = torch.randint(0, 256, (3 * beams, 4), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        heard = model.model.encoder(inputs["input_features"], attention_mask=inputs["attention_mask"])
        shared = model(encoder_outputs=heard, attention_mask=inputs["attention_mask"], decoder_input_ids=ids).logits
        copied = model(
            encoder_outputs=(heard.last_hidden_state.repeat_interleave(beams, 0),),
            attention_mask=inputs["attention_mask"].repeat_interleave(beams, 0),
            decoder_input_ids=ids,
        ).logits
    assert torch.allclose(shared, copied, atol=1e-5)
    assert (
        cross_mask(model.config, heard.last_hidden_state, 3 * beams, 4, inputs["attention_mask"]).shape[2] == 4 * beams
    )


def test_autocast_reaches_the_second_convolution() -> None:
    model, seen = tiny_model(tiny_processor()), []
    model.model.encoder.conv2.register_forward_hook(lambda _, args, __: seen.append(args[0].dtype))
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        model(**batch())
    assert seen == [torch.bfloat16]  # the mask's type must not turn it back


def test_a_frozen_encoder_keeps_no_activations() -> None:
    model = tiny_model(tiny_processor()).train()
    model.model.encoder.requires_grad_(False)
    output = model(**batch())
    assert output.encoder_last_hidden_state.grad_fn is None
    output.loss.backward()
    assert all(each.grad is not None for each in model.model.decoder.layers.parameters())


def test_the_chunked_loss_is_the_loss() -> None:
    gradients = []
    for chunked in (False, True):
        model = tiny_model(tiny_processor()).train()
        model.chunked_loss = chunked
        loss = model(**batch(), num_items_in_batch=21).loss
        loss.backward()
        gradients.append([loss.detach(), *(each.grad for each in model.parameters() if each.grad is not None)])
    assert len(gradients[0]) == len(gradients[1]) > 20
    for plain, other in zip(*gradients, strict=True):
        assert torch.allclose(plain, other, atol=1e-5)


def test_compiling_changes_no_value() -> None:
    model = tiny_model(tiny_processor(), layers=1).train()
    compiled: nn.Module = torch.compile(model, backend="eager", dynamic=True)
    for lengths in (LENGTHS, torch.tensor([150, 149, 60, 20])):
        inputs = batch(lengths)
        assert torch.allclose(compiled(**inputs).loss, model(**inputs).loss, atol=1e-5)
