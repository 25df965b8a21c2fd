#!/usr/bin/env bash
# Teach a Whisper a language that it has no token for: Mboshi (Bantu C25), an hour of speech; then its French translations.
#
#   bash egs/new_language/run.sh --corpus data/mboshi_corpus
#
# Stages, --stage to --stop_stage (0 to 5):
#   0  Kaldi directories                                   -> data/mboshi/{mboshi,french}/{train,test}
#   1  prepare.sh: manifests and cuts                      -> data/manifests, data/fbank_whisper80
#   2  give the model the token <|mdw|>                    -> EXP/added
#   3  evaluate it before and after that                   -> EXP/orig/eval, EXP/added_eval
#   4  full fine-tuning and evaluation                     -> EXP/full
#   5  a model of the task translate, with French texts    -> EXP/french
#
#   --corpus DIR           folder with utterances.tsv and audio/ (needed for stage 0)
#   --model NAME           model to start from (egs/mini/nano)
#   --init_from CODE       language whose token <|mdw|> begins as (ln: Lingala, Bantu C30)
#   --exp DIR              run folders (exp/new_language)
#   --overrides WORDS      options of egrecho full, on top of mboshi.yaml
set -euo pipefail

stage=0
stop_stage=5
corpus=
model=egs/mini/nano
init_from='ln'
exp=exp/new_language
overrides=
. "$(dirname "$0")/../../path.sh"
cd "$EGRECHO_ROOT"
parse_options "$@"

cuts=data/fbank_whisper80
evaluating=(egrecho eval -c config/eval.yaml --normalizer none --metric cer)

if at_stage 0; then
  [ -n "$corpus" ] || die "--corpus DIR is needed: the folder with utterances.tsv and audio/"
  python egs/new_language/local/prepare_mboshi.py "$corpus" data/mboshi
fi

if at_stage 1; then
  # speeds are drawn while training, so neither copies nor stored features are wanted
  for target in mboshi french; do
    timed "prepare $target" bash prepare.sh --data_root "data/mboshi/$target" --prefix "mdw_$target" \
      --splits "train test" --perturb_speed false --features none
  done
fi

if at_stage 2 && [ ! -d "$exp/added" ]; then
  egrecho add-language --model "$model" --code mdw --name Mboshi --init_from "$init_from" --out "$exp/added"
fi

if at_stage 3; then
  "${evaluating[@]}" --model "$model" --cuts "$cuts/mdw_mboshi_cuts_test.jsonl.gz" --out "$exp/orig/eval" \
    --decode.language "$init_from" --decode.force_language true
  "${evaluating[@]}" --model "$exp/added" --cuts "$cuts/mdw_mboshi_cuts_test.jsonl.gz" --out "$exp/added_eval"
fi

train() {
  split "$overrides"
  timed "train $1" egrecho full -c config/train.yaml -c config/full.yaml -c egs/new_language/mboshi.yaml \
    --model "$exp/added" --data.train "$cuts/mdw_$1_cuts_train.jsonl.gz" --data.task "$2" --out "$exp/$3" \
    ${words[@]+"${words[@]}"}
  "${evaluating[@]}" --model "$exp/$3/final" --cuts "$cuts/mdw_$1_cuts_test.jsonl.gz" --decode.task "$2" \
    --out "$exp/$3/eval"
}
if at_stage 4; then train mboshi transcribe full; fi
if at_stage 5; then train french translate french; fi

shown=()
for result in "base=$exp/orig/eval" "added=$exp/added_eval" "full=$exp/full/eval" "French=$exp/french/eval"; do
  [ ! -f "${result#*=}/results.json" ] || shown+=("$result")
done
[ ${#shown[@]} -eq 0 ] || ./local/display_results.py ${shown[@]+"${shown[@]}"} --times "$exp/times.tsv"
