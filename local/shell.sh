# shellcheck shell=bash
# Shell helpers of every script, sourced by path.sh.
#   log MSG ...          a line with the time
#   die MSG [CODE]       `error: MSG` on stderr, exit CODE (2 if not given)
#   usage                the head comment of the running script
#   parse_options "$@"   --name value sets the variable `name` that the script has given a default; nothing is eval-ed
#   at_stage N           true when $stage <= N <= $stop_stage
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
  _known=" $(known_options | tr '\n' ' ') "
  while [ $# -gt 0 ]; do
    _option="$1"
    case "$_option" in
      -h | --help) usage; exit 0 ;;
      --*=*) die "write '${_option%%=*} ${_option#*=}', not '$_option'" ;;
      --*) _name="${_option#--}" _name="${_name//-/_}" ;;
      *) die "unexpected argument '$_option'; options are --name value (--help lists them)" ;;
    esac
    case "$_known" in
      *" $_name "*) ;;
      *) die "unknown option $_option; known are${_known// / --}" ;;
    esac
    [ $# -ge 2 ] || die "option $_option needs a value"
    case "${!_name-}:$2" in
      true:true | true:false | false:true | false:false) ;;
      true:* | false:*) die "$_option is true or false, not '$2'" ;;
    esac
    printf -v "$_name" '%s' "$2"
    shift 2
  done
  [[ "${stage-0}" =~ ^-?[0-9]+$ && "${stop_stage-0}" =~ ^-?[0-9]+$ ]] || die "--stage and --stop_stage are whole numbers"
}

at_stage() { [ "$stage" -le "$1" ] && [ "$1" -le "$stop_stage" ]; }

# the seconds a stage took go to $exp/times.tsv, for local/display_results.py
timed() {
  local began=$SECONDS name="$1"
  shift
  mkdir -p "${exp:?}"
  "$@"
  printf '%s\t%s\n' "$name" $((SECONDS - began)) >> "$exp/times.tsv"
}
