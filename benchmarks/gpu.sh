#!/usr/bin/env bash
# Time and test all that a GPU is for, in about ten minutes: one table, then the tests that need one.
#
#   bash benchmarks/gpu.sh                    # on a machine with a GPU; nothing is downloaded but the environment
#   bash benchmarks/gpu.sh --smoke true       # on any machine, with the smallest model: only that it works
#
# Stages, --stage to --stop_stage (0 to 1):
#    0  the table: training by size and method, sharded training, decoding   -> OUT/gpu.md, OUT/rows.jsonl
#    1  the tests that need a GPU (pytest -m gpu)                            -> OUT/tests.txt
#
#   --data PATH       manifest of cuts or Kaldi directory; noise of the lengths of speech if not given
#   --out DIR         where the table goes
#   --minutes M       after which no further job of the table begins
#   --smoke BOOL      the smallest model, one step
set -euo pipefail

stage=0
stop_stage=1
data=
out=exp/gpu
minutes=10
smoke=false
: "${EGRECHO_EXTRAS=deepspeed,ct2,dev}"
export EGRECHO_EXTRAS
. "$(dirname "$0")/../path.sh"
cd "$EGRECHO_ROOT"
parse_options "$@"

if at_stage 0; then
  log "stage 0: the table, into $out"
  set -- --out "$out" --minutes "$minutes"
  if [ -n "$data" ]; then set -- "$@" --data "$data"; fi
  if [ "$smoke" = true ]; then set -- "$@" --smoke; fi
  python benchmarks/gpu.py "$@"
fi

if at_stage 1; then
  log "stage 1: the tests that need a GPU, into $out/tests.txt"
  mkdir -p "$out"
  python -m pytest -m gpu tests/gpu -p no:cacheprovider 2>&1 | tee "$out/tests.txt"
fi
