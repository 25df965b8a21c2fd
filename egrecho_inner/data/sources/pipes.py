"""Commands in `wav.scp` that end in `|`: four known programs in known forms, run without a shell, stored once as FLAC.

In: the command as written and the folders that relative paths may start from. Out: an argument list, or a `DataError`.
Nothing of the command reaches a shell or chooses a program by path; its one input file must exist and its output is
always the pipe. Anything else that such a corpus does (two stages, cat, scripts) is to be run by its owner beforehand.
"""

import hashlib
import io
import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import soundfile

from egrecho_inner.errors import DataError, MachineError
from egrecho_inner.runtime.files import atomic_file

PROGRAMS = ("sox", "sph2pipe", "flac", "ffmpeg")
TIMEOUT = 600  # seconds; hours of audio are decoded in less

# Options without a value, options with one, of each program. What is not here is refused: several options of these
# programs write files, open sockets or start other programs.
FLAGS = {
    "sox": {"-G", "-q", "-R", "-D", "-V0", "-V1"},
    "sph2pipe": {"-p", "-u", "-a"},
    "flac": {"-c", "-d", "-s", "-dc", "-cd", "-cds", "-cdS", "-dcs", "-scd", "--decode", "--stdout", "--silent"},
    "ffmpeg": {"-nostdin", "-hide_banner", "-vn", "-sn", "-dn", "-y"},
}
VALUES = {
    "sox": {"-t", "-r", "-b", "-c", "-e", "--rate", "--bits", "--channels", "--encoding", "--type"},
    "sph2pipe": {"-f", "-c", "-t", "-s"},
    "flac": set(),
    "ffmpeg": {
        "-v",
        "-loglevel",
        "-i",
        "-f",
        "-ac",
        "-ar",
        "-acodec",
        "-ab",
        "-c:a",
        "-codec:a",
        "-ss",
        "-t",
        "-to",
        "-map",
    },
}
SOX_EFFECTS = {"remix", "rate", "channels", "gain", "norm", "vol", "speed", "tempo", "trim", "dither", "dcshift"}
PLAYLISTS = {".m3u", ".m3u8", ".pls", ".ffconcat", ".txt"}  # sox and ffmpeg would open what they list
WORD = re.compile(r"[-+=.,:0-9A-Za-z_]+")  # of an option's value: no path, no protocol, no expression


def parse_pipe(command: str, roots: list[Path]) -> list[str]:
    """Turn a `wav.scp` command into an argument list that is safe to run.

    Args:
        command: as written, with or without the final `|`.
        roots: folders to look in for a relative input path, in this order.

    Raises:
        DataError: it is not one of the known forms; the message names what is not.
    """
    try:
        words = shlex.split(command.strip().removesuffix("|"))
    except ValueError as error:
        raise DataError(f"unbalanced quotes ({error})") from error
    if not words or words[0] not in PROGRAMS:
        raise DataError(f"'{words[0] if words else ''}' is not one of {', '.join(PROGRAMS)} (by name, not by path)")
    program, *rest = words
    find_input = {"sox": _sox_input, "ffmpeg": _ffmpeg_input, "flac": _flac_input, "sph2pipe": _sph2pipe_input}[program]
    files = find_input(rest)
    if len(files) != 1:
        raise DataError(f"expected one input file and the pipe, found {len(files)} files")
    source = find_file(rest[files[0]], roots)
    if source is None:
        raise DataError(f"no such file: {rest[files[0]]} (tried {' and '.join(map(str, roots))})")
    if not source.is_file():
        raise DataError(f"{source} is no regular file")
    if source.suffix.lower() in PLAYLISTS:
        raise DataError(f"{source} is a list of files")
    rest[files[0]] = str(source)  # absolute: no leading `-` or `|`, no protocol
    guard = ["-nostdin", "-protocol_whitelist", "file,pipe"] if program == "ffmpeg" else []
    return [program, *guard, *rest]


