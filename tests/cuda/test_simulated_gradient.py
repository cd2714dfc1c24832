"""Gradients of a batch that takes several rounds of tiles, whose gradients come in several parts, from few blocks or
many."""

from dataclasses import replace

import numpy as np
import pytest
import simulator
from cuda_cases import REFERENCE, close
from kernel_cases import random_params, step_rule

from tsforecast.backends.base import TrainState, Windows
from tsforecast.backends.cuda import gradient, memory
from tsforecast.backends.cuda.backend import CudaBackend
from tsforecast.backends.cuda.plan import TRAINING, make_plan
from tsforecast.exceptions import BackendUnavailableError
from tsforecast.spec import NetworkSpec

SMALL = NetworkSpec(2, 1, (2,), 1, window_norm="standard", season_length=1, linear_skip=True)
N_ITEMS = 2  # of a part of SMALL: w_h and w_x, a chunk each
MANY_INPUTS = NetworkSpec(2, 20, (50, 18), 1)  # chunks of 16 inputs: 2 and 4, 4 and 2, none of them full at the end


def windows_of(rng, spec, n, dtype=np.float32):
    """Overlapping windows of one series, each followed by what it is to forecast."""
    starts = np.arange(n, dtype=np.int64) * spec.n_features
    values = rng.normal(size=(n + spec.n_timesteps) * spec.n_features).astype(np.float32).astype(dtype)
    weights = rng.uniform(0.5, 2.0, n).astype(np.float32).astype(dtype)
    return Windows(values, starts, values, starts + spec.n_timesteps * spec.n_features, weights)


def trained(backend, spec, batch_size, n_rows, dtype=np.float32):
    """Loss and weights after an epoch; every call has the same numbers."""
    rng, rule = np.random.default_rng(3), step_rule(max_grad_norm=0.5, alpha=0.1)
    state = TrainState(random_params(rng, spec).astype(np.float32).astype(dtype))
    windows, order = windows_of(rng, spec, n_rows, dtype), np.arange(n_rows, dtype=np.int64)[::-1].copy()
    rates = np.full(-(-n_rows // batch_size), 0.3)
    return backend.train_epoch(spec, rule, state, windows, order, batch_size, rates, 1), state.params


def check(backend, spec, batch_size, n_rows):
    loss, params = trained(backend, spec, batch_size, n_rows)
    expected_loss, expected = trained(REFERENCE, spec, batch_size, n_rows, np.float64)
    np.testing.assert_allclose(loss, expected_loss, rtol=1e-5)
    close(params, expected, 1e-5)


@pytest.mark.parametrize(
    ("n_processors", "most_parts", "tiles_a_part"),
    [(1, 9, 1), (2, 9, 1), (3, 2, 2), (5, 2, 3), (5, 1, 5), (20, 4, 2)],
)
def test_rounds_and_parts(n_processors, most_parts, tiles_a_part, monkeypatch):
    """A batch of seven tiles, the last of which has two rows, and one of two tiles, the last of which has one."""
    monkeypatch.setattr(gradient, "MOST_ITEMS", N_ITEMS * most_parts)
    plan = make_plan(SMALL, TRAINING)
    assert gradient.count_items(plan) == N_ITEMS
    assert gradient.tiles_of_a_part(plan, min(7, n_processors)) == tiles_a_part
    check(CudaBackend(n_processors), SMALL, 26, 31)


def test_no_races_and_the_same_bits_in_another_order_of_threads(monkeypatch):
    monkeypatch.setattr(gradient, "MOST_ITEMS", N_ITEMS * 2)
    expected_loss, expected = trained(CudaBackend(3), SMALL, 26, 31)
    with simulator.options(order=1, watch=True):
        loss, params = trained(CudaBackend(3), SMALL, 26, 31)
    assert loss == expected_loss
    np.testing.assert_array_equal(params, expected)


def test_noise_is_that_of_the_row_in_its_batch_in_any_round():
    check(CudaBackend(3), replace(SMALL, dropout=0.5), 26, 31)


def test_more_blocks_than_there_is_memory_for_tiles(monkeypatch):
    """Three of six blocks have tiles in a round, all have an item."""
    plan, allocate = make_plan(SMALL, TRAINING), memory.allocate

    def little_memory(size, dtype=np.float32):
        if size >= 4 * plan.n_work:
            raise BackendUnavailableError("full")
        return allocate(size, dtype)

    monkeypatch.setattr(memory, "allocate", little_memory)
    check(CudaBackend(6), SMALL, 26, 31)


@pytest.mark.parametrize("n_processors", [1, 2])
def test_items_of_one_chunk_of_inputs_and_of_several(n_processors):
    check(CudaBackend(n_processors), MANY_INPUTS, 9, 9)


def test_gradients_by_more_features_than_units():
    rng, spec = np.random.default_rng(4), NetworkSpec(2, 35, (2, 3), 1)
    params = random_params(rng, spec).astype(np.float32)
    x, cotangent = rng.normal(size=(5, 2, 35)).astype(np.float32), rng.normal(size=(5, 1)).astype(np.float32)
    with simulator.options(watch=True):
        ours = CudaBackend(1).gradient(spec, params, x, cotangent)  # two launches of a tile
    theirs = REFERENCE.gradient(spec, params.astype(float), x.astype(float), cotangent.astype(float))
    for a, b in zip(ours, theirs, strict=True):
        close(a, b)
