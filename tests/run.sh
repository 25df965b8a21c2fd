#!/usr/bin/env bash
# Run the tests on this machine, all of them or those named: on the CPU, offline once the environment is made.
#
#   bash tests/run.sh [pytest options and files]
#
# Installs what the tests can use (extra `test`). What cannot be had here, a compiler say, is skipped, with the reason
# counted at the end. EGRECHO_TEST_PROCESSES=N runs N at a time (2).
set -euo pipefail
EGRECHO_EXTRAS="test${EGRECHO_EXTRAS:+,$EGRECHO_EXTRAS}"
. "$(dirname "$0")/../path.sh"
cd "$EGRECHO_ROOT"
python -c 'import pytest, xdist' 2>/dev/null || die "the active environment has no test runner; pip install -e '.[test]'" 5
export HF_HUB_OFFLINE=1 OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"
exec python -m pytest -n "${EGRECHO_TEST_PROCESSES:-2}" --dist loadfile "$@"
