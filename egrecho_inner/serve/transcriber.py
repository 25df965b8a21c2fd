"""The server's end of the transcribing process: one question at a time, ended when nobody asks.

In: models by name, an audio file. Out: the texts by name. PyTorch and the models live in the other process only: a
server that nobody asks stays small, and a recording made to break a decoder breaks that process.
"""

import json
import select
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from egrecho_inner.serve.auth import Refusal

IDLE_SECONDS, ANSWER_SECONDS = 300.0, 180.0


class TranscriberProcess:
    """Ask the transcribing process."""

    def __init__(self) -> None:
        self.process: subprocess.Popen[bytes] | None = None
        self.turn = threading.Lock()
        self.asked = 0.0

    def __call__(self, models: dict[str, str], audio: Path, language: str | None) -> dict[str, str]:
        """Transcribe a file with every model.

        Raises:
            Refusal: 422 if it is no audio, 503 if the process takes too long or another question does.
        """
        if not self.turn.acquire(timeout=ANSWER_SECONDS):
            raise Refusal(503, "busy", "others are being transcribed; try again", {"Retry-After": "10"})
        try:
            question = {"models": models, "audio": str(audio), "language": language}
            answer = self.ask(question)
        finally:
            self.asked = time.monotonic()
            self.turn.release()
        if "error" in answer:
            raise Refusal(422, "bad_audio", answer["error"].replace(f"{audio.parent}/", ""))
        return answer["texts"]

    def ask(self, question: dict[str, Any]) -> dict[str, Any]:
        """Send a question and wait for its answer."""
        if self.process is None or self.process.poll() is not None:
            command = [sys.executable, "-m", "egrecho_inner.serve.speech"]
            self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
            threading.Thread(target=self.end_when_idle, args=(self.process,), daemon=True).start()
        self.asked = time.monotonic()
        try:
            self.process.stdin.write(json.dumps(question).encode() + b"\n")
            line, end = b"", time.monotonic() + ANSWER_SECONDS
            while not line.endswith(b"\n"):
                if not select.select([self.process.stdout], [], [], max(0.0, end - time.monotonic()))[0]:
                    raise TimeoutError
                if not (block := self.process.stdout.read(65536)):
                    raise BrokenPipeError
                line += block
            return json.loads(line)
        except (OSError, TimeoutError, ValueError) as error:
            self.stop()
            raise Refusal(503, "no_answer", "the recording could not be transcribed; try again") from error

    def end_when_idle(self, process: subprocess.Popen[bytes]) -> None:
        """End a process that nobody has asked for a while."""
        while process.poll() is None:
            time.sleep(1.0)
            if time.monotonic() - self.asked > IDLE_SECONDS and self.turn.acquire(blocking=False):
                process.kill()
                process.wait()
                self.turn.release()

    def stop(self) -> None:
        """End the process."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
