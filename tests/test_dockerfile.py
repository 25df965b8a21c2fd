"""The Dockerfile, read, not built: rules of a linter, and that what it copies is there."""

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
KNOWN = {"FROM", "RUN", "COPY", "ENV", "USER", "WORKDIR", "CMD", "ENTRYPOINT", "ARG", "LABEL", "EXPOSE"}


def instructions(text: str) -> list[tuple[str, str]]:
    """Return the instructions of a Dockerfile, lines joined, comments left out."""
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", " ", "\n".join(lines)).splitlines()
    return [(line.split(maxsplit=1)[0], line.split(maxsplit=1)[1]) for line in joined]


def faults(text: str) -> list[str]:
    """Return what is wrong with a Dockerfile, by rules of hadolint."""
    found, wrong = instructions(text), []
    for name, rest in found:
        if name not in KNOWN:
            wrong.append(f"unknown instruction {name}")
        if name == "FROM" and not re.search(r":\d[\w.-]*$", rest):
            wrong.append("DL3006: FROM without a fixed version")
        if name == "RUN":
            if "apt-get install" in rest and not {"-y", "--no-install-recommends"} <= set(rest.split()):
                wrong.append("DL3014, DL3015: apt-get install without -y --no-install-recommends")
            if "apt-get update" in rest and "rm -rf /var/lib/apt/lists" not in rest:
                wrong.append("DL3009: apt lists stay in the image")
            if "pip install" in rest and "--no-cache-dir" not in rest:
                wrong.append("DL3042: pip keeps its cache in the image")
            if re.search(r"\bsudo\b|\bcd ", rest) or re.search(r"(curl|wget)[^|&]*\|\s*(ba)?sh", rest):
                wrong.append("DL3003, DL3004: sudo, cd or a piped script")
        if name in ("CMD", "ENTRYPOINT") and not rest.startswith("["):
            wrong.append("DL3025: CMD is not JSON")
        if name == "WORKDIR" and not rest.startswith("/"):
            wrong.append("DL3000: WORKDIR is relative")
    users = [rest for name, rest in found if name == "USER"]
    if not users or users[-1] == "root":
        wrong.append("DL3002: ends as root")
    return wrong


def test_the_dockerfile_is_clean_and_names_what_is_there() -> None:
    text = (ROOT / "Dockerfile").read_text()
    assert faults(text) == []
    for name, rest in instructions(text):
        for word in rest.split()[:-1] if name == "COPY" else []:
            assert (ROOT / word).exists(), word
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert set(re.search(r'"\.\[([\w,]+)\]"', text)[1].split(",")) <= extras.keys()


def test_faults_are_found() -> None:
    bad = "FROM python\nRUN apt-get update && apt-get install g++\nRUN pip install torch\nCMD egrecho -h\nADDD x y\n"
    found = "\n".join(faults(bad))
    assert all(rule in found for rule in ("DL3006", "DL3014", "DL3009", "DL3042", "DL3025", "DL3002", "ADDD"))
