#!/usr/bin/env bash
# Run the tests; makes .venv and installs what they need if that is missing.
#     bash scripts/test.sh              all tests in their three modes, then those of CUDA kernels in two, which need no GPU
#     bash scripts/test.sh ARGS...      pytest with these arguments, e.g. -k windows
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
bash scripts/setup.sh test
pytest=(.venv/bin/python -m pytest)

if [ $# -gt 0 ]; then
  exec "${pytest[@]}" "$@"
fi

# Most of the time goes into compiling, on one core a process; a file's tests stay together and share what they compile.
pytest+=(-q -rfE -n 2 --dist loadfile)

echo "== 1 of 5: compiled kernels"
"${pytest[@]}" --ignore tests/cuda/test_simulation.py # which is one process for all of part 4

echo "== 2 of 5: kernels as plain Python, with coverage"
NUMBA_DISABLE_JIT=1 "${pytest[@]}" --cov --cov-fail-under=90 --cov-report=term

echo "== 3 of 5: compiled kernels with bounds checks"
# Indices are the same in both dtypes, and in cells that differ by a function or by which of the gates is missing; what
# processes do to one another is not about them.
NUMBA_BOUNDSCHECK=1 "${pytest[@]}" tests/kernels --ignore tests/kernels/test_cpu_processes.py \
  -k "not float32 and not relu and not mingru and not no_input and not no_forget and not no_output"

echo "== 4 of 5: CUDA kernels, simulated"
NUMBA_ENABLE_CUDASIM=1 .venv/bin/python -m pytest -q -rfE -n 2 tests/cuda

# numba-cuda takes the place of the CUDA target inside Numba, so it has an environment of its own (1.2 GB).
echo "== 5 of 5: CUDA kernels, compiled to machine code"
if VENV=.venv-cuda bash scripts/setup.sh cuda-test; then
  .venv-cuda/bin/python -m pytest -q -rfE -n 2 tests/cuda --ignore tests/cuda/test_simulation.py
else
  echo "skipped: the extra cuda cannot be installed here (see above)"
fi
