"""What users see first: the public names, their documentation, and how quickly they come."""

import doctest
import importlib
import inspect
import json
import os
import subprocess
import sys
import time

import pytest

import tsforecast

HEAVY = {"matplotlib", "narwhals", "numba", "numpy", "pandas", "polars", "pyarrow", "scipy", "sklearn"}
PUBLIC_MODULES = ["tsforecast", "tsforecast.datasets", "tsforecast.metrics", "tsforecast.persistence"]


def run_python(code, *options, **environ):
    """Run code in a fresh interpreter; its standard output."""
    result = subprocess.run(
        [sys.executable, *options, "-c", code],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, **environ},
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_the_names_of_the_design_are_there():
    for name in (
        "LSTMRegressor",
        "WindowRegressor",
        "Forecaster",
        "sliding_windows",
        "load_model",
        "datasets",
        "metrics",
    ):
        assert name in tsforecast.__all__
    assert dir(tsforecast) == sorted(tsforecast.__all__)
    assert len(tsforecast.__all__) <= 20
    with pytest.raises(AttributeError, match="no attribute 'LSTMregressor'"):
        _ = tsforecast.LSTMregressor


@pytest.mark.parametrize("name", tsforecast.__all__)
def test_every_name_resolves_and_is_documented(name):
    value = getattr(tsforecast, name)
    if inspect.isclass(value) or inspect.isfunction(value) or inspect.ismodule(value):
        assert len(inspect.getdoc(value).split()) >= 5
        assert value.__name__.split(".")[-1] == name


@pytest.mark.parametrize("module", PUBLIC_MODULES)
def test_public_functions_and_methods_document_their_parameters(module):
    module = importlib.import_module(module)
    bare = []
    for name in module.__all__:
        value = getattr(module, name)
        if inspect.isfunction(value):
            members = {name: value}
        elif inspect.isclass(value) and value.__module__.startswith("tsforecast"):
            members = {f"{name}.{k}": v for k, v in vars(value).items() if inspect.isfunction(v) and k[0] != "_"}
        else:
            continue
        for label, function in members.items():
            arguments = [p for p in inspect.signature(function).parameters if p != "self"]
            if arguments and "Parameters\n----------" not in (inspect.getdoc(function) or ""):
                bare.append(label)
    assert bare == []


def test_errors_share_one_base_and_the_right_builtin():
    assert issubclass(tsforecast.DataError, (tsforecast.TsForecastError, ValueError))
    assert issubclass(tsforecast.NotEnoughHistoryError, tsforecast.DataError)
    assert issubclass(tsforecast.ModelFileError, ValueError)
    for name in tsforecast.__all__:
        if name.endswith("Error"):
            assert issubclass(getattr(tsforecast, name), tsforecast.TsForecastError)


def test_importing_the_package_imports_nothing_heavy():
    loaded = run_python("import sys, json, tsforecast; print(json.dumps(sorted(sys.modules)))")
    assert HEAVY.isdisjoint(json.loads(loaded))


def test_the_datasets_module_waits_with_pandas():
    loaded = run_python("import sys, json; from tsforecast import datasets; print(json.dumps(sorted(sys.modules)))")
    assert HEAVY.isdisjoint(json.loads(loaded))


HELP = """
import json, sys
from tsforecast.cli import main
try:
    main(["--help"])
except SystemExit as stop:
    assert stop.code == 0
print(json.dumps(sorted(sys.modules)))
"""


def test_help_imports_nothing_heavy():
    *text, loaded = run_python(HELP).splitlines()
    assert HEAVY.isdisjoint(json.loads(loaded))
    for command in ("forecast", "backtest", "warmup", "info"):
        assert any(command in line for line in text)


def test_help_is_quick():
    """A third of a second on an idle machine; the bound leaves room for a busy one, the best of five counts."""
    seconds = []
    for _ in range(5):
        began = time.perf_counter()
        run_python("from tsforecast.cli import main; main(['--help'])")
        seconds.append(time.perf_counter() - began)
    assert min(seconds) < 1.0


@pytest.mark.needs_jit
@pytest.mark.parametrize("name", ["LSTMRegressor", "WindowRegressor", "Forecaster", "fit_many", "sliding_windows"])
def test_examples_in_docstrings_run(name):
    value = getattr(tsforecast, name)
    examples = [test for test in doctest.DocTestFinder().find(value, name) if test.examples]
    assert examples, f"{name} has no example"
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    for test in examples:
        runner.run(test)
    assert runner.failures == 0
