# shellcheck shell=bash
# Sourced by every script and by you: makes the environment on first use and puts `egrecho` on PATH.
#   . ./path.sh          in your own bash or zsh, to use egrecho by hand; your working folder stays
# EGRECHO_ENV=DIR uses another environment folder; EGRECHO_EXTRAS=deepspeed,dask installs more than the default;
# EGRECHO_PYTHON=FILE makes it with that Python. An active conda or virtual environment with egrecho is used as it is.

# a user's CDPATH would lead `cd egs/mini/../..` elsewhere
if [ -n "${BASH_VERSION-}" ]; then
  EGRECHO_ROOT="$(CDPATH='' cd -- "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
elif [ -n "${ZSH_VERSION-}" ]; then
  eval 'EGRECHO_ROOT="${${(%):-%x}:A:h}"'  # zsh has no BASH_SOURCE; what it has, bash could not parse
else
  echo "error: path.sh is for bash and zsh" >&2
  return 5
fi

if [ -z "${EGRECHO_ENV-}" ] && [ ! -d "$EGRECHO_ROOT/.venv" ] && egrecho --version >/dev/null 2>&1; then
  :
elif VIRTUAL_ENV="$(EGRECHO_EXTRAS="${EGRECHO_EXTRAS-}" bash "$EGRECHO_ROOT/local/environment.sh")"; then
  export VIRTUAL_ENV
  case "$PATH" in "$VIRTUAL_ENV/bin:"*) ;; *) export PATH="$VIRTUAL_ENV/bin:$PATH" ;; esac
else
  unset VIRTUAL_ENV
  # shellcheck disable=SC2317  # sourced: return; run: exit
  return 5 2>/dev/null || exit 5
fi
# this checkout's code, also in an environment that another checkout made
case ":${PYTHONPATH-}:" in
  *":$EGRECHO_ROOT:"*) ;;
  *) export PYTHONPATH="$EGRECHO_ROOT${PYTHONPATH:+:$PYTHONPATH}" ;;
esac
export OMP_WAIT_POLICY="${OMP_WAIT_POLICY:-passive}" TOKENIZERS_PARALLELISM="${TOKENIZERS_PARALLELISM:-false}" PYTHONUTF8=1

# scripts get the helpers, too, and their own file's name, from which --help and the options are read
if [ -n "${BASH_VERSION-}" ] && [ -n "${BASH_SOURCE[1]-}" ]; then
  case "$0" in /*) EGRECHO_SCRIPT="$0" ;; *) EGRECHO_SCRIPT="$PWD/$0" ;; esac
  . "$EGRECHO_ROOT/local/shell.sh"
fi
