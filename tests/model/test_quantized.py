"""A base in 8 or 4 bits: refused where it cannot be; its layers are near the published ones, the adapter learns."""

import pytest
import torch
from needs import extra
from tiny import tiny_model, tiny_processor

from egrecho_inner.errors import ConfigError
from egrecho_inner.model.adapters import add_adapter
from egrecho_inner.model.options import LoraOptions
from egrecho_inner.model.quantized import check_bits, quantize


def test_without_cuda_it_is_refused_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    check_bits(None)
    with pytest.raises(ConfigError, match=r"^lora.bits 4 needs an NVIDIA GPU \(CUDA\), and there is none here"):
        check_bits(4)


@pytest.mark.parametrize(("bits", "near"), [(8, 0.05), (4, 0.35)])
def test_only_the_adapter_learns_and_the_output_is_near(bits: int, near: float) -> None:
    extra("quant", "bitsandbytes")
    inputs = {"input_features": torch.randn(2, 80, 200), "decoder_input_ids": torch.full((2, 5), 7)}
    plain = tiny_model(tiny_processor(), width=64)
    with torch.no_grad():
        wanted = plain(**inputs).logits
    model = add_adapter(quantize(plain, bits), LoraOptions(r=4, dropout=0.0), 10).to("cpu")
    found = model(**inputs).logits.float()
    assert (found - wanted).norm() / wanted.norm() < near
    found.square().mean().backward()
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    assert trained and all("lora_" in name for name in trained)
    assert all(p.grad is not None for name, p in model.named_parameters() if "lora_B" in name)
