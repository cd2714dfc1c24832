"""Networks that are no chain of layers, in the simulator: two directions, and sums of layers."""

from dataclasses import replace

import numpy as np
import pytest
import simulator
from cuda_cases import REFERENCE, Case, close, close_to_reference, epochs

from tsforecast import BackendUnavailableError, LSTMRegressor
from tsforecast.backends.base import get_backend
from tsforecast.backends.cuda import plan
from tsforecast.backends.cuda.backend import CudaBackend

CUDA = get_backend("cuda")
NETWORKS = {
    "concat": {"bidirectional": "concat"},
    "sum": {"bidirectional": "sum", "cell": "gru"},
    "concat_skip": {"bidirectional": "concat", "linear_skip": True, "hidden_sizes": (2,), "window_norm": "standard"},
    "wider_than_a_block": {"bidirectional": "concat", "hidden_sizes": (9, 2)},
    "residual": {"residual": True, "hidden_sizes": (3, 3, 3)},
    "residual_concat": {"residual": True, "bidirectional": "concat", "hidden_sizes": (3, 3, 3)},
    "residual_sum": {"residual": True, "bidirectional": "sum", "hidden_sizes": (3, 3), "season_length": 3},
}
REFUSED = {
    "dilated layers": {"dilations": (1, 2)},
    "learned first states": {"learned_state": True},
    "states carried from window to window": {"stateful": True},
    "zoneout": {"zoneout": 0.1},
    "recurrent dropout": {"recurrent_dropout": 0.1},
    "attention and known-future inputs": {"attention": "dot", "n_future": 1},
    "recurrent decoders": {"decoder": "recurrent"},
}


@pytest.fixture
def wide_backend(monkeypatch):
    """One multiprocessor, two blocks; every network counts as wide, whatever its size."""
    monkeypatch.setattr(plan, "WIDEST_OF_A_BLOCK", 0)
    plan.make_plan.cache_clear()
    yield CudaBackend(n_processors=1)
    plan.make_plan.cache_clear()


def gradients_of(backend, case, rng, n=5):
    """Outputs and gradients of the backend and of the reference, of a network whose windows enter as they are."""
    spec = case.spec
    x = rng.normal(size=(n, spec.n_timesteps, spec.n_features)).astype(np.float32)
    cotangent = rng.normal(size=(n, spec.head_size)).astype(np.float32)
    ours = backend.gradient(spec, case.params, x, cotangent)
    return ours, REFERENCE.gradient(spec, case.params.astype(float), x.astype(float), cotangent.astype(float))


@pytest.mark.parametrize("name", NETWORKS)
def test_forecasts_losses_and_training_equal_the_reference(name, rng):
    case = Case(rng, **NETWORKS[name])
    close_to_reference(CUDA, case)


@pytest.mark.parametrize("name", ["concat", "wider_than_a_block", "residual", "residual_concat"])
def test_gradients_by_windows_equal_the_reference(name, rng):
    for a, b in zip(*gradients_of(CUDA, Case(rng, **NETWORKS[name]), rng), strict=True):
        close(a, b)


@pytest.mark.parametrize("name", ["concat", "residual_sum"])
def test_wide_layers_equal_the_reference(name, wide_backend, rng):
    case = Case(rng, **NETWORKS[name] | {"season_length": 0})
    for a, b in zip(*gradients_of(wide_backend, case, rng, 3), strict=True):
        close(a, b)


def test_wide_layers_have_no_races(wide_backend, rng):
    case = Case(rng, **NETWORKS["residual_concat"] | {"hidden_sizes": (2, 2)})
    case.spec = replace(case.spec, n_timesteps=2)
    with simulator.options(order=3, watch=True):
        gradients_of(wide_backend, case, rng, 2)


def test_no_races_and_the_same_bits_in_any_order_of_threads(rng):
    case = Case(rng, **NETWORKS["residual_concat"] | {"hidden_sizes": (2, 2)})
    case.spec = replace(case.spec, n_timesteps=3)
    results = []
    for watch, order in ((True, "forward"), (False, 7)):
        with simulator.options(order=order, watch=watch):
            losses, state = epochs(CUDA, case, n=1)
            forecasts = CUDA.predict(case.spec, case.params, case.windows.values, case.windows.x_starts, 1)
            results.append([losses, state.params, forecasts, *gradients_of(CUDA, case, np.random.default_rng(1))[0]])
    for first, second in zip(*results, strict=True):
        np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("parts", REFUSED)
def test_what_has_no_kernels_is_refused_by_name(parts, rng):
    case = Case(rng, **REFUSED[parts])
    with pytest.raises(BackendUnavailableError, match=f"no kernels for {parts}; device='cpu'"):
        epochs(CUDA, case)


def test_a_bidirectional_fit_follows_the_reference(rng):
    X, y = rng.normal(size=(20, 6)), rng.normal(size=(20, 2))
    settings = {"bidirectional": "concat", "batch_size": 8, "max_iter": 2, "random_state": 0, "early_stopping": True}
    cuda, reference = (LSTMRegressor((3, 2), device=d, **settings).fit(X, y) for d in ("cuda", "reference"))
    np.testing.assert_allclose(cuda.loss_curve_, reference.loss_curve_, rtol=1e-4)
    np.testing.assert_allclose(cuda.predict(X), reference.predict(X), atol=1e-4)
