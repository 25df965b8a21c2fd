#!/usr/bin/env bash
# A speech LLM for real on two cores: the encoder of egs/mini/nano, the language model of egs/slam/lm, a projector.
#
#   bash egs/slam/mini.sh
#
# Stages, --stage to --stop_stage (0 to 4):
#   0  speech of the voices that the encoder knows -> data/slam_mini, and cuts
#   1  before: a projector of random weights       -> EXP/before
#   2  the projector alone, 1,000 steps            -> EXP/projector
#   3  and an adapter on the language model, 400   -> EXP/lora
#   4  the encoder's own Whisper on the same test  -> EXP/nano
# and at the end one table. Every evaluation also decodes with another's audio and with silence.
#
#   --exp DIR              run folders (exp/slam_mini)
#   --jobs N               processes for making and preparing the data
#   --overrides WORDS      options of slam.py, on top of egs/slam/mini.yaml
set -euo pipefail

stage=0
stop_stage=4
exp=exp/slam_mini
jobs=2
overrides=
. "$(dirname "$0")/../../path.sh"
cd "$EGRECHO_ROOT"
parse_options "$@"
cuts=data/fbank_whisper80/slam_mini_cuts

speech() {
  python egs/mini/local/make_corpus.py --out data/slam_mini --group source --acoustics varied --train 6000 --val 100 \
    --test 300 --digits 0.4 --words 0.1 --seed 11 --jobs "$jobs"
  bash prepare.sh --data_root data/slam_mini --prefix slam_mini --perturb_speed false --features none --jobs "$jobs"
}
# tune NAME STEPS WORDS...: options of slam.py
tune() {
  local name="$1" steps="$2"
  shift 2
  split "$overrides"
  egrecho_inner/slam.py -c config/slam.yaml -c egs/slam/mini.yaml --model.encoder egs/mini/nano \
    --model.llm egs/slam/lm --data.train "${cuts}_train.jsonl.gz" --data.dev "${cuts}_val.jsonl.gz" \
    --out "$exp/$name" --train.max_steps "$steps" "$@" ${words[@]+"${words[@]}"}
}
# score NAME MODEL WORDS...: options of egrecho eval
score() {
  local name="$1" model="$2"
  shift 2
  egrecho eval -c egs/mini/eval.yaml --model "$model" --cuts "${cuts}_test.jsonl.gz" --out "$exp/$name/eval" "$@"
}
before() {
  tune before 1 --train.warmup_steps 10 # the first step of a warm-up has learning rate 0
  score before "$exp/before/final"
}
projector() {
  tune projector 1000
  score projector "$exp/projector/final"
}
lora() {
  tune lora 400 -c config/slam_lora.yaml -c egs/slam/mini_lora.yaml --model.start "$exp/projector/final"
  score lora "$exp/lora/final"
}

if at_stage 0; then timed "make and prepare speech" speech; fi
if at_stage 1; then timed "before" before; fi
if at_stage 2; then timed "projector" projector; fi
if at_stage 3; then timed "projector and adapter" lora; fi
if at_stage 4; then timed "nano Whisper" score nano egs/mini/nano; fi
egs/slam/local/table.py "before=$exp/before/eval" "projector=$exp/projector/eval" "+ LoRA=$exp/lora/eval" \
  "nano Whisper=$exp/nano/eval" --times "$exp/times.tsv"
