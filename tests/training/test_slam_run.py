"""A speech LLM on fit(): what is trained, what a checkpoint holds, the same bits after a kill, and decoding by name."""

import json
from pathlib import Path

import pytest
import torch
from runs import in_child, kill_at_step, same
from safetensors.torch import load_file, save_file
from speech_runs import PROMPT, train
from tiny import speech_cuts
from tiny_speech import save_parts

from egrecho_inner.config import run
from egrecho_inner.data.batches.cut_list import CutList
from egrecho_inner.data.batches.options import BatchOptions
from egrecho_inner.data.batches.plan import Batch
from egrecho_inner.data.batches.speech_prompts import Noise
from egrecho_inner.data.batches.tensors import LoadedBatch
from egrecho_inner.errors import ConfigError, ModelError
from egrecho_inner.evaluation import evaluate
from egrecho_inner.import_jsonl import import_jsonl
from egrecho_inner.model.speech_loading import TRAINED, SpeechConfig, build, load_folder
from egrecho_inner.model.speech_options import LlmLoraOptions, SpeechLossOptions, SpeechModelOptions
from egrecho_inner.model.speech_parts import load_encoder
from egrecho_inner.training.checkpoints import folder as checkpoint
from egrecho_inner.training.slam_family import SlamFamily


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return save_parts(tmp_path_factory.mktemp("parts"))


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("words")
    return speech_cuts(folder, n=11), speech_cuts(folder, n=3, name="dev")


