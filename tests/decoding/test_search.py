"""The search finds what Transformers' generate() finds, and each utterance is alone in its batch."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny import tiny_model, tiny_processor
from torch import Tensor
from transformers import BatchEncoding

from egrecho_inner.decoding.recognize import Found, Recognizer, label_encoder
from egrecho_inner.decoding.search import likeliest
from egrecho_inner.errors import ConfigError, ModelError
from egrecho_inner.model.whisper import Whisper

LENGTHS = torch.tensor([200, 180, 150, 120, 61])
LANGUAGES = ["en", "vi", "en", "zh", "ja"]
LIMITS = [40, 36, 40, 12, 40]


def batch(seed: int) -> tuple[Tensor, Tensor]:
    features = torch.randn(5, 80, 200, generator=torch.Generator().manual_seed(seed))
    return features, (torch.arange(200)[None] < LENGTHS[:, None]).long()


def recognise(model: Whisper, beams: int, seed: int = 0, **options: bool) -> list[Found]:
    labels = label_encoder(model, tiny_processor().tokenizer)
    with torch.no_grad():
        return Recognizer(model, labels, num_beams=beams, **options)(*batch(seed), LANGUAGES, LIMITS)


# endings: never, after some tokens, mostly at once
@pytest.mark.parametrize("ending", [0.0, 3.2, 3.6])
# generate() weighs the beams by probabilities that count forbidden tokens; OpenAI's Whisper and this search do not
@pytest.mark.parametrize(("beams", "timestamps"), [(1, False), (4, False), (1, True)])
def test_tokens_are_those_of_generate(ending: float, beams: int, timestamps: bool) -> None:
    model = tiny_model(tiny_processor(), ending=ending)
    features, mask = batch(0)
    found = recognise(model, beams, timestamps=timestamps)
    for row, each in enumerate(found):
        length = int(LENGTHS[row])
        ids = model.generate(
            features[row : row + 1, :, :length],
            attention_mask=mask[row : row + 1, :length],
            language=LANGUAGES[row],
            task="transcribe",
            num_beams=beams,
            max_new_tokens=LIMITS[row],
            return_timestamps=timestamps,
            force_unique_generate_call=True,
        )
        prefix = 3 + (not timestamps)
        assert each.tokens == [token for token in ids[0, prefix:].tolist() if token != model.config.eos_token_id]


@pytest.mark.parametrize("beams", [1, 4])
def test_batch_mates_change_nothing(beams: int) -> None:
    model = tiny_model(tiny_processor(), ending=3.2, seed=3)
    labels = label_encoder(model, tiny_processor().tokenizer)
    features, mask = batch(1)
    together = recognise(model, beams, seed=1)
    assert len({len(each.tokens) for each in together}) > 2  # they end at different times, or nothing is shown
    for row, each in enumerate(together):
        length = int(LENGTHS[row])
        with torch.no_grad():
            (alone,) = Recognizer(model, labels, num_beams=beams)(
                features[row : row + 1, :, :length], mask[row : row + 1, :length], [LANGUAGES[row]], [LIMITS[row]]
            )
        assert each.tokens == alone.tokens
        assert (each.truncated, each.language) == (alone.truncated, alone.language)
        assert each.avg_logprob == pytest.approx(alone.avg_logprob, abs=1e-4)


@pytest.mark.parametrize("beams", [1, 3])
def test_log_probability_is_that_of_the_tokens(beams: int) -> None:
    model = tiny_model(tiny_processor(), ending=3.2)
    labels = label_encoder(model, tiny_processor().tokenizer)
    features, mask = batch(0)
    for row, each in enumerate(recognise(model, beams)):
        said = each.tokens if each.truncated else [*each.tokens, labels.eot]
        prefix = labels.prefix(LANGUAGES[row])
        with torch.no_grad():
            logits = model(
                features[row : row + 1],
                attention_mask=mask[row : row + 1],
                decoder_input_ids=torch.tensor([[*prefix, *said[:-1]]]),
            ).logits[0, len(prefix) - 1 :]
        expected = logits.log_softmax(-1).gather(1, torch.tensor(said)[:, None]).mean()
        assert each.avg_logprob == pytest.approx(expected.item(), abs=1e-4)


def test_limits_truncate_and_say_so() -> None:
    found = recognise(tiny_model(tiny_processor(), ending=0.0), 1)
    assert [len(each.tokens) for each in found] == LIMITS
    assert all(each.truncated for each in found)
    ended = recognise(tiny_model(tiny_processor(), ending=9.0), 1)
    assert [each.tokens for each in ended] == [[]] * 5
    assert not any(each.truncated for each in ended)


def test_missing_languages_are_detected_as_transformers_does() -> None:
    model = tiny_model(tiny_processor(), seed=1)
    labels = label_encoder(model, tiny_processor().tokenizer)
    features, _ = batch(2)
    with torch.no_grad():
        found = Recognizer(model, labels)(features, None, [None, "vi", None, None, None], [5] * 5)
        ids = model.detect_language(features).tolist()
    names = [tiny_processor().tokenizer.convert_ids_to_tokens(token).strip("<|>") for token in ids]
    assert [each.language for each in found] == [names[0], "vi", *names[2:]]


def test_suppressed_tokens_never_come() -> None:
    model = tiny_model(tiny_processor())
    before = recognise(model, 1)
    common = max({token for each in before for token in each.tokens}, key=lambda t: sum(t in e.tokens for e in before))
    first = before[0].tokens[0]
    model.generation_config.suppress_tokens = [common, 10**6]
    model.generation_config.begin_suppress_tokens = [first]
    for beams in (1, 3):
        after = recognise(model, beams)
        assert not any(common in each.tokens for each in after)
        assert not any(each.tokens[0] == first for each in after)


def test_rows_without_a_token_are_never_said() -> None:
    model = tiny_model(tiny_processor())
    before = recognise(model, 1)
    model.resize_token_embeddings(1920, mean_resizing=False)
    with torch.no_grad():
        model.proj_out.weight[1866:] = 3 * model.proj_out.weight[before[0].tokens[0]]
    assert [each.tokens for each in recognise(model, 1)] == [each.tokens for each in before]


def test_old_forced_ids_are_not_obeyed() -> None:
    model = tiny_model(tiny_processor())
    before = recognise(model, 1)
    model.generation_config.forced_decoder_ids = [[1, 300], [2, 301]]
    assert [each.tokens for each in recognise(model, 1)] == [each.tokens for each in before]


def test_english_only_models_have_a_short_prefix() -> None:
    model = tiny_model(tiny_processor())
    model.generation_config.is_multilingual = False
    del model.generation_config.lang_to_id, model.generation_config.task_to_id
    labels = label_encoder(model, tiny_processor().tokenizer)
    recognizer = Recognizer(model, labels)
    assert recognizer.prefix_length == 2 == len(labels.prefix())
    features, mask = batch(0)
    with torch.no_grad():
        found = recognizer(features, mask, [None, "en", "en", None, None], LIMITS)
    ids = model.generate(features[:1], attention_mask=mask[:1], max_new_tokens=40, force_unique_generate_call=True)
    assert found[0].tokens == ids[0, 2:].tolist()
    with pytest.raises(ConfigError, match="English only"):
        label_encoder(model, tiny_processor().tokenizer, language="vi")


def test_a_tokenizer_of_another_model_is_refused() -> None:
    model = tiny_model(tiny_processor())

    class Longer(BatchEncoding):
        def __len__(self) -> int:
            return 51866

    with pytest.raises(ModelError, match="51866 tokens, the model 1866"):
        label_encoder(model, Longer())


@given(st.integers(1, 4), st.integers(1, 5000), st.integers(1, 10), st.integers(0, 99))
def test_the_likeliest_tokens_are_found_through_blocks(rows: int, size: int, count: int, seed: int) -> None:
    logits = torch.randn(rows, size, generator=torch.Generator().manual_seed(seed))
    logits[:, ::3] = -torch.inf
    count = min(count, size - len(range(0, size, 3)))  # of those that rules leave
    if count > 0:
        expected = logits.log_softmax(-1).topk(count)
        scores, tokens = likeliest(logits.clone(), count)
        assert torch.allclose(scores, expected.values, atol=1e-5)
        assert torch.equal(tokens, expected.indices)
