"""Variable-length Whisper is Whisper: the same values, from the utterance's own frames alone, in the same files."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import tiny_model, tiny_processor
from torch import Tensor, nn
from transformers import WhisperConfig, WhisperForConditionalGeneration, pipeline

from egrecho_inner.model.adapters import add_adapter
from egrecho_inner.model.loading import load_model, save_folder, window_of
from egrecho_inner.model.options import LoraOptions
from egrecho_inner.model.whisper import Whisper, freeze_sinusoids

PROCESSOR = tiny_processor()
IGNORED = -100


def plain_of(model: Whisper, attention: str = "sdpa") -> WhisperForConditionalGeneration:
    """Return Transformers' own model with the same weights."""
    config = WhisperConfig.from_dict(model.config.to_dict())
    config._attn_implementation = attention
    plain = WhisperForConditionalGeneration(config)
    plain.load_state_dict(model.state_dict())
    plain.generation_config = model.generation_config
    return plain.eval()


def sound(frames: int, seed: int) -> Tensor:
    return torch.randn(80, frames, generator=torch.Generator().manual_seed(seed)) * 0.4


def batch_of(lengths: list[int], junk: float | None = None) -> dict[str, Tensor]:
    """Return features of these lengths, padded with their floor or with junk, and their mask."""
    width = max(lengths)
    features, mask = torch.empty(len(lengths), 80, width), torch.zeros(len(lengths), width, dtype=torch.long)
    for row, frames in enumerate(lengths):
        own = sound(frames, row)
        features[row] = own.max() - 2 if junk is None else junk
        features[row, :, :frames], mask[row, :frames] = own, 1
    return {"input_features": features, "attention_mask": mask}


def tokens(rows: int, length: int, seed: int = 0) -> Tensor:
    return torch.randint(0, 250, (rows, length), generator=torch.Generator().manual_seed(seed))


def training_batch() -> dict[str, Tensor]:
    labels, ids = tokens(3, 6, 1), tokens(3, 6)
    labels[0, 4:] = labels[1, :2] = IGNORED
    return {**batch_of([120, 77, 200]), "decoder_input_ids": ids, "labels": labels}


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_every_value_at_30_s_is_transformers_own(attention: str) -> None:
    model = tiny_model(PROCESSOR)
    plain = plain_of(model, attention)
    model.set_attn_implementation(attention)
    inputs = {"input_features": torch.stack([sound(3000, 0), sound(3000, 1)]), "decoder_input_ids": tokens(2, 9)}
    asked = {"output_hidden_states": True, "output_attentions": attention == "eager"}
    with torch.no_grad():
        ours, theirs = model(**inputs, **asked), plain(**inputs, **asked)
    assert torch.equal(ours.logits, theirs.logits)
    for name in ("encoder_hidden_states", "decoder_hidden_states", *(["cross_attentions"] * (attention == "eager"))):
        assert all(map(torch.equal, getattr(ours, name), getattr(theirs, name))), name
    options = {"language": "en", "max_new_tokens": 12, "num_beams": 2}
    found = [each.generate(inputs["input_features"], **options) for each in (model, plain)]
    assert torch.equal(*found)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@settings(max_examples=12, deadline=None)
@given(lengths=st.lists(st.integers(1, 320) | st.sampled_from([1, 2, 3, 319]), min_size=2, max_size=4))
def test_an_utterances_logits_do_not_depend_on_its_batch_mates(attention: str, lengths: list[int]) -> None:
    model = tiny_model(PROCESSOR)
    model.set_attn_implementation(attention)
    together, ids = batch_of(lengths, junk=50.0), tokens(len(lengths), 5)
    with torch.no_grad():
        logits = model(**together, decoder_input_ids=ids).logits
        for row, frames in enumerate(lengths):
            alone = model(together["input_features"][row : row + 1, :, :frames], decoder_input_ids=ids[row : row + 1])
            assert (alone.logits[0] - logits[row]).abs().max() < 1e-4, frames


def test_more_than_30_s_at_once_is_refused() -> None:
    with pytest.raises(ValueError, match="3001 frames; Whisper takes 3000"):
        tiny_model(PROCESSOR)(torch.zeros(1, 80, 3001), decoder_input_ids=tokens(1, 2))


