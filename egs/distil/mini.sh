#!/usr/bin/env bash
# Distillation for real on two cores: a teacher twice as deep as egs/mini/nano, students with a quarter of its decoder.
#
#   bash egs/distil/mini.sh
#
# Stages, --stage to --stop_stage (0 to 4):
#   0  speech of the mini task: one part for the teacher, one to label -> data/distil_teacher, data/distil_students
#   1  the teacher: every layer of nano twice, trained                 -> EXP/teacher/final
#   2  students, by egs/distil/train.sh, the audio labelled once:      -> EXP/{random,ce,kd,kd2}
#        random  the teacher's encoder, a decoder of random weights, CE on the teacher's text
#        ce      copied layers, CE on the teacher's text
#        kd      copied layers, CE and KL from the teacher
#        kd2     the same with one decoder layer more
#   3  one table of all, and whether KL made a difference              -> EXP/table.md
#   4  kd2 as the teacher's assistant                                  -> EXP/kd2/speculative.json
#
#   --exp DIR              everything made here (exp/distil_mini)
#   --model NAME           what the teacher grows from (egs/mini/nano)
#   --decoder_layers N     of the students
#   --jobs N               processes that make and prepare the data
#   --teacher_overrides WORDS   --overrides WORDS    options of full.py and distil.py
set -euo pipefail

stage=0
stop_stage=4
exp=exp/distil_mini
model=egs/mini/nano
decoder_layers=1
jobs=2
teacher_overrides=
overrides=
. "$(dirname "$0")/../../path.sh"
cd "$EGRECHO_ROOT"
parse_options "$@"
cuts=data/fbank_whisper80
mkdir -p "$exp"

# corpus NAME SEED SIZES...: data/distil_NAME and its cuts
corpus() {
  local name="distil_$1" seed="$2"
  shift 2
  python egs/mini/local/make_corpus.py --out "data/$name" --group target --digits 0.4 --seed "$seed" --jobs "$jobs" "$@"
  bash prepare.sh --data_root "data/$name" --prefix "$name" --perturb_speed false --features none --jobs "$jobs"
}
speech() {
  corpus teacher 5 --train 3000 --val 100 --test 400
  corpus students 6 --train 3000 --val 0 --test 0
}
# twice PART: every layer of nano two times, [0, 0, 1, 1, ...]
twice() {
  python -c 'import json, sys; print([n // 2 for n in range(2 * json.load(open(sys.argv[1]))[sys.argv[2]])])' \
    "$model/config.json" "$1"
}
teacher() {
  split "$teacher_overrides"
  egrecho init-student "$model" "$exp/deeper" --encoder_layers "$(twice encoder_layers)" \
    --decoder_layers "$(twice decoder_layers)"
  egrecho_inner/full.py -c config/train.yaml -c config/full.yaml -c egs/distil/mini_teacher.yaml \
    --model "$exp/deeper" --data.train "[$cuts/distil_teacher_cuts_train.jsonl.gz]" \
    --data.dev "[$cuts/distil_teacher_cuts_val.jsonl.gz]" --out "$exp/teacher" ${words[@]+"${words[@]}"}
}
# student NAME RANDOM WORDS...: options of distil.py
student() {
  local name="$1" random="$2"
  shift 2
  bash egs/distil/train.sh --stage "${first:-3}" --stop_stage "${last:-5}" --teacher "$exp/teacher/final" --exp "$exp" --name "$name" \
    --train_cuts "$cuts/distil_students_cuts_train.jsonl.gz" --dev_cuts "$cuts/distil_teacher_cuts_val.jsonl.gz" \
    --test_cuts "$cuts/distil_teacher_cuts_test.jsonl.gz" --language en --pack none \
    --decoder_layers "$decoder_layers" --random "$random" --eval_config egs/mini/eval.yaml \
    --label_config "egs/distil/label.yaml egs/distil/mini_label.yaml" \
    --filter_config "egs/distil/filter.yaml egs/distil/mini_filter.yaml" \
    --config "egs/distil/large_v3.yaml egs/distil/mini.yaml" --overrides "$* $overrides"
}

if at_stage 0; then timed "make and prepare speech" speech; fi
if at_stage 1; then timed "teacher" teacher; fi
if at_stage 2; then
  first=1 last=2 timed "label and filter" student kd none
  timed "student, random decoder" student random decoder --kd.kl_weight 0
  timed "student, CE" student ce none --kd.kl_weight 0
  timed "student, CE and KL" student kd none
  decoder_layers=$((decoder_layers + 1)) timed "student, CE and KL, a layer more" student kd2 none
fi
if at_stage 3; then
  egrecho side-by-side "teacher=$exp/teacher/eval" "random=$exp/random/eval" "ce=$exp/ce/eval" "kd=$exp/kd/eval" \
    "kd2=$exp/kd2/eval" --normalizer none --out "$exp/table.md"
  egrecho compare --a "$exp/ce/eval" --b "$exp/kd/eval" --normalizer none
fi
if at_stage 4; then
  timed "speculative decoding" egrecho speculate "$exp/teacher/final" "$exp/kd2/final" \
    "$cuts/distil_teacher_cuts_test.jsonl.gz" --decode.language en --dtype float32 --out "$exp/kd2/speculative.json"
fi
[ ! -f "$exp/times.tsv" ] || cat "$exp/times.tsv"
