#!/usr/bin/env bash
# A Whisper for one voice, from a folder of recordings: UID.wav (mp3, flac, m4a, ogg, ...) beside UID.txt.
#
#   bash egs/personal/run.sh --folder my_recordings --model openai/whisper-tiny --language en
#
# Stages, --stage to --stop_stage (0 to 2):
#   0  read and divide the folder: pages that play it all, and what looks wrong -> EXP/cuts/recordings.html, EXP/data.html
#   1  measure the base, train, measure again, decide                           -> EXP/run
#   2  size, memory, speed and errors on the CPU: PyTorch, CTranslate2 in float and int8 -> EXP/device (extra ct2)
#
#   --folder DIR           the recordings (needed)
#   --model NAME           the base (openai/whisper-tiny)
#   --language CODE        of the recordings; empty detects it
#   --exp DIR              where everything goes (exp/personal)
#   --guard DIR            recordings of others: what the model must not forget
#   --config FILE          defaults (config/personal.yaml)
#   --overrides WORDS      options of egrecho personal, such as --tune.policy sweep
set -euo pipefail

stage=0
stop_stage=1
folder=
model=openai/whisper-tiny
language=
exp=exp/personal
guard=
config=config/personal.yaml
overrides=
. "$(dirname "$0")/../../path.sh"
cd "$EGRECHO_ROOT"
parse_options "$@"
[ -n "$folder" ] || die "--folder DIR is needed: recordings with their transcripts, 1.wav beside 1.txt"
split "$overrides"

look() {
  egrecho import-folder "$folder" "$exp/cuts" --language "${language:-null}"
  egrecho report-data "$exp"/cuts/cuts_*.jsonl.gz --out "$exp/data.html" --skipped "$exp/cuts/skipped.jsonl"
}
if at_stage 0; then timed "look at the recordings" look; fi
if at_stage 1; then
  timed "personalise" egrecho personal "$folder" "$exp/run" -c "$config" --model "$model" \
    --language "${language:-null}" --guard.data "${guard:-null}" ${words[@]+"${words[@]}"}
fi
if at_stage 2; then
  for backend in torch ctranslate2 ctranslate2-int8; do
    timed "decode with $backend" egrecho eval "$exp/run/final" --cuts "$exp/run/cuts/cuts_test.jsonl.gz" \
      --out "$exp/device/$backend" --decode.backend "$backend" --decode.language "${language:-null}" --device cpu
  done
  for type in float32 float16 int8; do
    [ -d "$exp/device/model_$type" ] || timed "export $type" egrecho export "$exp/run/final" --to ctranslate2 \
      --type "$type" --out "$exp/device/model_$type" --prove false
  done
  python egs/personal/local/device_table.py "PyTorch, float32=$exp/device/torch=$exp/run/final" \
    "CTranslate2, float32=$exp/device/ctranslate2=$exp/device/model_float32" \
    "CTranslate2, float16==$exp/device/model_float16" \
    "CTranslate2, int8=$exp/device/ctranslate2-int8=$exp/device/model_int8"
fi
