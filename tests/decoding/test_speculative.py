"""Speculative decoding says what the teacher says, whatever the student proposes."""

import pytest
import torch
from tiny import speech_cuts, tiny_model, tiny_processor

from egrecho_inner.data.cuts.index import CutIndex
from egrecho_inner.decoding.pieces import load_pieces, to_tensors
from egrecho_inner.decoding.recognize import Recognizer
from egrecho_inner.decoding.speculative import SpeculativeRecognizer
from egrecho_inner.errors import ConfigError
from egrecho_inner.model.student import make_student
from egrecho_inner.text.labels import LabelEncoder


@pytest.fixture(scope="module")
def cuts(tmp_path_factory: pytest.TempPathFactory) -> CutIndex:
    return CutIndex(speech_cuts(tmp_path_factory.mktemp("cuts"), 10))


@pytest.mark.parametrize("timestamps", [False, True])
@pytest.mark.parametrize("kind", ["equal", "shallow", "stranger", "limited"])
def test_the_result_is_the_teachers(cuts: CutIndex, kind: str, timestamps: bool) -> None:
    processor = tiny_processor()
    teacher = tiny_model(processor, seed=3, ending=3.1)
    if kind == "stranger":  # another encoder, other words: everything is refused
        student = tiny_model(processor, seed=4, ending=3.1)
    else:
        student, _ = make_student(teacher, [0, 1], [0, 1] if kind == "equal" else [1])
    labels = LabelEncoder(processor.tokenizer, "en")
    alone = Recognizer(teacher, labels, timestamps=timestamps)
    together = SpeculativeRecognizer(teacher, student, labels, draft_tokens=4, timestamps=timestamps)
    assert together.shared is (kind != "stranger")
    limit = 1 if kind == "limited" else 40
    with torch.no_grad():
        for position in range(len(cuts)):
            pieces = load_pieces(cuts[position], position, 80)
            features, mask = to_tensors(pieces, False, torch.device("cpu"), torch.float32)
            for most in (limit, 7):
                (expected,) = alone(features, mask, ["en"], [most])
                (found,) = together(features, mask, ["en"], [most])
                assert found.tokens == expected.tokens
                assert found.truncated is expected.truncated
                assert found.avg_logprob == pytest.approx(expected.avg_logprob, abs=1e-4)
    passes = together.passes
    if kind == "equal":  # nearly every proposal is taken: far fewer passes than tokens
        assert passes.accepted > 0.95 * (passes.proposed - len(cuts) * 8)
        assert passes.teacher < 0.5 * passes.tokens
    assert passes.accepted <= passes.proposed


def test_batches_and_foreign_students_are_refused() -> None:
    processor = tiny_processor()
    teacher = tiny_model(processor)
    labels = LabelEncoder(processor.tokenizer, "en")
    together = SpeculativeRecognizer(teacher, teacher, labels)
    with pytest.raises(ConfigError, match="one utterance"):
        together(torch.zeros(2, 80, 100), None, ["en", "en"], [5, 5])
    with pytest.raises(ConfigError, match="num_mel_bins"):
        SpeculativeRecognizer(teacher, tiny_model(tiny_processor(128)), labels)