@pytest.fixture(scope="module")
def whole(parts: tuple[Path, Path], words: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("whole")
    train(words[0], out, parts, words[1], lora=LlmLoraOptions(r=2, dropout=0.1))
    return out


def test_killed_and_continued_is_the_same_run(
    parts: tuple[Path, Path], words: tuple[Path, Path], whole: Path, tmp_path: Path
) -> None:
    lora = LlmLoraOptions(r=2, dropout=0.1)

    def killed() -> None:
        kill_at_step(5)
        train(words[0], tmp_path, parts, words[1], lora=lora)

    assert in_child(killed) == -9
    assert [step for step, _ in checkpoint.steps(tmp_path)] == [3]
    train(words[0], tmp_path, parts, words[1], lora=lora)
    assert same(tmp_path / "final", whole / "final")


def test_a_checkpoint_holds_trained_parts_only_and_nothing_else_moves(whole: Path, parts: tuple[Path, Path]) -> None:
    last = load_file(whole / "checkpoint-7" / "model.safetensors")
    assert {name.split(".")[0] for name in last} == {"projector", "llm"}
    assert all(name.startswith("projector.") or ".lora_" in name for name in last)
    assert sum(p.stat().st_size for p in (whole / "checkpoint-7").iterdir()) < 120_000
    model, _, _ = load_folder(str(whole / "final"))
    fresh = load_file(parts[1] / "model.safetensors")
    own = dict(model.llm.get_base_model().state_dict())
    for name, value in fresh.items():
        found = own.get(name, own.get(name.replace("_proj.weight", "_proj.base_layer.weight")))
        assert torch.equal(found, value), name


@pytest.mark.parametrize("damage", ["missing", "unknown", "shape"])
def test_weights_that_are_not_the_models_are_refused(whole: Path, tmp_path: Path, damage: str) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text((whole / "final" / "config.json").read_text())
    state = load_file(whole / "final" / TRAINED)
    name = "projector.linear1.weight"
    if damage == "missing":
        del state[name]
    elif damage == "unknown":
        state["projector.linear9.weight"] = state[name].clone()
    else:
        state[name] = torch.zeros(3, 3)
    save_file(state, folder / TRAINED)
    with pytest.raises(ModelError, match={"shape": "has shape"}.get(damage, damage)):
        load_folder(str(folder))


def test_another_prompt_or_language_model_than_in_training_is_refused(whole: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / TRAINED).write_bytes((whole / "final" / TRAINED).read_bytes())
    config = json.loads((whole / "final" / "config.json").read_text())
    for change, message in (
        ({"prompt": {**config["prompt"], "template": "{audio}Q: {prompt}\nA:"}}, "prompt"),
        ({"digests": {**config["digests"], "llm": "another"}}, "is not what the model was trained with"),
    ):
        (folder / "config.json").write_text(json.dumps(config | change))
        with pytest.raises(ModelError, match=message):
            load_folder(str(folder))


def test_eval_takes_the_folder_and_prints_whether_it_listens(
    whole: Path, words: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(evaluate, [str(whole / "final"), "--cuts", str(words[1]), "--out", str(tmp_path), "--decode.num_beams",
                   "4", "--decode.max_new_tokens", "8"])  # fmt: skip
    found = json.loads((tmp_path / "results.json").read_text())
    assert set(found["listening"]) == {"cuts", "audio", "swapped", "silent", "silent_empty"}
    assert found["listening"]["cuts"] == 3
    assert {"refused", "looped", "empty"} <= set(found)
    assert "with another's" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        run(evaluate, [str(whole / "final"), "--cuts", str(words[1]), "--out", str(tmp_path), "--decode.timestamps",
                       "true"])  # fmt: skip


def test_projector_and_adapter_learn_four_utterances_by_heart(parts: tuple[Path, Path], tmp_path: Path) -> None:
    cuts = speech_cuts(tmp_path, n=4)
    train(
        cuts, tmp_path / "run", parts, lora=LlmLoraOptions(r=16, dropout=0.0, target_modules=SEVEN), share=0.0,
        loss=SpeechLossOptions(), max_steps=160, eval_steps=160, schedule="constant",
        batch=BatchOptions(None, 4),
    )  # fmt: skip
    run(evaluate, [str(tmp_path / "run" / "final"), "--cuts", str(cuts), "--out", str(tmp_path / "eval"),
                   "--normalizer", "none", "--decode.max_new_tokens", "40"])  # fmt: skip
    assert json.loads((tmp_path / "eval" / "results.json").read_text())["error_rate"] == 0.0


SEVEN = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def test_kl_and_ctc_train_and_a_kept_encoder_is_the_same_run(
    parts: tuple[Path, Path], words: tuple[Path, Path], tmp_path: Path
) -> None:
    losses = {}
    for name, room in (("plain", 0.0), ("kept", 0.01)):
        train(
            words[0], tmp_path / name, parts, share=0.0, encoder_cache_gb=room, max_steps=6,
            loss=SpeechLossOptions(kl_weight=0.5, ctc_weight=0.2),
        )  # fmt: skip
        rows = [json.loads(line) for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()]
        losses[name] = [row["loss"] for row in rows if "loss" in row]
    assert losses["plain"] == pytest.approx(losses["kept"], rel=2e-3)  # kept in half precision
    assert losses["plain"][-1] < losses["plain"][0]


@pytest.mark.parametrize("kind", ["wavlm", "hubert-group"])
def test_waves_train_and_a_contradiction_about_them_is_refused(
    kind: str, words: tuple[Path, Path], tmp_path: Path
) -> None:
    own = save_parts(tmp_path, encoder=kind)
    train(words[0], tmp_path / "run", own, max_steps=2, share=0.5)
    with pytest.raises(ConfigError, match="contradicts"):
        load_encoder(str(own[0]), False, torch.float32)
    (own[0] / "preprocessor_config.json").unlink()
    with pytest.raises(ModelError, match=r"model\.normalize"):
        load_encoder(str(own[0]), None, torch.float32)


def test_development_cuts_have_their_own_prompts_and_tokens_and_no_noise(
    parts: tuple[Path, Path], words: tuple[Path, Path], tmp_path: Path
) -> None:
    lines = [{"key": f"k{n}", "target": "ab", "tokens": [10, 11], "prompt": "own"} for n in range(3)]
    (tmp_path / "text.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    import_jsonl(str(tmp_path / "text.jsonl"), str(tmp_path / "cuts.jsonl"))
    model, tokenizer = build(SpeechConfig(SpeechModelOptions(llm=str(parts[1])), prompt=PROMPT))
    family = SlamFamily(model, tokenizer, SpeechConfig(SpeechModelOptions(llm=str(parts[1])), prompt=PROMPT))
    found = family.scored(CutList(str(tmp_path / "cuts.jsonl")))[Batch(0, [0, 1], False)].inputs["input_ids"]
    own = tokenizer.encode("Q: own A:", add_special_tokens=False)
    assert found[0].tolist()[:-2] == [10, 11, tokenizer.bos_token_id, *own]
    config = SpeechConfig(SpeechModelOptions(llm=str(parts[1]), encoder=str(parts[0])), prompt=PROMPT)
    model, tokenizer = build(config)
    family = SlamFamily(model, tokenizer, config, Noise(1.0, 0))
    cuts = CutList(str(words[1]))
    wanted = family.clean.load(cuts[0], 0, None)
    scored = family.scored(cuts)[Batch(0, [0], False)]
    assert torch.equal(scored.inputs["input_features"][0].T, torch.from_numpy(wanted[0]))
    assert scored.targets > 1


def test_padding_in_the_log_is_never_negative(whole: Path) -> None:
    rows = [json.loads(line) for line in (whole / "metrics.jsonl").read_text().splitlines()]
    shares = [row["padding"] for row in rows if "padding" in row]
    assert shares and all(0 <= share < 1 for share in shares)
    rounded = LoadedBatch({}, ["a"], 1.234, 1, 1.23, 1, 1, [])  # 123 frames of 10 ms
    assert rounded.padded_seconds == 1.234
