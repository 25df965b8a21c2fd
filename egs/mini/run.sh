#!/usr/bin/env bash
# The whole way in minutes, with nothing but Python: speech made on the spot, a nano Whisper adapted to it in two ways.
#
#   bash egs/mini/run.sh
#
# Stages, --stage to --stop_stage (0 to 4):
#   0  make the speech                                     -> data/mini/{train,val,test}
#   1  prepare.sh: manifests, cuts, features               -> data/manifests, data/fbank_whisper80
#   2  evaluate the untouched model                        -> EXP/orig/eval
#   3  full fine-tuning and evaluation                     -> EXP/full
#   4  LoRA, merge and evaluation                          -> EXP/lora
# and at the end one table: word error rates, and how long each stage took.
#
#   --model NAME           model to start from (egs/mini/nano)
#   --exp DIR              run folders (exp/mini); the same command continues what was stopped
#   --jobs N               processes for making and preparing the data
#   --overrides WORDS      options of full.py and lora.py, on top of egs/mini/mini.yaml
set -euo pipefail

stage=0
stop_stage=4
model=egs/mini/nano
exp=exp/mini
jobs=2
overrides=
. "$(dirname "$0")/../../path.sh"
cd "$EGRECHO_ROOT"
parse_options "$@"

finetune() {
  bash finetune.sh --model "$model" --prefix mini --config egs/mini/mini.yaml --exp "$exp" \
    --eval_config egs/mini/eval.yaml --overrides "$overrides" "$@"
}

if at_stage 0; then
  timed "make speech" python egs/mini/local/make_corpus.py --out data/mini --group target --train 1200 --val 100 \
    --test 200 --digits 0.4 --seed 2 --jobs "$jobs"
fi
if at_stage 1; then
  timed "prepare data" bash prepare.sh --data_root data/mini --prefix mini --perturb_speed false --jobs "$jobs"
fi
if at_stage 2; then timed "evaluate base" finetune --stage -1 --stop_stage -1; fi
if at_stage 3; then timed "full fine-tuning" finetune --is_lora false; fi
if at_stage 4; then timed "LoRA fine-tuning" finetune --is_lora true; fi

./local/display_results.py "base=$exp/orig/eval" "full=$exp/full/eval" "LoRA=$exp/lora/eval" --times "$exp/times.tsv"
