#!/usr/bin/env bash
# Train on several machines under Slurm; a job that runs out of time queues itself again and continues.
#
#   sbatch --nodes 2 --gpus-per-node 8 --cpus-per-task 64 --time 8:00:00 local/slurm.sh full -c config/train.yaml \
#     -c config/full.yaml --model openai/whisper-small ... --out exp/run --train.max_hours 7.5
#
# The first word is the program (full, lora or distil), the rest are its options. On each machine a process for each of
# its GPUs; a process and its loaders (train.workers) want a core each, so --cpus-per-task is some eight times the GPUs of
# a machine. --train.max_hours a little under --time leaves room for one evaluation and one checkpoint.
# Submit it from the repository; all machines must see that folder, the data and the run folder.
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=8
#SBATCH --requeue
#SBATCH --open-mode=append
set -euo pipefail

# Slurm runs a copy of this file from a folder of its own
cd "${SLURM_SUBMIT_DIR:-$(dirname "$0")/..}"
. ./path.sh
[ $# -gt 0 ] || die "which program? sbatch ... local/slurm.sh full --out exp/run ..."
program="$1"
[[ "$program" =~ ^[a-z_]+$ ]] || die "no program '$program'; expected full, lora or distil"
python -c "import importlib.util, sys; sys.exit(not importlib.util.find_spec('egrecho_inner.$program'))" \
  || die "no program '$program'; expected full, lora or distil"
shift
out=
for word in "$@"; do
  case "${before-}" in --out | --outdir) out="$word" ;; esac
  before="$word"
done
[ -n "$out" ] || die "--out DIR is needed"

hosts=$(scontrol show hostnames "$SLURM_JOB_NODELIST")  # through `head` it could die of a closed pipe
export MASTER_ADDR="${hosts%%$'\n'*}" MASTER_PORT=$((20000 + SLURM_JOB_ID % 20000)) PROCESSES="${SLURM_GPUS_ON_NODE:-1}"
cpus="${SLURM_CPUS_PER_TASK:-1}"
if [ "$cpus" -lt $((2 * PROCESSES)) ]; then
  log "$cpus CPUs for $PROCESSES processes and their loaders; --cpus-per-task $((8 * PROCESSES)) would be faster"
fi
status=0
# srun of Slurm 22.05 and later takes no CPUs per task from the job by itself
# shellcheck disable=SC2016  # each machine has its own SLURM_NODEID
srun --cpus-per-task="$cpus" bash -c 'exec python local/launch.py --nnodes "$SLURM_NNODES" --node_rank "$SLURM_NODEID" \
  --nproc_per_node "$PROCESSES" --master_addr "$MASTER_ADDR" --master_port "$MASTER_PORT" "$@"' launch -m "egrecho_inner.$program" "$@" || status=$?
if [ -e "$out/INTERRUPTED" ]; then
  log "$(cat "$out/INTERRUPTED"); queueing again"
  scontrol requeue "$SLURM_JOB_ID"
fi
exit "$status"
