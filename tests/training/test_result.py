"""The result folder: everything other programs look for, with a card that says how it was made."""

import json
from pathlib import Path

import pytest
from runs import train
from tiny import speech_cuts
from transformers import AutoProcessor, WhisperForConditionalGeneration

from egrecho_inner.model.adapters import LoraOptions
from egrecho_inner.training.card import write_card

NEEDED = {
    "transformers": ("config.json", "model.safetensors", "generation_config.json", "processor_config.json"),
    "ctranslate2": ("config.json", "tokenizer.json", "preprocessor_config.json"),
    "whisper.cpp": ("config.json", "tokenizer.json", "tokenizer_config.json", "preprocessor_config.json"),
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    cuts, dev = speech_cuts(folder, n=8), speech_cuts(folder, n=2, name="dev")
    train(cuts, folder / "full", dev, metric="wer", max_steps=2)
    train(cuts, folder / "lora", dev, metric="wer", max_steps=2, lora=LoraOptions(r=2))
    return folder


@pytest.mark.parametrize("program", NEEDED)
def test_every_program_finds_its_files(run: Path, program: str) -> None:
    assert not set(NEEDED[program]) - {path.name for path in (run / "full" / "final").iterdir()}


def test_transformers_loads_it_and_nothing_is_forced(run: Path) -> None:
    final = run / "full" / "final"
    model = WhisperForConditionalGeneration.from_pretrained(final)
    AutoProcessor.from_pretrained(final)
    assert not getattr(model.generation_config, "forced_decoder_ids", None)
    assert model.generation_config.lang_to_id and model.generation_config.no_timestamps_token_id
    assert not list(final.glob("*.bin")) + list(final.glob("*.pt")), "no pickles"


def test_checkpoints_hold_no_needless_pickle(run: Path) -> None:
    assert not list(run.glob("*/checkpoint-*/training_args.bin"))


@pytest.mark.parametrize(("method", "place"), [("full", "final"), ("lora", "adapter")])
def test_card_says_how_it_was_made(run: Path, method: str, place: str) -> None:
    card = (run / method / place / "README.md").read_text()
    assert card.startswith("---\nlibrary_name: transformers")
    for words in ("Training audio | 0", "Command", "commit", "Development cuts: WER", "95 % interval", "normaliser"):
        assert words in card
    assert ("Adapter" in card) == (method == "lora")


def test_card_takes_in_evaluations_of_the_run_folder(run: Path, tmp_path: Path) -> None:
    made = json.loads((run / "full" / "final" / "training.json").read_text())
    (tmp_path / "eval" / "test").mkdir(parents=True)
    (tmp_path / "eval" / "test" / "results.json").write_text(json.dumps({"error_rate": "3.21%", "normalizer": "x 1"}))
    write_card(tmp_path, made, tmp_path)
    assert "- eval/test: WER 3.21%, normaliser x 1" in (tmp_path / "README.md").read_text()
