"""The sLSTM where exponentials are far beyond the range of a float: states stay finite, and forecasts right."""

import numpy as np
import pytest
from cell_cases import layer_blocks

from tsforecast.backends.base import get_backend
from tsforecast.nn.initializers import init_params
from tsforecast.spec import NetworkSpec

N_STEPS, N_UNITS = 300, 3


def network(input_sums, forget_sums, dtype=np.float64):
    """One window of two features that are the sums of all input and forget gates, and what the network needs for it."""
    spec = NetworkSpec(N_STEPS, 2, (N_UNITS,), N_UNITS, cell="slstm")
    params = init_params(spec, 0, np.float64)
    p = layer_blocks(spec, params)
    p["b"][:] = 0.0
    for column in (slice(0, N_UNITS), slice(N_UNITS, 2 * N_UNITS)):
        p["w_x"][:, column], p["w_h"][:, column] = 0.0, 0.0
    p["w_x"][0, :N_UNITS] = p["w_x"][1, N_UNITS : 2 * N_UNITS] = 1.0
    p["w_x"][:, 2 * N_UNITS :] *= 1e-2  # no candidate at its stops
    spec.views(params)["head.w"][:], spec.views(params)["head.b"][:] = np.eye(N_UNITS), 0.0
    x = np.broadcast_to(np.stack(np.broadcast_arrays(input_sums, forget_sums), axis=-1), (N_STEPS, 2))
    return spec, params.astype(dtype), x.astype(dtype)


def without_stabiliser(spec, params, x):
    """The last hidden state by sums of exponentials in extended precision, which holds e^11000 and e^-11000."""
    p = layer_blocks(spec, params.astype(np.longdouble))
    h = c = n = np.zeros(N_UNITS, np.longdouble)
    for x_t in x.astype(np.longdouble):
        a_i, a_f, a_z, a_o = np.split(x_t @ p["w_x"] + h @ p["w_h"] + p["b"], 4)
        f = 1 / (1 + np.exp(-a_f))
        c, n = f * c + np.exp(a_i) * np.tanh(a_z), f * n + np.exp(a_i)
        h = c / n / (1 + np.exp(-a_o))
    return h


STEPS = np.arange(N_STEPS)
SUMS = {
    "huge": (np.where(STEPS % 7 == 0, 5000.0, 4999.0), 1.0),
    "tiny": (np.where(STEPS % 7 == 0, -5000.0, -4999.0), 1.0),
    "rising": (20.0 * STEPS, 2.0),
    "falling": (-0.7 * STEPS, 0.0),  # what is written and what is kept fade alike: every step counts
    "outweighed": (np.where(STEPS == 0, 100.0, 0.0), 0.0),  # the first step for 144 steps, and then no more
    "never forgotten": (np.where(STEPS == 0, 100.0, 0.0), 300.0),
    "forgotten at once": (np.sin(STEPS), -4000.0),
    "to and fro": (5000.0 * (-1.0) ** STEPS, np.where(STEPS % 3 == 0, -30.0, 30.0)),
}


@pytest.mark.skipif(np.finfo(np.longdouble).maxexp < 16384, reason="needs numbers of extended range")
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("name", ["reference", pytest.param("cpu", marks=pytest.mark.needs_jit)])
@pytest.mark.parametrize("sums", SUMS)
def test_sums_of_any_size_are_finite_and_right(sums, name, dtype):
    spec, params, x = network(*SUMS[sums], dtype)
    backend = get_backend(name)
    found = backend.predict(spec, params, x.ravel(), np.zeros(1, np.int64), 1)[0]
    # A weight is e to a sum of up to 300 rounded numbers as large as the largest, and |h| < 1.
    tolerance = 4 * np.finfo(dtype).eps * max(N_STEPS, np.abs(x).max())
    np.testing.assert_allclose(found, without_stabiliser(spec, params, x).astype(np.float64), rtol=0, atol=tolerance)
    output, dparams, dx = backend.gradient(spec, params, x[None], np.ones((1, N_UNITS), dtype))
    np.testing.assert_array_equal(output[0], found)
    assert np.isfinite(dparams).all()
    assert np.isfinite(dx).all()
    assert np.abs(dx).max() > 0


@pytest.mark.parametrize("name", ["reference", pytest.param("cpu", marks=pytest.mark.needs_jit)])
def test_what_all_input_gates_have_in_common_cancels_out(rng, name):
    """h is a mean, and a mean does not change where all weights are multiplied by one number."""
    spec = NetworkSpec(9, 2, (5,), 2, cell="slstm")
    params, x, cotangent = rng.normal(size=spec.n_params), rng.normal(size=(4, 9, 2)), rng.normal(size=(4, 2))
    backend = get_backend(name)
    plain = backend.gradient(spec, params, x, cotangent)
    shifted = params.copy()
    layer_blocks(spec, shifted)["b"][:5] += 700.0
    for found, expected in zip(backend.gradient(spec, shifted, x, cotangent), plain, strict=True):
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-11)  # 700 is known to 1e-13
    assert np.abs(layer_blocks(spec, plain[1])["b"][:5]).max() <= 1e-14
