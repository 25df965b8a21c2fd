#!/usr/bin/env bash
# Decode with a speech LLM: SLAM-LLM's variables, its search (beam 4, 200 tokens) and its pair of files.
#
#   bash egs/slam/decode.sh --ckpt_path exp/slam/projector/final --val_data_path test.jsonl --decode_log exp/slam/decode
#
# Writes DECODE_LOG_pred and DECODE_LOG_gt (key, tab, text), and beside them the result folder of egrecho eval. A
# model.pt of SLAM-LLM is imported first; then encoder and LLM are to be named.
#
#   --ckpt_path PATH           folder of a run (OUTPUT_DIR/projector/final), or SLAM-LLM's model.pt
#   --speech_encoder_path DIR  --llm_path DIR   of a model.pt
#   --val_data_path FILE       JSONL with key, source, target
#   --output_dir DIR           for cuts and results (exp/slam_decode)
#   --decode_log PATH          beginning of the two files' names (OUTPUT_DIR/decode)
#   --language CODE            of the texts (en)
#   --overrides WORDS          options of egrecho eval
set -euo pipefail

ckpt_path=
speech_encoder_path=
llm_path=
val_data_path=
output_dir=exp/slam_decode
decode_log=
language=en
overrides=
. "$(dirname "$0")/../../path.sh"
cd "$EGRECHO_ROOT"
parse_options "$@"
split "$overrides"

egrecho import-jsonl "$val_data_path" "$output_dir/cuts.jsonl.gz" --language "$language"
model="$ckpt_path"
if [ "${ckpt_path%.pt}" != "$ckpt_path" ]; then
  model="$output_dir/model"
  egrecho convert-slam "$ckpt_path" "$model" --encoder "$speech_encoder_path" --llm "$llm_path"
fi
egrecho eval -c config/slam_eval.yaml --model "$model" --cuts "$output_dir/cuts.jsonl.gz" --out "$output_dir/eval" \
  ${words[@]+"${words[@]}"}
egs/slam/local/decode_log.py "$output_dir/eval" "${decode_log:-$output_dir/decode}"
