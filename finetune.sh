#!/usr/bin/env bash
# Fine-tune Whisper and evaluate it.
#
#   bash finetune.sh --is_lora false                                   # all weights of openai/whisper-small
#   bash finetune.sh --model exp/models/whisper-small --nproc 2   # a local folder, two processes (GPUs)
#   bash finetune.sh --stage -1 --stop_stage -1                        # how good is the untouched model?
#
# Stages, --stage to --stop_stage (0 to 1):
#   -1  evaluate the untouched model                      -> EXP/orig/eval
#    0  train                                             -> EXP/full or EXP/lora
#    1  merge the adapter (--is_lora true), evaluate      -> EXP/full/eval or EXP/lora/eval
#
#   --model NAME           hub id or folder of the model to start from
#   --is_lora BOOL         an adapter (true) or all weights (false)
#   --prefix NAME          of the manifests prepare.sh wrote; sets the three below
#   --train_cuts FILE      --dev_cuts FILE      --test_cuts FILE      without val or test they are left out:
#                          no test set: val is evaluated; no val: all of train is trained on, no best checkpoint is chosen
#   --language CODE        of cuts that name none
#   --config FILES         more YAML on top of config/train.yaml and config/{full,lora}.yaml
#   --eval_config FILES    more YAML on top of config/eval.yaml
#   --overrides WORDS      options of full.py or lora.py, e.g. "--train.num_epochs 1 --batch.max_duration 60"
#   --nproc N              processes on this machine, one per GPU, that train and evaluate
#   --deepspeed FILE       ZeRO configuration, config/ds_zero2.json
#   --exp DIR              run folders; exp/NAME of the model if not given
#   --num_mel_bins N       80, or 128 for large-v3: names the feature folder
set -euo pipefail

stage=0
stop_stage=1
model=openai/whisper-small
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

# given, or what prepare.sh has written, or nothing
cuts_of() {
  local file="data/fbank_whisper$num_mel_bins/${prefix}_cuts_$2.jsonl.gz"
  if [ -n "$1" ] || [ "$2" = train ] || [ -e "$file" ]; then echo "${1:-$file}"; fi
}
train_cuts=$(cuts_of "$train_cuts" train)
dev_cuts=$(cuts_of "$dev_cuts" val)
test_cuts=$(cuts_of "$test_cuts" test)
exp=${exp:-exp/$(basename "$model")}
method=full
if [ "$is_lora" = true ]; then method=lora; fi
run=$exp/$method
use_processes "$nproc" "$deepspeed"  # DeepSpeed looks for MPI where no launcher started it

training=(-c config/train.yaml -c "config/$method.yaml")
for file in $config; do training+=(-c "$file"); done
training+=(--model "$model" --data.train "[$train_cuts]" --out "$run")
evaluating=(-c config/eval.yaml)
for file in $eval_config; do evaluating+=(-c "$file"); done
merging=(--base "$model" --cuts "${dev_cuts:-$train_cuts}")
if [ -n "$dev_cuts" ]; then training+=(--data.dev "[$dev_cuts]"); fi
if [ -n "$deepspeed" ]; then training+=(--train.deepspeed "$deepspeed"); fi
if [ -n "$language" ]; then
  training+=(--data.language "$language")
  evaluating+=(--decode.language "$language")
  merging+=(--language "$language")
fi
split "$overrides"
training+=(${words[@]+"${words[@]}"})

evaluated=${test_cuts:-$dev_cuts}

evaluate() {
  if [ -z "$test_cuts" ]; then
    log "no test set: evaluated on $dev_cuts, which chose the best checkpoint, so the error rate is a little too good"
  fi
  "${launch[@]}" -m egrecho_inner.evaluation "${evaluating[@]}" --model "$1" --cuts "$evaluated" --out "$2"
  egrecho report-scores "$2" --out "$2/report.html"
}

if at_stage -1; then
  [ -n "$evaluated" ] || die "neither ${prefix}_cuts_test nor ${prefix}_cuts_val is there to evaluate on; give --test_cuts FILE"
  log "stage -1: evaluate the untouched $model"
  evaluate "$model" "$exp/orig/eval"
fi

if at_stage 0; then
  log "stage 0: train $method into $run"
  "${launch[@]}" -m "egrecho_inner.$method" "${training[@]}"
fi

if at_stage 1; then
  log "stage 1: $run"
  if [ "$is_lora" = true ]; then
    egrecho merge-lora-whisper "$run/adapter" "$run/final" "${merging[@]}"
  fi
  if [ -n "$evaluated" ]; then
    evaluate "$run/final" "$run/eval"
  else
    log "neither test nor val is there: $run/final is not evaluated"
  fi
fi
