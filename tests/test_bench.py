"""The benchmark runs without other frameworks, and refuses a contender that computes something else."""

import json
import runpy
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

SCRIPTS = Path(__file__).parent.parent / "scripts"


@pytest.fixture
def bench(monkeypatch):
    monkeypatch.syspath_prepend(str(SCRIPTS))
    return SimpleNamespace(**runpy.run_path(str(SCRIPTS / "bench.py")))


@pytest.mark.needs_jit
def test_it_measures_a_tiny_case_alone(tmp_path):
    found, chart = tmp_path / "found.json", tmp_path / "chart.png"
    command = [sys.executable, str(SCRIPTS / "bench.py"), "--cases", "4x3x1x8x1", "saturated", "--threads", "1"]
    command += ["--seconds", "0.01", "--peers", "--json", str(found), "--chart", str(chart)]
    ran = subprocess.run(command, capture_output=True, text=True, check=True, cwd=SCRIPTS.parent)
    assert "left out: torch, jax, keras" in ran.stdout
    document = json.loads(found.read_text())
    tiny, saturated = document["results"]
    assert (tiny["case"], tiny["threads"], saturated["case"]) == ("4x3x1x8x1", 1, "saturated")
    for work, operations in (("train", 2 * 4 * 3 * 4 * (2 * 8 + 3 * 64)), ("predict", 2 * 4 * 3 * 4 * (8 + 64))):
        row = tiny[work]
        assert row["gflops"] * row["ms"] == pytest.approx(operations / 1e6)
        assert 0 < row["fraction"] < 1, "nothing is faster than multiply-adds alone"
        assert row["peers"] == {}
        assert document["summary"]["1"][f"{work} saturated / unsaturated"] > 0
    assert chart.read_bytes().startswith(b"\x89PNG")


@pytest.mark.needs_jit
def test_a_contender_that_computes_something_else_is_refused(bench):
    from bench_peers import Ours  # on the path that ``bench`` has set

    case = bench.Case("4x3x1x8x1")
    job = bench.make_job(case, 2, 1)
    oracle = bench.Oracle(case, job)
    oracle.check("right", Ours(job))

    class Off(Ours):
        def predict(self):
            return super().predict() + np.float32(1e-4)

    with pytest.raises(AssertionError, match="off: forecasts differ by up to"):
        oracle.check("off", Off(job))

    class Backwards(Ours):
        def weights(self):
            return 2 * job.flat - super().weights()

    with pytest.raises(AssertionError, match="backwards: weights after a step differ by up to"):
        oracle.check("backwards", Backwards(job))


def test_an_unknown_peer_is_an_error(bench, capsys):
    with pytest.raises(SystemExit):
        bench.options_of(["--peers", "tensorflow"])
    assert "invalid choice: 'tensorflow'" in capsys.readouterr().err


def test_the_summary_has_means_worst_and_fractions(bench):
    def result(name, ratio, fraction):
        row = {"ms": 1.0, "gflops": 1.0, "fraction": fraction, "peers": {"torch": {"ms": ratio, "ratio": ratio}}}
        return {"case": name, "threads": 1, "train": row, "predict": row}

    results = [result("32x24x1x64x1", 2.0, 0.5), result("1x24x1x64x1", 8.0, 0.1)]
    summary = bench.summarise(results, ["torch"])
    assert summary["train torch geometric mean"] == pytest.approx(4.0)
    assert summary["predict torch worst"] == 2.0
    assert summary["train least fraction of peak, H 64..256, B >= 32"] == 0.5, "B = 1 does not count"


@pytest.mark.needs_jit
def test_the_benchmark_of_fleets_measures_a_tiny_one_alone(tmp_path):
    found = tmp_path / "found.json"
    sizes = {"models": 3, "units": 4, "windows": 20, "steps": 3, "epochs": 2, "batch": 10}
    command = [sys.executable, str(SCRIPTS / "bench_fleet.py"), "--threads", "1", "--seconds", "0.01", "--peers"]
    command += ["--json", str(found)] + [part for name, size in sizes.items() for part in (f"--{name}", str(size))]
    subprocess.run(command, capture_output=True, text=True, check=True, cwd=SCRIPTS.parent)
    document = json.loads(found.read_text())
    assert document["fleet"] == sizes
    (result,) = document["results"]
    assert (result["threads"], result["trained"]) == (1, {"ours": [3, 2], "fit_many": [3, 2]})
    assert all(seconds > 0 for seconds in result["fleet_seconds"].values())
