"""``scripts/gpu_check.py`` where there is no GPU: it says what is missing."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tsforecast.backends.cuda import availability

SCRIPTS = Path(__file__).parents[2] / "scripts"
SCRIPT = SCRIPTS / "gpu_check.py"
# What stands for the sections, in which a case breaks, crashes or stands still.
SECTIONS = """
import os, sys, time
from pathlib import Path

ROOT = Path(__file__).parents[1]


class Skipped(Exception):
    pass


def measure(what):
    if what == "lack":
        raise Skipped("something is not installed")
    if what == "break":
        raise ValueError("broken")
    if what == "crash":
        os._exit(11)
    if what == "hang":
        time.sleep(60)
    return {"what": what, "process": os.getpid(), "exit_code": 0}


def tasks(smoke):
    for what in ("a", "lack", "b", "break", "c", "crash", "d", "hang", "e"):
        yield "first" if what < "d" else "second", measure, (what,)
"""


@pytest.mark.skipif(availability.is_available(), reason="there is a GPU: run the script itself")
def test_it_says_what_is_missing():
    env = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run([sys.executable, str(SCRIPT)], capture_output=True, text=True, env=env)
    assert done.returncode == 1
    assert done.stderr.startswith('gpu_check: device="cuda" cannot be used: ')


@pytest.mark.needs_jit
def test_it_runs_to_its_end_in_the_simulator():
    pytest.importorskip("torch", reason="compares with PyTorch")
    pytest.importorskip("greenlet", reason="needs the CUDA simulator")
    done = subprocess.run([sys.executable, str(SCRIPT), "--smoke"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for section in ("values", "curves", "steps", "fleet", "kernels", "first_calls", "launches", "bars"):
        table = done.stdout.partition(f"### {section}\n")[2].partition("###")[0]
        assert "| --- |" in table, section
        assert "skipped" not in table, section


def test_a_case_that_fails_costs_no_other_its_figures(tmp_path):
    (tmp_path / "scripts").mkdir()
    (tmp_path / "tests" / "cuda").mkdir(parents=True)
    (tmp_path / "tests" / "cuda" / "simulator.py").write_text("def install():\n    pass\n")
    (tmp_path / "scripts" / "gpu_sections.py").write_text(SECTIONS)
    (tmp_path / "scripts" / "gpu_report.py").write_text((SCRIPTS / "gpu_report.py").read_text())
    patient = SCRIPT.read_text()
    impatient = patient.replace("OTHERS = 120.0", "OTHERS = 2.0")
    assert impatient != patient
    (tmp_path / "scripts" / "gpu_check.py").write_text(impatient)
    done = subprocess.run(
        [sys.executable, str(tmp_path / "scripts" / "gpu_check.py"), "--smoke"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    rows = dict(re.findall(r"^\| ([a-e]) \| (\d+) \| 0 \|$", done.stdout, re.MULTILINE))
    assert rows.keys() == set("abcde")
    assert rows["a"] == rows["b"] == rows["c"]
    assert len(set(rows.values())) == 3  # a process after the crash, and one after the standstill
    assert re.findall(r"^skipped (.*)$", done.stdout, re.MULTILINE) == [
        "['break']: ValueError: broken",
        "['crash']: the process ended with code 11",
        "['lack']: something is not installed",
        "['hang']: took more than 2 s",
    ]


def test_bars_tell_what_is_met_and_what_has_no_figure(monkeypatch):
    monkeypatch.syspath_prepend(SCRIPTS)
    from gpu_report import bars, markdown

    report = {
        "curves": [{"one_step": 2e-6, "loss_after_50": 2e-3, "same_bits": True}, {"case": [64], "skipped": "broken"}],
        "kernels": [
            {"units": 80, "ratio_fp32": 1.6}, {"units": 160, "ratio_fp32": 1.5}, {"units": 512, "ratio_fp32": 0.6}
        ],
    }  # fmt: skip
    found = {bar["what"].partition(",")[0] + bar["bar"]: bar for bar in bars(report)}
    assert found["one step<= 1e-05"] == {
        "what": "one step, difference to the CPU", "bar": "<= 1e-05", "worst": 2e-6, "cases": 1, "without": 1,
        "result": "met",
    }  # fmt: skip
    assert found["loss in 50 steps<= 0.001"]["result"] == "not met"
    assert found["bits of two runs are the same>= 1"]["result"] == "met"
    assert found["fleet>= 3"]["result"] == "not measured"
    assert (found["kernels>= 1.5"]["worst"], found["kernels>= 1.5"]["result"]) == (1.5, "met")
    assert (found["kernels>= 0.7"]["worst"], found["kernels>= 0.7"]["result"]) == (0.6, "not met")
    assert "skipped [64]: broken" in markdown({"device": "a GPU", **report})
