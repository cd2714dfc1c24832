"""The command line: run a command, tell its progress, turn errors into exit codes. Heavy imports wait."""

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
from tsforecast._arguments import build_parser

OK, USAGE, DATA, ENVIRONMENT, INTERRUPTED = 0, 2, 3, 4, 130  # ``_arguments.EPILOG`` says what they mean


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
