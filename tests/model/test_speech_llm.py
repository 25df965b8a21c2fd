"""A speech LLM of any encoder and any language model: counts, true lengths, batch mates, gradients, both searches."""

import pytest
import torch
from tiny import tiny_model, tiny_processor
from tiny_speech import LLM_KINDS, WAVE_KINDS, byte_tokenizer, tiny_llm, tiny_wave_encoder
from torch import Tensor, nn
from transformers import HubertConfig, LlamaConfig, LlamaForCausalLM, WavLMConfig, WhisperConfig

from egrecho_inner.decoding.causal import start
from egrecho_inner.decoding.search import beam, greedy
from egrecho_inner.model.audio_encoder import AudioEncoder, empty_encoder, shape_of
from egrecho_inner.model.projector import KINDS, make_projector
from egrecho_inner.model.speech_llm import SpeechLlm
from egrecho_inner.model.speech_options import ProjectorOptions, SpeechLossOptions
from egrecho_inner.text.prompt_options import PromptOptions
from egrecho_inner.text.prompts import AUDIO, PromptEncoder

OPTIONS = {
    "linear": ProjectorOptions(hidden=24),
    "cov1d": ProjectorOptions("cov1d", hidden=24),
    "q-former": ProjectorOptions("q-former", layers=1, queries=4),
    "mlp": ProjectorOptions("mlp", stride=8),
    "swiglu": ProjectorOptions("swiglu", stride=8, hidden=24),
}
VICUNA = LlamaConfig(vocab_size=32000, hidden_size=4096, intermediate_size=11008, num_hidden_layers=32)


def whisper_encoder() -> AudioEncoder:
    model = tiny_model(tiny_processor())
    return AudioEncoder(model.get_encoder(), shape_of(model.config))


def speech_llm(encoder: AudioEncoder, llm: str = "llama", projector: str = "linear", **loss: float) -> SpeechLlm:
    torch.manual_seed(3)
    made = tiny_llm(llm)
    joined = make_projector(OPTIONS[projector], encoder.width, 32)
    return SpeechLlm(made, encoder, joined, SpeechLossOptions(**loss), byte_tokenizer().pad_token_id).eval()


def audio(encoder: AudioEncoder, lengths: list[int], seed: int = 0) -> dict[str, Tensor]:
    """Make windows of noise of these lengths, one for each utterance, with noise behind their ends, too."""
    generator = torch.Generator().manual_seed(seed)
    bins = (80,) if encoder.shape.kind == "mel" else ()
    rows = [torch.randn(*bins, max(lengths), generator=generator) for _ in lengths]
    mask = torch.arange(max(lengths))[None] < torch.tensor(lengths)[:, None]
    return {
        "input_features": torch.stack(rows),
        "attention_mask": mask.long(),
        "windows": torch.ones(len(lengths), dtype=torch.long),
    }


def tokens(texts: list[str], template: str = "{audio}{bos}Q: {prompt} A:") -> dict[str, Tensor]:
    labels = PromptEncoder(byte_tokenizer(), PromptOptions(template=template))
    padded = labels.pad([labels.encode(text) for text in texts])
    return {name: torch.tensor(rows) for name, rows in padded.items()}


def encoders() -> dict[str, AudioEncoder]:
    return {"whisper": whisper_encoder(), **{kind: tiny_wave_encoder(kind) for kind in WAVE_KINDS}}


def test_places_equal_vectors_for_any_length_and_projector() -> None:
    generator = torch.Generator().manual_seed(0)
    encoder = tiny_wave_encoder("wavlm")
    for kind in KINDS:
        projector = make_projector(OPTIONS[kind], encoder.width, 32).eval()
        for length in torch.randint(400, 9000, (40,), generator=generator).tolist():
            with torch.no_grad():
                frames = encoder(torch.randn(1, length), torch.ones(1, length, dtype=torch.long)).last_hidden_state
                vectors, counts = projector(frames, encoder.shape.frames(torch.tensor([length])))
            assert frames.shape[1] == encoder.shape.frames(length), (kind, length)
            assert vectors.shape[1] == int(counts) == projector.reduction(frames.shape[1]), (kind, length)


