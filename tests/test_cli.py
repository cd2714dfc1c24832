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
from tsforecast.forecasting import defaults, files
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

    @pytest.mark.parametrize("closed", [False, True])
    def test_a_broken_log_does_not_cost_the_forecast(self, capsys, table, tmp_path, monkeypatch, closed):
        out = tmp_path / "out.csv"
        with open("/dev/full", "w", buffering=1) as full:
            monkeypatch.setattr(sys, "stderr", None if closed else full)
            code = cli.main(["forecast", str(table), "--horizon", "2", "-o", str(out), *QUICK])
        assert code == 0
        assert len(pd.read_csv(out)) == 4
        assert capsys.readouterr().out == ""  # print(file=None) would write the log here

    def test_a_reader_that_leaves_does_not_cost_the_model(self, table, tmp_path, monkeypatch):
        read, write = os.pipe()
        os.close(read)
        with open(write, "w") as gone:
            monkeypatch.setattr(sys, "stdout", gone)
            code = cli.main(["forecast", str(table), "--horizon", "2", "--save", str(tmp_path / "m.tsf"), *QUICK])
        assert code == 0
        assert len(tsforecast.load_model(tmp_path / "m.tsf").predict()) == 4

    def test_an_hourly_forecast_with_a_zone_is_an_input_again(self, capsys, tmp_path):
        first, out = tmp_path / "hours.parquet", tmp_path / "out.csv"
        options = ["--horizon", 10, "--level", "--season-length", 6, *QUICK]
        hours = pd.date_range("2024-10-26 20:00", periods=60, freq="h", tz="Europe/Berlin")
        pd.DataFrame({"ds": hours[:50], "y": 5 + np.sin(np.arange(50))}).to_parquet(first)
        assert run(capsys, "forecast", first, "-o", out, *options)[0] == 0
        back = files.read_table(str(out), id_col="unique_id", time_col="ds")
        assert back["ds"].tolist() == hours[50:].tolist()
        # the first 50 hours cross the end of summer time
        pd.DataFrame({"ds": hours[:50], "y": 5 + np.sin(np.arange(50))}).to_csv(tmp_path / "hours.csv", index=False)
        again = tmp_path / "again.csv"
        assert run(capsys, "forecast", tmp_path / "hours.csv", "-o", again, *options)[0] == 0
        utc = files.read_table(str(again), id_col="unique_id", time_col="ds")
        assert utc["ds"].tolist() == hours[50:].tolist()
        assert utc["LSTMRegressor"].tolist() == back["LSTMRegressor"].tolist()


@pytest.fixture
def no_training(monkeypatch):
    """Whatever is refused must be refused before the work."""
    monkeypatch.setattr(tsforecast.Forecaster, "fit", lambda *_: pytest.fail("trained first"))


@pytest.mark.usefixtures("no_training")
class TestOutputsAreCheckedFirst:
    @pytest.mark.parametrize(
        ("args", "code", "words"),
        [
            (["-o", "{table}"], 2, "INPUT and --output are the same file"),
            (["-o", "{folder}/../{name}/in.csv"], 2, "INPUT and --output are the same file"),
            (["--save", "{folder}/link.csv"], 2, "INPUT and --save are the same file"),
            (["-o", "{folder}/new.csv", "--save", "{folder}/new.csv"], 2, "--output and --save are the same file"),
            (["--plot", "{folder}/new.png", "--save", "{folder}/new.png"], 2, "--plot and --save are the same file"),
            (["--save", "{folder}/no/x.tsf"], 4, "no/x.tsf': its folder does not exist"),
            (["--plot", "{folder}/no/x.png"], 4, "no/x.png': its folder does not exist"),
            (["-o", "{folder}/dir.csv"], 4, "dir.csv' is a folder"),
            (["--save", ""], 4, "'' is a folder"),
            (["-o", "/proc/x.csv"], 4, "'/proc/x.csv' cannot be written"),
            (["--save", "/proc/x"], 4, "'/proc/x' cannot be written"),
            (["-o", "{folder}/x.xlsx"], 2, "use --output-format"),
            (["-o", "{folder}/x.parquet.gz"], 2, "without .gz"),
            (["-o", "{folder}/x.gz", "--output-format", "parquet"], 2, "without .gz"),
            (["-o", "{folder}/x.csv.zip"], 2, "cannot write .zip"),
            (["--plot", "{folder}/x.bmp"], 2, ".png"),
        ],
    )
    def test_names(self, capsys, table, args, code, words):
        folder = table.parent
        (folder / "link.csv").symlink_to(table)
        (folder / "dir.csv").mkdir()
        before = sorted(folder.iterdir()), table.read_bytes()
        filled = [a.format(table=table, folder=folder, name=folder.name) for a in args]
        found, _, stderr = run(capsys, "forecast", table, "--horizon", 2, *filled)
        assert (found, words in stderr) == (code, True), stderr
        assert ".tmp" not in stderr
        assert (sorted(folder.iterdir()), table.read_bytes()) == before

    @pytest.mark.parametrize(
        ("stream", "args", "words"),
        [
            ("stdout", ["forecast", "{table}", "--horizon", "2"], "standard output is closed"),
            ("stdout", ["backtest", "{table}", "--horizon", "2"], "standard output is closed"),
            ("stdout", ["info"], "standard output is closed"),
            ("stdin", ["forecast", "-", "--horizon", "2"], "standard input is closed"),
        ],
    )
    def test_closed_streams(self, capsys, table, monkeypatch, stream, args, words):
        with monkeypatch.context() as patch:
            patch.setattr(sys, stream, None)
            code = cli.main([a.format(table=table) for a in args])
        assert code == 4
        assert words in capsys.readouterr().err

    def test_without_pyarrow(self, capsys, table, tmp_path, monkeypatch):
        monkeypatch.setitem(sys.modules, "pyarrow", None)
        code, _, stderr = run(capsys, "forecast", table, "--horizon", 2, "-o", tmp_path / "x.parquet")
        assert (code, "tsforecast[parquet]" in stderr) == (4, True)


