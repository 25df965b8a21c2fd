"""Miniatures of published test sets, laid out as they are published, each with its known trap."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
from lhotse import CutSet

from egrecho_inner.data.audio.load import load_audio
from egrecho_inner.data.sources.eval_sets import all_readers, long, short
from egrecho_inner.errors import ConfigError, DataError
from egrecho_inner.import_eval_set import import_eval_set
from egrecho_inner.runtime.ledger import read_ledger

CORAAL_REMARKS = "[We was] <laugh> at /unintelligible/ the (pause 0.5) /RD-NAME-2/ {noise} busses, she aksed /maybe/ me"
STM = """;; a comment
en_4156 A en_4156_A 0.5 1.5 <O,en,F,en-F> (%HESITATION) <B_ASIDE> OH YEAH (REA-)
en_4156 B en_4156_B 1.0 2.0 <O,en,M,en-M> {UM / @} WE'LL SEE
en_4156 B en_4156_B 2.0 2.5 <O,en,M,en-M> IGNORE_TIME_SEGMENT_IN_SCORING
sw_4390 A sw_4390_A 0.0 1.0 <O,sw,F,sw-F> RIGHT
"""


def tone(path: Path, seconds: float = 1.0, channels: int = 1, form: str | None = None) -> None:
    """Write sound whose channels differ: the second is twice as loud."""
    path.parent.mkdir(parents=True, exist_ok=True)
    one = 0.1 * np.sin(np.arange(int(16000 * seconds)) / 5)
    samples = np.stack([one * (place + 1) for place in range(channels)], axis=1)
    soundfile.write(path, samples, 16000, format=form or {".sph": "NIST"}.get(path.suffix))


def text(path: Path, content: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content, encoding="utf-8")


def table(path: Path, *rows: list[str], delimiter: str = "\t") -> None:
    text(path, "".join(delimiter.join(row) + "\n" for row in rows))


def librispeech(root: Path) -> None:
    for part, name in (("clean", "61-70968-0000"), ("other", "367-130732-0000")):
        speaker, chapter, _ = name.split("-")
        folder = root / "LibriSpeech" / f"test-{part}" / speaker / chapter
        text(folder / f"{speaker}-{chapter}.trans.txt", f"{name} HE BEGAN {part.upper()}\n")
        tone(folder / f"{name}.flac")


def tedlium(root: Path) -> None:
    stm = root / "TEDLIUM_release-3/legacy/test/stm/Talk_2010.stm"
    lines = [
        ("0.0 0.4", "<NA,x>", "ignore_time_segment_in_scoring"),
        ("0.5 1.0", "<o,f0,male>", "it 's <unk> fine"),
        ("1.2 2.5", "<o,f0,male>", "don 't stop"),
    ]
    text(stm, "".join(f"Talk_2010 1 Talk_2010 {times} {label} {words}\n" for times, label, words in lines))
    tone(root / "TEDLIUM_release-3/legacy/test/sph/Talk_2010.sph", 3.0)
    tone(root / "TEDLIUM_release-3/data/sph/Talk_2010.sph", 3.0)


def hub5(root: Path) -> None:
    text(root / "LDC2002T43/reference/hub5e00.english.000405.stm", STM)
    for name in ("en_4156", "sw_4390"):
        tone(root / f"LDC2002S09/hub5e_00/english/{name}.sph", 3.0, channels=2)


def wsj(root: Path) -> None:
    for part, id in (("test_eval92", "440c0401"), ("test_eval93", "4k0c0301")):
        tone(root / part / f"{id}.wav")
        text(root / part / "wav.scp", f"{id} {id}.wav\n")
        text(root / part / "text", f"{id} <NOISE> THE SALE\n")


def common_voice(root: Path) -> None:
    folder = root / "cv-corpus-5.1-2020-06-22/en"
    heads = ["client_id", "path", "sentence", "up_votes", "down_votes", "age", "gender", "accent"]
    rest = ["2", "0", "", "male", ""]
    quoted = '"She said ""no""."'
    table(
        folder / "test.tsv",
        heads,
        ["ab12", "common_voice_en_1.mp3", 'It"s "half', *rest],
        ["cd", "cv_2", quoted, *rest],
    )
    text(folder / "train.tsv", "another part\n")
    tone(folder / "clips/common_voice_en_1.mp3")
    tone(folder / "clips/cv_2.mp3")


def artie(root: Path) -> None:
    table(root / "artie-bias-corpus.tsv", ["client_id", "path", "sentence"], ["ab", "common_voice_en_7.mp3", "Yes."])
    tone(root / "common_voice_en_7.wav")  # published as WAV, listed as MP3


def coraal(root: Path) -> None:
    heads = ["segment_filename", "basefile", "start_time", "end_time", "source", "content"]
    remark = f'"{CORAAL_REMARKS}"'
    cut = ["a_part_1.wav", "DCB_se1_ag1_f_01_1", "0.1", "1.1", "DCB", remark]
    uncut = ["b_part_2.wav", "DCB_se1_ag1_f_01_1", "1.5", "2.5", "DCB", '"all, right"']
    table(root / "CORAAL_transcripts.csv", heads, cut, uncut, delimiter=",")
    tone(root / "CORAAL_audio/dcb/a_part_1.wav")
    tone(root / "DCB/DCB_se1_ag1_f_01_1.wav", 3.0)


def chime6(root: Path) -> None:
    common = {"session_id": "S01", "speaker": "P01"}
    lines = [
        {"start_time": "0:00:00.50", "end_time": "0:00:01.50", "words": "[noise] so [laughs] yes", **common},
        {"start_time": {"original": "0:00:09.00", "P01": "0:00:02.00"}, "end_time": {"original": "0:00:10.00"}}
        | {"words": "my [redacted] name", **common},
        {"start_time": "0:00:02.00", "end_time": "0:00:02.50", "words": "[inaudible 0:00:02.10]", **common},
        {"start_time": "0:00:03.00", "end_time": "0:00:04.00", "session_id": "S01"},
    ]
    lines[1]["end_time"]["P01"] = "0:00:03.00"
    text(root / "CHiME6/transcriptions/eval/S01.json", json.dumps(lines))
    text(root / "CHiME6/transcriptions/train/S03.json", "[]")
    tone(root / "CHiME6/audio/eval/S01_P01.wav", 5.0, channels=2)


def ami(root: Path) -> None:
    text(root / "annotations/eval/text", "AMI_EN2002A_H00_MEE068_0414915_0415078 OKAY\n")
    for microphone, part in (("h00", "ihm"), ("sdm", "sdm")):
        tone(root / f"audio/{part}/eval/EN2002a/eval_ami_en2002a_{microphone}_mee068_0414915_0415078.wav")


def voxpopuli(root: Path) -> None:
    heads = ["id", "raw_text", "normalized_text", "speaker_id", "split", "gender"]
    table(root / "en/asr_test.tsv", heads, ["2009-en_1", "", "the vote is closed", "1234", "test", "female"])
    tone(root / "en/test/test_part_0/2009-en_1.wav")


def fleurs(root: Path) -> None:
    rows = [[f"{1}", f"{name}.wav", '"Raw" one.', "raw one", "r a w", "16000", "MALE"] for name in ("111", "222")]
    table(root / "en_us/test.tsv", *rows)
    for name in ("111", "222"):
        tone(root / f"en_us/audio/test/{name}.wav")


def meanwhile(root: Path) -> None:
    videos = {"1Y-vj": {"begin": "0:01.0", "end": "0:03.5", "text": "FOLKS,\nTHIS IS IT\n"}}
    text(root / "meanwhile.json", json.dumps(videos))
    tone(root / "audio/1Y-vj.wav", 5.0)


def rev16(root: Path) -> None:
    for number in (*long.REV16, 5):
        text(root / f"{number}.txt", f"episode {number}\n")
        tone(root / f"{number}.mp3", 0.5)


def kincaid46(root: Path) -> None:
    heads = ["Ref ID", "Title", "Audio", "x", "y", "Ground truth"]
    row = ["2", '"One, two"', "a", "", "", '"first\nline"']
    table(root / "text.csv", heads, row, ["4", "b", "c", "", "", "second"], delimiter=",")
    for number in (0, 1):
        tone(root / f"audio/{number:02d}.wav", 0.5)


def earnings(root: Path) -> None:
    tokens = 'token|speaker|ts|endTs|punctuation|case|tags\nGood|0|||,|UC|[]\n<laugh>|0||||LC|[]\n"quote|1|||.|LC|[]\n'
    for name in ("earnings21", "earnings22"):
        text(root / f"{name}/transcripts/nlp_references/4320211.nlp", tokens)
        text(root / f"{name}/transcripts/force_aligned_nlp_references/4320211.nlp", "another\n")
        tone(root / f"{name}/media/4320211.mp3", 0.5)


def coraal_long(root: Path) -> None:
    heads = ["Line", "Spkr", "StTime", "Content", "EnTime"]
    lines = [["1", "ATL_int_01", "0.1", "So, [where]", "0.9"], ["2", "ATL_se0_ag1_f_01", "1.0", "(pause 0.3)", "1.2"]]
    last = ["3", "ATL_se0_ag1_f_01", "1.2", "[At] home.", "2.0"]
    table(root / "ATL_textfiles/ATL_se0_ag1_f_01_1.txt", heads, *lines, last)
    tone(root / "ATL_audio/ATL_se0_ag1_f_01_1.wav", 2.0)


SETS = {
    "librispeech-clean": (librispeech, [("HE BEGAN CLEAN", "61")], []),
    "librispeech-other": (librispeech, [("HE BEGAN OTHER", "367")], []),
    "tedlium": (tedlium, [("it's fine", "Talk_2010"), ("don't stop", "Talk_2010")], [short.IGNORED]),
    "wsj": (wsj, [("THE SALE", None), ("THE SALE", None)], []),
    "callhome": (hub5, [("OH YEAH", "en_4156-A"), ("UM WE'LL SEE", "en_4156-B")], [short.IGNORED]),
    "switchboard": (hub5, [("RIGHT", "sw_4390-A")], []),
    "common-voice": (common_voice, [('It"s "half', "ab12"), ('She said "no".', "cd")], []),
    "artie": (artie, [("Yes.", "ab")], []),
    "coraal": (
        coraal,
        [("all, right", "DCB_se1_ag1_f_01_1"), ("We was at the busses, she asked maybe me", "DCB_se1_ag1_f_01_1")],
        [],
    ),
    "chime6": (chime6, [("so yes", "P01")], ["nothing to score", "redacted"]),
    "ami-ihm": (ami, [("OKAY", "MEE068")], []),
    "ami-sdm": (ami, [("OKAY", "MEE068")], []),
    "voxpopuli": (voxpopuli, [("the vote is closed", "1234")], []),
    "fleurs": (fleurs, [("raw one", None)] * 2, []),
    "tedlium-long": (tedlium, [("it's fine don't stop", "Talk_2010")], []),
    "meanwhile": (meanwhile, [("FOLKS, THIS IS IT", None)], []),
    "rev16": (
        rev16,
        [(f"episode {number}", None) for number in long.REV16],
        ["audio and transcript do not agree"],
    ),
    "kincaid46": (kincaid46, [("first line", None), ("second", None)], []),
    "earnings21": (earnings, [('Good, "quote.', None)], []),
    "earnings22": (earnings, [('Good, "quote.', None)], []),
    "coraal-long": (coraal_long, [("So, where At home.", None)], []),
}


def imported(name: str, root: Path, out: Path) -> list:
    import_eval_set(name, str(root), str(out), jobs=1)
    return list(CutSet.from_file(out / f"{name}.jsonl.gz"))


def test_every_set_of_the_registry_is_tried() -> None:
    assert list(SETS) == list(all_readers())
    assert [name for name, entry in all_readers().items() if entry.long] == list(SETS)[14:]


@pytest.mark.parametrize("name", SETS)
def test_a_set_in_its_published_layout(name: str, tmp_path: Path) -> None:
    build, expected, excluded = SETS[name]
    build(tmp_path / "copy")
    cuts = imported(name, tmp_path / "copy", tmp_path / "out")
    spoken = [(cut.supervisions[0].text, cut.supervisions[0].speaker) for cut in cuts]
    assert sorted(spoken, key=str) == sorted(expected, key=str)
    assert len({cut.id for cut in cuts}) == len(cuts) == len({cut.supervisions[0].id for cut in cuts})
    assert all(cut.supervisions[0].language == "en" and len(load_audio(cut)) == cut.num_samples for cut in cuts)
    assert sorted(skip.reason for skip in read_ledger(tmp_path / "out/skipped.jsonl")) == sorted(excluded)


def test_each_side_of_a_call_is_heard_alone(tmp_path: Path) -> None:
    hub5(tmp_path)
    first, second = imported("callhome", tmp_path, tmp_path / "out")
    assert (first.start, first.duration, second.start, second.duration) == (0.5, 1.0, 1.0, 1.0)
    assert np.abs(load_audio(second)).max() == pytest.approx(2 * np.abs(load_audio(first)).max(), rel=0.01)


def test_a_talk_is_heard_from_its_first_scored_word_to_its_last(tmp_path: Path) -> None:
    tedlium(tmp_path)
    (cut,) = imported("tedlium-long", tmp_path, tmp_path / "out")
    assert (cut.start, cut.duration) == (0.5, 2.0)


def test_a_segment_of_a_video_is_heard_at_its_time(tmp_path: Path) -> None:
    meanwhile(tmp_path)
    (cut,) = imported("meanwhile", tmp_path, tmp_path / "out")
    assert (cut.start, cut.duration) == (1.0, 2.5)


def test_audio_of_the_web_is_decoded(tmp_path: Path) -> None:
    av = pytest.importorskip("av", reason="needs the extra web: pip install 'egrecho[web]'")
    kincaid46(tmp_path)
    for number in (0, 1):
        (tmp_path / f"audio/{number:02d}.wav").unlink()
        with av.open(str(tmp_path / f"audio/{number:02d}.m4a"), "w", format="mp4") as container:
            stream = container.add_stream("aac", rate=16000, layout="mono")
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 16000), np.float32) + 0.1, format="fltp", layout="mono")
            frame.sample_rate = 16000
            container.mux(stream.encode(frame))
            container.mux(stream.encode())
    assert [cut.duration for cut in imported("kincaid46", tmp_path, tmp_path / "out")] == pytest.approx([1, 1], abs=0.2)


def test_a_kaldi_folder_of_ami(tmp_path: Path) -> None:
    tone(tmp_path / "a.wav", 2.0)
    text(tmp_path / "wav.scp", "AMI_X a.wav\n")
    text(tmp_path / "segments", "u1 AMI_X 0.5 1.5\n")
    text(tmp_path / "text", "u1 OKAY\n")
    (cut,) = imported("ami-sdm", tmp_path, tmp_path / "out")
    assert (cut.start, cut.duration) == (0.5, 1.0)


def test_missing_audio_is_an_error_and_allowed_by_name(tmp_path: Path) -> None:
    fleurs(tmp_path)
    (tmp_path / "en_us/audio/test/222.wav").unlink()
    with pytest.raises(DataError, match="1 of 2 would be left out"):
        import_eval_set("fleurs", str(tmp_path), str(tmp_path / "out"))
    assert not (tmp_path / "out/fleurs.jsonl.gz").exists()
    import_eval_set("fleurs", str(tmp_path), str(tmp_path / "out"), max_skip_ratio=0.5)
    (skip,) = read_ledger(tmp_path / "out/skipped.jsonl")
    assert (skip.id, skip.stage) == ("222", "import fleurs")


def test_what_is_wrong_is_named_with_its_place(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="did you mean fleurs"):
        import_eval_set("fluers", str(tmp_path), str(tmp_path / "out"))
    with pytest.raises(DataError, match=r"no test-clean in it \(set librispeech-clean is laid out as Libri"):
        import_eval_set("librispeech-clean", str(tmp_path), str(tmp_path / "out"))
    hub5(tmp_path)
    stm = tmp_path / "LDC2002T43/reference/hub5e00.english.000405.stm"
    text(stm, STM + "en_1 A x 3.0 2.0 <O,en> BACKWARDS\n")
    with pytest.raises(DataError, match=r"000405.stm:6: a segment from 3 to 2 s"):
        import_eval_set("callhome", str(tmp_path), str(tmp_path / "out"))
    voxpopuli(tmp_path)
    table(tmp_path / "en/asr_test.tsv", ["id", "raw_text"], ["a", "b"])
    with pytest.raises(DataError, match=r"asr_test.tsv:1: no column normalized_text, speaker_id"):
        import_eval_set("voxpopuli", str(tmp_path), str(tmp_path / "out"))
    librispeech(tmp_path / "a")
    librispeech(tmp_path / "b")
    with pytest.raises(DataError, match="holds test-clean more than once"):
        import_eval_set("librispeech-clean", str(tmp_path), str(tmp_path / "out"))
