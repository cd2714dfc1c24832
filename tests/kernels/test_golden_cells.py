"""The cells against numbers of other libraries (scripts/make_golden_cells.py): PyTorch, Keras, ONNX Runtime."""

from pathlib import Path

import numpy as np
import pytest

from tsforecast.backends.base import StepRule, TrainState, Windows, get_backend
from tsforecast.backends.reference import layer
from tsforecast.backends.reference.cells import CELLS as EQUATIONS
from tsforecast.cells import CELLS
from tsforecast.spec import NetworkSpec

FOLDER = Path(__file__).parents[1] / "golden"
LIBRARIES = ("torch", "layer_norm", "keras", "onnx")
TORCH, LAYER_NORM, KERAS, ONNX = (dict(np.load(FOLDER / f"{library}_cells.npz")) for library in LIBRARIES)
CPU_TYPES = [pytest.param("cpu", t, marks=pytest.mark.needs_jit, id=f"cpu-{t}") for t in ("float64", "float32")]
PRECISIONS = [pytest.param("reference", "float64", id="reference"), *CPU_TYPES]
TOLERANCE = {"float64": 1e-9, "float32": 2e-5}
UNITS = 6


def assert_close(found, expected, tolerance):
    """Agree to the tolerance, relative to the largest entry."""
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * np.abs(expected).max())


@pytest.mark.parametrize(("backend", "dtype"), PRECISIONS)
@pytest.mark.parametrize("network", sorted({name.partition("/")[0] for name in TORCH}))
def test_networks_of_pytorch(backend, dtype, network):
    """Two layers, in one direction or two, and a head: outputs, gradients, ten steps of Adam."""
    golden = {name.partition("/")[2]: a.astype(dtype) for name, a in TORCH.items() if name.startswith(f"{network}/")}
    cell, _, both = network.rpartition("_")
    spec, backend = NetworkSpec(5, 3, (UNITS, 5), 2, cell=cell, bidirectional=both), get_backend(backend)
    outputs, dparams, dx = backend.gradient(spec, golden["params"], golden["x"], golden["cotangent"])
    assert_close(outputs, golden["outputs"], TOLERANCE[dtype])
    assert_close(dx, golden["dx"], TOLERANCE[dtype])
    expected = spec.views(golden["dparams"])
    for name, view in spec.views(dparams).items():
        assert_close(view, expected[name], TOLERANCE[dtype])

    x, y, rows = golden["x"], golden["y"], np.arange(4)
    windows = Windows(x.ravel(), rows * x[0].size, y.ravel(), rows * 2, np.ones(4, dtype))
    state, rule, rate = TrainState(golden["params"].copy()), StepRule(max_grad_norm=None), np.array([1e-2])
    losses = [backend.train_epoch(spec, rule, state, windows, rows, 4, rate, 1) for _ in range(10)]
    np.testing.assert_allclose(losses, golden["losses"], rtol=TOLERANCE[dtype])
    assert_close(state.params, golden["trained"], TOLERANCE[dtype])


@pytest.mark.parametrize(("backend", "dtype"), PRECISIONS)
@pytest.mark.parametrize("cell", ["lstm_layer_norm", "gru_layer_norm"])
def test_layer_normalisation_of_pytorch(backend, dtype, cell):
    """Two layers and a head, written with PyTorch's own layer_norm: outputs and gradients."""
    golden = {name.partition("/")[2]: a.astype(dtype) for name, a in LAYER_NORM.items() if name.startswith(f"{cell}/")}
    spec, backend = NetworkSpec(5, 3, (UNITS, 5), 2, cell=cell), get_backend(backend)
    outputs, dparams, dx = backend.gradient(spec, golden["params"], golden["x"], golden["cotangent"])
    for found, expected in ((outputs, "outputs"), (dparams, "dparams"), (dx, "dx")):
        assert_close(found, golden[expected], TOLERANCE[dtype])