@pytest.mark.parametrize(("command", "code"), [("info", 0), ("info --wrong", 2)])
def test_a_full_standard_error_does_not_change_the_exit_code(command, code):
    """Python itself ends with 120 where it cannot flush a stream at exit."""
    with open("/dev/full", "w") as full:
        done = subprocess.run([sys.executable, "-m", "tsforecast", *command.split()], stdout=-3, stderr=full)
    assert done.returncode == code


@pytest.mark.needs_jit
def test_warmup_and_the_default_network(capsys, table, tmp_path):
    code, stdout, stderr = run(capsys, "warmup", "--cells", "lstm", "rnn_tanh", "lstm", "--dtype", "float32")
    assert (code, stdout) == (0, "")
    assert os.environ["TSFORECAST_CACHE_DIR"] in stderr
    assert [line.split("] ")[1] for line in stderr.splitlines() if "float" in line] == [
        "lstm in float32 is ready",
        "rnn_tanh in float32 is ready",
    ]
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
        (["forecast", "{table}", "--horizon", "2", "--level", "0.95"], 2, "did you mean 95?"),
        (["forecast", "--horizon", "2", "--level", "80", "95", "{table}"], 2, "if it is INPUT, write it before"),
        (["forecast", "{table}", "--horizon", "abc"], 2, "'abc' is not a whole number"),
        (["forecast", "{table}", "--horizon", "2", "--seed", "1.5"], 2, "'1.5' is not a whole number"),
        (["forecast", "{table}", "--horizon", "2", "--n-jobs", "all"], 2, "'all' is not a whole number"),
        (["forecast", "https://localhost/in.csv", "--horizon", "2"], 3, "is a URL"),
        (["forecast", "{table}", "--horizon", "2", "--seed", "-1"], 2, "2**32"),
        (["forecast", "{table}", "--horizon", "2", "--n-jobs", "0"], 2, "0 threads"),
        (["forecast", "{table}", "--horizon", "2", "--n-timesteps", "1"], 2, "n_timesteps"),
        (["nothing"], 2, "invalid choice"),
        (["warmup", "--cells", "lstm", "gur"], 2, "--cells: there is no 'gur'; there are: rnn_tanh, "),
        (["warmup", "--dtype", "float16"], 2, "argument --dtype: invalid choice: 'float16'"),
        ([], 2, "COMMAND"),
        (["forecast", "none.csv", "--horizon", "3"], 3, "none.csv: there is no such file"),
        (["forecast", "--dataset", "none", "--horizon", "3"], 2, "air_passengers"),
        (["forecast", "{table}", "--horizon", "3", "--freq", "D"], 3, "series 'a'"),
        (["forecast", "{table}", "--horizon", "100"], 3, "longest"),
        (["forecast", "{table}", "--horizon", "3", "--target-col", "sales"], 3, "'sales'"),
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
    assert "device_auto" in stdout


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
