"""A process that transcribes: `python -m egrecho_inner.serve.speech`, started by the server when someone asks.

In: JSON lines on stdin: models by name, an audio file, a language. Out: a JSON line on stdout for each: the texts by
name, or an error. Models stay loaded; the server ends the process when nobody asks any more.
"""

import json
import sys
from pathlib import Path
from typing import Any

KEPT = 4
"""Models that stay loaded."""


def main() -> None:
    """Answer until the input ends."""
    loaded: dict[str, Any] = {}
    for line in sys.stdin:
        asked = json.loads(line)
        try:
            answer = {"texts": transcribe_file(asked, loaded)}
        except Exception as error:  # one recording that cannot be read is no reason to end
            answer = {"error": str(error)[:300]}
        print(json.dumps(answer), flush=True)


def transcribe_file(asked: dict[str, Any], loaded: dict[str, Any]) -> dict[str, str]:
    """Transcribe one file with every model.

    Raises:
        DataError: The file is no audio that can be used.
    """
    from lhotse import MonoCut, Recording
    from lhotse.audio import AudioSource

    from egrecho_inner.data.sources.folder import FolderClip
    from egrecho_inner.data.sources.folder_cuts import scan_clip
    from egrecho_inner.decoding.options import DecodeOptions
    from egrecho_inner.decoding.transcribe import transcribe
    from egrecho_inner.errors import DataError

    path = Path(asked["audio"])
    scan = scan_clip(FolderClip("asked", path, ""), path.parent)
    if scan.fault or scan.info is None:
        raise DataError(f"the recording {scan.fault}")
    info = scan.info
    source = AudioSource("file", list(range(info.channels)), scan.path)
    recording = Recording("asked", [source], info.sampling_rate, info.num_samples, info.duration)
    cut = MonoCut("asked", 0, info.duration, 0, recording=recording).resample(16000)
    texts = {}
    for name, folder in asked["models"].items():
        model, processor = load(folder, loaded)
        (found,) = transcribe(model, processor, [cut], DecodeOptions(language=asked["language"]))
        texts[name] = found.text
    return texts


def load(folder: str, loaded: dict[str, Any]) -> Any:
    """Return a model with its processor, loaded before or now."""
    from egrecho_inner.model.loading import load_model, load_processor

    if folder not in loaded:
        while len(loaded) >= KEPT:
            loaded.pop(next(iter(loaded)))
        loaded[folder] = load_model(folder).eval(), load_processor(folder)
    return loaded[folder]


if __name__ == "__main__":
    main()