@pytest.mark.parametrize("options", [{}, {"num_beams": 3}, {"return_timestamps": True}, {"language": "vi"}], ids=str)
def test_generate_gives_each_utterance_what_it_gets_alone(options: dict) -> None:
    """Greedy, beams, timestamps; the language detected but in the last."""
    model, lengths = tiny_model(PROCESSOR, ending=3.2), [300, 123, 301]
    together = batch_of(lengths, junk=5.0)
    options = {"task": "transcribe", "max_new_tokens": 12, "force_unique_generate_call": True, **options}
    found = model.generate(**together, **options)
    for row, frames in enumerate(lengths):
        own = {name: value[row : row + 1, ..., :frames] for name, value in together.items()}
        alone = model.generate(**own, **options)[0].tolist()
        assert found[row].tolist()[: len(alone)] == alone
        assert set(found[row].tolist()[len(alone) :]) <= {model.config.eos_token_id}


def test_detected_languages_are_those_of_transformers_at_30_s() -> None:
    model = tiny_model(PROCESSOR, seed=5)
    inputs = {"input_features": torch.stack([sound(3000, seed) for seed in range(4)])}
    options = {"task": "transcribe", "max_new_tokens": 2, "force_unique_generate_call": True}
    plain = plain_of(model).generate(**inputs, **options)
    assert torch.equal(model.generate(**inputs, attention_mask=torch.ones(4, 3000), **options), plain)


def test_long_recordings_give_what_they_give_alone() -> None:
    model, lengths = tiny_model(PROCESSOR, ending=3.2), [3600, 3301]
    together = batch_of(lengths)
    options = {"task": "transcribe", "return_timestamps": True, "return_segments": True, "max_new_tokens": 20}

    def said(segments: list[dict]) -> list[tuple]:
        return [(float(s["start"]), float(s["end"]), s["tokens"].tolist()) for s in segments]

    found = model.generate(**together, **options)["segments"]
    for row, frames in enumerate(lengths):
        own = {name: value[row : row + 1, ..., :frames] for name, value in together.items()}
        alone = said(model.generate(**own, **options)["segments"][0])
        assert said(found[row]) == alone and alone[-1][0] > 0


def test_the_loss_of_training_is_transformers_mean_over_tokens() -> None:
    model, batch = tiny_model(PROCESSOR), training_batch()
    evaluated = model(**batch)
    trained = model.train()(**batch)
    assert trained.logits is None
    assert trained.loss.item() == pytest.approx(evaluated.loss.item(), rel=1e-5)
    expected = nn.functional.cross_entropy(evaluated.logits.flatten(0, 1), batch["labels"].flatten())
    assert trained.loss.item() == pytest.approx(expected.item(), rel=1e-5)
    # the trainer gives the tokens of the global batch: parts then add up to the whole
    assert model(**batch, num_items_in_batch=28).loss.item() == pytest.approx(expected.item() * 14 / 28, rel=1e-5)
    narrower = [{name: value[rows] for name, value in batch.items()} for rows in (slice(0, 1), slice(1, 3))]
    parts = sum(model(**part, num_items_in_batch=14).loss.item() for part in narrower)
    assert parts == pytest.approx(expected.item(), rel=1e-4)


def test_a_batch_without_a_target_has_no_loss_and_no_gradient() -> None:
    model, batch = tiny_model(PROCESSOR).train(), training_batch()
    batch["labels"][:] = IGNORED
    loss = model(**batch).loss
    loss.backward()
    assert loss.item() == 0.0
    assert all(p.grad is None or not p.grad.any() for p in model.parameters())


def with_ctc(weight: float) -> Whisper:
    config = tiny_model(PROCESSOR).config
    config.ctc_weight = weight
    torch.manual_seed(0)
    model = Whisper(config)
    freeze_sinusoids(model)
    return model.train()


