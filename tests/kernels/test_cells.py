"""Every cell of the registry, on every backend that runs it: gradients, a second reading of its paper, training."""

import cell_oracles
import cell_training
import numpy as np
import pytest
from cell_cases import BACKEND_CELLS, layer_blocks
from kernel_cases import network, one_step, random_params, series_windows, step_rule

from tsforecast.backends.base import StepRule, TrainState, Windows, get_backend
from tsforecast.backends.cpu.shapes import SUPPORTED_CELLS
from tsforecast.backends.reference import layer
from tsforecast.backends.reference.cells import CELLS as EQUATIONS
from tsforecast.cells import CELLS
from tsforecast.nn.gradcheck import gradcheck, numerical_gradient, relative_error
from tsforecast.parameters import layer_shapes
from tsforecast.spec import NetworkSpec

N_ROWS, N_STEPS, N_INPUTS, N_UNITS = 3, 5, 4, 5


def test_every_cell_has_equations_and_a_second_reading():
    assert set(EQUATIONS) == set(CELLS) == set(cell_oracles.ORACLES)
    assert set(SUPPORTED_CELLS) <= set(CELLS)


@pytest.mark.parametrize(("backend", "cell"), BACKEND_CELLS)
@pytest.mark.parametrize("hidden_sizes", [(6,), (4, 3)])
def test_network_gradients(rng, backend, cell, hidden_sizes):
    spec = NetworkSpec(N_STEPS, 2, hidden_sizes, 2, cell=cell)
    errors = gradcheck(
        get_backend(backend), spec, random_params(rng, spec), rng.normal(size=(3, N_STEPS, 2)), rng.normal(size=(3, 2))
    )
    assert set(errors) == {block.name for block in spec.blocks} | {"x"}
    assert max(errors.values()) <= 1e-6, errors


@pytest.mark.parametrize("cell", CELLS)
def test_layer_gradients_by_the_initial_state_when_every_output_counts(rng, cell):
    """What the network does not show: derivatives by all states a window starts from, and of all steps' outputs."""
    p = {name: rng.normal(scale=0.5, size=shape) for name, shape in layer_shapes(cell, N_INPUTS, N_UNITS).items()}
    x, cotangent = rng.normal(size=(N_STEPS, N_ROWS, N_INPUTS)), rng.normal(size=(N_STEPS, N_ROWS, N_UNITS))
    states = tuple(rng.uniform(0.5, 1.5, size=(N_ROWS, N_UNITS)) for _ in CELLS[cell].states)

    def objective(states):
        return float((layer.forward(EQUATIONS[cell], x, p, states).h[1:] * cotangent).sum())

    tape = layer.forward(EQUATIONS[cell], x, p, states)
    dp = {name: np.zeros_like(block) for name, block in p.items()}
    _, dstates = layer.backward(EQUATIONS[cell], cotangent, tape, p, dp, len(states))
    for k, name in enumerate(CELLS[cell].states):
        numeric = numerical_gradient(lambda s, k=k: objective((*states[:k], s, *states[k + 1 :])), states[k])
        assert relative_error(dstates[k], numeric) <= 1e-6, name


def head_of_every_unit(cell, n_rows=2):
    """A network whose outputs are the last hidden state, its random weights, and windows."""
    rng = np.random.default_rng(5)
    spec = NetworkSpec(N_STEPS, N_INPUTS, (N_UNITS,), N_UNITS, cell=cell)
    params = random_params(rng, spec)
    spec.views(params)["head.w"][:], spec.views(params)["head.b"][:] = np.eye(N_UNITS), 0.0
    return spec, params, rng.normal(size=(n_rows, N_STEPS, N_INPUTS))


def second_reading(spec, params, x):
    """Last hidden states ``[N,H]`` by the oracle."""
    blocks = layer_blocks(spec, params)
    return np.array([cell_oracles.run(spec.cell, window, blocks, N_UNITS)[-1] for window in x])


@pytest.mark.parametrize(("backend", "cell"), BACKEND_CELLS)
def test_outputs_and_gradients_equal_a_second_reading(rng, backend, cell):
    spec, params, x = head_of_every_unit(cell)
    cotangent = rng.normal(size=(len(x), N_UNITS))
    outputs, dparams, dx = get_backend(backend).gradient(spec, params, x, cotangent)
    np.testing.assert_allclose(outputs, second_reading(spec, params, x), rtol=0, atol=1e-13)
    n_cell = spec.n_params - N_UNITS * (N_UNITS + 1)

    def by_params(params):
        return np.tensordot(second_reading(spec, params, x), cotangent, ([0, 1], [0, 1]))

    def by_inputs(flat):
        windows = flat.reshape(*x.shape, -1)
        return np.tensordot(second_reading(spec, params[:, None], windows), cotangent, ([0, 1], [0, 1]))

    expected = cell_oracles.derivatives(by_params, params)[:n_cell]
    np.testing.assert_allclose(dparams[:n_cell], expected, rtol=0, atol=1e-12 * np.abs(expected).max())
    expected = cell_oracles.derivatives(by_inputs, x.ravel())
    np.testing.assert_allclose(dx.ravel(), expected, rtol=0, atol=1e-12 * np.abs(expected).max())


