#!/usr/bin/env bash
# Download a pretrained model into a local folder, so that training and evaluation need no network.
#
#   bash local/hf_download.sh --model openai/whisper-small
#   bash finetune.sh --model exp/models/whisper-small
#
# Options:
#   --model ID        model on the Hugging Face hub (openai/whisper-small)
#   --revision REV    branch, tag or commit; give a commit for a result that can be repeated (main)
#   --out DIR         folder to make (exp/models/<last part of the id>)
#
# Weights come as safetensors only, with the tokenizer and the configs; no pickles, no copies in other formats or widths.
# The folder appears when it is complete and checked (local/check_model.py); a download that was cut off continues.
# HF_ENDPOINT=URL asks a mirror; HF_TOKEN or `hf auth login` opens gated models.
set -euo pipefail

model=openai/whisper-small
revision=main
out=

. "$(dirname "$0")/../path.sh"
cd "$EGRECHO_ROOT"
parse_options "$@"

out="${out:-exp/models/${model##*/}}"
partial="$out.part"

if [ -e "$out" ]; then
  python local/check_model.py "$out"
  log "$out is there already; nothing to do"
  exit 0
fi
mkdir -p "$partial"
log "downloading $model ($revision) into $out"
hf download "$model" --revision "$revision" --local-dir "$partial" \
  --include '*.json' --include '*.safetensors' --include merges.txt --include '*.model' --include 'LICENSE*' --include README.md \
  --exclude '*fp32*' --exclude 'onnx/*' --exclude 'original/*' >/dev/null \
  || {
    rmdir "$partial" 2>/dev/null || true
    die "$model ($revision) was not downloaded, the reason is above; try again to continue, set HF_ENDPOINT=URL to ask a mirror, \
or copy the folder from a machine that has it" 5
  }
python local/check_model.py "$partial"
rm -rf "$partial/.cache"
mv "$partial" "$out"
log "$out is complete"
