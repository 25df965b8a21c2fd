"""The script as a user calls it."""

import json
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parent.parent / "local" / "display_manifests.py"

TABLE = """\
╒═══════════════════════════╤══════════╕
│ Cuts count:               │ 2        │
├───────────────────────────┼──────────┤
│ Total duration (hh:mm:ss) │ 00:00:10 │
├───────────────────────────┼──────────┤
│ mean                      │ 5.0      │
├───────────────────────────┼──────────┤
│ std                       │ 1.0      │
├───────────────────────────┼──────────┤
│ min                       │ 4.0      │
├───────────────────────────┼──────────┤
│ 25%                       │ 4.5      │
├───────────────────────────┼──────────┤
│ 50%                       │ 5.0      │
├───────────────────────────┼──────────┤
│ 75%                       │ 5.5      │
├───────────────────────────┼──────────┤
│ 99%                       │ 6.0      │
├───────────────────────────┼──────────┤
│ 99.5%                     │ 6.0      │
├───────────────────────────┼──────────┤
│ 99.9%                     │ 6.0      │
├───────────────────────────┼──────────┤
│ max                       │ 6.0      │
╘═══════════════════════════╧══════════╛
"""


def display(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, SCRIPT, *arguments], capture_output=True, text=True, check=False)


def manifest(folder: Path, name: str, *durations: float) -> Path:
    path = folder / f"{name}.jsonl"
    path.write_text("".join(json.dumps({"id": str(i), "duration": d}) + "\n" for i, d in enumerate(durations)))
    return path


def test_one_manifest_gives_the_table_of_the_documentation(tmp_path: Path) -> None:
    result = display(manifest(tmp_path, "cuts", 4.0, 6.0))
    assert (result.returncode, result.stdout) == (0, TABLE)


def test_several_manifests_are_named_and_summed(tmp_path: Path) -> None:
    train, test = manifest(tmp_path, "train", 4.0), manifest(tmp_path, "test", 6.0)
    blocks = display(train, test).stdout.split("\n\n")
    assert [block.splitlines()[0] for block in blocks] == [str(train), str(test), "all 2 manifests"]
    assert blocks[2].split("\n", 1)[1] == TABLE


def test_json_is_unrounded(tmp_path: Path) -> None:
    path = manifest(tmp_path, "cuts", 4.125, 6.0)
    assert json.loads(display("--json", path).stdout)[str(path)]["total"] == 10.125


def test_a_missing_file_is_one_line_and_exit_3(tmp_path: Path) -> None:
    result = display(tmp_path / "none.jsonl.gz")
    assert (result.returncode, result.stdout) == (3, "")
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1


def test_help_shows_the_use() -> None:
    assert "CUTS" in display("-h").stdout
