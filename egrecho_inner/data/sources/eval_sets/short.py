"""The fourteen short test sets of published English tables, each from a local copy as it is published.

The parts of each set and their preparation are those of the evaluation of Whisper (Radford et al. 2022, appendix A.1;
`data/README.md` of its repository). Archives are to be unpacked, audio may be in any folder below the one given.
"""

import json
from pathlib import Path

from egrecho_inner.data.sources.eval_sets import clean
from egrecho_inner.data.sources.eval_sets.listing import AudioFiles, EvalSet, find_one, reader
from egrecho_inner.data.sources.eval_sets.tables import read_rows, read_stm, to_seconds
from egrecho_inner.data.sources.findings import Findings
from egrecho_inner.data.sources.kaldi import read_data_dir
from egrecho_inner.data.sources.scan import find_sources
from egrecho_inner.errors import DataError

IGNORED = "not scored by the set's own rule"


def read_librispeech(folder: Path, found: EvalSet) -> None:
    """Read `SPEAKER/CHAPTER/*.trans.txt` beside FLAC."""
    for path in sorted(folder.rglob("*.trans.txt")):
        for line in path.read_text(encoding="utf-8").splitlines():
            name, _, text = line.partition(" ")
            found.add(name, path.parent / f"{name}.flac", text, speaker=name.split("-")[0])


@reader("librispeech-clean", "Libri-clean", "LibriSpeech/test-clean/SPEAKER/CHAPTER/{*.trans.txt,*.flac}")
def read_librispeech_clean(root: Path, found: EvalSet) -> None:
    """Read test-clean only, though test-other lies beside it."""
    read_librispeech(find_one(root, "test-clean"), found)


@reader("librispeech-other", "Libri-other", "LibriSpeech/test-other/SPEAKER/CHAPTER/{*.trans.txt,*.flac}")
def read_librispeech_other(root: Path, found: EvalSet) -> None:
    """Read test-other only."""
    read_librispeech(find_one(root, "test-other"), found)


@reader("tedlium", "TED-LIUM3", "TEDLIUM_release-3/legacy/test/{stm/*.stm,sph/*.sph}")
def read_tedlium(root: Path, found: EvalSet) -> None:
    """Read the segments of the talks; those that are not to be scored are listed as excluded."""
    folder = find_one(root, "test/stm")
    files = AudioFiles(folder.parent)
    for path in sorted(folder.glob("*.stm")):
        for line in read_stm(path):
            if line.ignored:
                found.exclude(line.id, IGNORED, line.end - line.start)
                continue
            place = {"recording": line.name, "start": line.start, "end": line.end, "speaker": line.speaker}
            found.add(line.id, files.find(f"{line.name}.sph"), clean.tedlium(line.text), **place)


@reader("wsj", "WSJ", "a Kaldi folder (wav.scp, text), or test_eval92 and test_eval93 as Kaldi's s5 recipe makes them")
def read_wsj(root: Path, found: EvalSet) -> None:
    """Read what Kaldi's recipe made; its wav.scp usually has commands."""
    for folder in [root] if (root / "wav.scp").is_file() else sorted(root.glob("test_eval*")) or [root]:
        read_kaldi(folder, found)


def read_kaldi(folder: Path, found: EvalSet) -> None:
    """Read a Kaldi folder, its noise marks dropped."""
    findings = Findings()
    data = read_data_dir(folder, findings, found.language)
    findings.raise_errors()
    sources = {source.id: source for source in find_sources(data, findings, found.copies, found.allow_pipes)}
    findings.raise_errors()
    for each in data.utterances:
        place = {"recording": each.recording_id, "start": each.start, "end": each.end}
        who = {"speaker": each.speaker, "gender": each.gender}
        found.add(each.id, sources[each.recording_id], clean.wsj(each.text), **place, **who)


