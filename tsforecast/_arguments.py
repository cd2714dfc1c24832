"""The commands of the command line, their options, and what is said of both."""

from __future__ import annotations

import argparse
from typing import Any

import tsforecast

EPILOG = """\
exit codes:
  0    done
  2    wrong arguments
  3    the data cannot be used (the message names series, time stamp and remedy)
  4    the environment lacks something (an extra, a device, a writable folder)
  130  stopped with Ctrl-C
"""


def build_parser() -> argparse.ArgumentParser:
    """Describe the commands and their options."""
    parser = argparse.ArgumentParser(
        prog="tsforecast",
        description="Forecast one or many time series with recurrent networks.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"tsforecast {tsforecast.__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    raw: dict[str, Any] = {"epilog": EPILOG, "formatter_class": argparse.RawDescriptionHelpFormatter}

    forecast = commands.add_parser("forecast", help="train on a table and forecast what follows", **raw)
    _add_data_options(forecast)
    forecast.add_argument(
        "-o", "--output", default="-", metavar="FILE", help="forecasts, CSV or Parquet by name (default: - )"
    )
    forecast.add_argument("--output-format", choices=("csv", "parquet"), help="needed where the name does not say it")
    forecast.add_argument("--plot", metavar="FILE", help="also draw the forecast (.png, .svg, .pdf; needs matplotlib)")
    forecast.add_argument("--save", metavar="FILE", help="also save the fitted model")

    backtest = commands.add_parser("backtest", help="forecast from past cut-offs, scored beside seasonal naive", **raw)
    _add_data_options(backtest)
    backtest.add_argument("--n-windows", type=_positive, default=3, metavar="N", help="cut-offs (default: 3)")
    backtest.add_argument(
        "--step-size", type=_positive, metavar="ROWS", help="rows between cut-offs (default: the horizon)"
    )
    backtest.add_argument("--no-refit", action="store_true", help="train at the first cut-off only")
    backtest.add_argument("-o", "--output", metavar="FILE", help="write the forecasts of all cut-offs")
    backtest.add_argument("--output-format", choices=("csv", "parquet"), help="needed where the name does not say it")

    warmup = commands.add_parser("warmup", help="compile the kernels into the cache, e.g. in an image build", **raw)
    warmup.add_argument(
        "--cells", nargs="+", default=["lstm"], metavar="CELL",
        help="default: lstm; all, or names such as gru slstm (another name is answered with the list); what attention, "
        "decoders, known-future inputs and dropout need is compiled when they are first used",
    )  # fmt: skip
    warmup.add_argument(
        "--dtype", nargs="+", choices=("float32", "float64"), default=["float32", "float64"], help="default: both"
    )
    info = commands.add_parser("info", help="versions, processor, GPU, cache folder", **raw)
    info.add_argument("--json", action="store_true", help="as JSON on standard output")
    for command in (forecast, backtest, warmup):
        command.add_argument("--quiet", action="store_true", help="no progress on standard error")
        command.add_argument("--json", action="store_true", help="progress as JSON, one object a line")
    return parser


def _add_data_options(parser: argparse.ArgumentParser) -> None:
    data = parser.add_argument_group("data")
    data.add_argument("input", nargs="?", metavar="INPUT", help="long table, CSV or Parquet; - is standard input")
    data.add_argument("--dataset", metavar="NAME", help="a shipped data set instead of INPUT")
    data.add_argument("--format", choices=("csv", "parquet"), help="of INPUT (default: by its name; CSV for -)")
    data.add_argument("--id-col", default="unique_id", metavar="NAME", help="default: unique_id (missing: one series)")
    data.add_argument("--time-col", default="ds", metavar="NAME", help="default: ds")
    data.add_argument("--target-col", default="y", metavar="NAME", help="default: y")
    data.add_argument("--freq", metavar="FREQ", help="pandas alias or whole number (default: inferred)")
    model = parser.add_argument_group("model")
    model.add_argument("--horizon", type=_positive, required=True, metavar="K", help="steps to forecast")
    model.add_argument("--n-timesteps", type=_positive, metavar="T", help="window length (default: 2 to 3 seasons)")
    model.add_argument("--season-length", type=_positive, metavar="M", help="default: by frequency")
    model.add_argument(
        "--transform", choices=("auto", "log", "none"), default="auto", help="default: log if all positive"
    )
    model.add_argument(
        "--level", type=_percent, nargs="*", default=[80, 95], metavar="PCT", help="intervals (default: 80 95)"
    )
    model.add_argument("--max-iter", type=_positive, metavar="N", help="passes over the data (default: by its amount)")
    model.add_argument(
        "--seed", type=_seed, default=0, metavar="N", help="default: 0; the same seed gives the same bits"
    )
    model.add_argument("--n-jobs", type=_threads, default=1, metavar="N", help="threads, -1 for all (default: 1)")
    model.add_argument("--device", choices=("cpu", "cuda", "auto"), help="auto: an NVIDIA GPU if any (default: cpu)")


def _whole(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number") from None


def _positive(text: str) -> int:
    value = _whole(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not 1 or more")
    return value


def _seed(text: str) -> int:
    value = _whole(text)
    if not 0 <= value < 2**32:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 2**32 - 1")
    return value


def _threads(text: str) -> int:
    value = _whole(text)
    if value == 0:
        raise argparse.ArgumentTypeError("0 threads cannot work; use 1 or more, or -1 for all processors")
    return value


def _percent(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a number; if it is INPUT, write it before the options or after --"
        ) from None
    if 0 < value < 1:
        raise argparse.ArgumentTypeError(f"{text} is less than 1 per cent; did you mean {100 * value:g}?")
    if not 1 <= value < 100:
        raise argparse.ArgumentTypeError(f"{text} is not a per cent from 1 to below 100")
    return value
