#!/usr/bin/env bash
# Pre-training for real on two cores: a small web of known truth, filtered, and two models from random weights.
#
#   bash egs/pretrain/mini.sh
#
# The limits of the filters were chosen on the web of seed 1; another one shows what they are worth:
#
#   bash egs/pretrain/mini.sh --stop_stage 4 --seed 7 --lid exp/pretrain_mini/languages/final \
#     --data data/web_held_out --exp exp/pretrain_held_out
#
# Stages, --stage to --stop_stage (0 to 6):
#   0  a test set; a web of 300 documents, half of them wrong; a small one in four languages   -> DATA
#   1  import, tags of documents, dedup, decontamination, windows                             -> EXP/data
#   2  a model that tells languages: egs/mini/nano, tuned on four                             -> EXP/languages
#   3  nano's text on all windows, the other's language; tags of windows                      -> EXP/data
#   4  filter; what each filter caught of what is wrong                                       -> EXP/filters.md
#   5  two models of equal steps, on filtered and on unfiltered windows                       -> EXP/{filtered,unfiltered}
#   6  both on the test set, and which is better                                              -> EXP/table.md
#
#   --data DIR             what is made (data/web_mini)
#   --exp DIR              everything else (exp/pretrain_mini)
#   --documents N          size of the web (300)
#   --seed N               another seed, another web (1)
#   --lid DIR              a model that detects languages, made before: stage 2 has nothing to do
#   --jobs N               processes
#   --overrides WORDS      options of full.py for the two models, on top of egs/pretrain/mini.yaml
set -euo pipefail

stage=0
stop_stage=6
data=data/web_mini
exp=exp/pretrain_mini
documents=300
seed=1
lid=
jobs=2
overrides=
. "$(dirname "$0")/../../path.sh"
cd "$EGRECHO_ROOT"
parse_options "$@"
split "$overrides"
work=$exp/data
mkdir -p "$work"

speech() {
  python egs/mini/local/make_corpus.py --out "$data/eval" --group source --train 10 --val 60 --test 300 --digits 0.7 \
    --seed 11 --jobs "$jobs"
  bash prepare.sh --data_root "$data/eval" --prefix web_mini --perturb_speed false --features none --stop_stage 3 \
    --jobs "$jobs"
  python egs/pretrain/local/make_web.py --out "$data/languages" --test "$data/eval/test/text" --documents 120 \
    --languages true --seconds "[12, 20]" --seed 2 --jobs "$jobs"
  python egs/pretrain/local/make_web.py --out "$data/web" --test "$data/eval/test/text" --documents "$documents" \
    --seed "$seed" --jobs "$jobs"
}
windows() {
  egrecho import-web "$data/web" "$work/documents.jsonl.gz" --jobs "$jobs"
  egrecho tag "$work/documents.jsonl.gz" "$work/tagged_documents.jsonl.gz" \
    --tags "[casing, repeating_lines, text_language, num_words]"
  egrecho dedup --cuts "[$work/tagged_documents.jsonl.gz]" --out "$work/unique.jsonl.gz" \
    --bands 20 --rows 5 # half a minute of digits has few 5-grams
  egrecho decontaminate "$work/unique.jsonl.gz" "$work/clean.jsonl.gz" --shortest 7 \
    --against "[test=data/fbank_whisper80/web_mini_cuts_test.jsonl.gz]"
  egrecho segment "$work/clean.jsonl.gz" "$work/windows.jsonl.gz" --max_seconds 4
  egrecho segment "$work/tagged_documents.jsonl.gz" "$work/unfiltered.jsonl.gz" --max_seconds 4
}
languages() {
  egrecho import-web "$data/languages" "$work/languages.jsonl.gz" --audio "$work/audio_languages"
  egrecho tag "$work/languages.jsonl.gz" "$work/tagged_languages.jsonl.gz" --tags "[text_language]"
  egrecho segment "$work/tagged_languages.jsonl.gz" "$work/windows_languages.jsonl.gz" --max_seconds 8 \
    --no_speech false
  egrecho filter "$work/windows_languages.jsonl.gz" "$work/train_languages.jsonl.gz" --language_tag text_language \
    --conditions "[{tag: text_language, one_of: [en, de, fr, es]}]"
  egrecho_inner/full.py -c egs/pretrain/mini_languages.yaml --model egs/mini/nano \
    --data.train "$work/train_languages.jsonl.gz" --out "$exp/languages"
}
labels() {
  egrecho pseudo-label "$work/windows.jsonl.gz" "$work/labelled.jsonl.gz" --model egs/mini/nano --decode.language en
  egrecho tag "$work/labelled.jsonl.gz" "$work/measured.jsonl.gz" --tags "[edit_distance]" \
    --document_tags "[edit_distance]" --normalizer whisper-basic # no case; digits stay words
  # a larger Whisper gives text and language in one pass; of this one only the language is wanted
  egrecho pseudo-label "$work/measured.jsonl.gz" "$work/detected.jsonl.gz" --model "${lid:-$exp/languages/final}" \
    --decode.max_new_tokens 3
  egrecho tag "$work/detected.jsonl.gz" "$work/tagged_windows.jsonl.gz" --document_tags "[audio_language]"
}
filters() {
  egrecho filter "$work/tagged_windows.jsonl.gz" "$work/filtered.jsonl.gz" -c egs/pretrain/mini_filter.yaml
  python egs/pretrain/local/judge_filters.py --truth "$data/web/truth.jsonl" --folder "$work" \
    --conditions egs/pretrain/mini_filter.yaml --out "$exp/filters.md"
}
# model NAME: one of random weights on NAME.jsonl.gz, on one core
model() {
  OMP_NUM_THREADS=1 egrecho_inner/full.py -c egs/pretrain/mini.yaml --data.train "$work/$1.jsonl.gz" \
    --data.dev data/fbank_whisper80/web_mini_cuts_val.jsonl.gz --out "$exp/$1" ${words[@]+"${words[@]}"}
}
models() {
  model unfiltered > "$exp/unfiltered.log" 2>&1 &
  local other=$!
  model filtered
  wait "$other" || { tail -5 "$exp/unfiltered.log" >&2; return 1; }
}
results() {
  for name in filtered unfiltered; do
    egrecho eval -c egs/mini/eval.yaml --model "$exp/$name/final" --decode.language en --out "$exp/$name/eval" \
      --cuts data/fbank_whisper80/web_mini_cuts_test.jsonl.gz
  done
  egrecho side-by-side "unfiltered=$exp/unfiltered/eval" "filtered=$exp/filtered/eval" --normalizer none \
    --out "$exp/table.md"
  egrecho compare --a "$exp/unfiltered/eval" --b "$exp/filtered/eval" --normalizer none
}

if at_stage 0; then timed "make speech" speech; fi
if at_stage 1; then timed "import, tag, dedup, decontaminate, segment" windows; fi
if at_stage 2 && [ -z "$lid" ]; then timed "model of languages" languages; fi
if at_stage 3; then timed "label and tag windows" labels; fi
if at_stage 4; then timed "filter" filters; fi
if at_stage 5; then timed "two models" models; fi
if at_stage 6; then timed "evaluate" results; fi
[ ! -f "$exp/times.tsv" ] || cat "$exp/times.tsv"
