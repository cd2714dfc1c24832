"""The command line: exit codes, streams, whole files.

Most tests run in this process, because starting another takes seconds, and with a small network of the reference
backend, so that they also run where nothing is compiled.
"""

import io
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest

import tsforecast
from tsforecast import cli
from tsforecast.forecasting import defaults
from tsforecast.forecasting.files import EXACT

QUICK = ["--max-iter", "1", "--n-timesteps", "12"]


@pytest.fixture
def table(tmp_path):
    """Two monthly series of 40 rows as CSV."""
    t = np.arange(40)
    y = 50 + 10 * np.sin(2 * np.pi * t / 12) + 0.1 * t
    df = pd.DataFrame(
        {"unique_id": ["a"] * 40 + ["b"] * 40, "ds": list(pd.date_range("2020", periods=40, freq="MS")) * 2}
    )
    df["y"] = np.concatenate([y, 2 * y])
    path = tmp_path / "in.csv"
    df.to_csv(path, index=False)
    return path


def run(capsys, *args):
    """Exit code, standard output and standard error."""
    try:
        code = cli.main([str(a) for a in args])
    except SystemExit as stop:
        code = stop.code
    captured = capsys.readouterr()
    return code, captured.out, captured.err


@pytest.fixture
def small(monkeypatch):
    def estimator(n_windows, max_iter=None):
        return tsforecast.LSTMRegressor((4,), loss="absolute_error", max_iter=max_iter or 1, device="reference")

    monkeypatch.setattr(defaults, "default_estimator", estimator)


@pytest.mark.usefixtures("small")
class TestForecast:
    def test_to_a_file_equals_the_library(self, capsys, table, tmp_path):
        out = tmp_path / "out.csv"
        code, stdout, stderr = run(capsys, "forecast", table, "--horizon", 4, "--seed", 3, "-o", out, *QUICK)
        assert (code, stdout) == (0, "")
        assert f"wrote {out}" in stderr
        model = tsforecast.Forecaster(horizon=4, n_timesteps=12, max_iter=1, random_state=3)
        expected = model.fit(pd.read_csv(table, parse_dates=["ds"], **EXACT)).predict(level=[80, 95])
        pd.testing.assert_frame_equal(
            pd.read_csv(out, parse_dates=["ds"], **EXACT),
            expected,
            check_exact=True,
            check_dtype=False,
        )

    def test_through_pipes(self, capfdbinary, table, monkeypatch):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(table.read_bytes())))
        assert cli.main(["forecast", "-", "--horizon", "2", "--level", "--quiet", *QUICK]) == 0
        captured = capfdbinary.readouterr()
        df = pd.read_csv(io.BytesIO(captured.out))
        assert df.columns.tolist() == ["unique_id", "ds", "LSTMRegressor"]
        assert df["ds"].tolist() == ["2023-05-01", "2023-06-01"] * 2
        assert captured.err == b""

    def test_parquet_plot_model_and_json_log(self, capsys, table, tmp_path):
        names = [tmp_path / n for n in ("out.parquet", "f.png", "m.tsf")]
        code, stdout, stderr = run(
            capsys,
            "forecast",
            table,
            "--horizon",
            2,
            "-o",
            names[0],
            "--plot",
            names[1],
            "--save",
            names[2],
            "--json",
            *QUICK,
        )
        assert (code, stdout) == (0, "")
        events = [json.loads(line) for line in stderr.splitlines()]
        assert events[0]["rows"] == 80
        assert all(event["seconds"] >= 0 for event in events)
        expected = tsforecast.load_model(names[2]).predict(level=[80, 95])
        pd.testing.assert_frame_equal(pd.read_parquet(names[0]), expected, check_dtype=False)
        assert names[1].stat().st_size > 10_000

    def test_a_shipped_set_with_its_own_frequency(self, capsys, tmp_path):
        out = tmp_path / "out.csv"
        args = ["--dataset", "air_passengers", "--horizon", 3, "--level", 90, "-o", out, "--quiet", "--max-iter", 1]
        code, _, stderr = run(capsys, "forecast", *args)
        assert (code, stderr) == (0, "")
        df = pd.read_csv(out)
        assert df["ds"].tolist() == ["1961-01-01", "1961-02-01", "1961-03-01"]
        assert (df["LSTMRegressor-lo-90"] < df["LSTMRegressor"]).all()

    def test_backtest_prints_the_table(self, capsys, table, tmp_path):
        out = tmp_path / "cv.csv"
        code, stdout, _ = run(capsys, "backtest", table, "--horizon", 2, "--n-windows", 2, "-o", out, *QUICK)
        assert code == 0
        head, ours, naive = stdout.splitlines()
        assert head.split() == ["model", "MAE", "sMAPE", "MASE", "coverage-80", "coverage-95"]
        assert (ours.split()[0], naive.split()[0]) == ("LSTMRegressor", "SeasonalNaive")
        # a rise of 0.1 a month is 1.2 a year in one series and twice that in the other
        assert float(naive.split()[1]) == pytest.approx(1.8, abs=1e-3)
        assert len(pd.read_csv(out)) == 2 * 2 * 2

    def test_a_failed_run_leaves_the_old_file(self, capsys, table, tmp_path, monkeypatch):
        out = tmp_path / "out.csv"
        out.write_text("old")
        monkeypatch.setattr("os.fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device")))
        code, _, stderr = run(capsys, "forecast", table, "--horizon", 2, "-o", out, "--level", *QUICK)
        assert code == 4
        assert "No space left on device" in stderr
        assert out.read_text() == "old"
        assert sorted(p.name for p in tmp_path.iterdir()) == ["in.csv", "out.csv"]


