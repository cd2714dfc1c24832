#!/usr/bin/env bash
# Forecast a real series: a backtest beside seasonal naive, then forecast.csv and forecast.png in the repository's folder.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
bash scripts/setup.sh plot

say() { printf '\ndemo: %s\n' "$*" >&2; }

say "backtest: forecast the last three years of monthly airline passengers, each from the data before it"
.venv/bin/tsforecast backtest --dataset air_passengers --horizon 12 --n-windows 3
say "forecast: the twelve months after the end of the data, with 80 and 95 % intervals"
.venv/bin/tsforecast forecast --dataset air_passengers --horizon 12 --level 80 95 -o forecast.csv --plot forecast.png
say "written: $PWD/forecast.csv and $PWD/forecast.png"
