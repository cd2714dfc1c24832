"""Every backend against numbers that PyTorch computed (scripts/make_golden.py): outputs, gradients, training."""

from pathlib import Path

import numpy as np
import pytest

from tsforecast.backends.base import StepRule, TrainState, Windows, get_backend
from tsforecast.nn.trainer import TrainConfig, train
from tsforecast.spec import NetworkSpec

GOLDEN = dict(np.load(Path(__file__).parents[1] / "golden" / "torch_lstm.npz"))
SPECS = {"one": NetworkSpec(5, 3, (6,), 2), "two": NetworkSpec(5, 3, (6, 5), 2)}
# Our names for the runs of SOLVERS in the script: rule, learning rate. alpha = decay * rows for L2 (see StepRule).
SOLVERS = {
    "adam": ({"solver": "adam"}, 1e-2),
    "adam_l2": ({"solver": "adam", "alpha": 0.05 * 4}, 1e-2),
    "adamw": ({"solver": "adamw", "alpha": 0.05}, 1e-2),
    "sgd_nesterov": ({"solver": "sgd", "momentum": 0.9, "nesterov": True}, 5e-2),
    "sgd_momentum": ({"solver": "sgd", "momentum": 0.8, "nesterov": False}, 5e-2),
    "rmsprop": ({"solver": "rmsprop", "beta_2": 0.95}, 1e-2),
}
TOLERANCE = {np.float64: 1e-9, np.float32: 1e-5}


# The reference backend computes in float64 only.
PRECISIONS = [("reference", np.float64), *(pytest.param(("cpu", t), marks=pytest.mark.needs_jit) for t in TOLERANCE)]


@pytest.fixture(params=PRECISIONS, ids=["reference-float64", "cpu-float64", "cpu-float32"])
def precision(request):
    return request.param


@pytest.fixture
def backend(precision):
    return get_backend(precision[0])


@pytest.fixture
def dtype(precision):
    return precision[1]


def all_windows(x, y, weights, dtype):  # [N,T,F], [N,K], [N]
    return Windows(
        values=np.ascontiguousarray(x.ravel(), dtype=dtype),
        x_starts=np.arange(len(x), dtype=np.int64) * x[0].size,
        targets=np.ascontiguousarray(y.ravel(), dtype=dtype),
        y_starts=np.arange(len(y), dtype=np.int64) * y[0].size,
        weights=np.asarray(weights, dtype=dtype),
    )


def assert_close(found, expected, dtype):
    """Agree to the tolerance, relative to the largest entry."""
    np.testing.assert_allclose(found, expected, rtol=0, atol=TOLERANCE[dtype] * np.abs(expected).max())


@pytest.mark.parametrize("net", SPECS)
def test_outputs_and_gradients(backend, dtype, net):
    params, x, cotangent = (GOLDEN[f"{net}/{name}"].astype(dtype) for name in ("params", "x", "cotangent"))
    outputs, dparams, dx = backend.gradient(SPECS[net], params, x, cotangent)
    assert outputs.dtype == dparams.dtype == dx.dtype == dtype
    assert_close(outputs, GOLDEN[f"{net}/outputs"], dtype)
    assert_close(dx, GOLDEN[f"{net}/dx"], dtype)
    expected = SPECS[net].views(GOLDEN[f"{net}/dparams"])
    for name, view in SPECS[net].views(dparams).items():
        assert_close(view, expected[name], dtype)


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("net", SPECS)
def test_ten_training_steps(backend, dtype, net, solver):
    settings, learning_rate = SOLVERS[solver]
    rule = StepRule(max_grad_norm=None, **settings)
    windows = all_windows(GOLDEN[f"{net}/x"], GOLDEN[f"{net}/y"], np.ones(4), dtype)
    state = TrainState(GOLDEN[f"{net}/params"].astype(dtype))
    rows, rates = np.arange(4), np.array([learning_rate])
    losses = [backend.train_epoch(SPECS[net], rule, state, windows, rows, 4, rates, 1) for _ in range(10)]
    np.testing.assert_allclose(losses, GOLDEN[f"{net}/{solver}/losses"], rtol=TOLERANCE[dtype])
    assert_close(state.params, GOLDEN[f"{net}/{solver}/params"], dtype)


@pytest.mark.parametrize("loss", ["squared_error", "absolute_error", "huber", "quantile"])
def test_weighted_losses_and_their_gradients(backend, dtype, loss):
    quantiles = tuple(GOLDEN["quantiles"]) if loss == "quantile" else (0.5,)
    spec = NetworkSpec(5, 3, (6, 5), 2, n_quantiles=len(quantiles))
    rule = StepRule(
        loss, quantiles, float(GOLDEN["delta"]), solver="sgd", momentum=0.0, nesterov=False, max_grad_norm=None
    )
    windows = all_windows(GOLDEN["two/x"], GOLDEN["two/y"], GOLDEN["loss/weights"], dtype)
    params = GOLDEN[f"loss/{loss}/params"].astype(dtype)
    state = TrainState(params.copy())
    value = backend.train_epoch(spec, rule, state, windows, np.arange(4), 4, np.ones(1), 1)
    assert value == pytest.approx(float(GOLDEN[f"loss/{loss}/loss"]), rel=TOLERANCE[dtype])
    assert_close(params - state.params, GOLDEN[f"loss/{loss}/gradient"], dtype)


def test_the_loss_falls_as_in_torch(backend, dtype):
    """100 random windows of 5 steps of 1 feature, two layers of 50 units, Adam, batches of 32, 100 epochs."""
    spec = NetworkSpec(5, 1, (50, 50), 1)
    windows = all_windows(GOLDEN["document/x"], GOLDEN["document/y"], np.ones(100), dtype)
    state = TrainState(GOLDEN["document/params"].astype(dtype))
    config = TrainConfig(StepRule(max_grad_norm=None), batch_size=32, max_iter=100, n_iter_no_change=100)
    history = train(backend, spec, config, state, windows, seed=0)
    expected = GOLDEN[f"document/loss_{np.dtype(dtype).name}"]
    np.testing.assert_allclose(history.loss_curve, expected, rtol=TOLERANCE[dtype])
    assert history.loss_curve[-1] < 0.3 * history.loss_curve[0]
