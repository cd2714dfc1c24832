"""The CUDA backend on a GPU; skipped where there is none."""

import itertools

import numpy as np
import pytest
from cuda_cases import REFERENCE, SOLVERS, Case, close, close_to_reference, epochs
from kernel_cases import FRAMES, LOSSES, random_params

from tsforecast import BackendUnavailableError, Forecaster, LSTMRegressor, datasets, load_model
from tsforecast.backends.base import StepRule, TrainState, Windows, get_backend
from tsforecast.backends.cuda import availability, cells
from tsforecast.exceptions import DivergedError
from tsforecast.spec import NetworkSpec

if not availability.is_available():
    pytest.skip("no GPU that the CUDA backend can use", allow_module_level=True)

SIZES = (1, 16, 17, 32, 33, 48, 50, 64, 65, 96, 100, 128, 130, 256, 512)


@pytest.fixture(scope="module")
def cuda():
    return get_backend("cuda")


@pytest.mark.parametrize(("frame", "loss"), [*itertools.product(FRAMES, LOSSES)])
def test_forecast_loss_and_gradient_equal_the_reference(cuda, frame, loss, rng):
    case = Case(rng, loss, **FRAMES[frame])
    close_to_reference(cuda, case, 1e-5)


@pytest.mark.parametrize("units", SIZES)
@pytest.mark.parametrize("n_layers", [1, 2])
def test_gradients_of_every_size_equal_those_of_the_cpu(cuda, units, n_layers, rng):
    spec = NetworkSpec(24, 3, (units,) * n_layers, 2, linear_skip=True)
    params = (random_params(rng, spec) / np.sqrt(units)).astype(np.float32)
    x, cotangent = rng.normal(size=(70, 24, 3)), rng.normal(size=(70, 2))
    ours = cuda.gradient(spec, params, x.astype(np.float32), cotangent.astype(np.float32))
    theirs = get_backend("cpu").gradient(
        spec, params.astype(float), x.astype(np.float32).astype(float), cotangent.astype(np.float32).astype(float)
    )
    for a, b in zip(ours, theirs, strict=True):
        close(a, b, 1e-5)


@pytest.mark.parametrize("cell", cells.CELLS)
@pytest.mark.parametrize("units", [16, 96, 200])
def test_gradients_of_every_cell_equal_the_reference(cuda, cell, units, rng):
    spec = NetworkSpec(6, 2, (units, 5), 3, cell=cell)
    params = (random_params(rng, spec) / np.sqrt(units)).astype(np.float32)
    x, cotangent = rng.normal(size=(9, 6, 2)).astype(np.float32), rng.normal(size=(9, 3)).astype(np.float32)
    ours = cuda.gradient(spec, params, x, cotangent)
    theirs = REFERENCE.gradient(spec, params.astype(float), x.astype(float), cotangent.astype(float))
    for a, b in zip(ours, theirs, strict=True):
        close(a, b, 1e-5)


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("bounds", [{}, {"max_grad_norm": 0.5}, {"max_grad_norm": 0.5, "max_grad_value": 0.2}], ids=str)
def test_epochs_equal_the_reference(cuda, solver, bounds, rng):
    case = Case(rng, settings=SOLVERS[solver] | bounds)
    losses, ours = epochs(cuda, case)
    expected_losses, theirs = epochs(REFERENCE, case)
    np.testing.assert_allclose(losses, expected_losses, rtol=1e-5)
    close(ours.params, theirs.params, 1e-4)


NETWORKS = [{"bidirectional": "concat"}, {"bidirectional": "sum", "residual": True}, {"residual": True}]


@pytest.mark.parametrize("units", [16, 50, 128, 200])
@pytest.mark.parametrize("network", NETWORKS, ids=str)
def test_networks_that_are_no_chain_equal_the_cpu(cuda, network, units, rng):
    spec = NetworkSpec(24, 3, (units,) * 3, 2, **network)
    params = (random_params(rng, spec) / np.sqrt(units)).astype(np.float32)
    x, cotangent = rng.normal(size=(70, 24, 3)).astype(np.float32), rng.normal(size=(70, 2)).astype(np.float32)
    runs = [cuda.gradient(spec, params, x, cotangent) for _ in range(2)]
    theirs = get_backend("cpu").gradient(spec, params.astype(float), x.astype(float), cotangent.astype(float))
    for ours, again, exact in zip(*runs, theirs, strict=True):
        close(ours, exact, 1e-5)
        np.testing.assert_array_equal(ours, again)


