"""Derivatives by hidden states, as the gradient-health report reads them, against differences and a mirror."""

import numpy as np
import pytest
from kernel_cases import series_windows, step_rule

from tsforecast.backends.base import get_backend
from tsforecast.backends.reference import layer, losses
from tsforecast.backends.reference.cells import CELLS
from tsforecast.spec import NetworkSpec

REFERENCE = get_backend("reference")


def test_norms_equal_central_differences_by_the_hidden_state(rng):
    """Step 3 of an LSTM: the rest of the window is run again from a hidden state that is a little off."""
    spec, rule, t, step = NetworkSpec(6, 2, (4,), 4), step_rule(), 3, 1e-5
    params, windows = rng.normal(scale=0.5, size=spec.n_params), series_windows(rng, spec)
    p = {name.removeprefix("layers.0."): view for name, view in spec.views(params).items()}
    found = REFERENCE.state_gradients(spec, rule, params, windows)
    x = np.stack([windows.values[s : s + 12].reshape(6, 2) for s in windows.x_starts], axis=1)
    y = np.stack([windows.targets[s : s + 8 : 2] for s in windows.y_starts])
    zeros = np.zeros((len(windows), 4))
    tape = layer.forward(CELLS["lstm"], x[:t], p, (zeros, zeros))

    def own_losses(h):
        last = layer.forward(CELLS["lstm"], x[t:], p, (h, tape.kept[-1].c)).h[-1]
        out = (last @ p["head.w"] + p["head.b"])[:, :, None]
        return np.array([losses.batch_loss(rule, out[[i]], y[[i]], np.ones(1))[0] for i in range(len(windows))])

    slopes = []
    for unit in range(4):
        up, down = tape.h[-1].copy(), tape.h[-1].copy()
        up[:, unit] += step
        down[:, unit] -= step
        slopes.append((own_losses(up) - own_losses(down)) / (2 * step))
    assert found[0, t - 1] == pytest.approx(np.sqrt(np.square(slopes).sum() / len(windows)), rel=1e-8)


def test_a_reverse_run_is_the_mirror_image_of_a_forward_one(rng):
    """Both directions with the same weights, on windows that read the same both ways."""
    spec = NetworkSpec(6, 2, (4,), 4, bidirectional="sum")
    params, windows = rng.normal(scale=0.5, size=spec.n_params), series_windows(rng, spec)
    views = spec.views(params)
    for name, view in views.items():
        if ".reverse." in name:
            view[:] = views[name.replace("reverse.", "")]
    windows.values.reshape(-1, 2)[:] = 1.0, -0.5
    forward, reverse = REFERENCE.state_gradients(spec, step_rule(), params, windows)
    np.testing.assert_allclose(forward, reverse[::-1], rtol=1e-12)
    assert forward[0] < 0.9 * forward[-1], "the way back must cost something"
