#!/usr/bin/env bash
# Adapt a Whisper to real spoken digits, fully and with LoRA, from the nano model of egs/mini.
#
#   git clone https://github.com/Jakobovski/free-spoken-digit-dataset data/fsdd_corpus
#   bash egs/fsdd/run.sh --recordings data/fsdd_corpus/recordings
#
# Stages, --stage to --stop_stage (0 to 4):
#   0  Kaldi directories from the file names              -> data/fsdd/{train,val,test}
#   1  prepare.sh: manifests and cuts                     -> data/manifests, data/fbank_whisper80
#   2  evaluate the untouched model                       -> EXP/orig/eval
#   3  full fine-tuning and evaluation                    -> EXP/full
#   4  LoRA, merge and evaluation                         -> EXP/lora
#
#   --recordings DIR       the corpus's folder `recordings` (needed for stage 0)
#   --model NAME           model to start from (egs/mini/nano)
#   --exp DIR              run folders (exp/fsdd)
#   --overrides WORDS      options of full.py and lora.py, on top of fsdd.yaml
set -euo pipefail

stage=0
stop_stage=4
recordings=
model=egs/mini/nano
exp=exp/fsdd
overrides=
. "$(dirname "$0")/../../path.sh"
cd "$EGRECHO_ROOT"
parse_options "$@"

if at_stage 0; then
  [ -n "$recordings" ] || die "--recordings DIR is needed: git clone https://github.com/Jakobovski/free-spoken-digit-dataset"
  python egs/fsdd/local/prepare_fsdd.py "$recordings" data/fsdd
fi

if at_stage 1; then
  # speeds are drawn while training, so neither copies nor stored features are wanted
  timed "prepare data" bash prepare.sh --data_root data/fsdd --prefix fsdd --perturb_speed false --features none
fi

finetune() {
  bash finetune.sh --model "$model" --prefix fsdd --config egs/fsdd/fsdd.yaml --exp "$exp" \
    --eval_config egs/mini/eval.yaml --overrides "$overrides" "$@"
}
if at_stage 2; then timed "evaluate base" finetune --stage -1 --stop_stage -1; fi
if at_stage 3; then timed "full fine-tuning" finetune --is_lora false; fi
if at_stage 4; then timed "LoRA fine-tuning" finetune --is_lora true; fi

./local/display_results.py "base=$exp/orig/eval" "full=$exp/full/eval" "LoRA=$exp/lora/eval" --times "$exp/times.tsv"
