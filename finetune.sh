#!/usr/bin/env bash
# Fine-tune Whisper and evaluate it.
#
#   bash finetune.sh --is_lora false                                   # all weights of openai/whisper-small
#   bash finetune.sh --model_name exp/models/whisper-small --nproc 2   # a local folder, two processes (GPUs)
#   bash finetune.sh --stage -1 --stop_stage -1                        # how good is the untouched model?
#
# Stages, --stage to --stop_stage (0 to 1):
#   -1  evaluate the untouched model                      -> EXP/orig/eval
#    0  train                                             -> EXP/full or EXP/lora
#    1  merge the adapter (--is_lora true), evaluate      -> EXP/full/eval or EXP/lora/eval
#
#   --model_name NAME      hub id or folder of the model to start from
#   --is_lora BOOL         an adapter (true) or all weights (false)
#   --prefix NAME          of the manifests prepare.sh wrote; sets the three below
#   --train_cuts FILE      --dev_cuts FILE      --test_cuts FILE
#   --language CODE        of cuts that name none
#   --config FILES         more YAML on top of config/train.yaml and config/{full,lora}.yaml
#   --eval_config FILES    more YAML on top of config/eval.yaml
#   --overrides WORDS      options of full.py or lora.py, e.g. "--train.num_epochs 1 --batch.max_duration 60"
#   --nproc N              processes on this machine, one per GPU
#   --deepspeed FILE       ZeRO configuration, config/ds_zero2.json
#   --exp DIR              run folders; exp/NAME of the model if not given
#   --num_mel_bins N       80, or 128 for large-v3: names the feature folder
set -euo pipefail

stage=0
stop_stage=1
model_name=openai/whisper-small
is_lora=true
prefix=aishell_vi
train_cuts=
dev_cuts=
test_cuts=
language=
config=
eval_config=
overrides=
nproc=1
deepspeed=
exp=
num_mel_bins=80
. "$(dirname "$0")/path.sh"
cd "$EGRECHO_ROOT"
parse_options "$@"

data=data/fbank_whisper$num_mel_bins
train_cuts=${train_cuts:-$data/${prefix}_cuts_train.jsonl.gz}
dev_cuts=${dev_cuts:-$data/${prefix}_cuts_val.jsonl.gz}
test_cuts=${test_cuts:-$data/${prefix}_cuts_test.jsonl.gz}
exp=${exp:-exp/$(basename "$model_name")}
method=full
if [ "$is_lora" = true ]; then method=lora; fi
run=$exp/$method
read -ra more <<< "$overrides"
read -ra extra <<< "$eval_config"
configs=(-c config/train.yaml -c "config/$method.yaml")
for file in $config; do configs+=(-c "$file"); done
eval_configs=(-c config/eval.yaml)
for file in "${extra[@]}"; do eval_configs+=(-c "$file"); done
if [ -n "$language" ]; then more+=(--data.language "$language"); eval_configs+=(--decode.language "$language"); fi
if [ -n "$deepspeed" ]; then more+=(--train.deepspeed "$deepspeed"); fi

evaluate() {
  egrecho eval "${eval_configs[@]}" --model_path "$1" --cuts "$test_cuts" --outdir "$2"
  egrecho report-scores "$2" --out "$2/report.html"
}

if at_stage -1; then
  log "stage -1: evaluate the untouched $model_name"
  evaluate "$model_name" "$exp/orig/eval"
fi

if at_stage 0; then
  log "stage 0: train $method into $run"
  launch=(python)
  # torchrun also for one process under DeepSpeed, which would otherwise look for MPI
  if [ "$nproc" -gt 1 ] || [ -n "$deepspeed" ]; then launch=(torchrun --standalone --nproc_per_node "$nproc"); fi
  EGRECHO_EXIT_FILE=$(mktemp)  # torchrun makes 1 of every exit code
  export EGRECHO_EXIT_FILE
  "${launch[@]}" egrecho_inner/$method.py "${configs[@]}" --model.path "$model_name" --data.train "[$train_cuts]" \
    --data.dev "[$dev_cuts]" --outdir "$run" "${more[@]}" || {
    status=$?
    if [ -s "$EGRECHO_EXIT_FILE" ]; then status=$(cat "$EGRECHO_EXIT_FILE"); fi
    rm -f "$EGRECHO_EXIT_FILE"
    exit "$status"
  }
  rm -f "$EGRECHO_EXIT_FILE"
fi

if at_stage 1; then
  log "stage 1: evaluate $run"
  if [ "$is_lora" = true ]; then
    egrecho merge-lora-whisper "$run/adapter" "$run/final" --base "$model_name" --cuts "$dev_cuts"
  fi
  evaluate "$run/final" "$run/eval"
fi