@pytest.mark.needs_jit
def test_warmup_and_the_default_network(capsys, table, tmp_path):
    code, stdout, stderr = run(capsys, "warmup")
    assert (code, stdout) == (0, "")
    assert os.environ["TSFORECAST_CACHE_DIR"] in stderr
    code, _, _ = run(capsys, "forecast", table, "--horizon", 3, "-o", tmp_path / "out.csv", *QUICK)
    assert code == 0
    assert np.isfinite(pd.read_csv(tmp_path / "out.csv").iloc[:, 2:]).all(axis=None)


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        (["forecast", "{table}"], 2, "--horizon"),
        (["forecast", "--horizon", "3"], 2, "either INPUT or --dataset"),
        (["forecast", "{table}", "--dataset", "air_passengers", "--horizon", "3"], 2, "either INPUT or --dataset"),
        (["forecast", "{table}", "--horizon", "0"], 2, "1 or more"),
        (["forecast", "{table}", "--horizon", "2", "--level", "100"], 2, "below 100"),
        (["forecast", "{table}", "--horizon", "2", "--seed", "-1"], 2, "2**32"),
        (["forecast", "{table}", "--horizon", "2", "--n-jobs", "0"], 2, "0 threads"),
        (["forecast", "{table}", "--horizon", "2", "--n-timesteps", "1"], 2, "n_timesteps"),
        (["nothing"], 2, "invalid choice"),
        ([], 2, "COMMAND"),
        (["forecast", "none.csv", "--horizon", "3"], 3, "none.csv"),
        (["forecast", "--dataset", "none", "--horizon", "3"], 3, "air_passengers"),
        (["forecast", "{table}", "--horizon", "3", "--freq", "D"], 3, "series 'a'"),
        (["forecast", "{table}", "--horizon", "100"], 3, "longest"),
        (["forecast", "{table}", "--horizon", "3", "--target-col", "sales"], 3, "'sales'"),
        (["forecast", "{table}", "--horizon", "3", "-o", "out.xlsx"], 3, "--format"),
        (["forecast", "{table}", "--horizon", "3", "--plot", "out.bmp"], 3, ".png"),
        (["forecast", "{table}", "--horizon", "3", "-o", "no/such/out.csv"], 4, "folder"),
    ],
)
def test_exit_codes(capsys, table, args, code, words):
    found, stdout, stderr = run(capsys, *(a.format(table=table) for a in args))
    assert (found, stdout) == (code, "")
    assert words in stderr
    assert "Traceback" not in stderr


def test_errors_as_json(capsys):
    _, _, stderr = run(capsys, "forecast", "none.csv", "--horizon", 3, "--json")
    assert json.loads(stderr)["exit_code"] == 3


def test_a_missing_extra_is_the_environments_fault(capsys, table, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    code, _, stderr = run(capsys, "forecast", table.with_suffix(".parquet"), "--horizon", 3)
    assert code == 4
    assert "tsforecast[parquet]" in stderr


def test_info(capsys):
    code, stdout, _ = run(capsys, "info", "--json")
    facts = json.loads(stdout)
    assert (code, facts["tsforecast"], facts["numpy"]) == (0, tsforecast.__version__, np.__version__)
    code, stdout, _ = run(capsys, "info")
    assert f"numpy         {np.__version__}" in stdout


def test_help_names_the_exit_codes(capsys):
    for command in ([], ["forecast"], ["backtest"]):
        code, stdout, _ = run(capsys, *command, "--help")
        assert code == 0
        assert "130  stopped with Ctrl-C" in stdout


def test_the_library_stays_quiet_after_the_command(capsys, table):
    import logging

    run(capsys, "forecast", "none.csv", "--horizon", 3)
    library = logging.getLogger("tsforecast")
    assert (library.handlers, library.propagate) == ([], True)


@pytest.mark.needs_jit
def test_ctrl_c(table):
    """In the middle of training: 130, no traceback, within a second or so."""
    command = [sys.executable, "-m", "tsforecast", "forecast", str(table), "--horizon", "3", "--max-iter", "100000000"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        for line in process.stderr:
            if "training" in line:
                break
        time.sleep(1.0)
        began = time.monotonic()
        process.send_signal(signal.SIGINT)
        stdout, stderr = process.communicate(timeout=60)
    assert (process.returncode, stdout) == (130, "")
    assert "Traceback" not in stderr
    assert time.monotonic() - began < 10  # seconds of a busy machine; the kernels themselves stop within one