@pytest.mark.parametrize("kind", WAVE_KINDS)
def test_frames_of_waves_are_the_librarys(kind: str) -> None:
    encoder = tiny_wave_encoder(kind)
    heard = audio(encoder, [17301])
    with torch.no_grad():
        ours = encoder(heard["input_features"], heard["attention_mask"]).last_hidden_state
        theirs = encoder.model(heard["input_features"]).last_hidden_state
    assert torch.allclose(ours, theirs, atol=1e-5)


@pytest.mark.parametrize("kind", ["whisper", *WAVE_KINDS])
@pytest.mark.parametrize("projector", ["linear", "q-former"])
def test_an_utterance_alone_equals_itself_among_longer_ones(kind: str, projector: str) -> None:
    model = speech_llm(encoders()[kind], projector=projector)
    lengths = [61, 173, 240] if kind == "whisper" else [6100, 17301, 24007]
    heard, said = audio(model.encoder, lengths), tokens(["one", "two three", "four"])
    with torch.no_grad():
        together = model(**said, **heard).logits
        alone = []
        for row, length in enumerate(lengths):
            own = {
                "input_features": heard["input_features"][row : row + 1, ..., :length],
                "attention_mask": heard["attention_mask"][row : row + 1, :length],
                "windows": heard["windows"][:1],
            }
            alone.append(model(**{name: rows[row : row + 1] for name, rows in said.items()}, **own).logits)
    assert torch.allclose(together, torch.cat(alone), atol=2e-4), (together - torch.cat(alone)).abs().max()


@pytest.mark.parametrize("llm", LLM_KINDS)
@pytest.mark.parametrize("kind", ["whisper", *WAVE_KINDS])
def test_one_step_trains_the_projector_alone_and_both_searches_decode(kind: str, llm: str) -> None:
    model = speech_llm(encoders()[kind], llm)
    model.encoder.requires_grad_(False)
    model.llm.requires_grad_(False)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model.train()
    assert not model.encoder.model.training  # or dropout and dropped layers would change what frozen means
    assert not model.llm.training
    lengths = [170, 240] if kind == "whisper" else [17301, 24007]
    heard = audio(model.encoder, lengths)
    optimizer = torch.optim.AdamW([each for each in model.parameters() if each.requires_grad], lr=1e-2)
    model(**tokens(["one", "two three"]), **heard).loss.backward()
    optimizer.step()
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert {name.split(".")[0] for name in changed} == {"projector"}
    model.eval()
    with torch.no_grad():
        found = decode(model, heard, beams=1), decode(model, heard, beams=4)
        single = [decode(model, {name: rows[:1] for name, rows in heard.items()}, beams=beams) for beams in (1, 4)]
    for together, first in zip(found, single, strict=True):
        assert together[0] == first[0]


def decode(model: SpeechLlm, heard: dict[str, Tensor], beams: int, limit: int = 8) -> list[list[int]]:
    labels = PromptEncoder(byte_tokenizer(), PromptOptions(template="{audio}{bos}Q: {prompt} A:"))
    ids = torch.tensor([labels.before("hm")[0]] * len(heard["windows"]))
    vectors = model.listen(
        **{"features": heard["input_features"], "mask": heard["attention_mask"]}, windows=heard["windows"]
    )
    embedded, _ = model.splice(ids, vectors)
    lengths = torch.tensor([ids.shape[1] - 1 + len(each) for each in vectors])
    rows, logits = start(model.llm, embedded, lengths)
    limits = torch.full((len(ids),), limit)
    found = (
        greedy(rows, logits, limits, lambda _, scores: scores, labels.eos)
        if beams == 1
        else beam(rows, logits, limits, lambda _, scores: scores, labels.eos, beams)
    )
    return [each.tokens for each in found]


