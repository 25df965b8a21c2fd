#!/usr/bin/env bash
# Train on several machines under Slurm; a job that runs out of time queues itself again and continues.
#
#   sbatch --nodes 2 --gpus-per-node 8 --time 8:00:00 local/slurm.sh full -c config/train.yaml -c config/full.yaml \
#     --model.path openai/whisper-small ... --outdir exp/run --train.max_hours 7.5
#
# The first word is the program (full, lora or distil), the rest are its options. One torchrun on each machine, a process
# for each of its GPUs; --train.max_hours a little under --time leaves room for one evaluation and one checkpoint.
# Submit it from the repository; all machines must see that folder, the data and the run folder.
#SBATCH --ntasks-per-node=1
#SBATCH --requeue
#SBATCH --open-mode=append
set -euo pipefail

# Slurm runs a copy of this file from a folder of its own
cd "${SLURM_SUBMIT_DIR:-$(dirname "$0")/..}"
. ./path.sh
[ $# -gt 0 ] || die "which program? sbatch ... local/slurm.sh full --outdir exp/run ..."
program="egrecho_inner/$1.py"
[ -f "$program" ] || die "no program '$1'; expected full, lora or distil"
shift
outdir=
for word in "$@"; do
  if [ "${before-}" = --outdir ]; then outdir="$word"; fi
  before="$word"
done
[ -n "$outdir" ] || die "--outdir DIR is needed"

hosts=$(scontrol show hostnames "$SLURM_JOB_NODELIST")  # through `head` it could die of a closed pipe
export MASTER_ADDR="${hosts%%$'\n'*}" MASTER_PORT=$((20000 + SLURM_JOB_ID % 20000)) PROCESSES="${SLURM_GPUS_ON_NODE:-1}"
status=0
# shellcheck disable=SC2016  # each machine has its own SLURM_NODEID
srun bash -c 'exec torchrun --nnodes "$SLURM_NNODES" --node_rank "$SLURM_NODEID" --nproc_per_node "$PROCESSES" \
  --master_addr "$MASTER_ADDR" --master_port "$MASTER_PORT" "$@"' torchrun "$program" "$@" || status=$?
if [ -e "$outdir/INTERRUPTED" ]; then
  log "$(cat "$outdir/INTERRUPTED"); queueing again"
  scontrol requeue "$SLURM_JOB_ID"
fi
exit "$status"
