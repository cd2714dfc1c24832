"""Initial weights: their distribution, and bits that no library or dtype changes."""

import hashlib
import os
import subprocess
import sys

import numpy as np
import pytest

from tsforecast.cells import CELLS
from tsforecast.nn.initializers import _chrono, init_params, orthogonal
from tsforecast.nn.schedules import learning_rates
from tsforecast.spec import NetworkSpec

SPEC = NetworkSpec(6, 3, (40, 25), 4, n_quantiles=2)


@pytest.fixture
def views():
    return SPEC.views(init_params(SPEC, 7, np.float64))


@pytest.mark.parametrize(("layer", "n_in", "units"), [(0, 3, 40), (1, 40, 25)])
def test_input_weights_are_glorot_uniform_each_gate_by_itself(views, layer, n_in, units):
    w_x = views[f"layers.{layer}.w_x"]
    limit = np.sqrt(6.0 / (n_in + units))
    assert w_x.shape == (n_in, 4 * units)
    for gate in np.split(w_x, 4, axis=1):
        assert np.abs(gate).max() <= limit
        assert np.abs(gate).max() > 0.9 * limit
        # mean 0 and variance limit^2 / 3 of a uniform, to four standard errors
        assert abs(gate.mean()) < 4 * limit / np.sqrt(3 * gate.size)
        assert gate.var() == pytest.approx(limit**2 / 3, rel=4 * np.sqrt(0.8 / gate.size))


@pytest.mark.parametrize(("layer", "units"), [(0, 40), (1, 25)])
def test_recurrent_weights_are_orthogonal_and_gates_differ(views, layer, units):
    gates = np.split(views[f"layers.{layer}.w_h"], 4, axis=1)
    for gate in gates:
        np.testing.assert_allclose(gate @ gate.T, np.eye(units), rtol=0, atol=1e-14)
    assert np.abs(gates[0] - gates[1]).max() > 0.1


def test_orthogonal_matrices_have_no_preferred_direction():
    draws = np.array(
        [orthogonal(np.random.Generator(np.random.Philox(key=seed)), 3) for seed in range(2000)]
    )  # entries have variance 1/3
    np.testing.assert_allclose(draws.mean(axis=0), 0.0, rtol=0, atol=4 / np.sqrt(3 * 2000))
    np.testing.assert_allclose((draws**2).mean(axis=0), 1 / 3, rtol=0, atol=0.04)
    assert abs(np.sign(np.linalg.det(draws)).mean()) < 4 / np.sqrt(2000)


def test_only_the_forget_gates_have_a_bias(views):
    for layer, units in ((0, 40), (1, 25)):
        np.testing.assert_array_equal(views[f"layers.{layer}.b"], np.repeat([0.0, 1.0, 0.0, 0.0], units))
    assert not views["head.b"].any()
    assert np.abs(views["head.w"]).max() <= np.sqrt(6.0 / (25 + 8))
    assert views["head.w"].std() > 0.1


@pytest.mark.parametrize("frame", [{"season_length": 3}, {"linear_skip": True}])
def test_with_a_base_training_starts_from_the_base_forecast(frame):
    spec = NetworkSpec(6, 3, (5,), 4, **frame)
    views = spec.views(init_params(spec, 7, np.float64))
    assert not any(views[name].any() for name in views if name.startswith(("head", "skip")))
    assert views["layers.0.w_x"].all()


def test_dtypes_start_from_the_same_weights():
    single, double = init_params(SPEC, 7, np.float32), init_params(SPEC, 7, np.float64)
    assert single.dtype == np.float32
    np.testing.assert_array_equal(single, double.astype(np.float32))


def test_seeds_differ_and_repeat():
    np.testing.assert_array_equal(init_params(SPEC, 7, np.float64), init_params(SPEC, 7, np.float64))
    assert not np.array_equal(init_params(SPEC, 7, np.float64), init_params(SPEC, 8, np.float64))
    init_params(SPEC, 2**64 - 1, np.float64)


def digest():
    rates = learning_rates("cosine", 0.3, 2, 50, 7, 0.95, 30)
    return hashlib.sha256(np.append(init_params(SPEC, 7, np.float64), rates).astype("<f8").tobytes()).hexdigest()


