#!/usr/bin/env bash
# Train a speech LLM from SLAM-LLM's JSONL: the projector, then an adapter too; the variables have SLAM-LLM's names.
#
#   bash egs/slam/run.sh --speech_encoder_path openai/whisper-large-v3 --llm_path lmsys/vicuna-7b-v1.5 \
#     --train_data_path train.jsonl --val_data_path val.jsonl --output_dir exp/slam
#
# Stages, --stage to --stop_stage (0 to 2; 1):
#   0  JSONL -> cuts                            -> OUTPUT_DIR/cuts
#   1  the projector alone                      -> OUTPUT_DIR/projector/final
#   2  the projector and an adapter on the LLM  -> OUTPUT_DIR/lora/final
#
#   --speech_encoder_path DIR  --llm_path DIR   folders or hub ids
#   --train_data_path FILE  --val_data_path FILE
#   --output_dir DIR           everything made here (exp/slam)
#   --encoder_projector NAME   linear, cov1d, q-former, mlp, swiglu (linear)
#   --encoder_projector_ds_rate N               frames to a vector (5)
#   --language CODE            of the texts (en)
#   --nproc N                  processes (1)
#   --deepspeed_config FILE    config/ds_zero2.json, for example
#   --overrides WORDS          options of slam.py
set -euo pipefail

stage=0
stop_stage=1
speech_encoder_path=
llm_path=
train_data_path=
val_data_path=
output_dir=exp/slam
encoder_projector=linear
encoder_projector_ds_rate=5
language=en
nproc=1
deepspeed_config=
overrides=
. "$(dirname "$0")/../../path.sh"
cd "$EGRECHO_ROOT"
parse_options "$@"
cuts="$output_dir/cuts"

if at_stage 0; then
  egrecho import-jsonl "$train_data_path" "$cuts/train.jsonl.gz" --language "$language"
  egrecho import-jsonl "$val_data_path" "$cuts/val.jsonl.gz" --language "$language"
fi

# tune NAME WORDS...: options of slam.py
tune() {
  local name="$1"
  shift
  split "$overrides"
  set -- "$@" ${words[@]+"${words[@]}"}
  [ -z "$deepspeed_config" ] || set -- "$@" --train.deepspeed "$deepspeed_config"
  egrecho launch --standalone --nproc_per_node "$nproc" slam -c config/slam.yaml \
    --model.encoder "$speech_encoder_path" --model.llm "$llm_path" --projector.kind "$encoder_projector" \
    --projector.stride "$encoder_projector_ds_rate" --data.train "$cuts/train.jsonl.gz" \
    --data.dev "$cuts/val.jsonl.gz" --out "$output_dir/$name" "$@"
}
if at_stage 1; then tune projector; fi
if at_stage 2; then tune lora -c config/slam_lora.yaml --model.start "$output_dir/projector/final"; fi
