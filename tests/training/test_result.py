"""The result folder: everything other programs look for, with a card that says how it was made."""

import copy
import json
import shutil
from pathlib import Path

import pytest
import yaml
from runs import train
from tiny import speech_cuts, tiny_model, tiny_processor
from transformers import AutoProcessor, WhisperForConditionalGeneration

from egrecho_inner.decoding.options import DecodeOptions
from egrecho_inner.errors import ModelError
from egrecho_inner.evaluation import evaluate
from egrecho_inner.merge_lora import merge_lora
from egrecho_inner.model.loading import save_folder
from egrecho_inner.model.options import LoraOptions

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
    for words in (
        "Training audio | 0",
        "Command",
        "commit",
        "Development cuts, which chose the weights: WER",
        "95 % interval",
        "normaliser",
    ):
        assert words in card
    assert ("Adapter" in card) == (method == "lora")


def test_card_takes_in_what_egrecho_eval_measures_of_the_folder(run: Path, tmp_path: Path) -> None:
    final = shutil.copytree(run / "full" / "final", tmp_path / "final")
    for name, cuts in (("test", "cuts"), ("late", "dev"), ("late", "cuts")):
        evaluate(str(final), str(tmp_path / "eval" / cuts), f"{name}={run / cuts}.jsonl", limit=3)
    card = (final / "README.md").read_text()
    assert "Not measured yet" not in card and card.split("---\n", 2)[2].count("\n- ") == 2, (
        "measured again, a set replaces its line"
    )
    found = json.loads((tmp_path / "eval" / "cuts" / "results.json").read_text())
    low, high = (100 * bound for bound in found["interval"])
    rate = f"WER {100 * found['error_rate']:.2f} %, 95 % interval {low:.2f} to {high:.2f} %, normaliser "
    assert f"- late (3 utterances, first 3): {rate}{found['normalizer']['name']}" in card
    hub = yaml.safe_load(card.split("---")[1])
    measured = hub["model-index"][0]["results"]
    assert [each["dataset"]["name"] for each in measured] == ["test", "late"]
    way = {"30s": "30 s window", "longest": "no padding to 30 s"}[found["model"]["window"]]
    value = round(100 * found["error_rate"], 2)
    assert measured[1]["metrics"] == [{"type": "wer", "value": value, "name": f"WER, {way}"}]
    assert sorted(path.name for path in final.iterdir()) == sorted(path.name for path in (run / "full/final").iterdir())
    again = json.loads((tmp_path / "eval" / "cuts" / "results.json").read_text())
    evaluate(str(final), str(tmp_path / "eval" / "cuts"), f"late={run / 'cuts'}.jsonl", limit=3)
    now = json.loads((tmp_path / "eval" / "cuts" / "results.json").read_text())
    assert now["decode_seconds"] == again["decode_seconds"], (
        "the note does not make it another model: nothing is decoded"
    )


def test_evaluations_of_one_set_in_several_ways_all_stay_on_the_card(run: Path, tmp_path: Path) -> None:
    final = shutil.copytree(run / "full" / "final", tmp_path / "final")
    ways = {
        "30 s window": DecodeOptions(window="30s"),
        "no padding to 30 s": DecodeOptions(window="longest"),
        "no padding to 30 s, 2 beams, max_new_tokens 7": DecodeOptions(
            window="longest", num_beams=2, max_new_tokens=7, batch_size=2
        ),
    }
    for _ in range(2):  # the second time every line replaces its own
        for number, options in enumerate(ways.values()):
            evaluate(str(final), str(tmp_path / str(number)), f"dev={run / 'dev'}.jsonl", decode=options)
        card = (final / "README.md").read_text()
        assert [line.rpartition("; ")[2] for line in card.splitlines() if line.startswith("- dev (")] == list(ways)
    (hub,) = yaml.safe_load(card.split("---")[1])["model-index"][0]["results"]  # one set, one result, three metrics
    assert [each["name"] for each in hub["metrics"]] == [f"WER, {way}" for way in ways]


def test_merged_adapter_has_a_card_that_evaluations_reach(run: Path, tmp_path: Path) -> None:
    processor = tiny_processor()
    base = tmp_path / "base"
    model = tiny_model(processor, layers=1, ending=3.3)
    save_folder(model, processor, base, "longest")
    merge_lora(str(run / "lora" / "adapter"), str(tmp_path / "final"), base=str(base))
    card = (tmp_path / "final" / "README.md").read_text()
    assert "# Whisper with a merged adapter" in card and "Training audio | 0" in card and "Development cuts" in card
    assert f"`{run / 'lora' / 'adapter'}`" in card
    evaluate(str(tmp_path / "final"), str(tmp_path / "eval"), str(run / "dev.jsonl"))
    assert "- dev (2 utterances): WER" in (tmp_path / "final" / "README.md").read_text()


@pytest.mark.parametrize("other", ["weights", "vocabulary", "mel bins"])
def test_adapter_is_not_merged_into_another_base_of_its_size(run: Path, tmp_path: Path, other: str) -> None:
    processor = copy.deepcopy(tiny_processor(128 if other == "mel bins" else 80))
    if other == "vocabulary":
        processor.tokenizer.add_tokens(["<|new|>"])
    model = tiny_model(processor, layers=1, ending=3.3, seed=1 if other == "weights" else 0)
    save_folder(model, processor, tmp_path / "base", "longest")
    words = {"weights": "trained on another base", "vocabulary": "vocab_size", "mel bins": "num_mel_bins 80"}[other]
    with pytest.raises(ModelError, match=words) as refusal:
        merge_lora(str(run / "lora" / "adapter"), str(tmp_path / "final"), base=str(tmp_path / "base"))
    assert "\n" not in str(refusal.value) and not (tmp_path / "final").exists()
