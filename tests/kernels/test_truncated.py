"""Truncated back-propagation through time: gradients end within the window, the numbers of the forward pass stay."""

from dataclasses import replace

import numpy as np
import pytest
from kernel_cases import N_ROWS, network, random_params, series_windows, step_gradient, step_rule

from tsforecast.backends.base import TrainState, get_backend, gradient_steps
from tsforecast.backends.cpu.jit import JIT_DISABLED
from tsforecast.backends.reference import layer
from tsforecast.backends.reference.cells import CELLS as EQUATIONS
from tsforecast.cells import CELLS
from tsforecast.nn.gradcheck import numerical_gradient
from tsforecast.spec import NetworkSpec

REFERENCE, CPU = get_backend("reference"), get_backend("cpu")
T = 6


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn_tanh"])
@pytest.mark.parametrize("n_steps", [1, 4])
def test_the_steps_before_are_taken_as_they_are(cell, n_steps, rng):
    """Central differences by the weights of the last steps alone, which start from the states of all before them."""
    spec = network(cell=cell)
    params, windows, rule = random_params(rng, spec), series_windows(rng, spec), step_rule(bptt_steps=n_steps)
    x = np.stack([windows.values[s : s + 2 * T].reshape(T, 2) for s in windows.x_starts], axis=1)
    y = np.stack([windows.targets[s : s + 8 : 2] for s in windows.y_starts])
    first, n_states = T - n_steps, len(CELLS[cell].states)

    def run(flat, x, states):
        """Outputs of the whole network from given states of both layers, and their last states."""
        p, last = spec.views(flat), []
        for i, state in enumerate(states):
            own = {
                name.removeprefix(f"layers.{i}."): view for name, view in p.items() if name.startswith(f"layers.{i}.")
            }
            tape = layer.forward(EQUATIONS[cell], x, own, state)
            x = tape.h[1:]
            last.append(tape.last)
        return x[-1] @ p["head.w"] + p["head.b"], last

    zeros = [tuple(np.zeros((N_ROWS, units)) for _ in range(n_states)) for units in spec.hidden_sizes]
    given = run(params, x[:first], zeros)[1]

    def loss(flat):
        errors = ((run(flat, x[first:], given)[0] - y) ** 2).mean(axis=1)
        return float(errors @ windows.weights / windows.weights.sum())

    _, found = step_gradient(REFERENCE, spec, rule, params, windows)
    np.testing.assert_allclose(found, numerical_gradient(loss, params, 1e-5), rtol=0, atol=1e-8 * np.abs(found).max())


@pytest.mark.parametrize("cell", CELLS)
def test_kernels_truncate_as_the_reference_does(cell, rng):
    """Three turns of two steps; one of one, one of five; a residual connection, a decoder (which takes compiling)."""
    frames = [(2, {"linear_skip": True}), (5, {"hidden_sizes": (3, 3), "residual": True})]
    for n_steps, frame in [*frames, (4, {"decoder": "recurrent"})] if JIT_DISABLED else frames:
        spec = network(cell=cell, **frame)
        params, windows = random_params(rng, spec), series_windows(rng, spec)
        rule = step_rule(bptt_steps=n_steps)
        loss, expected = step_gradient(REFERENCE, spec, rule, params, windows)
        found_loss, found = step_gradient(CPU, spec, rule, params, windows)
        assert found_loss == pytest.approx(loss, rel=1e-12)
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-11 * np.abs(expected).max())
        _, whole = step_gradient(REFERENCE, spec, step_rule(), params, windows)
        assert np.abs(whole - expected).max() > 1e-9 * np.abs(whole).max(), "nothing was cut off"


def trained(spec, params, windows, rule, n_jobs=1, dtype=np.float32):
    state, rows = TrainState(params.astype(dtype)), np.arange(len(windows), dtype=np.int64)
    CPU.train_epoch(spec, rule, state, windows, rows, len(rows), np.array([0.1]), n_jobs)
    return state.params


@pytest.mark.needs_jit
def test_a_whole_window_is_no_truncation_and_threads_change_no_bit(rng, monkeypatch):
    monkeypatch.setattr("tsforecast.backends.cpu.threads.A_THREAD", 1)
    spec = network(linear_skip=True)
    params, windows = random_params(rng, spec), series_windows(rng, spec, np.float32)
    names = ("x_starts", "y_starts", "weights")
    windows = replace(windows, **{name: np.tile(getattr(windows, name), 6) for name in names})  # four shards
    whole = trained(spec, params, windows, step_rule())
    for n_steps in (T, 100):
        np.testing.assert_array_equal(trained(spec, params, windows, step_rule(bptt_steps=n_steps)), whole)
    rule = step_rule(bptt_steps=4)
    alone = trained(spec, params, windows, rule)
    assert (alone != whole).any()
    for n_jobs in (2, 3):
        np.testing.assert_array_equal(trained(spec, params, windows, rule, n_jobs), alone)


@pytest.mark.parametrize(
    "other", [{"bidirectional": "sum"}, {"dilations": (1, 2)}, {"attention": "dot"}, {"learned_state": True}], ids=str
)
def test_what_looks_back_beyond_the_last_steps_is_refused(other):
    spec = NetworkSpec(T, 2, (3, 2), 4, **other)
    with pytest.raises(ValueError, match=r"bptt_steps=5 ends the gradient within the window"):
        gradient_steps(spec, step_rule(bptt_steps=5))
    assert gradient_steps(spec, step_rule(bptt_steps=T)) == T
