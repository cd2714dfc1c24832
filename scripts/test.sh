#!/usr/bin/env bash
# Run the tests; makes .venv and installs what they need if that is missing.
#     bash scripts/test.sh              all tests in their three modes
#     bash scripts/test.sh ARGS...      pytest with these arguments, e.g. -k windows
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
bash scripts/setup.sh test
pytest=(.venv/bin/python -m pytest)

if [ $# -gt 0 ]; then
  exec "${pytest[@]}" "$@"
fi

echo "== 1 of 3: compiled kernels"
"${pytest[@]}" -q -rfE

echo "== 2 of 3: kernels as plain Python, with coverage"
NUMBA_DISABLE_JIT=1 "${pytest[@]}" -q -rfE --cov --cov-fail-under=90 --cov-report=term

echo "== 3 of 3: compiled kernels with bounds checks"
NUMBA_BOUNDSCHECK=1 "${pytest[@]}" -q -rfE tests/kernels