@pytest.mark.parametrize(("backend", "cell"), BACKEND_CELLS)
def test_ten_steps_of_adam_equal_a_second_reading(backend, cell):
    spec, params, x, y, weights = cell_training.problem(cell)
    rows, state = np.arange(len(x)), TrainState(params.copy())
    windows = Windows(x.ravel(), rows * x[0].size, y.ravel(), rows * y.shape[1], weights)
    rule, rate = StepRule(max_grad_norm=None, epsilon=cell_training.EPSILON), np.array([cell_training.RATE])
    expected, trained = cell_training.ten_steps(cell)
    losses = [get_backend(backend).train_epoch(spec, rule, state, windows, rows, len(x), rate, 1) for _ in expected]
    assert expected[-1] < 0.9 * expected[0]
    np.testing.assert_allclose(losses, expected, rtol=1e-11)
    np.testing.assert_allclose(state.params, trained, rtol=0, atol=1e-11)


@pytest.mark.parametrize("cell", SUPPORTED_CELLS)
def test_weight_gradients_of_several_passes_equal_the_reference(rng, cell):
    """4 and 5 steps of 31 rows a pass (``cpu.layer.rows_ready``), the first of them in two parts."""
    spec = NetworkSpec(9, 2, (3,), 1, cell=cell)
    params, x, cotangent = random_params(rng, spec), rng.normal(size=(31, 9, 2)), rng.normal(size=(31, 1))
    found, expected = (get_backend(name).gradient(spec, params, x, cotangent)[1] for name in ("cpu", "reference"))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12 * np.abs(expected).max())


# Each variant is the LSTM (or an extra is nothing) where gates are driven against their stops: a bias of 40 makes a
# sigmoid 1 to the last bit, and sigmoid(-a) is 1 - sigmoid(a).
EMBEDDINGS = {
    "lstm_no_input_gate": {"i": 40.0},
    "lstm_no_forget_gate": {"f": 40.0},
    "lstm_no_output_gate": {"o": 40.0},
    "lstm_coupled": {"f": "minus i"},
    "lstm_peephole": {},
    "lstm_full_gate_recurrence": {},
}


@pytest.mark.parametrize("cell", EMBEDDINGS)
def test_variants_are_lstms_with_fixed_gates(cell):
    spec, params, x = head_of_every_unit(cell)
    own = layer_blocks(spec, params)
    for extra in CELLS[cell].extras:
        own[extra][:] = 0.0
    lstm, lstm_params, _ = head_of_every_unit("lstm")
    blocks, fixed = layer_blocks(lstm, lstm_params), EMBEDDINGS[cell]
    for k, gate in enumerate("ifgo"):
        for name in ("w_x", "w_h", "b"):
            column = slice(k * N_UNITS, (k + 1) * N_UNITS)
            if gate not in fixed:
                start = CELLS[cell].columns.index(gate) * N_UNITS
                blocks[name][..., column] = own[name][..., start : start + N_UNITS]
            elif fixed[gate] == "minus i":
                blocks[name][..., column] = -blocks[name][..., :N_UNITS]
            else:
                blocks[name][..., column] = fixed[gate] if name == "b" else 0.0
    reference = get_backend("reference")
    starts = np.arange(len(x)) * x[0].size
    np.testing.assert_allclose(
        reference.predict(spec, params, x.ravel(), starts, 1),
        reference.predict(lstm, lstm_params, x.ravel(), starts, 1),
        rtol=0,
        atol=1e-14,
    )


@pytest.mark.parametrize(("backend", "cell"), BACKEND_CELLS)
def test_a_training_step_descends_and_spares_biases_from_the_penalty(rng, backend, cell):
    spec = network(hidden_sizes=(4, 3), window_norm="standard", season_length=3, linear_skip=True, cell=cell)
    params, windows = random_params(rng, spec), series_windows(rng, spec)
    backend = get_backend(backend)
    loss, state = one_step(backend, spec, step_rule(max_grad_norm=1.0), params, windows, learning_rate=1e-3)
    assert np.linalg.norm(state.params - params) == pytest.approx(1e-3, rel=1e-6)
    assert backend.evaluate(spec, step_rule(), state.params, windows, 1) < loss
    _, decayed = one_step(backend, spec, step_rule(max_grad_norm=None, alpha=0.3), params, windows)
    _, plain = one_step(backend, spec, step_rule(max_grad_norm=None), params, windows)
    pulled = {name: np.any(a != 0) for name, a in spec.views(np.abs(decayed.params - plain.params) > 1e-9).items()}
    assert pulled == {name: name.rpartition(".")[2].startswith("w") for name in pulled}


@pytest.mark.parametrize("cell", [cell for cell in CELLS if cell not in SUPPORTED_CELLS])
def test_the_cpu_refuses_cells_without_kernels(rng, cell):
    spec, cpu = network(cell=cell), get_backend("cpu")
    params, windows = random_params(rng, spec), series_windows(rng, spec)
    calls = [
        lambda: cpu.predict(spec, params, windows.values, windows.x_starts, 1),
        lambda: cpu.evaluate(spec, step_rule(), params, windows, 1),
        lambda: cpu.gradient(spec, params, np.zeros((1, 6, 2)), np.zeros((1, 4))),
        lambda: one_step(cpu, spec, step_rule(), params, windows),
    ]
    for call in calls:
        with pytest.raises(ValueError, match=f"no kernels for the cell '{cell}', only for"):
            call()