def test_the_ctc_loss_is_torchs_on_each_utterance_alone() -> None:
    model, batch, weight = with_ctc(0.3), training_batch(), 0.3
    eot = model.config.eos_token_id
    for row, last in enumerate([3, 5, 5]):
        batch["labels"][row, last] = eot
    ctc = 0.0
    with torch.no_grad():
        for row, frames in enumerate([120, 77, 200]):
            heard = model.get_encoder()(batch["input_features"][row : row + 1, :, :frames]).last_hidden_state
            labels = batch["labels"][row]
            words = labels[(labels != IGNORED) & (labels != eot)]
            scores = model.ctc_head(heard).log_softmax(-1).transpose(0, 1)
            sizes = torch.tensor([heard.shape[1]]), torch.tensor([len(words)])
            ctc += nn.functional.ctc_loss(scores, words[None], *sizes, blank=eot, reduction="sum").item()
        logits = model.eval()(**{k: v for k, v in batch.items() if k != "labels"}).logits
        ce = nn.functional.cross_entropy(logits.flatten(0, 1), batch["labels"].flatten(), reduction="sum").item()
        loss = model.train()(**batch, num_items_in_batch=10).loss.item()
    assert loss == pytest.approx(((1 - weight) * ce + weight * ctc) / 10, rel=1e-4)


@pytest.mark.parametrize("reentrant", [True, False])
def test_an_adapter_learns_the_same_under_gradient_checkpointing(reentrant: bool) -> None:
    def gradients(checkpointing: bool) -> dict[str, Tensor]:
        model = tiny_model(PROCESSOR).train()
        adapted = add_adapter(model, LoraOptions(r=4, dropout=0.0), total_steps=1)
        for name, parameter in adapted.named_parameters():
            if "lora_B" in name:  # zero at first: nothing would reach lora_A
                nn.init.constant_(parameter, 0.01)
        if checkpointing:
            model.gradient_checkpointing_enable({"use_reentrant": reentrant})
            if reentrant:
                model.enable_input_require_grads()
        adapted(**training_batch()).loss.backward()
        return {name: p.grad for name, p in adapted.named_parameters() if p.requires_grad}

    plain, checkpointed = gradients(False), gradients(True)
    for name, gradient in plain.items():
        assert checkpointed[name] is not None and gradient.abs().sum() > 0, name
        torch.testing.assert_close(checkpointed[name], gradient, rtol=1e-4, atol=1e-7)


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> tuple[Whisper, str]:
    """A model trained with CTC on variable length, and the folder it was saved to."""
    model = with_ctc(0.3).eval()
    model.generation_config = tiny_model(PROCESSOR).generation_config
    folder = tmp_path_factory.mktemp("saved") / "final"
    save_folder(model, PROCESSOR, folder, "longest")
    return model, str(folder)


def test_what_is_saved_is_plain_whisper(saved) -> None:
    model, folder = saved
    plain, info = WhisperForConditionalGeneration.from_pretrained(folder, output_loading_info=True)
    assert not any(info.values()), info
    inputs = {"input_features": sound(3000, 0)[None], "decoder_input_ids": tokens(1, 5)}
    with torch.no_grad():
        assert torch.equal(plain(**inputs).logits, model(**inputs).logits)


def test_what_is_saved_works_in_a_pipeline(saved) -> None:
    _, folder = saved
    said = pipeline("automatic-speech-recognition", folder, device="cpu")(
        sound(2, 0).flatten()[:160].repeat(100).numpy(), generate_kwargs={"max_new_tokens": 4, "language": "en"}
    )
    assert isinstance(said["text"], str)


def test_what_is_saved_is_loaded_as_it_was_and_the_position_table_stays_frozen(saved) -> None:
    model, folder = saved
    loaded = load_model(folder)
    assert not hasattr(loaded, "ctc_head") and window_of(loaded) == "longest"
    table = loaded.get_encoder().embed_positions.weight
    assert not table.requires_grad
    before = table.clone()
    loaded.train()(**training_batch()).loss.backward()
    torch.optim.AdamW(loaded.parameters(), 0.1).step()
    assert torch.equal(table, before)
    assert torch.equal(before, model.get_encoder().embed_positions.weight)


def test_a_whisper_that_names_no_window_is_one_of_30_s() -> None:
    assert window_of(tiny_model(PROCESSOR)) == "30s"
