"""A look at an uploaded folder, in a process of its own: `python -m egrecho_inner.serve.inspect DIR OPTIONS`.

In: a folder of recordings, options as JSON. Out: one JSON object on stdout: every recording with its split, seconds and
text, what cannot be used and why, what is wrong altogether. Audio headers of strangers are read here under limits of
memory and time, so that a file made to break a decoder breaks this process and not the server.
"""

import json
import resource
import subprocess
import sys
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

from egrecho_inner.text.constants import WINDOW_SECONDS

MEMORY, CPU_SECONDS, WALL_SECONDS = 4_000_000_000, 120, 180
RATES, CHANNELS, CLIP_SECONDS = (4_000, 192_000), 8, 3600.0


def inspect(folder: Path, options: dict[str, Any], audio_hours: float) -> dict[str, Any]:
    """Look at a folder in another process.

    Returns:
        The report; with `error` alone where the folder cannot be used.
    """
    command = [sys.executable, "-m", "egrecho_inner.serve.inspect", str(folder), json.dumps(options), str(audio_hours)]
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=WALL_SECONDS)
        return json.loads(done.stdout)
    except subprocess.TimeoutExpired:
        return {"error": "looking at the recordings took too long; send fewer or other files"}
    except ValueError:
        return {"error": "a recording broke the look at it; send plain WAV or FLAC"}


def main() -> None:
    """Print the report of the folder that the command line names."""
    with suppress(ValueError, OSError):  # a lower limit is in force already
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
    folder, options, hours = Path(sys.argv[1]), json.loads(sys.argv[2]), float(sys.argv[3])
    print(json.dumps(report(folder, options, hours)))


def report(folder: Path, options: dict[str, Any], hours: float) -> dict[str, Any]:
    """Return what is in a folder."""
    from egrecho_inner.data.sources.folder import SplitOptions, read_folder
    from egrecho_inner.errors import UserError
    from egrecho_inner.runtime.ledger import Ledger

    ledger = Ledger(folder / "skipped.jsonl")  # never written
    try:
        data = read_folder(folder, SplitOptions(**options), ledger)
        recordings = []
        for uid, clip in data.clips.items():
            seconds, fault = look(clip.path)
            part = data.splits.get(uid) or f"fold {data.folds[uid]}"
            row = {"uid": uid, "file": clip.path.name, "text": clip.text, "split": part, "seconds": round(seconds, 2)}
            recordings.append(row | ({"fault": fault} if fault else {}))
    except UserError as error:
        return {"error": str(error).replace(f"{folder}/", "").replace(str(folder), "the upload")}
    usable = [row for row in recordings if "fault" not in row]
    total = sum(row["seconds"] for row in usable)
    if total > 3600 * hours:
        return {"error": f"{total / 3600:.1f} hours of audio, more than the {hours:g} that one job may have"}
    if not usable:
        return {"error": f"no recording can be used; the first: {recordings[0]['file']} {recordings[0]['fault']}"}
    return {
        "recordings": recordings,
        "seconds": round(total, 1),
        "splits": dict(sorted(Counter(row["split"] for row in usable).items())),
        "skipped": [{"uid": skip.id, "reason": skip.reason} for skip in ledger.skips],
        "notes": data.notes,
    }


def look(path: Path) -> tuple[float, str]:
    """Return the seconds of a recording by its header, and what is wrong with it."""
    from egrecho_inner.data.audio.files import probe
    from egrecho_inner.data.sources.containers import SUFFIXES, container_of
    from egrecho_inner.errors import DataError

    if path.suffix.lower() in SUFFIXES:
        with open(path, "rb") as file:
            return 0.0, "" if container_of(file.read(64)) else f"is not {path.suffix} inside"
    try:
        info = probe(path)
    except DataError as error:
        return 0.0, str(error).rpartition(": ")[2]
    if info.num_samples == 0:
        return 0.0, "holds 0 samples"
    if not RATES[0] <= info.sampling_rate <= RATES[1] or info.channels > CHANNELS:
        return 0.0, f"has {info.sampling_rate} Hz and {info.channels} channels"
    if info.duration > CLIP_SECONDS:
        return 0.0, f"claims {info.duration / 3600:.0f} hours"
    return info.duration, "is longer than 30 s" if info.duration > WINDOW_SECONDS else ""


if __name__ == "__main__":
    main()
