"""What each command of the command line does; the text that a command returns goes to standard output."""

from __future__ import annotations

import argparse
import json
import os
import platform
from collections.abc import Callable
from typing import Any

import tsforecast
from tsforecast._files import check_target

Log = Callable[..., None]  # log(message, **facts)


def _load(args: argparse.Namespace, log: Log) -> tuple[Any, dict[str, Any]]:
    """Read the table; return it and the Forecaster's options."""
    from tsforecast import datasets
    from tsforecast.forecasting.files import read_table

    options = {
        "horizon": args.horizon,
        "freq": args.freq,
        "n_timesteps": args.n_timesteps,
        "season_length": args.season_length,
        "transform": args.transform,
        "calibrate": bool(args.level),
        "max_iter": args.max_iter,
        "id_col": args.id_col,
        "time_col": args.time_col,
        "target_col": args.target_col,
        "random_state": args.seed,
        "n_jobs": args.n_jobs,
        "device": args.device,
    }
    if args.dataset is not None:
        if args.dataset not in datasets.list_datasets():
            raise argparse.ArgumentTypeError(
                f"no data set {args.dataset!r}; there are: {', '.join(datasets.list_datasets())}"
            )
        entry = datasets.info(args.dataset)
        df = datasets.load(args.dataset)
        options["freq"] = args.freq or entry.freq
        options["season_length"] = args.season_length or entry.season_length
    else:
        df = read_table(args.input, id_col=args.id_col, time_col=args.time_col, file_format=args.format)
    log(f"read {len(df)} rows from {args.dataset or args.input}", rows=len(df))
    return df, options


def _check_files(args: argparse.Namespace) -> None:
    """Refuse before the work what could not be written after it, or would overwrite the input or another result.

    Raises
    ------
    argparse.ArgumentTypeError
        A name is at fault.
    OSError, ImportError
        A folder or a library is.
    """
    from tsforecast.forecasting.files import check_output

    plot, save = getattr(args, "plot", None), getattr(args, "save", None)
    named = {"INPUT": args.input, "--output": args.output, "--plot": plot, "--save": save}
    seen: dict[str, str] = {}
    for option, path in named.items():
        if path is None or path == "-":
            continue
        real = os.path.realpath(path)
        if real in seen and (os.path.isfile(real) or not os.path.exists(real)):  # all may go to /dev/null
            raise argparse.ArgumentTypeError(f"{seen[real]} and {option} are the same file, {path!r}; name another")
        seen[real] = option
    try:
        if args.output is not None:
            check_output(args.output, args.output_format)
        if plot is not None:
            from tsforecast.forecasting.plotting import check_plot

            check_plot(plot)
    except tsforecast.DataError as err:
        raise argparse.ArgumentTypeError(str(err)) from err
    for path in (plot, save):
        if path is not None:
            check_target(path)


def forecast(args: argparse.Namespace, log: Log) -> str:
    """Train on the table, forecast what follows, write it."""
    from tsforecast.forecasting.files import write_table
    from tsforecast.forecasting.plotting import plot_forecast

    _check_files(args)
    df, options = _load(args, log)
    _tell_if_cold(log)
    model = tsforecast.Forecaster(**options).fit(df)
    predictions = model.predict(level=args.level)
    if args.output != "-":
        write_table(predictions, args.output, args.output_format)
    log(
        f"{args.horizon} steps of {len(predictions) // args.horizon} series ({_stamps(predictions, args)}), from "
        f"windows of {model.n_timesteps_} steps (freq {model.freq_}, season {model.season_length_}, "
        f"transform {model.transform_})"
    )
    if args.output != "-":
        log(f"wrote {args.output}")
    if args.plot is not None:
        plot_forecast(df, predictions, args.plot, columns=(args.id_col, args.time_col, args.target_col))
        log(f"wrote {args.plot}")
    if args.save is not None:
        model.save(args.save)
        log(f"wrote {args.save}")
    if args.output == "-":  # last, because the reader may stop reading
        write_table(predictions, "-", args.output_format)
    return ""