def training(backend, units, n_steps, batch=64, n_timesteps=24, **network):
    """Loss of every step, and the weights after them, on windows of a noisy wave; all in float32."""
    rng = np.random.default_rng(5)
    spec, rule = NetworkSpec(n_timesteps, 1, (units,), 4, **network), StepRule()
    series = (np.sin(np.arange(900) / 4) + 0.1 * rng.normal(size=900)).astype(np.float32)
    starts = np.arange(800, dtype=np.int64)
    windows = Windows(series, starts, series, starts + n_timesteps, np.ones(800, np.float32))
    state = TrainState((rng.normal(size=spec.n_params) / np.sqrt(units)).astype(np.float32))
    batches = [rng.permutation(800)[:batch] for _ in range(n_steps)]
    rate = np.array([1e-3])
    losses = [backend.train_epoch(spec, rule, state, windows, rows, batch, rate, 1) for rows in batches]
    return np.array(losses), state.params


@pytest.mark.parametrize("network", [{}, {"dropout": 0.2}, {"dropout": 0.2, "bidirectional": "concat"}], ids=str)
@pytest.mark.parametrize("units", [16, 64, 128, 200])
def test_one_step_and_fifty_agree_with_the_cpu(cuda, units, network):
    cpu = get_backend("cpu")
    (one, params), (expected_one, expected) = training(cuda, units, 1, **network), training(cpu, units, 1, **network)
    np.testing.assert_allclose(one, expected_one, rtol=1e-5)
    assert np.linalg.norm(params - expected) <= 1e-5 * np.linalg.norm(expected)
    curve, expected_curve = training(cuda, units, 50, **network)[0], training(cpu, units, 50, **network)[0]
    np.testing.assert_allclose(curve, expected_curve, rtol=1e-3)


@pytest.mark.parametrize("network", [{}, {"dropout": 0.2, "bidirectional": "concat"}], ids=str)
@pytest.mark.parametrize("units", [16, 64, 128, 200])
def test_two_runs_have_the_same_bits(units, network):
    runs = [training(get_backend("cuda"), units, 20, batch=300, **network) for _ in range(2)]
    np.testing.assert_array_equal(runs[0][0], runs[1][0])
    np.testing.assert_array_equal(runs[0][1], runs[1][1])


def test_fits_of_one_seed_have_the_same_bits_and_follow_the_cpu(rng):
    X = rng.normal(size=(500, 12))
    y = np.tanh(X[:, -3:].sum(axis=1))
    settings = {"hidden_layer_sizes": (24, 16), "max_iter": 15, "random_state": 3, "early_stopping": True}
    first, second = (LSTMRegressor(device="cuda", **settings).fit(X, y) for _ in range(2))
    np.testing.assert_array_equal(first.predict(X), second.predict(X))
    assert first.loss_curve_ == second.loss_curve_
    cpu = LSTMRegressor(**settings).fit(X, y)
    np.testing.assert_allclose(first.loss_curve_, cpu.loss_curve_, rtol=1e-3)
    np.testing.assert_allclose(first.set_params(device="cpu").predict(X), second.predict(X), atol=1e-4)


def test_a_forecaster_and_its_file(tmp_path):
    frame = datasets.load_air_passengers()
    settings = {"horizon": 12, "freq": "MS", "random_state": 0}
    model = Forecaster(device="cuda", **settings).fit(frame)
    forecast = model.predict(level=[80])
    expected = Forecaster(**settings).fit(frame).predict(level=[80])
    np.testing.assert_allclose(forecast["LSTMRegressor"], expected["LSTMRegressor"], rtol=0.02)
    model.save(tmp_path / "model.tsf")
    loaded = load_model(tmp_path / "model.tsf")
    assert loaded.device == "auto"
    assert loaded.predict(level=[80]).equals(forecast)


def test_divergence_is_an_error_and_the_next_fit_works(cuda, rng):
    case = Case(rng)
    case.windows.targets[case.windows.y_starts[4]] = np.float32(3e38)
    with pytest.raises(DivergedError, match="loss"):
        epochs(cuda, case)
    assert np.isfinite(epochs(cuda, Case(rng))[0]).all()


@pytest.fixture
def full_memory():
    """A device with 100 MB left."""
    from numba import cuda

    free, _ = cuda.current_context().get_memory_info()
    kept = cuda.device_array(free - 100_000_000, np.uint8)
    yield
    del kept
    cuda.current_context().memory_manager.deallocations.clear()  # not those of the context, which are modules


def test_too_little_memory_is_an_error_and_leaves_the_model(rng, request):
    X, y = rng.normal(size=(200, 12)), rng.normal(size=200)
    model = LSTMRegressor(8, max_iter=1, device="cuda", random_state=0).fit(X, y)
    expected = model.predict(X)
    request.getfixturevalue("full_memory")
    n_timesteps = 20_000  # what one tile needs of 128 units takes 300 MB
    series, starts = rng.normal(size=n_timesteps + 50), np.arange(40)
    windows = Windows(series, starts, series, starts + n_timesteps, np.ones(40))
    with pytest.raises(BackendUnavailableError, match="MiB left"):
        LSTMRegressor(128, device="cuda", max_iter=1, random_state=0)._fit_windows(
            windows, n_timesteps=n_timesteps, n_features=1, n_outputs=1
        )
    np.testing.assert_array_equal(model.predict(X), expected)