@pytest.mark.parametrize("llm", LLM_KINDS)
def test_greedy_search_is_the_librarys(llm: str) -> None:
    model = speech_llm(whisper_encoder(), llm)
    heard = audio(model.encoder, [240])
    labels = PromptEncoder(byte_tokenizer(), PromptOptions(template="{audio}{bos}Q: {prompt} A:"))
    with torch.no_grad():
        vectors = model.listen(heard["input_features"], heard["attention_mask"], heard["windows"])
        embedded, _ = model.splice(torch.tensor([labels.before("hm")[0]]), vectors)
        theirs = model.llm.generate(
            inputs_embeds=embedded, max_new_tokens=8, do_sample=False, eos_token_id=labels.eos, pad_token_id=labels.eos
        )[0].tolist()
        assert decode(model, heard, beams=1)[0] == [each for each in theirs if each != labels.eos]


def test_several_windows_stand_one_behind_the_other() -> None:
    model = speech_llm(whisper_encoder())
    heard = audio(model.encoder, [100, 60, 240])
    heard["windows"] = torch.tensor([2, 1])
    with torch.no_grad():
        first, second = model.listen(heard["input_features"], heard["attention_mask"], heard["windows"])
    assert len(first) == 10 + 6
    assert len(second) == 24


def test_two_places_for_one_recording_are_refused() -> None:
    model = speech_llm(whisper_encoder())
    with pytest.raises(ValueError, match="2 places"):
        model.splice(torch.tensor([[AUDIO, 3, AUDIO]]), [torch.zeros(2, 32)])


def test_padding_is_not_in_the_loss_and_tokens_of_the_global_batch_are_its_mean() -> None:
    model = speech_llm(whisper_encoder()).train()
    heard, said = audio(model.encoder, [61, 240]), tokens(["one", "two three"])
    whole = model(**said, **heard, num_items_in_batch=10).loss
    parts = []
    for row, length in enumerate([61, 240]):
        own = {name: rows[row : row + 1] for name, rows in (said | heard).items()}
        own["input_features"], own["attention_mask"] = (
            own["input_features"][..., :length],
            own["attention_mask"][:, :length],
        )
        parts.append(model(**own, num_items_in_batch=10).loss)
    assert torch.allclose(whole, sum(parts), atol=1e-5)


def test_kl_is_zero_where_the_audio_is_the_texts_own_embeddings_and_ctc_falls() -> None:
    model = speech_llm(whisper_encoder(), kl_weight=1.0, ctc_weight=1.0)
    said = tokens(["one", "two three"])
    words = [row[row >= 0][:-1] for row in said["labels"]]
    own = [model.llm.get_input_embeddings()(each) for each in words]
    embedded, labels = model.splice(said["input_ids"], own, said["labels"])
    logits, _ = model.text_logits(embedded, labels)
    assert abs(float(model.divergence(logits.detach(), said["input_ids"], said["labels"]))) < 1e-3
    stretched = [each.repeat_interleave(2, 0) for each in own]
    blank = model.llm.get_input_embeddings().weight[model.blank][None]
    apart = [torch.stack([each, blank.expand_as(each)], 1).flatten(0, 1) for each in own]
    assert float(model.ctc(apart, said["labels"])) < float(
        model.ctc([each.flip(0) for each in stretched], said["labels"])
    )


@pytest.mark.parametrize(
    ("config", "count"),
    [
        (WavLMConfig(hidden_size=1024, num_hidden_layers=24, num_attention_heads=16), 18_880_512),
        (HubertConfig(hidden_size=1280, num_hidden_layers=48, num_attention_heads=16), 21_501_952),
        (WhisperConfig(d_model=1280, encoder_layers=32, encoder_attention_heads=20, num_mel_bins=128), 21_501_952),
    ],
)  # fmt: skip
def test_published_projectors_have_their_published_size(config: nn.Module, count: int) -> None:
    with torch.device("meta"):
        encoder = empty_encoder(config)
        projector = make_projector(ProjectorOptions(), encoder.width, VICUNA.hidden_size)
        llm = LlamaForCausalLM(VICUNA)
    assert sum(each.numel() for each in projector.parameters()) == count
    assert sum(each.numel() for each in llm.parameters()) == 6_738_415_616
    narrow = make_projector(ProjectorOptions("cov1d"), 1024, 4096)
    assert sum(each.numel() for each in narrow.parameters()) == 15_735_808