def read_hub5(root: Path, found: EvalSet, prefix: str) -> None:
    """Read the calls of one of the two corpora in Hub5 2000: one STM has both, each side is a channel of the file."""
    path = find_one(root, "hub5e00.english.000405.stm")
    files = AudioFiles(root)
    for line in read_stm(path):
        if not line.name.startswith(prefix):
            continue
        if line.ignored:
            found.exclude(line.id, IGNORED, line.end - line.start)
            continue
        if line.channel not in ("A", "B"):
            raise DataError(f"{line.where}: channel '{line.channel}'; expected A or B")
        side = f"{line.name}-{line.channel}"
        place = {"recording": side, "start": line.start, "end": line.end, "speaker": side}
        channel = "0" if line.channel == "A" else "1"
        found.add(line.id, files.find(f"{line.name}.sph"), clean.hub5(line.text), **place, channel=channel)


@reader("callhome", "CallHome", "LDC2002S09 (hub5e_00/english/en_*.sph) and LDC2002T43 (reference/*.stm) in one folder")
def read_callhome(root: Path, found: EvalSet) -> None:
    """Read the CallHome half (`en_`)."""
    read_hub5(root, found, "en_")


@reader("switchboard", "Switchboard", "LDC2002S09 (hub5e_00/english/sw_*.sph) and LDC2002T43 (reference/*.stm)")
def read_switchboard(root: Path, found: EvalSet) -> None:
    """Read the Switchboard half (`sw_`)."""
    read_hub5(root, found, "sw_")


def read_common_voice_table(path: Path, root: Path, found: EvalSet) -> None:
    """Read `client_id path sentence`; a path may lack its ending, a sentence may be exported in quotes."""
    files = AudioFiles(root)
    for row in read_rows(path, ["client_id", "path", "sentence"]):
        values = row.values
        name = Path(values["path"]).name.removesuffix(".mp3").removesuffix(".wav")
        who = {"speaker": values["client_id"][:16], "gender": values.get("gender")}
        found.add(name, files.find(values["path"]), clean.common_voice(values["sentence"]), **who)


@reader("common-voice", "CV5.1", "cv-corpus-5.1-2020-06-22/en/{test.tsv,clips/*.mp3}")
def read_common_voice(root: Path, found: EvalSet) -> None:
    """Read English Common Voice 5.1, part test."""
    folder = root if (root / "test.tsv").is_file() else find_one(root, "en/test.tsv").parent
    read_common_voice_table(folder / "test.tsv", folder, found)


@reader("artie", "Artie", "artie-bias-corpus/{artie-bias-corpus.tsv,*.wav}")
def read_artie(root: Path, found: EvalSet) -> None:
    """Read the Artie bias corpus, a part of Common Voice with who speaks."""
    path = find_one(root, "artie-bias-corpus.tsv")
    read_common_voice_table(path, path.parent, found)


@reader("coraal", "CORAAL", "CORAAL_transcripts.csv of FairSpeech, and its snippets or the interviews' WAV")
def read_coraal(root: Path, found: EvalSet) -> None:
    """Read FairSpeech's snippets of CORAAL, cut already or by their times in the interview."""
    files = AudioFiles(root)
    for row in read_rows(find_one(root, "CORAAL_transcripts.csv"), ["segment_filename", "content"], ",", quoted=True):
        values = row.values
        name = Path(values["segment_filename"]).stem
        interview = values.get("basefile") or ""
        text = clean.coraal(values["content"])
        if (snippet := files.find(values["segment_filename"])).is_file():
            found.add(name, snippet, text, speaker=interview or None)
        elif interview and "start_time" in values and "end_time" in values:
            start, end = (to_seconds(values[key], row.where) for key in ("start_time", "end_time"))
            place = {"recording": interview, "start": start, "end": end, "speaker": interview}
            found.add(name, files.find(f"{interview}.wav"), text, **place)
        else:
            raise DataError(f"{row.where}: no file {values['segment_filename']}, and no basefile with times to cut it")


