# shellcheck shell=bash
# Shell helpers of every script, sourced by path.sh.
#   log MSG ...          a line with the time
#   die MSG [CODE]       `error: MSG` on stderr, exit CODE (2 if not given)
#   usage                the head comment of the running script
#   parse_options "$@"   --name value sets the variable `name` that the script has given a default; nothing is eval-ed
#   at_stage N           true when $stage <= N <= $stop_stage
#   split TEXT           sets the array `words`
#   use_processes N      sets the array `launch`: "${launch[@]}" PROGRAM.py OPTION ... runs in N processes
#   timed NAME COMMAND   run a command and note its seconds in $exp/times.tsv

log() { printf '%s %s\n' "$(date +%H:%M:%S)" "$*"; }

die() { printf 'error: %s\n' "$1" >&2; exit "${2:-2}"; }

usage() { awk 'NR > 1 { if (/^#/) { sub(/^# ?/, ""); print } else exit }' "$EGRECHO_SCRIPT"; }

# Options are the variables in lower case that the script assigns at the start of a line before it calls parse_options.
known_options() {
  awk '/^parse_options/ { exit } match($0, /^[a-z][a-z0-9_]*=/) { print substr($0, 1, RLENGTH - 1) }' "$EGRECHO_SCRIPT"
}

parse_options() {
  # a local name here would hide a script's option of that name
  local _known _option _name
  _known=$(known_options | tr '\n' ' ')
  while [ $# -gt 0 ]; do
    _option="$1"
    case "$_option" in
      -h | --help) usage; exit 0 ;;
      --*=*) die "write '${_option%%=*} ${_option#*=}', not '$_option'" ;;
      --*) _name="${_option#--}" _name="${_name//-/_}" ;;
      *) die "unexpected argument '$_option'; options are --name value (--help lists them)" ;;
    esac
    if [ "$_name" = model_name ] && [[ " $_known" == *" model "* ]]; then _name=model; fi  # the specification's name
    case " $_known" in
      *" $_name "*) ;;
      *) die "unknown option $_option; $(did_you_mean "$_name" "$_known")known are$(printf '%s' " $_known" | sed 's/ *$//; s/ / --/g')" ;;
    esac
    [ $# -ge 2 ] || die "option $_option needs a value"
    case "${!_name-}:$2" in
      true:true | true:false | false:true | false:false) ;;
      true:* | false:*) die "$_option is true or false, not '$2'" ;;
    esac
    printf -v "$_name" '%s' "$2"
    shift 2
  done
  check_stages
}

did_you_mean() {
  python -c 'import difflib, sys; print(*difflib.get_close_matches(sys.argv[1], sys.argv[2].split(), 1))' "$@" \
    | awk 'NF { printf "did you mean --%s? ", $1 }'
}

# a choice of stages that contains none would do nothing and look like success
check_stages() {
  local _stages _number _first="${stage-0}" _last="${stop_stage-0}"
  [[ "$_first" =~ ^-?[0-9]+$ && "$_last" =~ ^-?[0-9]+$ ]] || die "--stage and --stop_stage are whole numbers"
  _stages=$(sed -n 's/.*at_stage \(-\{0,1\}[0-9][0-9]*\).*/\1/p' "$EGRECHO_SCRIPT" | tr '\n' ' ')
  for _number in $_stages; do
    if [ "$_first" -le "$_number" ] && [ "$_number" -le "$_last" ]; then return; fi
  done
  [ -z "$_stages" ] || die "no stage from --stage $_first to --stop_stage $_last; the stages are ${_stages% }"
}

at_stage() { [ "$stage" -le "$1" ] && [ "$1" -le "$stop_stage" ]; }

# split TEXT: the array `words` gets its words, of all lines; read -a alone would stop at the first line's end
# shellcheck disable=SC2034  # `words` and `launch` are what these two are for
split() { IFS=$' \t\n' read -r -d '' -a words <<< "$1" || true; }

# use_processes N [ALWAYS]: the array `launch` starts a Python program in N processes of this machine, one per GPU
# shellcheck disable=SC2034
use_processes() {
  [[ "$1" =~ ^[1-9][0-9]*$ ]] || die "--nproc is a number of processes, 1 or more, not '$1'"
  launch=(python)
  if [ "$1" -gt 1 ] || [ -n "${2-}" ]; then launch=(python local/launch.py --standalone --nproc_per_node "$1"); fi
}

# the seconds a stage took go to $exp/times.tsv, for local/display_results.py
timed() {
  local began=$SECONDS name="$1"
  shift
  mkdir -p "${exp:?}"
  "$@"
  printf '%s\t%s\n' "$name" $((SECONDS - began)) >> "$exp/times.tsv"
}
