#!/usr/bin/env bash
# Make .venv and install the package into it, editable, with the named extras; quick when nothing has changed.
#     bash scripts/setup.sh [EXTRA[,EXTRA...]]
# PYTHON names the interpreter to use (default: the first Python 3.11 or newer on the path), VENV another folder.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
extras=${1:-}
venv=${VENV:-.venv}

say() { printf 'setup: %s\n' "$*" >&2; }

find_python() {
  local candidate
  for candidate in ${PYTHON:-python3 python3.14 python3.13 python3.12 python3.11 python}; do
    if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
      command -v "$candidate"
      return
    fi
  done
  say "tsforecast needs Python 3.11 or newer, and ${PYTHON:-no python3 on the path} is not that;" \
    "install it, or name it: PYTHON=/path/to/python3.11 bash scripts/demo.sh"
  return 1
}

# What must not have changed since the last install: dependencies, extras, and where the checkout lies.
key="$(sha256sum < pyproject.toml) $PWD"
stamp="$venv/.installed-${extras//,/-}"
if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$key" ] && "$venv/bin/python" -c '' 2>/dev/null; then
  exit 0
fi

if ! "$venv/bin/python" -m pip --version >/dev/null 2>&1; then
  python=$(find_python)
  say "making $venv with $("$python" --version)"
  if ! "$python" -m venv --clear "$venv" >&2; then
    say "this Python cannot make virtual environments; install its venv module" \
      "(Debian, Ubuntu: apt-get install python3-venv), then run this again"
    exit 1
  fi
fi
say "installing tsforecast${extras:+ with: $extras} (the first time takes a minute or two)"
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check --editable ".${extras:+[$extras]}" >&2
printf '%s' "$key" > "$stamp"