@reader("chime6", "CHiME6", "CHiME6/{transcriptions/eval/*.json,audio/eval/S??_P??.wav}")
def read_chime6(root: Path, found: EvalSet) -> None:
    """Read the close-talking recordings of part eval; lines with a redacted part are not scored."""
    folder = find_one(root, "transcriptions/eval")
    files = AudioFiles(folder.parents[1] / "audio")
    for path in sorted(folder.glob("*.json")):
        try:
            lines = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise DataError(f"{path} is not JSON ({error})") from error
        for number, line in enumerate(lines):
            where = f"{path}, item {number}"
            if "speaker" not in line:  # in CHiME-5's files, pauses for private talk
                continue
            try:
                speaker, session, words = line["speaker"], line["session_id"], line["words"]
                start, end = (to_seconds(on_clock(line[key], speaker), where) for key in ("start_time", "end_time"))
            except KeyError as error:
                raise DataError(f"{where}: no {error}") from error
            name = f"{session}_{speaker}"
            id = f"{name}-{round(100 * start):07d}-{round(100 * end):07d}"
            if "[redacted]" in words:
                found.exclude(id, "redacted", end - start)
                continue
            place = {"recording": name, "start": start, "end": end, "speaker": speaker}
            found.add(id, files.find(f"{name}.wav"), clean.chime6(words), **place)


def on_clock(time: str | dict[str, str], speaker: str) -> str:
    """Return a time by the speaker's own recorder; CHiME-6 has one clock, CHiME-5 one for each."""
    return time if isinstance(time, str) else time.get(speaker) or time["original"]


def read_ami(root: Path, found: EvalSet, microphone: str) -> None:
    """Read `eval/text`, one for all microphones: speaker and times are in the id, the file's name has the microphone.

    Where there is a wav.scp instead, it is what Kaldi's recipe made of one microphone.
    """
    if (root / "wav.scp").is_file():
        read_kaldi(root, found)
        return
    path = find_one(root, "eval/text")
    files = AudioFiles(root)
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        id, _, text = line.partition(" ")
        parts = id.split("_")
        if len(parts) != 6:
            raise DataError(f"{path}:{number}: id '{id}'; expected AMI_MEETING_MICROPHONE_SPEAKER_BEGIN_END")
        parts[2] = microphone or parts[2]
        name = "_".join(parts)
        found.add(name, files.find(f"eval_{name.lower()}.wav"), text, speaker=parts[3])


@reader("ami-ihm", "AMI-IHM", "annotations/eval/text and audio/ihm/eval/MEETING/eval_ami_*.wav, or a Kaldi folder")
def read_ami_ihm(root: Path, found: EvalSet) -> None:
    """Read the headsets."""
    read_ami(root, found, "")


@reader("ami-sdm", "AMI-SDM", "annotations/eval/text and audio/sdm/eval/MEETING/eval_ami_*.wav, or a Kaldi folder")
def read_ami_sdm(root: Path, found: EvalSet) -> None:
    """Read the one distant microphone, whose ids differ from those of the text."""
    read_ami(root, found, "SDM")


@reader("voxpopuli", "VoxPop", "en/{asr_test.tsv,test/**/*.wav} or transcribed_data/en/{asr_test.tsv,YEAR/*.ogg}")
def read_voxpopuli(root: Path, found: EvalSet) -> None:
    """Read the normalised text; the raw one is empty for many lines."""
    path = find_one(root, "asr_test.tsv")
    files = AudioFiles(path.parent)
    for row in read_rows(path, ["id", "normalized_text", "speaker_id"]):
        name = row.values["id"]
        who = {"speaker": row.values["speaker_id"], "gender": row.values.get("gender")}
        found.add(name, files.find(f"{name}.wav"), row.values["normalized_text"], **who)


FLEURS = ("id", "file_name", "raw_transcription", "transcription", "characters", "num_samples", "gender")


@reader("fleurs", "Fleurs", "en_us/{test.tsv,audio/test/*.wav}")
def read_fleurs(root: Path, found: EvalSet) -> None:
    """Read the test part; a sentence's id is that of all who read it, so the file's name is the id here."""
    path = root / "test.tsv" if (root / "test.tsv").is_file() else find_one(root, "en_us/test.tsv")
    files = AudioFiles(path.parent)
    for row in read_rows(path, FLEURS[:4], heads=FLEURS):
        name = row.values["file_name"]
        found.add(Path(name).stem, files.find(name), row.values["transcription"], gender=row.values.get("gender"))