def test_bits_are_those_of_every_machine():
    """This digest is the contract: it must not change with the processor, the NumPy version or a refactoring."""
    assert digest() == "975abfc77e3f343d3cf36b2fdc02b7b3282fbc836ab68286d37174ac119b65fd"


def test_bits_do_not_depend_on_vector_instructions():
    """NumPy and its BLAS without AVX and its kin are what another processor would run."""
    from numpy._core._multiarray_umath import __cpu_dispatch__, __cpu_features__

    extensions = [name for name in __cpu_dispatch__ if __cpu_features__.get(name)]
    code = "import sys; sys.path[:0] = sys.argv[1:]; from test_initializers import digest as d; print(d())"
    env = os.environ | {"NPY_DISABLE_CPU_FEATURES": " ".join(extensions), "OPENBLAS_CORETYPE": "Nehalem"}
    out = subprocess.run(
        [sys.executable, "-c", code, *sys.path], env=env, capture_output=True, text=True, check=True
    ).stdout
    assert out.strip() == digest()


CHRONO_GATES = [
    ("lstm", 1, 0),
    ("lstm_peephole", 1, 0),
    ("lstm_coupled", None, 0),
    ("lstm_no_input_gate", 0, None),
    ("slstm", 1, 0),
    ("gru", 1, None),
    ("mingru", None, 0),
    ("minlstm", 1, 0),
]


@pytest.mark.parametrize(("cell", "keeps", "writes"), CHRONO_GATES)
def test_chrono_biases_spread_memories_over_the_window(cell, keeps, writes):
    """A gate of bias log(u) keeps u / (1 + u) of the past a step, for about 1 + u steps; u is uniform in [1, T - 1]."""
    spec = NetworkSpec(101, 1, (2000,), 1, cell=cell)
    few = NetworkSpec(101, 1, (30,), 1, cell=cell)
    gates = few.views(init_params(few, 7, np.float64, bias_init="chrono"))["layers.0.b"].reshape(-1, 30)
    rng = np.random.Generator(np.random.Philox(key=3))
    u = np.exp(_chrono(rng, spec.n_timesteps, 2000))
    assert 1.0 <= u.min() < 2.0
    assert 99.0 < u.max() <= 100.0
    assert u.mean() == pytest.approx(50.5, abs=4 * 99 / np.sqrt(12 * 2000))
    drawn = gates[keeps] if keeps is not None else -gates[writes]
    assert 0.0 <= drawn.min() < drawn.max() <= np.log(100.0)
    if writes is not None:
        np.testing.assert_array_equal(gates[writes], -drawn)
    others = [k for k in range(len(gates)) if k not in (keeps, writes)]
    assert not gates[others].any()


@pytest.mark.parametrize("cell", CELLS)
def test_initial_weights_differ_only_where_they_are_told_to(cell):
    spec = NetworkSpec(50, 2, (4, 3), 1, cell=cell)
    usual = spec.views(init_params(spec, 7, np.float64))
    if CELLS[cell].recurrent:
        for name, view in spec.views(init_params(spec, 7, np.float64, recurrent_init="identity")).items():
            if name.endswith("w_h"):
                np.testing.assert_array_equal(view, np.tile(np.eye(len(view)), CELLS[cell].n_gates))
            else:
                np.testing.assert_array_equal(view, usual[name])
    else:
        with pytest.raises(ValueError, match=f"recurrent weights, and the cell '{cell}' has none"):
            init_params(spec, 7, np.float64, recurrent_init="identity")
    if CELLS[cell].keeps is None:
        with pytest.raises(ValueError, match=f"the cell '{cell}' has none"):
            init_params(spec, 7, np.float64, bias_init="chrono")
    else:
        chrono = spec.views(init_params(spec, 7, np.float64, bias_init="chrono"))
        assert {name for name in ("layers.0.b", "layers.1.b") if np.any(chrono[name] != usual[name])}
        for name in (name for name in usual if name.startswith("layers.0.w_")):
            np.testing.assert_array_equal(chrono[name], usual[name])


def test_windows_too_short_for_chrono_start_without_a_bias():
    spec = NetworkSpec(2, 1, (5,), 1)
    assert not spec.views(init_params(spec, 7, np.float64, bias_init="chrono"))["layers.0.b"].any()
