#!/usr/bin/env bash
# Train a nano language model as egs/slam/lm from random weights, on text alone.
#
#   bash egs/slam/pretrain.sh
#
# Stages, --stage to --stop_stage (0 to 2):
#   0  config, tokenizer, texts to repeat: clean, then stretched and noisy -> EXP/empty, data/slam_lm
#   1  clean texts                                                         -> EXP/clean
#   2  noisy ones                                                          -> EXP/noisy, whose final/ can take the place of egs/slam/lm
#
#   --exp DIR              run folders (exp/slam_lm)
#   --clean_steps N  --noisy_steps N
#   --overrides WORDS      options of slam.py, on top of the YAML files
set -euo pipefail

stage=0
stop_stage=2
exp=exp/slam_lm
clean_steps=350
noisy_steps=700
overrides=
. "$(dirname "$0")/../../path.sh"
cd "$EGRECHO_ROOT"
parse_options "$@"
split "$overrides"
data=data/slam_lm

# texts NAME LINES NOISE SEED
texts() {
  python egs/slam/local/make_text.py --lm "$exp/empty" --out "$data/$1.jsonl" --lines "$2" --noise "$3" --seed "$4"
  egrecho import-jsonl "$data/$1.jsonl" "$data/$1_cuts.jsonl.gz" --language en
}
if at_stage 0; then
  python egs/slam/local/make_lm.py --processor egs/mini/nano --out "$exp/empty"
  texts clean 11200 0 1
  texts noisy 24000 1 2
  texts dev 200 1 3
fi

# train NAME LM STEPS WORDS...: options of slam.py
train() {
  egrecho_inner/slam.py -c config/slam.yaml -c egs/slam/lm.yaml --model.llm "$2" --out "$exp/$1" \
    --data.train "[$data/$1_cuts.jsonl.gz]" --data.dev "[$data/dev_cuts.jsonl.gz]" --train.max_steps "$3" \
    "${@:4}" ${words[@]+"${words[@]}"}
}
if at_stage 1; then train clean "$exp/empty" "$clean_steps" --model.random_llm true; fi
if at_stage 2; then train noisy "$exp/clean/final" "$noisy_steps" --train.schedule cosine; fi
