#!/usr/bin/env bash
# Train the nano Whisper of egs/mini/nano from random weights on synthetic voices.
#
#   bash egs/mini/pretrain.sh
#
# Stages, --stage to --stop_stage (0 to 5):
#   0  eight hours of speech, source voices                -> data/nano/{train,val,test}
#   1  prepare.sh: manifests and cuts                      -> data/manifests, data/fbank_whisper80
#   2  tokenizer and feature extractor                     -> EXP/processor
#   3  from random weights, variable-length input          -> EXP/first
#   4  a second round                                      -> EXP/second
#   5  some cuts padded to 30 s                            -> EXP/mixed, whose final/ is egs/mini/nano
#
#   --exp DIR              run folders (exp/nano)
#   --jobs N               processes for making and preparing the data
#   --overrides WORDS      options of full.py, on top of the two YAML files
set -euo pipefail

stage=0
stop_stage=5
exp=exp/nano
jobs=2
overrides=
. "$(dirname "$0")/../../path.sh"
parse_options "$@"
read -ra more <<< "$overrides"
cuts=data/fbank_whisper80/nano_cuts

if at_stage 0; then
  python egs/mini/local/make_corpus.py --out data/nano --group source --acoustics varied --train 17000 --val 300 \
    --test 300 --digits 0.6 --seed 1 --jobs "$jobs"
fi
if at_stage 1; then
  bash prepare.sh --data_root data/nano --prefix nano --perturb_speed false --features none --jobs "$jobs"
fi
if at_stage 2; then
  python egs/mini/local/make_processor.py --text data/nano/train/text --out "$exp/processor"
fi

train() {
  egrecho_inner/full.py -c "$1" --data.train "[${cuts}_train.jsonl.gz]" --data.dev "[${cuts}_val.jsonl.gz]" \
    --outdir "$2" --model.path "$3" "${more[@]}"
}
if at_stage 3; then train egs/mini/pretrain.yaml "$exp/first" "$exp/processor"; fi
if at_stage 4; then train egs/mini/pretrain_again.yaml "$exp/second" "$exp/first/final"; fi
if at_stage 5; then train egs/mini/pretrain_mixed.yaml "$exp/mixed" "$exp/second/final"; fi
