#!/usr/bin/env bash
# Run the regressors inside other forecasting libraries, each in an environment of its own: the versions of pandas
# that these libraries accept exclude one another and the newest.
#     bash scripts/test_interop.sh          both environments
#     bash scripts/test_interop.sh p2       pandas 2.3: mlforecast, skforecast
#     bash scripts/test_interop.sh p3       pandas 3.0: sktime
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
python=${PYTHON:-python3}

check() { # name, test files..., -- packages...
  local name=$1 venv=.venv-interop-$1 tests=()
  shift
  while [ "$1" != -- ]; do tests+=("$1"); shift; done
  shift
  echo "== $name: $*"
  if [ ! -x "$venv/bin/pytest" ]; then
    "$python" -m venv "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check "$@" pytest -e .
  fi
  "$venv/bin/python" -m pytest -q -m interop "${tests[@]}"
}

which=${1:-all}
case $which in all | p2 | p3) ;; *) echo "unknown environment $which; known: p2, p3" >&2; exit 2 ;; esac
if [ "$which" != p3 ]; then
  check p2 tests/interop/test_mlforecast.py tests/interop/test_skforecast.py -- "pandas>=2.3,<3" "mlforecast>=1.1" "skforecast>=0.26"
fi
if [ "$which" != p2 ]; then
  check p3 tests/interop/test_sktime.py -- "pandas>=3.0,<3.1" "sktime>=1.2"
fi