def transcode(id: str, arguments: list[str], folder: Path) -> Path:
    """Run a command of `parse_pipe` and keep what it writes as FLAC; done before on the same file, it is looked up.

    Args:
        id: of the recording; becomes a hash, never a file name.
        arguments: the program and its arguments.
        folder: where the FLAC files go.

    Raises:
        DataError: the program fails, or what it writes is no audio.
        MachineError: the program is not installed.
    """
    target = copy_name(id, arguments, folder, ".flac")
    if target.exists():
        return target
    if shutil.which(arguments[0]) is None:
        raise MachineError(f"wav.scp wants the program {arguments[0]}, which is not on PATH; install it, then repeat")
    try:
        done = subprocess.run(arguments, stdin=subprocess.DEVNULL, capture_output=True, timeout=TIMEOUT, check=False)
    except subprocess.TimeoutExpired as error:
        raise DataError(f"{arguments[0]} ran for more than {TIMEOUT} s") from error
    if done.returncode != 0:
        lines = done.stderr.decode(errors="replace").strip().splitlines() or ["no message"]
        raise DataError(f"{arguments[0]} failed with status {done.returncode}: {lines[-1][:200]}")
    try:
        with soundfile.SoundFile(io.BytesIO(done.stdout)) as file:
            samples, rate = file.read(dtype="int32", always_2d=True), file.samplerate
            subtype = "PCM_16" if file.subtype in ("PCM_16", "PCM_U8", "PCM_S8", "ULAW", "ALAW") else "PCM_24"
    except soundfile.LibsndfileError as error:
        raise DataError(f"{arguments[0]} wrote no audio that libsndfile can read") from error
    with atomic_file(target) as file:
        soundfile.write(file, samples, rate, format="FLAC", subtype=subtype)
    return target


def copy_name(id: str, words: list[str], folder: Path, ending: str) -> Path:
    """Name the copy of a recording after how it is made, and from what: another input file gives another name."""
    files = [os.stat(word) for word in words if word.startswith("/") and os.path.exists(word)]
    stamps = [f"{each.st_size} {each.st_mtime_ns}" for each in files]
    key = hashlib.blake2b("\0".join([id, *words, *stamps]).encode(), digest_size=16).hexdigest()
    return folder / f"{key}{ending}"


def find_file(path: str, roots: list[Path]) -> Path | None:
    """Return the first file of this path under the roots, absolute, of whatever kind; None if there is none."""
    for root in [Path("/")] if path.startswith("/") else roots:
        candidate = Path(root / path)
        if candidate.exists():
            return Path(*candidate.absolute().parts)
    return None


def _files(program: str, words: list[str]) -> list[int]:
    """Return the positions of words that are no options; refuse unknown options."""
    files, position = [], 0
    while position < len(words):
        word = words[position]
        if word in VALUES[program]:
            position += 1
            value = words[position] if position < len(words) else ""
            if not WORD.fullmatch(value) and word != "-i":
                raise DataError(f"option {word} of {program} with the value '{value}' is not allowed")
        elif word.startswith("-") and word != "-":
            if word not in FLAGS[program]:
                raise DataError(f"option {word} of {program} is not allowed")
        else:
            files.append(position)
        position += 1
    return files


def _sox_input(words: list[str]) -> list[int]:
    """Check `sox [options] FILE [options] -t wav - [effects]` and return the position of FILE."""
    if "-" not in words:
        raise DataError("sox must write to the pipe: sox FILE -t wav - |")
    output = words.index("-")
    files = _files("sox", words[:output])
    options = words[files[-1] + 1 : output] if files else []
    if ["-t", "wav"] not in [options[i : i + 2] for i in range(len(options))]:
        raise DataError("sox must write WAV to the pipe: sox FILE -t wav - |")
    effects = words[output + 1 :]
    for index, word in enumerate(effects):
        known = word in SOX_EFFECTS or (index > 0 and WORD.fullmatch(word) and (len(word) < 4 or not word.isalpha()))
        if not known:
            raise DataError(f"effect '{word}' of sox is not allowed")
    return files


def _ffmpeg_input(words: list[str]) -> list[int]:
    """Check `ffmpeg [options] -i FILE [options] -f wav [options] -` and return the position of FILE."""
    inputs = [position + 1 for position, word in enumerate(words) if word == "-i"]
    formats = [position for position, word in enumerate(words) if word == "-f"]
    form = words[formats[0] + 1 :][:1] if len(formats) == 1 else []
    if len(inputs) != 1 or form != ["wav"] or formats[0] < inputs[0] or words[-1] not in ("-", "pipe:1"):
        raise DataError("ffmpeg must read one file and write WAV to the pipe: ffmpeg -i FILE -f wav - |")
    if _files("ffmpeg", words[:-1]):
        raise DataError("ffmpeg may have no other output than the pipe")
    return inputs


def _flac_input(words: list[str]) -> list[int]:
    letters = "".join(word[1:] for word in words if re.fullmatch(r"-[a-zA-Z]+", word))
    if not (("c" in letters or "--stdout" in words) and ("d" in letters or "--decode" in words)):
        raise DataError("flac must decode to the pipe: flac -c -d -s FILE |")
    return _files("flac", words)


def _sph2pipe_input(words: list[str]) -> list[int]:
    return _files("sph2pipe", words)
