"""Layers joined in other ways than one above the other: both directions, residual sums, dilations, learned states."""

from dataclasses import replace

import numpy as np
import pytest
from kernel_cases import network, one_step, random_params, series_windows, step_gradient, step_rule

from tsforecast.backends.base import get_backend
from tsforecast.nn.gradcheck import gradcheck, numerical_gradient, relative_error
from tsforecast.spec import NetworkSpec

# Windows have 7 steps, so that no dilation but 1 and 7 divides them.
JOINED = {
    "concat": {"bidirectional": "concat"},
    "sum": {"bidirectional": "sum"},
    "residual": {"hidden_sizes": (3, 3, 3), "residual": True},
    "residual_concat": {"hidden_sizes": (3, 3), "residual": True, "bidirectional": "concat"},
    "residual_sum": {"hidden_sizes": (3, 3, 3), "residual": True, "bidirectional": "sum"},
    "dilated": {"dilations": (2, 3)},
    "dilated_first": {"dilations": (7, 1)},
    "dilated_concat": {"dilations": (2, 3), "bidirectional": "concat"},
    "learned": {"learned_state": True},
    "all": {"hidden_sizes": (3, 3, 3), "residual": True, "dilations": (1, 2, 4), "bidirectional": "concat",
            "learned_state": True, "linear_skip": True},
}  # fmt: skip


def spec_of(name, cell="lstm", n_timesteps=7):
    return NetworkSpec(n_timesteps, 2, n_outputs=2, cell=cell, **({"hidden_sizes": (4, 3)} | JOINED[name]))


def check_gradients(backend, spec, rng):
    x, cotangent = rng.normal(size=(2, spec.n_timesteps, 2)), rng.normal(size=(2, 2))
    errors = gradcheck(get_backend(backend), spec, random_params(rng, spec), x, cotangent)
    assert set(errors) == {block.name for block in spec.blocks} | {"x"}
    assert max(errors.values()) <= 1e-6, errors


@pytest.mark.needs_jit
@pytest.mark.parametrize("name", JOINED)
def test_gradients_of_lstms(rng, name):
    check_gradients("cpu", spec_of(name), rng)


@pytest.mark.needs_jit
@pytest.mark.parametrize("cell", ["gru", "rnn_tanh", "lstm_peephole"])
def test_gradients_of_other_cells(rng, cell):
    check_gradients("cpu", spec_of("all", cell), rng)


@pytest.mark.parametrize("name", ["residual_sum", "dilated_concat"])
def test_gradients_of_the_equations(rng, name):
    """Two that cover every line; the kernels are held against the equations below."""
    check_gradients("reference", replace(spec_of(name), n_timesteps=4, learned_state=True), rng)


@pytest.mark.needs_jit
@pytest.mark.parametrize("name", JOINED)
def test_kernels_and_equations_agree(rng, name):
    wide = {3: (19, 19, 19), 2: (17, 17) if "residual" in name else (17, 20)}  # more than a vector of lanes
    spec = spec_of(name)
    spec = replace(spec, hidden_sizes=wide[len(spec.hidden_sizes)])
    params, x, cotangent = random_params(rng, spec), rng.normal(size=(20, 7, 2)), rng.normal(size=(20, 2))
    found, expected = (get_backend(b).gradient(spec, params, x, cotangent) for b in ("cpu", "reference"))
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-13 * np.abs(b).max())
    starts = np.arange(20) * 14
    forecasts = [get_backend(b).predict(spec, params, x.ravel(), starts, 1) for b in ("cpu", "reference")]
    np.testing.assert_allclose(forecasts[0], forecasts[1], rtol=0, atol=1e-13)
    np.testing.assert_array_equal(forecasts[0], found[0])


@pytest.mark.parametrize("name", ["residual_sum", "all"])
def test_training_follows_the_gradient_of_the_loss(backend, rng, name):
    frame = {"window_norm": "standard", "season_length": 3, "linear_skip": True}
    spec = network(**({"hidden_sizes": (4, 3)} | JOINED[name] | frame))
    params, windows = random_params(rng, spec), series_windows(rng, spec)
    _, gradient = step_gradient(backend, spec, step_rule(), params, windows)
    numeric = numerical_gradient(lambda p: backend.evaluate(spec, step_rule(), p, windows, 1), params)
    assert relative_error(gradient, numeric) <= 1e-6


@pytest.mark.needs_jit
def test_threads_change_no_bit(rng):
    spec = replace(spec_of("all", n_timesteps=8), n_outputs=2)
    windows, params = series_windows(rng, spec, np.float32), random_params(rng, spec).astype(np.float32)
    rows = np.resize(np.arange(len(windows)), 100)
    _, expected = one_step(get_backend("cpu"), spec, step_rule(), params, windows, rows)
    from tsforecast.backends.base import TrainState

    state = TrainState(params.copy())
    get_backend("cpu").train_epoch(spec, step_rule(), state, windows, rows, 100, np.array([1.0]), 3)
    np.testing.assert_array_equal(state.params, expected.params)


def test_a_reverse_layer_is_a_layer_of_the_reversed_window(backend, rng):
    one = NetworkSpec(7, 2, (5,), 10)
    both = replace(one, bidirectional="concat")
    params, x = random_params(rng, both), rng.normal(size=(3, 7, 2))
    blocks = both.views(params)
    blocks["head.w"][:], blocks["head.b"][:] = np.eye(10), 0.0
    outputs = backend.gradient(both, params, x, np.zeros((3, 10)))[0]
    for prefix, window, half in (("layers.0.", x, outputs[:, :5]), ("layers.0.reverse.", x[:, ::-1], outputs[:, 5:])):
        own = np.zeros(one.n_params)
        views = one.views(own)
        for name in ("w_x", "w_h", "b"):
            views[f"layers.0.{name}"][:] = blocks[prefix + name]
        views["head.w"][:, :5] = np.eye(5)
        alone = backend.gradient(one, own, window, np.zeros((3, 10)))[0]
        np.testing.assert_allclose(alone[:, :5], half, rtol=0, atol=1e-15)


def test_a_dilated_layer_sees_every_dth_step(backend, rng):
    dilated = NetworkSpec(9, 2, (5,), 2, dilations=(4,))
    params, x = random_params(rng, dilated), rng.normal(size=(3, 9, 2))
    plain = NetworkSpec(3, 2, (5,), 2)
    expected = backend.gradient(plain, params, x[:, [0, 4, 8]], np.ones((3, 2)))
    outputs, dparams, dx = backend.gradient(dilated, params, x, np.ones((3, 2)))
    np.testing.assert_allclose(outputs, expected[0], rtol=0, atol=1e-15)
    np.testing.assert_allclose(dparams, expected[1], rtol=0, atol=1e-13)
    np.testing.assert_allclose(dx[:, [0, 4, 8]], expected[2], rtol=0, atol=1e-15)
    assert not np.delete(dx, [0, 4, 8], axis=1).any()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"bidirectional": "both"}, "bidirectional must be one of"),
        ({"dilations": (1,)}, "dilations must be 2 positive integers"),
        ({"dilations": (1, 0)}, "dilations must be 2 positive integers"),
        ({"dilations": (1, 8)}, "reach beyond windows of 7 steps"),
        ({"residual": True}, "equal width"),
    ],
)
def test_what_cannot_be_joined_is_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        NetworkSpec(7, 2, (6, 4), 2, **fields)
