"""The command line: read the arguments, run a command, turn errors into exit codes. Heavy imports wait."""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
import time
from contextlib import suppress
from typing import Any

import tsforecast

OK, USAGE, DATA, ENVIRONMENT, INTERRUPTED = 0, 2, 3, 4, 130
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


class _Log(logging.Handler):
    """Progress on standard error: one line an event, plain or JSON."""

    def __init__(self, quiet: bool, as_json: bool):
        super().__init__(logging.INFO)
        self.quiet, self.as_json, self.begin = quiet, as_json, time.monotonic()

    def emit(self, record: logging.LogRecord) -> None:
        self(record.getMessage())

    def __call__(self, message: str, **facts: Any) -> None:
        if self.quiet:
            return
        seconds = round(time.monotonic() - self.begin, 2)
        line = (
            json.dumps({"seconds": seconds, "message": message, **facts})
            if self.as_json
            else f"[{seconds:6.1f} s] {message}"
        )
        _tell(line)


def _tell(line: str) -> None:
    """Write a line on standard error; what cannot be told (a full disk, a closed stream) must not stop the work."""
    if sys.stderr is not None:
        with suppress(OSError, ValueError):
            print(line, file=sys.stderr, flush=True)


def main(argv: list[str] | None = None) -> int:
    """Run the command line and return its exit code (see ``tsforecast --help``)."""
    try:
        return _run(argv)
    finally:
        _settle()


def _run(argv: list[str] | None) -> int:
    parser = build_parser()
    args = parser.parse_args(argv)
    if args.command in ("forecast", "backtest") and (args.input is None) == (args.dataset is None):
        parser.error("give either INPUT or --dataset NAME")
    log = _Log(getattr(args, "quiet", False), args.json)
    library = logging.getLogger("tsforecast")
    library.addHandler(log)
    level, propagate = library.level, library.propagate
    library.setLevel(logging.INFO)
    library.propagate = False
    try:
        from tsforecast import _commands

        _refuse_closed_streams(args)
        text = getattr(_commands, args.command)(args, log)
        if text:
            print(text, flush=True)
        return OK
    except KeyboardInterrupt:
        return _fail(log, INTERRUPTED, "stopped")
    except argparse.ArgumentTypeError as err:
        return _fail(log, USAGE, str(err))
    except (tsforecast.BackendUnavailableError, ImportError) as err:
        return _fail(log, ENVIRONMENT, str(err))
    except tsforecast.TsForecastError as err:
        return _fail(log, DATA, str(err))
    except ValueError as err:
        if type(err).__name__ != "InvalidParameterError":  # scikit-learn's, of an option out of range
            raise
        return _fail(log, USAGE, str(err))
    except BrokenPipeError:  # the reader has seen enough
        return OK
    except OSError as err:
        return _fail(log, ENVIRONMENT, str(err))
    finally:
        library.removeHandler(log)
        library.setLevel(level)
        library.propagate = propagate


def _fail(log: _Log, code: int, message: str) -> int:
    _tell(json.dumps({"error": message, "exit_code": code}) if log.as_json else f"tsforecast: {message}")
    return code


def _refuse_closed_streams(args: argparse.Namespace) -> None:
    """Raise ``OSError`` before the work where a standard stream that it needs is closed (Python has None for it)."""
    if getattr(args, "input", None) == "-" and sys.stdin is None:
        raise OSError("standard input is closed; name a file instead of -")
    printed = args.command == "info" or getattr(args, "output", "") in (None, "-")
    if printed and sys.stdout is None:
        raise OSError("standard output is closed; " + ("open it" if args.command == "info" else "name a file with -o"))


def _settle() -> None:
    """Flush the standard streams; one that fails leads nowhere from now on, or Python would fail again at exit."""
    for stream in (sys.stdout, sys.stderr):
        if stream is None:
            continue
        try:
            stream.flush()
        except (OSError, ValueError):
            with suppress(OSError, ValueError):
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, stream.fileno())
                os.close(nowhere)


if __name__ == "__main__":
    sys.exit(main())
