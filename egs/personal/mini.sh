#!/usr/bin/env bash
# Personalisation for real in minutes on a laptop: a synthetic voice with a German accent, and speakers of real digits.
#
#   bash egs/personal/mini.sh                                    the synthetic voice
#   git clone https://github.com/Jakobovski/free-spoken-digit-dataset data/fsdd_corpus
#   bash egs/personal/mini.sh --recordings data/fsdd_corpus/recordings
#
# Stages, --stage to --stop_stage (0 to 3):
#   0  a voice, 166 phrases to learn, 74 dev, 49 test, and phrases of other voices -> data/personal_mini/{voice,others}
#   1  egrecho personal on it, with the guard                                      -> EXP/voice
#   2  for every speaker held out: a base of the other five                        -> EXP/SPEAKER/base
#   3  that base personalised with 50, 100, 200 recordings of the speaker          -> EXP/SPEAKER/n50 ...
# and at the end one table.
#
#   --recordings DIR       FSDD's folder `recordings`; without it stages 2 and 3 are left out
#   --speakers WORDS       held out in turn ("jackson nicolas theo")
#   --sizes WORDS          recordings to learn ("50 100 200")
#   --model NAME           model to start from (egs/mini/nano)
#   --exp DIR              run folders (exp/personal_mini)
#   --overrides WORDS      options of egrecho personal, on top of config/personal.yaml and egs/personal/mini.yaml
set -euo pipefail

stage=0
stop_stage=3
recordings=
speakers="jackson nicolas theo"
sizes="50 100 200"
model=egs/mini/nano
exp=exp/personal_mini
overrides=
. "$(dirname "$0")/../../path.sh"
cd "$EGRECHO_ROOT"
parse_options "$@"
split "$overrides"
data=data/personal_mini
mkdir -p "$exp"

voices() {
  python egs/personal/local/make_voice.py "$data/voice" --voices de+Andy --train 166 --dev 74 --test 49
  python egs/personal/local/make_voice.py "$data/others" --seed 2 --test 120 \
    --voices en-us+Alex,en-029+Alicia,en-gb-scotland+Andrea,en-gb-x-rp+Denis
}
# personal NAME FOLDER BASE GUARD
personal() {
  egrecho personal "$2" "$exp/$1" -c config/personal.yaml -c egs/personal/mini.yaml --model "$3" --language en \
    --guard.data "$4" --scoring.normalizer none ${words[@]+"${words[@]}"}
}
# base SPEAKER: nano tuned on the five others
base() {
  python egs/personal/local/fsdd_folders.py "$recordings" "$data/$1" --speaker "$1"
  egrecho import-folder "$data/$1/base" "$exp/$1/cuts" --language en
  egrecho_inner/full.py -c config/train.yaml -c config/full.yaml -c egs/fsdd/fsdd.yaml -c egs/personal/mini_base.yaml \
    --model "$model" --data.train "$exp/$1/cuts/cuts_train.jsonl.gz" \
    --data.dev "$exp/$1/cuts/cuts_dev.jsonl.gz" --out "$exp/$1/base"
}

rows=("German accent=$exp/voice")
if at_stage 0; then timed "make speech" voices; fi
if at_stage 1; then timed "German accent" personal voice "$data/voice" "$model" "$data/others"; fi
for speaker in $speakers; do
  if [ -n "$recordings" ] && at_stage 2; then timed "base without $speaker" base "$speaker"; fi
  for size in $sizes; do
    if [ -n "$recordings" ] && at_stage 3; then
      timed "$speaker, $size" personal "$speaker/n$size" "$data/$speaker/n$size" "$exp/$speaker/base/final" \
        "$data/$speaker/others"
    fi
    rows+=("$speaker, $size=$exp/$speaker/n$size")
  done
done
python egs/personal/local/table.py "${rows[@]}" | tee "$exp/table.md"
[ ! -f "$exp/times.tsv" ] || cat "$exp/times.tsv"
