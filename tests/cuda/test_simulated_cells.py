"""Every cell with CUDA kernels in the simulator, fleets of networks, and the estimators on top."""

import numpy as np
import pytest
import simulator
from cuda_cases import REFERENCE, Case, close
from kernel_cases import step_gradient

from tsforecast import BackendUnavailableError, GRURegressor, LSTMRegressor, RNNRegressor
from tsforecast.backends.base import StepRule, TrainState, Windows, get_backend
from tsforecast.backends.cuda import cells
from tsforecast.cells import CELLS
from tsforecast.nn.fleet import TrainJob, train_many
from tsforecast.nn.initializers import init_params
from tsforecast.nn.trainer import TrainConfig, train
from tsforecast.spec import NetworkSpec

CUDA = get_backend("cuda")


@pytest.mark.parametrize("cell", cells.CELLS)
def test_forecast_and_gradient_equal_the_reference(cell, rng):
    case = Case(rng, cell=cell)
    found, expected = [], []
    for backend, answers in ((CUDA, found), (REFERENCE, expected)):
        params, windows = case.of(backend)
        answers.append(backend.predict(case.spec, params, windows.values, windows.x_starts, 1))
        answers.extend(step_gradient(backend, case.spec, case.rule, params, windows))
    for ours, theirs in zip(found, expected, strict=True):
        close(ours, theirs)


@pytest.mark.parametrize("cell", ["gru", "rnn_tanh", "lstm_coupled", "lstm_peephole"])
def test_cells_have_no_races(cell, rng):
    case = Case(rng, cell=cell)
    with simulator.options(watch=True, order="reverse"):
        step_gradient(CUDA, case.spec, case.rule, case.params, case.windows)


@pytest.mark.parametrize("cell", [cell for cell in CELLS if cell not in cells.CELLS])
def test_a_cell_without_kernels_is_refused_with_those_that_have_them(cell, rng):
    case = Case(rng, cell=cell)
    with pytest.raises(BackendUnavailableError, match=f"no kernels for the cell '{cell}', only for .*lstm.*gru"):
        CUDA.predict(case.spec, case.params, case.windows.values, case.windows.x_starts, 1)


class TestFleet:
    SPEC = NetworkSpec(3, 1, (2,), 1)

    def job(self, seed, n_rows, **settings):
        rng = np.random.default_rng(seed)
        series, starts = rng.normal(size=n_rows + 3).astype(np.float32), np.arange(n_rows, dtype=np.int64)
        windows = Windows(series, starts, series, starts + 3, rng.uniform(0.5, 2, n_rows).astype(np.float32))
        options = {"learning_rate_init": 0.02, "batch_size": 5, "max_iter": 2, "tol": 0.0} | settings
        state = TrainState(init_params(self.SPEC, seed, np.float32))
        return TrainJob(self.SPEC, TrainConfig(StepRule(), **options), state, windows, seed=seed)

    def test_members_are_trained_as_if_alone(self):
        """Networks with different rows, batch sizes, rates and epochs; more of them than processors."""
        settings = [{}, {"batch_size": 3}, {"learning_rate_init": 0.1}, {"max_iter": 1}, {"shuffle": False}]
        jobs = [self.job(i, 7 + i, **s) for i, s in enumerate(settings)]
        alone = [self.job(i, 7 + i, **s) for i, s in enumerate(settings)]
        train_many(CUDA, jobs, 1)
        for job, single in zip(jobs, alone, strict=True):
            assert job.error is None
            history = train(REFERENCE, self.SPEC, single.config, single.state, single.windows, seed=single.seed)
            np.testing.assert_allclose(job.history.loss_curve, history.loss_curve, rtol=1e-5)
            close(job.state.params, single.state.params, 1e-4)
            assert job.state.step == single.state.step

    def test_no_races(self):
        with simulator.options(watch=True):
            train_many(CUDA, [self.job(i, 6, max_iter=1) for i in range(3)], 1)

    def test_one_that_diverges_leaves_the_others_alone(self):
        jobs, alone = ([self.job(i, 7) for i in range(3)] for _ in range(2))
        jobs[1].windows.targets[4] = 3e38
        train_many(CUDA, jobs, 1)
        train_many(CUDA, alone[::2], 1)
        assert [job.error is None for job in jobs] == [True, False, True]
        for job, single in zip(jobs[::2], alone[::2], strict=True):
            np.testing.assert_array_equal(job.state.params, single.state.params)


@pytest.mark.parametrize("regressor", [LSTMRegressor, GRURegressor, RNNRegressor])
def test_estimators_fit_as_with_the_reference(regressor, rng):
    X, y = rng.normal(size=(20, 6)), rng.normal(size=(20, 2))
    settings = {"batch_size": 8, "max_iter": 2, "random_state": 0, "early_stopping": True, "loss": "huber"}
    cuda, reference = (regressor(5, device=d, **settings).fit(X, y) for d in ("cuda", "reference"))
    np.testing.assert_allclose(cuda.loss_curve_, reference.loss_curve_, rtol=1e-4)
    np.testing.assert_allclose(cuda.validation_scores_, reference.validation_scores_, rtol=1e-4)
    np.testing.assert_allclose(cuda.predict(X), reference.predict(X), atol=1e-4)