def reordered(a, theirs, ours):
    """Blocks of the last axis of ``a``, in the order of the letters ``theirs``, in the order ``ours``."""
    blocks = dict(zip(theirs, np.split(a, len(theirs), axis=-1), strict=True))
    return np.concatenate([blocks[letter] for letter in ours], axis=-1)


def run_layer(cell, x, p):  # x [T,B,D] -> the tape of one layer from a zero state
    zeros = tuple(np.zeros((x.shape[1], UNITS)) for _ in CELLS[cell].states)
    return layer.forward(EQUATIONS[cell], x, p, zeros)


def from_keras(cell, kernel, recurrent_kernel, bias):
    """Weights (or their gradients) of Keras's layer as blocks of ours; the gates of its GRU are z, r, h."""
    theirs, ours = {"lstm": ("ifgo", "ifgo"), "gru": ("zrn", "rzn")}[cell]
    blocks = {"w_x": kernel, "w_h": recurrent_kernel, "b": bias}
    return {name: reordered(block, theirs, ours) for name, block in blocks.items()}


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_layers_of_keras(cell):
    """One layer: every hidden state, and the gradients of a random cotangent of them all."""
    golden = {name.partition("/")[2]: a for name, a in KERAS.items() if name.startswith(f"{cell}/")}
    names = ("kernel", "recurrent_kernel", "bias")
    p = from_keras(cell, *(golden[name] for name in names))
    expected = from_keras(cell, *(golden[f"d_{name}"] for name in names))
    if cell == "gru":  # the recurrent bias of the gates is added to the first one, that of the candidate is reset
        recurrent = p["b"][1]
        p["b_h"] = recurrent[2 * UNITS :]
        p["b"] = p["b"][0] + np.append(recurrent[: 2 * UNITS], np.zeros(UNITS))
        expected["b_h"], expected["b"] = expected["b"][1, 2 * UNITS :], expected["b"][0]
    tape = run_layer(cell, golden["x"].transpose(1, 0, 2), p)
    assert_close(tape.h[1:].transpose(1, 0, 2), golden["hidden"], 1e-12)
    dp = {name: np.zeros_like(block) for name, block in p.items()}
    cotangent = golden["cotangent"].transpose(1, 0, 2)
    dx, _ = layer.backward(EQUATIONS[cell], cotangent, tape, p, dp, len(CELLS[cell].states))
    assert_close(dx.transpose(1, 0, 2), golden["dx"], 1e-12)
    for name, block in dp.items():
        assert_close(block, expected[name], 1e-12)


ONNX_ORDERS = {"rnn_tanh": ("a", "a"), "rnn_relu": ("a", "a"), "gru": ("zrn", "rzn")}


@pytest.mark.parametrize("cell", ["rnn_tanh", "rnn_relu", "lstm", "lstm_peephole", "lstm_coupled", "gru"])
def test_operators_of_onnx(cell):
    """Every hidden state as ONNX Runtime has it, in float32; peepholes, and the GRU with linear_before_reset=1."""
    golden = {name.partition("/")[2]: a.astype(np.float64) for name, a in ONNX.items() if name.startswith(f"{cell}/")}
    theirs, ours = ONNX_ORDERS.get(cell, ("iofg", CELLS[cell].columns))
    first, second = np.split(golden["B"][0], 2)
    p = {"w_x": golden["W"][0].T, "w_h": golden["R"][0].T, "b": first + second}
    if cell == "gru":
        p["b"] = first + np.append(second[: 2 * UNITS], np.zeros(UNITS))
        p["b_h"] = second[2 * UNITS :]
    p |= {name: reordered(p[name], theirs, ours) for name in ("w_x", "w_h", "b")}
    if cell == "lstm_peephole":
        p["w_c"] = reordered(golden["P"][0], "iof", "ifo")
    assert_close(run_layer(cell, golden["X"], p).h[1:], golden["Y"][:, 0], 1e-6)
