#!/usr/bin/env bash
# Run the whole test suite on this machine: no network, no downloads, CPU only.
#
#   bash tests/run.sh [pytest options]
set -euo pipefail
. "$(dirname "$0")/../path.sh"
export HF_HUB_OFFLINE=1 OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"
exec python -m pytest -n "${EGRECHO_TEST_PROCESSES:-2}" --dist loadfile "$@"
