"""minGRU and minLSTM: what they are to each other, and gates at their stops."""

import numpy as np
import pytest
from cell_cases import layer_blocks

from tsforecast.backends.base import get_backend
from tsforecast.spec import NetworkSpec

BACKENDS = ["reference", pytest.param("cpu", marks=pytest.mark.needs_jit)]
T, D, H = 7, 2, 5


@pytest.mark.parametrize("name", BACKENDS)
def test_the_minlstm_whose_gates_are_opposite_is_the_mingru(rng, name):
    """sigmoid(a) + sigmoid(-a) is 1, so that the sum of the gates divides nothing."""
    lstm, gru = (NetworkSpec(T, D, (H,), 3, cell=cell) for cell in ("minlstm", "mingru"))
    weights, smaller = rng.normal(size=lstm.n_params), np.empty(gru.n_params)
    ours, theirs = layer_blocks(lstm, weights), layer_blocks(gru, smaller)
    for block in ("w_x", "b"):
        ours[block][..., H : 2 * H] = -ours[block][..., :H]
        theirs[block][..., :H], theirs[block][..., H:] = ours[block][..., :H], ours[block][..., 2 * H :]
    for block in ("head.w", "head.b"):
        gru.views(smaller)[block][:] = lstm.views(weights)[block]
    x, cotangent = rng.normal(size=(4, T, D)), rng.normal(size=(4, 3))
    found, _, dx = get_backend(name).gradient(lstm, weights, x, cotangent)
    expected, _, dx_expected = get_backend(name).gradient(gru, smaller, x, cotangent)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-14)
    np.testing.assert_allclose(dx, dx_expected, rtol=0, atol=1e-13)


@pytest.mark.parametrize("name", BACKENDS)
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize(
    "sums",
    [
        (30, 30),
        (-30, -30),
        (-30, -31),
        (-50, -40),
        (-60, -62),
        (-38, -20),
        (-1e4, -1e4),
        (-1e4, 1e4),
        (1e4, -1e4),
        (-3, 1e4),
        (1e4, 3),
        (5, -20),
    ],
    ids=str,
)
def test_gates_at_their_stops_share_what_the_paper_says(name, dtype, sums):
    """One step from zero: h is the share of the input gate, times a candidate of 1."""
    spec = NetworkSpec(1, 1, (H,), 1, cell="minlstm")
    params = np.zeros(spec.n_params, dtype)
    layer_blocks(spec, params)["b"][:] = np.repeat([*sums, 1.0], H)
    spec.views(params)["head.w"][0] = 1
    output, dparams, _ = get_backend(name).gradient(spec, params, np.zeros((1, 1, 1), dtype), np.ones((1, 1), dtype))
    s_i, s_f = 1 / (1 + np.exp(-np.array(sums, np.longdouble)))  # whose exponents reach further
    share = s_i / (s_i + s_f)
    slopes = share * (1 - share) * np.array([1 - s_i, s_f - 1])
    # The exponential of a sum a is off by up to (2 + |a|) ulp, and |a| <= 37 wherever both gates count.
    tolerance = (39 * float(share * (1 - share)) + 4) * float(np.finfo(dtype).eps)
    assert float(output[0, 0]) == pytest.approx(float(share), rel=0, abs=tolerance)
    found = layer_blocks(spec, dparams)["b"].reshape(3, H)[:, 0]
    np.testing.assert_allclose(found, np.array([*slopes, share], np.float64), rtol=0, atol=tolerance)
