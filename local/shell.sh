# shellcheck shell=bash
# Shell helpers of every script, sourced by path.sh.
#   log MSG ...          a line with the time
#   die MSG [CODE]       `error: MSG` on stderr, exit CODE (2 if not given)
#   usage                the head comment of the running script
#   parse_options "$@"   --name value sets the variable `name` the script has given a default; nothing is eval-ed
#   at_stage N           true when $stage <= N <= $stop_stage

log() { printf '%s %s\n' "$(date +%H:%M:%S)" "$*"; }

die() { printf 'error: %s\n' "$1" >&2; exit "${2:-2}"; }

usage() { awk 'NR > 1 { if (/^#/) { sub(/^# ?/, ""); print } else exit }' "$EGRECHO_SCRIPT"; }

EGRECHO_SCRIPT="${EGRECHO_SCRIPT_OVERRIDE:-$(cd "$OLDPWD" 2>/dev/null && readlink -f "$0" 2>/dev/null || readlink -f "$0")}"

# Options are the variables assigned at the start of a line, in lower case, before `parse_options` is called.
_known_options() { awk '/^parse_options/ { exit } match($0, /^[a-z][a-z0-9_]*=/) { print substr($0, 1, RLENGTH - 1) }' "$EGRECHO_SCRIPT"; }

parse_options() {
  local known name value
  known=" $(_known_options | tr '\n' ' ') "
  while [ $# -gt 0 ]; do
    case "$1" in
      -h | --help) usage; exit 0 ;;
      --*=*) die "write '${1%%=*} ${1#*=}', not '$1'" ;;
      --*)
        name="${1#--}" name="${name//-/_}"
        case "$known" in
          *" $name "*) ;;
          *) die "unknown option --$name; known:$(for name in $known; do printf ' --%s' "$name"; done)" ;;
        esac
        [ $# -ge 2 ] || die "option --$name needs a value"
        value="$2"
        case "${!name-}" in
          true | false) [ "$value" = true ] || [ "$value" = false ] || die "--$name is true or false, not '$value'" ;;
        esac
        printf -v "$name" '%s' "$value"
        shift 2
        ;;
      *) die "unexpected argument '$1'; options are --name value (--help lists them)" ;;
    esac
  done
  if [ -n "${stage-}" ]; then
    [[ "$stage" =~ ^-?[0-9]+$ && "${stop_stage:-0}" =~ ^-?[0-9]+$ ]] || die "--stage and --stop_stage are whole numbers"
  fi
}

at_stage() { [ "$stage" -le "$1" ] && [ "$1" -le "$stop_stage" ]; }