def _stamps(predictions: Any, args: argparse.Namespace) -> str:
    """Write the first and last stamp of the first series; dates without a time of day where that is midnight."""
    ends = predictions[args.time_col].iloc[[0, args.horizon - 1]].astype(str)
    return " to ".join(ends)


def backtest(args: argparse.Namespace, log: Log) -> str:
    """Forecast from past cut-offs; the text is the table of scores."""
    from tsforecast.forecasting.backtest import backtest
    from tsforecast.forecasting.files import write_table

    _check_files(args)
    df, options = _load(args, log)
    _tell_if_cold(log)
    table, predictions = backtest(
        tsforecast.Forecaster(**options), df, args.n_windows, None, args.step_size, not args.no_refit, args.level
    )
    if args.output is not None:
        write_table(predictions, args.output, args.output_format)
        log(f"wrote {args.output}")
    # With the forecasts on standard output, the table would spoil them.
    return "" if args.output == "-" else table.to_string(index=False, float_format=lambda v: f"{v:.3f}", na_rep="-")


def warmup(args: argparse.Namespace, log: Log) -> str:
    """Compile or load every kernel that training, forecasts and streams of the cells need, in the dtypes asked for."""
    from tsforecast.cells import CELLS

    for cell in args.cells:
        if cell not in (*CELLS, "all"):
            raise argparse.ArgumentTypeError(f"--cells: there is no {cell!r}; there are: {', '.join(CELLS)}, or all")
    _tell_if_cold(log)
    for cell in CELLS if "all" in args.cells else dict.fromkeys(args.cells):
        for dtype in dict.fromkeys(args.dtype):
            _warm(cell, dtype)
            log(f"{cell} in {dtype} is ready", cell=cell, dtype=dtype)
    log(f"kernels are ready in {_cache_text()}")
    return ""


def _warm(cell: str, dtype: str) -> None:
    """Use a small network of the cell in every way that a default one is used."""
    import numpy as np

    from tsforecast.backends.base import get_backend
    from tsforecast.estimators.base import RecurrentRegressor

    X, y = np.random.default_rng(0).normal(size=(40, 4, 2)), np.zeros(40)  # of two features: a norm of one is no use
    of_cell = type("OfCell", (RecurrentRegressor,), {"_cell": cell})
    model = of_cell(4, max_iter=1, early_stopping=True, random_state=0, dtype=dtype).fit(X, y)
    get_backend("cpu").predict(model._spec(), model._params, X.ravel().astype(dtype), np.zeros(1, np.int64), 1)
    model.stream()


def _tell_if_cold(log: Log) -> None:
    from tsforecast.backends.cpu.cache import cache_folder

    folder = cache_folder()
    if folder is None or not folder.is_dir():
        log("the kernels are compiled first, which takes a while; later runs find them in the cache")


def _cache_text() -> str:
    from tsforecast.backends.cpu.cache import cache_folder

    folder = cache_folder()
    return "memory only (no writable cache folder)" if folder is None else str(folder)


def info(args: argparse.Namespace, _log: Log) -> str:
    """Tell versions, processor, GPU and cache folder."""
    from importlib.metadata import PackageNotFoundError, version

    from tsforecast.backends.cuda import availability

    facts: dict[str, Any] = {"tsforecast": tsforecast.__version__, "python": platform.python_version()}
    for package in ("numpy", "numba", "pandas", "scikit-learn", "narwhals", "pyarrow", "matplotlib", "polars"):
        try:
            facts[package] = version(package)
        except PackageNotFoundError:
            facts[package] = None
    import llvmlite.binding

    facts["cpu"] = llvmlite.binding.get_host_cpu_name()
    facts["cores"] = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    facts["kernel_cache"] = _cache_text()
    facts |= availability.facts()
    if args.json:
        return json.dumps(facts)
    return "\n".join(f"{name:13} {'not installed' if value is None else value}" for name, value in facts.items())
