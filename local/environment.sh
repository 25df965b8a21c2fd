#!/usr/bin/env bash
# Make the Python environment, once, and add to it what is missing; print its folder. path.sh calls this.
#
#   bash local/environment.sh
#
#   EGRECHO_ENV=DIR          where (.venv of the repository)
#   EGRECHO_EXTRAS=A,B       extras of pyproject.toml (mini,dev). `test` is all that the tests can use; what cannot be
#                            installed of it is named and left out
#   EGRECHO_PYTHON=FILE      the Python to make it with, instead of the first on PATH that is new enough
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
env="${EGRECHO_ENV:-.venv}"
case "$env" in /*) ;; *) env="$PWD/$env" ;; esac
extras="${EGRECHO_EXTRAS:-mini,dev}"
oldest=$(sed -n 's/^requires-python = ">=3\.\([0-9]*\)"$/\1/p' pyproject.toml)
# names the extras that are installed; other requirements, another file
installed="$env/.egrecho-$(cat requirements.txt pyproject.toml | cksum | cut -d' ' -f1)"

die() { printf 'error: %s\n' "$1" >&2; exit 5; }

fail() { tail -n 5 "$env/install.log" >&2; die "$1; the reason is above and in $env/install.log"; }

new_enough() { "$1" -c "import sys; sys.exit(sys.version_info < (3, $oldest))" 2>/dev/null; }

find_python() {
  set -- python3 python3.13 python3.12 python3.11
  [ -z "${EGRECHO_PYTHON-}" ] || set -- "$EGRECHO_PYTHON"
  local python
  for python; do
    if new_enough "$python"; then echo "$python"; return; fi
  done
  die "$1 ($("$1" --version 2>&1 | head -n 1)) is not Python 3.$oldest or newer; install one and name it in EGRECHO_PYTHON"
}

# the names in a list of extras, one a line, those of `test` spelt out
spell_out() {
  "$env/bin/python" - "$1" <<'PYTHON'
import re, sys, tomllib
extras = tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]
test = re.findall(r"[\w-]+", extras["test"][0].partition("[")[2])
for name in re.findall(r"[\w-]+", sys.argv[1]):
    print(name, *(test if name == "test" else []), sep="\n")
PYTHON
}

install() { "$env/bin/python" -m pip install "$@" >> "$env/install.log" 2>&1; }

missing=
for extra in ${extras//,/ }; do grep -qx "$extra" "$installed" 2>/dev/null || missing=yes; done
if [ -z "$missing" ]; then echo "$env"; exit 0; fi

if ! "$env/bin/python" -m pip --version >/dev/null 2>&1; then
  python=$(find_python)  # before anything is downloaded
  echo "making the environment in $env with $("$python" --version): once, some minutes, about 5 GB" >&2
  "$python" -m venv "$env" >&2 || die "$python made no virtual environment in $env; the reason is above"
elif ! new_enough "$env/bin/python"; then
  die "$env has $("$env/bin/python" --version), expected 3.$oldest or newer; remove that folder"
else
  echo "installing into $env: $extras" >&2
fi
: > "$env/install.log"
export DS_BUILD_OPS=0  # DeepSpeed builds what it needs when it needs it
# torch alone first: pip then keeps this build for everything that asks for torch
install --upgrade pip || fail "pip was not updated"
install "$(grep -o '^torch==[0-9.]*' requirements.txt)" || fail "torch was not installed"
if install -e ".[$extras]"; then
  spell_out "$extras" >> "$installed"
else
  case ",$extras," in *,test,*) ;; *) fail "the packages of egrecho[$extras] were not installed" ;; esac
  install -e . || fail "the packages of requirements.txt were not installed"
  for extra in $(spell_out "$extras"); do
    if [ "$extra" = test ] || install -e ".[$extra]"; then
      echo "$extra" >> "$installed"
    else
      echo "warning: extra $extra was not installed ($env/install.log); its tests are skipped" >&2
    fi
  done
fi
echo "$env"
