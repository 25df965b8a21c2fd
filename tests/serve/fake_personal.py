"""Stands in for egrecho_inner.personal in tests of the server: the same files, no model, a tenth of a second an epoch.

It notes every start in `starts.txt` and its one end in `ends.txt`, both in the job's folder, and saves what it did, so
that a start after a kill goes on. SIGTERM makes it save and end with 75, as the training does.
"""

import json
import os
import signal
import sys
import time
from pathlib import Path
from types import FrameType

PHASES = ["running base model evaluation", "running training", "saving best model", "running final model evaluation"]


def main() -> None:
    words = dict(word.removeprefix("--").split("=", 1) for word in sys.argv[1:])
    out = Path(words["out"])
    out.mkdir(parents=True, exist_ok=True)
    append(out.parent / "starts.txt", f"{time.time()}")
    step = out / "step.txt"
    if (out / "report.json").is_file():  # finished before; the worker was killed before it could say so
        return
    seed = int(words["tune.seed"])
    if seed == 13:
        print(f"error: {words['folder']}/u0.wav is wrong on purpose", file=sys.stderr)
        sys.exit(3)
    print("environment:", *sorted(os.environ))
    signal.signal(signal.SIGTERM, stop)
    phase(out, PHASES[0])
    write_set(out / "base", "zero one")
    phase(out, PHASES[1])
    done = int(step.read_text()) if step.is_file() else 0
    for number in range(done, int(words["tune.epochs"])):
        time.sleep(0.1)
        step.write_text(str(number + 1))
        log = out / "train" / "encoder" / "metrics.jsonl"
        log.parent.mkdir(parents=True, exist_ok=True)
        append(log, json.dumps({"step": number + 1, "loss": 1 / (number + 1), "eval_wer": 0.5 / (number + 1)}))
    phase(out, PHASES[2])
    final = out / "final"
    final.mkdir(exist_ok=True)
    (final / "config.json").write_text("{}")
    (final / "model.safetensors").write_bytes(bytes(100_000))
    phase(out, PHASES[3])
    write_set(out / "tuned", "zero two")
    for name in ("basemodel_eval_result.txt", "final_eval_result.txt"):
        (out / name).write_text("test: WER 10.00 %\n")
    rows = [{"uid": "u0", "text": "zero", "base": {"text": "one", "errors": 1, "words": [["zero", "one"]]},
             "tuned": {"text": "zero", "errors": 0, "words": [["zero", "zero"]]}}]  # fmt: skip
    (out / "compare.json").write_text(json.dumps({"recordings": rows}))
    scores = {"test": {"error_rate": 0.5, "interval": [0.4, 0.6], "utterances": 10, "words": 20}}
    report = {"verdict": "better", "adopted": True, "delta": -0.3, "metric": "wer", "base_scores": scores,
              "tuned_scores": scores, "notes": [], "words": Path(words["folder"], "u0.txt").read_text()}  # fmt: skip
    (out / "report.json").write_text(json.dumps(report))
    append(out.parent / "ends.txt", f"{time.time()}")


def stop(number: int, frame: FrameType | None) -> None:
    sys.exit(75)


def phase(out: Path, name: str) -> None:
    append(out / "events.jsonl", json.dumps({"time": time.time(), "phase": name}))


def write_set(folder: Path, hyp: str) -> None:
    place = folder / "test"
    place.mkdir(parents=True, exist_ok=True)
    (place / "hyps.jsonl").write_text(json.dumps({"id": "u0-0", "ref": "zero", "hyp": hyp}) + "\n")


def append(path: Path, line: str) -> None:
    with open(path, "a", encoding="utf-8") as file:
        file.write(f"{line}\n")


if __name__ == "__main__":
    main()
