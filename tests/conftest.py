"""What every test needs: one CPU thread, no network, tests/ importable; at the end, how many were skipped and why."""

import os
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("DS_ACCELERATOR", "cpu")
sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(autouse=True)
def _threads_of_torch() -> Iterator[None]:
    """Fail a test that gives torch more threads: later ones have other bits, or hang in forked children."""
    yield
    if torch := sys.modules.get("torch"):
        threads, expected = torch.get_num_threads(), int(os.environ["OMP_NUM_THREADS"])
        torch.set_num_threads(expected)
        assert threads in (expected, 1)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Count the skipped tests by reason."""
    skipped = terminalreporter.stats.get("skipped", [])
    reasons = Counter(str(report.longrepr[2]).removeprefix("Skipped: ") for report in skipped)
    if reasons:
        terminalreporter.section("not run on this machine")
    for reason, count in reasons.most_common():
        terminalreporter.write_line(f"{count:4}  {reason}")
