#!/usr/bin/env bash
# Run the whole test suite on this machine: no network, no downloads, CPU only.
#
#   bash tests/run.sh [pytest options]
set -euo pipefail
. "$(dirname "$0")/../path.sh"
export HF_HUB_OFFLINE=1 OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"
# limits on file sizes and signals want a process of their own
if [ $# -eq 0 ]; then
  python -m pytest tests/training/test_stops.py
  set -- --ignore tests/training/test_stops.py
fi
exec python -m pytest -n "${EGRECHO_TEST_PROCESSES:-2}" --dist loadfile "$@"
