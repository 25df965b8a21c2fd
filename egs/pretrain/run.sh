#!/usr/bin/env bash
# Train a Whisper from random weights on windows of the web, and put it beside the published table.
#
#   bash egs/pretrain/run.sh --train data/web/shar --dev data/web/dev.jsonl.gz --size tiny --nproc 8
#   bash egs/pretrain/run.sh --train data/web/shar --dev data/web/dev.jsonl.gz --size medium --nproc 8
#
# Stages, --stage to --stop_stage (0 to 3); a stopped stage is continued by the same command, a finished one does nothing
#   0  tokenizer and feature extractor from the text        -> EXP/processor
#   1  train: DDP for tiny, base, small; FSDP2 for medium, large -> EXP/SIZE/final
#   2  evaluate on every set in --eval_dir                  -> EXP/SIZE/eval
#   3  one table, the published rows below                  -> EXP/SIZE/table.md
#
#   --train "PATH PATH"    manifests of windows, or Shar folders, which are read in a stream
#   --dev FILE             development windows
#   --text FILE            what the tokenizer learns from, a Kaldi text or a manifest (the first of --train)
#   --size NAME            tiny, base, small, medium, large (39 M, 74 M, 244 M, 769 M, 1.5 B)
#   --english_only BOOL    lay the model out as tiny.en (true)
#   --vocab_size N         of the tokenizer (50257)
#   --batch_size N         windows on one GPU (32)
#   --global_batch N       windows of a step on all GPUs; the accumulation follows (512)
#   --fsdp true|false|auto sharded over GPUs; auto: from medium on
#   --eval_dir DIR         of egrecho import-eval-set (data/eval)
#   --exp DIR              everything made here (exp/pretrain)
#   --config FILES         YAML for full.py (egs/pretrain/olmoasr.yaml)
#   --overrides WORDS      options of full.py, e.g. "--train.max_steps 1000"
#   --nproc N              processes of this machine, one per GPU; several machines: docs/scale.md
set -euo pipefail

stage=0
stop_stage=3
train=
dev=
text=
size=tiny
english_only=true
vocab_size=50257
batch_size=32
global_batch=512
fsdp=auto
eval_dir=data/eval
exp=exp/pretrain
config=egs/pretrain/olmoasr.yaml
overrides=
nproc=1
. "$(dirname "$0")/../../path.sh"
cd "$EGRECHO_ROOT"
parse_options "$@"
run=$exp/$size
case "$size" in
  tiny | base | small) large=false ;;
  medium | large) large=true ;;
  *) die "--size is tiny, base, small, medium or large, not '$size'" ;;
esac
use_processes "$nproc"

if at_stage 0; then
  log "stage 0: tokenizer"
  [ -n "${text:-$train}" ] || die "give --text, or --train with manifests"
  if [ ! -d "$exp/processor" ]; then
    egrecho make-processor "${text:-${train%% *}}" "$exp/processor" --vocab_size "$vocab_size" --english_only "$english_only"
  fi
fi

if at_stage 1; then
  log "stage 1: train $run"
  [ -n "$train" ] && [ -n "$dev" ] || die "give --train and --dev"
  training=()
  for file in $config; do training+=(-c "$file"); done
  training+=(--model "$exp/processor" --model.size "$size" --out "$run" --data.dev "$dev")
  training+=(--data.train "[$(printf '%s' "$train" | tr -s ' ' ',')]")
  training+=(--batch.batch_size "$batch_size" --train.global_batch "$global_batch")
  if [ "$english_only" = true ]; then training+=(--data.language en); fi
  if [ "$large" = true ]; then training+=(--train.gradient_checkpointing true); fi
  if [ "$fsdp" = true ] || { [ "$fsdp" = auto ] && [ "$large" = true ]; }; then training+=(--train.fsdp config/fsdp.yaml); fi
  split "$overrides"
  "${launch[@]}" egrecho_inner/full.py ${training[@]+"${training[@]}"} ${words[@]+"${words[@]}"}
fi

if at_stage 2; then
  log "stage 2: evaluate $run"
  sets=$(printf ',%s' "$eval_dir"/*.jsonl.gz)
  "${launch[@]}" egrecho_inner/evaluation.py -c config/eval.yaml --model "$run/final" --out "$run/eval" \
    --cuts "[${sets#,}]" > /dev/null
fi

if at_stage 3; then
  log "stage 3: beside the published table"
  egrecho side-by-side "egrecho-$size=$run/eval" --published egs/pretrain/published.tsv --out "$run/table.md"
fi
