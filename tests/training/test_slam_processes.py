"""Two processes train a speech LLM on gloo: DDP and FSDP2 take the same steps and save the same folder."""

from pathlib import Path

import pytest
from launching import launch, results
from tiny import speech_cuts
from tiny_speech import save_parts


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Cuts, development cuts, a folder, encoder and language model."""
    folder = tmp_path_factory.mktemp("two")
    return [speech_cuts(folder, n=11), speech_cuts(folder, n=3, name="dev"), folder, *save_parts(folder)]


@pytest.fixture(scope="module")
def of_torch(words: list[Path]) -> dict[str, dict]:
    return results(launch("speech_two.py", *words, "ddp", "fsdp"))


def test_the_steps_are_those_of_plain_processes_and_the_result_is_gathered(of_torch: dict[str, dict]) -> None:
    row, plain = of_torch["fsdp"], of_torch["ddp"]
    for key in ("loss", "eval_loss"):
        assert row[key] == pytest.approx(plain[key], rel=1e-3), key
    assert row["grad_norm"][0] == pytest.approx(plain["grad_norm"][0], rel=1e-3)
    assert row["same"], "final/ is what the checkpoint keeps and what loads"
    assert row["shapes"] == plain["shapes"] and row["size"] == plain["size"]
    assert any(name.startswith("projector.") for name in row["shapes"])
    assert any(".lora_" in name for name in row["shapes"])
