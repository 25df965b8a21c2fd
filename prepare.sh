#!/usr/bin/env bash
# Prepare data for training: Kaldi data directories -> manifests -> cuts -> Whisper features.
#
#   bash prepare.sh --data_root /corpora/aishell_vi --prefix aishell_vi --language vi
#
# Reads   DATA_ROOT/{train,val,test}/ with wav.scp, text and utt2lang (also segments, utt2spk, when present)
# Writes  OUT/manifests/PREFIX_{recordings,supervisions}_SPLIT.jsonl
#         OUT/fbank_whisper80/PREFIX_cuts_SPLIT.jsonl.gz and PREFIX_feats_SPLIT/
#         OUT/manifests/skipped.jsonl: what was left out, and why
#
# Stages (--stage N --stop_stage M runs N to M; a finished stage repeated does nothing or writes the same bytes)
#   0  validate the data directories and their audio
#   1  import: recordings and supervisions
#   2  cuts, train with copies at 0.9 and 1.1 times the speed
#   3  features
#   4  MUSAN noises, when --musan is given
#   5  a table of durations per split, and a page to look at: OUT/PREFIX_report.html
#
# Options (paths are absolute, or relative to the repository)
#   --data_root DIR          holds a folder for each split (needed)
#   --prefix NAME            first part of the files' names (needed)
#   --splits "A B"           folders to prepare; by default train, and val and test if they are there
#   --language CODE          of all utterances, instead of utt2lang
#   --out DIR                where everything goes (data)
#   --perturb_speed BOOL     three-fold speed perturbation of train (true)
#   --features KIND          offline: stored; none: computed while training (offline)
#   --num_mel_bins N         80, or 128 for large-v3 (80)
#   --ids I                  auto: PREFIX-SPLIT- before the ids that splits share; prefix: always; keep: refuse (auto)
#   --channel C              of stereo files: mix, 0, 1 or error (error)
#   --musan DIR              folder with music/, noise/, speech/
#   --jobs N                 processes (4, or the number of cores if that is less)
#   --executor E             processes, local (Dask here) or tcp://HOST:PORT of a Dask scheduler (processes)
#   --max_skip_ratio R       share of utterances that may be unusable (0.01 for train, 0 for others)
#   --allow_pipes BOOL       run sox, sph2pipe, flac, ffmpeg of wav.scp, without a shell (false)
set -euo pipefail

stage=0
stop_stage=5
data_root=
prefix=
splits=
language=
out=data
perturb_speed=true
features=offline
num_mel_bins=80
ids=auto
channel=error
musan=
jobs=
executor=processes
max_skip_ratio=
allow_pipes=false

. "$(dirname "$0")/path.sh"
cd "$EGRECHO_ROOT"
parse_options "$@"

[ -n "$data_root" ] || [ "$stage" -gt 1 ] || die "--data_root DIR is needed: the folder that holds train, val and test"
[ -n "$prefix" ] || die "--prefix NAME is needed: the first part of the files' names, such as aishell_vi"
[[ "$prefix" =~ ^[A-Za-z0-9._-]+$ ]] || die "--prefix '$prefix' becomes a file name: letters, digits, . _ - only"
[ "$num_mel_bins" = 80 ] || [ "$num_mel_bins" = 128 ] || die "--num_mel_bins is 80 or 128, not '$num_mel_bins'"
[ "$features" = offline ] || [ "$features" = none ] || die "--features is offline or none, not '$features'"
[ -n "$jobs" ] || jobs=$(n=$(nproc 2>/dev/null || echo 1); echo $((n < 4 ? n : 4)))

if [ -z "$splits" ]; then
  splits=train
  for split in val test; do
    there="${data_root:+$data_root/$split}"
    if [ -e "${there:-$out/manifests/${prefix}_recordings_$split.jsonl}" ]; then
      splits="$splits $split"
    else
      log "no $split in ${data_root:-$out/manifests}: prepared without it"
    fi
  done
fi
for split in $splits; do
  [ "$stage" -gt 1 ] || [ -d "$data_root/$split" ] || die "$data_root has no folder $split; it must hold all of: $splits" 3
done

manifests=$out/manifests
fbank=$out/fbank_whisper$num_mel_bins
reading=(--channel "$channel" --allow_pipes "$allow_pipes" --scans "$manifests/${prefix}_scans.jsonl")
[ -z "$language" ] || reading+=(--language "$language")
storing=(--features "$features" --num_mel_bins "$num_mel_bins" --ledger "$manifests/skipped.jsonl")
work=(--jobs "$jobs" --executor "$executor")
ratio() { case "$max_skip_ratio:$1" in :train* | :musan) echo 0.01 ;; :*) echo 0 ;; *) echo "$max_skip_ratio" ;; esac; }

if at_stage 0; then
  for split in $splits; do
    log "stage 0: validate $data_root/$split"
    egrecho validate-data "$data_root/$split" --max_skip_ratio "$(ratio "$split")" "${reading[@]}" "${work[@]}"
  done
fi

if at_stage 1; then
  importing=(--prefix "$prefix" --out "$manifests" --ids "$ids")
  for split in train val test $splits; do  # all there are, so that a split prepared alone gets the same ids
    [ ! -d "$data_root/$split" ] || importing+=(--other_splits+ "$data_root/$split")
  done
  for split in $splits; do
    log "stage 1: import $data_root/$split"
    egrecho import-kaldi "$data_root/$split" --split "$split" "${importing[@]}" \
      --max_skip_ratio "$(ratio "$split")" "${reading[@]}" "${work[@]}"
  done
fi

if at_stage 2; then
  for split in $splits; do
    log "stage 2: cuts of $split"
    perturb=false
    case "$split" in train*) perturb=$perturb_speed ;; esac
    egrecho make-cuts "$manifests/${prefix}_recordings_$split.jsonl" "$manifests/${prefix}_supervisions_$split.jsonl" \
      --out "$out/cuts/${prefix}_cuts_$split.jsonl" --perturb_speed "$perturb"
  done
fi

if at_stage 3; then
  for split in $splits; do
    log "stage 3: features of $split ($features)"
    egrecho compute-features "$out/cuts/${prefix}_cuts_$split.jsonl" "$fbank/${prefix}_cuts_$split.jsonl.gz" \
      --max_skip_ratio "$(ratio "$split")" "${storing[@]}" "${work[@]}"
  done
fi

if at_stage 4 && [ -n "$musan" ]; then
  log "stage 4: MUSAN"
  egrecho import-musan "$musan" "$out/cuts/musan_cuts.jsonl" --manifests "$manifests" --max_skip_ratio "$(ratio musan)"
  egrecho compute-features "$out/cuts/musan_cuts.jsonl" "$fbank/musan_cuts.jsonl.gz" \
    --max_skip_ratio "$(ratio musan)" "${storing[@]}" "${work[@]}"
fi

if at_stage 5; then
  for split in $splits; do
    log "stage 5: $fbank/${prefix}_cuts_$split.jsonl.gz"
    ./local/display_manifests.py "$fbank/${prefix}_cuts_$split.jsonl.gz"
  done
  named=
  for split in $splits; do named="$named,$split=$fbank/${prefix}_cuts_$split.jsonl.gz"; done
  egrecho report-data --cuts "[${named#,}]" --skipped "[$manifests/skipped.jsonl]" \
    --out "$out/${prefix}_report.html"
fi
