#!/usr/bin/env bash
# Distil a small, fast student from a large Whisper: the teacher's text, the good part of it, a student, its training.
#
#   bash egs/distil/train.sh --data_root data/reazon --prefix reazon --language ja          # whisper-large-v3 -> 2 layers
#   bash egs/distil/train.sh --train_cuts my/train.jsonl.gz --dev_cuts my/dev.jsonl.gz --test_cuts "my/a.jsonl.gz my/b.jsonl.gz"
#
# Stages, --stage to --stop_stage (0 to 6); a stopped stage is continued by the same command, a finished one does nothing
#   0  Kaldi directories -> cuts, with --data_root        -> data/fbank_whisper80/PREFIX_cuts_*.jsonl.gz
#   1  the teacher's text on the training cuts            -> EXP/labels/labelled.jsonl.gz
#   2  keep what agrees with the transcripts, and pack    -> EXP/labels/filtered.jsonl.gz, packed.jsonl.gz
#   3  a student of the teacher's layers                  -> EXP/NAME/init
#   4  train it                                           -> EXP/NAME/final
#   5  evaluate teacher and student on every test set     -> EXP/teacher/eval, EXP/NAME/eval; one table
#   6  the student as the teacher's assistant, its speed  -> EXP/NAME/speculative.json
#
#   --teacher NAME         folder or hub id (openai/whisper-large-v3)
#   --data_root DIR        holds Kaldi directories train, val, test; --prefix NAME names what is made of them
#   --train_cuts FILE      cuts, instead; --dev_cuts FILE, --test_cuts "FILE FILE"
#   --language CODE        of cuts that name none
#   --exp DIR              everything made here (exp/distil); --name NAME of the student in it (student)
#   --encoder_layers N     of the student: a number, a list such as [0,15,31], or all
#   --decoder_layers N     a number or a list
#   --random PART          random weights instead, for comparison: none, decoder or all
#   --config FILES         YAML for distil.py on top of config/train.yaml
#   --label_config FILES   --filter_config FILES   --eval_config FILES      YAML for these commands
#   --pack WAY             join neighbours to windows near 30 s: recording, speaker or none
#   --overrides WORDS      options of distil.py, e.g. "--kd.kl_weight 0 --train.num_epochs 1"
#   --label_overrides WORDS   --filter_overrides WORDS                      options of these commands
#   --nproc N              processes, one per GPU, that label, train and evaluate
set -euo pipefail

stage=0
stop_stage=6
teacher=openai/whisper-large-v3
data_root=
prefix=distil
train_cuts=
dev_cuts=
test_cuts=
language=
exp=exp/distil
name=student
encoder_layers=all
decoder_layers=2
random=none
config=egs/distil/large_v3.yaml
label_config=egs/distil/label.yaml
filter_config=egs/distil/filter.yaml
eval_config=
pack=recording
overrides=
label_overrides=
filter_overrides=
nproc=1
. "$(dirname "$0")/../../path.sh"
cd "$EGRECHO_ROOT"
parse_options "$@"

data=data/fbank_whisper80/${prefix}_cuts
train_cuts=${train_cuts:-${data}_train.jsonl.gz}
dev_cuts=${dev_cuts:-${data}_val.jsonl.gz}
test_cuts=${test_cuts:-${data}_test.jsonl.gz}
labels=$exp/labels
run=$exp/$name
learned=$labels/filtered.jsonl.gz
if [ "$pack" != none ]; then learned=$labels/packed.jsonl.gz; fi
if [ "$encoder_layers" = all ]; then encoder_layers=null; fi
use_processes "$nproc"

training=(-c config/train.yaml)
for file in $config; do training+=(-c "$file"); done
training+=(--model "$run/init" --teacher "$teacher" --data.train "[$learned]" --data.dev "[$dev_cuts]" --out "$run")
labelling=("$train_cuts" "$labels/labelled.jsonl.gz" --model "$teacher")
for file in $label_config; do labelling+=(-c "$file"); done
filtering=("$labels/labelled.jsonl.gz" "$labels/filtered.jsonl.gz")
for file in $filter_config; do filtering+=(-c "$file"); done
evaluating=(-c config/eval.yaml)
for file in $eval_config; do evaluating+=(-c "$file"); done
if [ -n "$language" ]; then
  training+=(--data.language "$language")
  labelling+=(--decode.language "$language")
fi
split "$overrides"
training+=(${words[@]+"${words[@]}"})
split "$label_overrides"
labelling+=(${words[@]+"${words[@]}"})
split "$filter_overrides"
filtering+=(${words[@]+"${words[@]}"})

if at_stage 0 && [ -n "$data_root" ]; then
  log "stage 0: prepare $data_root"
  bash prepare.sh --data_root "$data_root" --prefix "$prefix" --perturb_speed false --features none --language "$language"
fi

if at_stage 1; then
  log "stage 1: the text of $teacher on $train_cuts"
  "${launch[@]}" egrecho_inner/pseudo_label.py "${labelling[@]}"
fi

if at_stage 2; then
  log "stage 2: keep what is worth learning from"
  egrecho filter "${filtering[@]}"
  if [ "$pack" != none ]; then egrecho pack "$labels/filtered.jsonl.gz" "$labels/packed.jsonl.gz" --pack.by "$pack"; fi
fi

if at_stage 3; then
  log "stage 3: a student of $teacher"
  egrecho init-student "$teacher" "$run/init" --encoder_layers "$encoder_layers" --decoder_layers "$decoder_layers" \
    --random "$random"
fi

if at_stage 4; then
  log "stage 4: train $run"
  "${launch[@]}" egrecho_inner/distil.py "${training[@]}"
fi

if at_stage 5; then
  log "stage 5: evaluate teacher and student"
  sets=
  for file in $test_cuts; do sets="$sets,$file"; done
  evaluating+=(--cuts "[${sets#,}]")
  "${launch[@]}" egrecho_inner/evaluation.py "${evaluating[@]}" --model "$teacher" --out "$exp/teacher/eval" > /dev/null
  "${launch[@]}" egrecho_inner/evaluation.py "${evaluating[@]}" --model "$run/final" --out "$run/eval" > /dev/null
  egrecho side-by-side "teacher=$exp/teacher/eval" "$name=$run/eval" --out "$run/table.md"
fi

if at_stage 6; then
  log "stage 6: the student as the teacher's assistant"
  egrecho speculate "$teacher" "$run/final" "${test_cuts%%[[:space:]]*}" --dtype float32 --out "$run/speculative.json"
fi
