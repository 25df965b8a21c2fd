# shellcheck shell=bash
# Sourced by every script: finds the repository, makes its environment on first use, puts `egrecho` on PATH.
#   . ./path.sh          in your own shell, to use egrecho by hand
# EGRECHO_ENV=DIR uses another environment folder; EGRECHO_EXTRAS=deepspeed,dask installs more than the default.
# An active conda or virtual environment that already has egrecho is used as it is.

# a user's CDPATH would lead `cd egs/mini/../..` elsewhere
EGRECHO_ROOT="$(CDPATH='' cd -- "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
# the running script is read for --help and for its options; a relative name is from here, before the cd
case "$0" in /*) EGRECHO_SCRIPT="$0" ;; *) EGRECHO_SCRIPT="$PWD/$0" ;; esac
cd "$EGRECHO_ROOT" || return 5

_egrecho_environment() {
  local env="${EGRECHO_ENV:-$EGRECHO_ROOT/.venv}" extras="${EGRECHO_EXTRAS:-mini,dev}" stamp python
  if [ -z "${EGRECHO_ENV:-}" ] && [ ! -d "$env" ] && python3 -c 'import egrecho_inner' 2>/dev/null && command -v egrecho >/dev/null; then
    return 0
  fi
  stamp="$env/.egrecho-$(cat requirements.txt pyproject.toml <(echo "$extras") | cksum | cut -d' ' -f1)"
  if [ ! -f "$stamp" ]; then
    python="${EGRECHO_PYTHON:-python3}"
    "$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' || {
      echo "error: $python is older than Python 3.10; set EGRECHO_PYTHON to a newer one" >&2; return 5; }
    echo "making the environment in $env (once, a few minutes)" >&2
    [ -x "$env/bin/python" ] || "$python" -m venv "$env" || return 5
    # torch alone first: pip then keeps this build for everything that asks for torch
    if ! { "$env/bin/python" -m pip install --upgrade pip &&
      "$env/bin/python" -m pip install "$(grep -o '^torch==[0-9.]*' requirements.txt)" &&
      DS_BUILD_OPS=0 "$env/bin/python" -m pip install -e ".[$extras]"; } > "$env/install.log" 2>&1; then
      tail -n 5 "$env/install.log" >&2
      return 5
    fi
    touch "$stamp"
  fi
  export VIRTUAL_ENV="$env" PATH="$env/bin:$PATH"
}
if ! _egrecho_environment; then
  echo "error: the environment could not be made; see the lines above" >&2
  # shellcheck disable=SC2317  # sourced: return; run: exit
  return 5 2>/dev/null || exit 5
fi

export OMP_WAIT_POLICY="${OMP_WAIT_POLICY:-passive}" TOKENIZERS_PARALLELISM="${TOKENIZERS_PARALLELISM:-false}" PYTHONUTF8=1
. "$EGRECHO_ROOT/local/shell.sh"
