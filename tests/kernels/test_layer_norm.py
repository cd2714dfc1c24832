"""Layer normalisation: the kernels of a row by themselves, what it makes of a cell, and rows that have no spread."""

import layer_norm_rows
import numpy as np
import pytest
from cell_cases import BACKEND_CELLS, layer_blocks
from kernel_cases import random_params

from tsforecast.backends.base import get_backend
from tsforecast.backends.reference.layer_norm import EPSILON
from tsforecast.cells import CELLS
from tsforecast.nn.gradcheck import numerical_gradient, relative_error
from tsforecast.nn.initializers import init_params
from tsforecast.spec import NetworkSpec

NORMED = [case for case in BACKEND_CELLS if case.values[1].endswith("layer_norm")]


def normalised(a, gain):
    """The definition, over all but the first axis."""
    numbers = a.reshape(len(a), -1)
    deviation = numbers - numbers.mean(axis=1, keepdims=True)
    y = deviation / np.sqrt(np.square(deviation).mean(axis=1, keepdims=True) + EPSILON)
    return y.reshape(a.shape) * gain


@pytest.mark.parametrize("n_rows", [1, 4, 7])
@pytest.mark.parametrize("n_units", [3, 16, 21, 40])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_rows_are_normalised_and_padding_becomes_zero(rng, dtype, n_units, n_rows):
    a = rng.normal(3.0, 2.0, size=(n_rows, 4, n_units)).astype(dtype)
    y, padding, r = layer_norm_rows.forward(a)
    tolerance = 20 * np.finfo(dtype).eps
    np.testing.assert_allclose(y, normalised(a.astype(np.float64), 1.0), rtol=0, atol=tolerance)
    np.testing.assert_allclose(r, 1 / np.sqrt(a.astype(np.float64).var(axis=(1, 2)) + EPSILON), rtol=tolerance)
    assert not padding.any()


def test_the_gradient_of_a_row_is_that_of_central_differences(rng):
    a, dn, gain = (rng.normal(size=shape) for shape in ((5, 4, 13), (5, 4, 13), (4, 13)))
    y, _, r = layer_norm_rows.forward(a)
    da, padding, dgain = layer_norm_rows.backward(dn, y, r, gain, np.ones_like(gain))
    assert relative_error(da, numerical_gradient(lambda a: float((normalised(a, gain) * dn).sum()), a)) <= 1e-8
    numeric = numerical_gradient(lambda gain: float((normalised(a, gain) * dn).sum()), gain)
    assert relative_error(dgain - 1.0, numeric) <= 1e-8  # it is added to what was there
    assert not padding.any()


@pytest.mark.parametrize("level", [0.0, -7.25, 1e6])
def test_equal_numbers_become_zeros_exactly_where_their_mean_is_exact(level):
    y, _, r = layer_norm_rows.forward(np.full((2, 4, 16), level, np.float32))
    assert not y.any()
    np.testing.assert_allclose(r, 1 / np.sqrt(EPSILON), rtol=1e-6)


def spec_and_params(cell, seed=0):
    spec = NetworkSpec(4, 3, (6, 5), 2, cell=cell)
    return spec, random_params(np.random.default_rng(seed), spec)


@pytest.mark.parametrize(("backend", "cell"), NORMED)
def test_the_size_of_the_weights_does_not_count(rng, backend, cell):
    """Table 1 of the paper: a weight matrix may be scaled, as far as EPSILON is small beside the sums."""
    spec, params = spec_and_params(cell)
    x = rng.normal(size=(3, 4, 3))
    outputs = []
    for scale in (1e4, 1e6):
        scaled = params.copy()
        for name in ("w_x", "w_h"):
            layer_blocks(spec, scaled)[name][:] *= scale
        outputs.append(get_backend(backend).gradient(spec, scaled, x, np.ones((3, 2)))[0])
    np.testing.assert_allclose(*outputs, rtol=0, atol=1e-9)


@pytest.mark.parametrize(("backend", "cell"), NORMED)
@pytest.mark.parametrize("weights", ["zero", "equal", "huge"])
def test_rows_without_spread_and_saturated_gates_stay_finite(rng, backend, cell, weights):
    """All sums 0, all equal, or gates at their stops: outputs and gradients are those of the equations, and finite."""
    spec, params = spec_and_params(cell)
    for layer in range(2):
        blocks = layer_blocks(spec, params, layer)
        for name in ("w_x", "w_h"):
            blocks[name][:] = {"zero": 0.0, "equal": 0.7, "huge": blocks[name] * 1e8}[weights]
        if weights == "huge":
            blocks["b"][:] *= 1e4
    x, cotangent = rng.normal(size=(3, 4, 3)), rng.normal(size=(3, 2))
    found = get_backend(backend).gradient(spec, params, x, cotangent)
    expected = get_backend("reference").gradient(spec, params, x, cotangent)
    for ours, theirs in zip(found, expected, strict=True):
        assert np.isfinite(ours).all()
        np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("cell", [case.values[1] for case in NORMED[:2]])
def test_gains_start_at_one_and_are_no_weights(cell):
    spec = NetworkSpec(4, 3, (6, 5), 2, cell=cell)
    params = init_params(spec, 0, np.float64)
    assert {name for name in CELLS[cell].extras if name.startswith("g")} >= {"g_x", "g_h"}
    for layer in range(2):
        for name, block in layer_blocks(spec, params, layer).items():
            if name.startswith("g"):
                np.testing.assert_array_equal(block, 1.0)
    of_gains = np.zeros(spec.n_params, dtype=bool)
    for name, block in spec.views(of_gains).items():
        block[:] = name.rpartition(".")[2].startswith("g")
    assert not (of_gains & spec.is_weight()).any()
