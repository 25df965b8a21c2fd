#!/usr/bin/env bash
# Train the nano Whisper of egs/mini/nano from random weights on synthetic voices.
#
#   bash egs/mini/pretrain.sh
#
# Stages, --stage to --stop_stage (0 to 4):
#   0  24 hours of sentences and digits, 4 of words in any order -> data/nano, data/nano_words
#   1  prepare.sh: manifests and cuts                            -> data/manifests, data/fbank_whisper80
#   2  tokenizer and feature extractor                           -> EXP/processor
#   3  from random weights, variable-length input                -> EXP/first
#   4  augmented, some cuts padded to 30 s                       -> EXP/second, whose final/ is egs/mini/nano
#
#   --exp DIR              run folders (exp/nano)
#   --jobs N               processes for making and preparing the data
#   --overrides WORDS      options of full.py, on top of the two YAML files
set -euo pipefail

stage=0
stop_stage=4
exp=exp/nano
jobs=2
overrides=
. "$(dirname "$0")/../../path.sh"
cd "$EGRECHO_ROOT"
parse_options "$@"
split "$overrides"
sentences=data/fbank_whisper80/nano_cuts
words=data/fbank_whisper80/nano_words_cuts

make_corpus() {
  python egs/mini/local/make_corpus.py --group source --acoustics varied --jobs "$jobs" "$@"
}
if at_stage 0; then
  make_corpus --out data/nano --train 50000 --val 300 --test 300 --digits 0.5 --seed 1
  make_corpus --out data/nano_words --train 8000 --val 0 --test 0 --digits 0.1 --words 0.9 --seed 4
fi
if at_stage 1; then
  for name in nano nano_words; do
    bash prepare.sh --data_root "data/$name" --prefix "$name" --perturb_speed false --features none --jobs "$jobs"
  done
fi
if at_stage 2; then
  egrecho_inner/make_processor.py data/nano/train/text "$exp/processor"
fi

train() {
  egrecho_inner/full.py -c "$1" --data.train "[${sentences}_train.jsonl.gz,${words}_train.jsonl.gz]" \
    --data.dev "[${sentences}_val.jsonl.gz]" --out "$2" --model "$3" ${words[@]+"${words[@]}"}
}
if at_stage 3; then train egs/mini/pretrain.yaml "$exp/first" "$exp/processor"; fi
if at_stage 4; then train egs/mini/pretrain_augmented.yaml "$exp/second" "$exp/first/final"; fi
