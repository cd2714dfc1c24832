"""Dropout, recurrent dropout and zoneout: their masks, the gradients of a training step with them, and inference."""

from dataclasses import replace

import numpy as np
import pytest
from kernel_cases import network, one_step, random_params, series_windows, step_gradient, step_rule

from tsforecast.backends.base import TrainState, Windows, get_backend
from tsforecast.backends.cpu.jit import JIT_DISABLED
from tsforecast.backends.cpu.shapes import CELL_SHAPES, SUPPORTED_CELLS
from tsforecast.backends.members import Member
from tsforecast.backends.reference import layer
from tsforecast.backends.reference.cells import CELLS as EQUATIONS
from tsforecast.backends.reference.noise import DROPOUT, RECURRENT, ZONEOUT, Noise, random_bits, threshold
from tsforecast.cells import CELLS, SCALED_BY
from tsforecast.nn.gradcheck import numerical_gradient, relative_error
from tsforecast.parameters import layer_shapes
from tsforecast.spec import NetworkSpec

REFERENCE, CPU = get_backend("reference"), get_backend("cpu")
RATES = {"dropout": 0.4, "recurrent_dropout": 0.3, "zoneout": 0.2}
# Every noise by itself and all together, over every kind of link.
CASES = {
    "dropout": {"dropout": 0.4},
    "recurrent_dropout": {"recurrent_dropout": 0.3},
    "zoneout": {"zoneout": 0.2},
    "all": RATES,
    "all, both ways, added": RATES | {"bidirectional": "sum", "hidden_sizes": (3, 3), "learned_state": True},
    "all, residual": RATES | {"hidden_sizes": (3, 3, 3), "residual": True},
    "all, residual, dilated": RATES | {"hidden_sizes": (3, 3, 3), "residual": True, "dilations": (1, 4, 2)},
}


def rates_for(cell):
    """All rates that make sense for a cell."""
    rates = dict(RATES)
    if not CELLS[cell].recurrent:
        del rates["recurrent_dropout"]
    if set(CELLS[cell].states) & set(SCALED_BY):
        del rates["zoneout"]
    return rates


def assert_gradient_is_right(backend, spec, rng):
    """The step's gradient against differences of the loss that it reports, under the same masks."""
    params, windows, rule = random_params(rng, spec), series_windows(rng, spec), step_rule()
    _, gradient = step_gradient(backend, spec, rule, params, windows)

    def loss(p):
        return one_step(backend, spec, rule, p, windows, learning_rate=0.0)[0]

    # Small steps: normalised sums of a row whose h is masked away altogether bend within a few thousandths.
    numeric = numerical_gradient(loss, params, 1e-6)
    assert relative_error(gradient, numeric) <= 1e-6


@pytest.mark.parametrize("case", CASES)
def test_gradients_under_frozen_masks(case, rng):
    assert_gradient_is_right(REFERENCE, network(**CASES[case]), rng)


@pytest.mark.parametrize("cell", CELLS)
def test_gradients_of_every_cell_under_frozen_masks(cell, rng):
    assert_gradient_is_right(REFERENCE, network(hidden_sizes=(3, 2), cell=cell, **rates_for(cell)), rng)


def test_the_first_bits_are_those_of_the_equations():
    """Lines 3 to 5, spelled out once more in whole numbers of any size."""
    from tsforecast.backends.reference.shuffle import hash64

    key = hash64(7, 5)
    found = random_bits(key, np.array([[0, 3], [8, 2**40]]), 2)
    for (i, j, unit), x in np.ndenumerate(found):
        word = hash64(key, [[0, 3], [8, 2**40]][i][j]) % 2**32
        y = (word + (unit + 1) * 0x9E3779B9) % 2**32
        y = (y ^ y >> 16) * 0x7FEB352D % 2**32
        y = (y ^ y >> 15) * 0x846CA68B % 2**32
        assert x == y ^ y >> 16


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_masks_have_their_rate_and_a_mean_of_one(rate):
    """n draws: the share drawn lies within 5 standard deviations of the rate; kept units make up for the others."""
    spec = NetworkSpec(50, 1, (64,), 1, dropout=rate, recurrent_dropout=rate, zoneout=rate)
    noise = Noise(spec, 3, 8, 200)
    dropout, run = noise.dropout(0), noise.of_run(0)
    for mask in (dropout, run.recurrent):
        assert set(np.unique(mask)) == {0.0, 1.0 / (1.0 - rate)}
    for drawn in (dropout == 0.0, run.recurrent == 0.0, *(share == 1.0 for share in run.old_shares)):
        assert abs(drawn.mean() - rate) <= 5.0 * np.sqrt(rate * (1.0 - rate) / drawn.size)
    assert run.recurrent.shape == (200, 64)  # one for all steps
    assert all(set(np.unique(share)) == {0.0, 1.0} for share in run.old_shares)


def test_no_two_masks_are_alike():
    """Any two of n coins of an even chance agree on n/2 of them, within 6 standard deviations sqrt(n)/2."""
    spec = NetworkSpec(4, 1, (256, 256), 1)
    keys = [(Noise(spec, seed, step, 3), run, purpose) for seed in (0, 1) for step in (0, 1) for run in (0, 1)
            for purpose in (DROPOUT, RECURRENT, *ZONEOUT.values())]  # fmt: skip
    masks = [noise._drawn(0.5, run, purpose, noise._every_step()).reshape(-1, 256) for noise, run, purpose in keys]
    masks = np.concatenate(masks)  # seeds, steps, runs, purposes, steps of the window, rows
    agreeing = 2.0 * (2.0 * masks - 1.0) @ (masks - 0.5).T  # agreements minus disagreements
    np.fill_diagonal(agreeing, 0.0)
    assert np.abs(agreeing).max() <= 6.0 * np.sqrt(256)


def test_a_row_has_its_mask_whatever_batch_it_is_in():
    spec = NetworkSpec(4, 1, (5,), 1, **RATES)
    few, many = (Noise(spec, 0, 0, n) for n in (3, 8))
    np.testing.assert_array_equal(few.dropout(0), many.dropout(0)[:, :3])
    np.testing.assert_array_equal(few.of_run(0).recurrent, many.of_run(0).recurrent[:3])


@pytest.mark.parametrize("rate", [0.0, 1e-12, 1.0 - 1e-12])
def test_a_threshold_fits_its_word(rate):
    assert 0 <= threshold(rate) < 2**32


@pytest.mark.parametrize("cell", CELLS)
def test_a_zoned_out_state_keeps_its_value_and_a_masked_one_is_not_read(cell, rng):
    """One step of a layer: k = 1 gives the old state, and a mask of zeros the step from an h of zeros that is kept."""
    from tsforecast.backends.reference.noise import RunNoise

    p = {name: rng.normal(size=shape) for name, shape in layer_shapes(cell, 2, 3).items()}
    x, start = rng.normal(size=(1, 4, 2)), tuple(rng.uniform(0.5, 1.5, size=(4, 3)) for _ in CELLS[cell].states)
    none, whole = np.zeros((1, 4, 3)), np.ones((1, 4, 3))
    kept = layer.forward(EQUATIONS[cell], x, p, start, RunNoise(1.0, (whole,) * len(start))).last
    for found, expected in zip(kept, start, strict=True):
        np.testing.assert_array_equal(found, expected)
    if "w_h" in p:
        masked = layer.forward(EQUATIONS[cell], x, p, start, RunNoise(0.0, (none,) * len(start))).last
        expected = layer.forward(EQUATIONS[cell], x, p | {"w_h": 0.0 * p["w_h"]}, start).last
        for a, b in zip(masked, expected, strict=True):
            np.testing.assert_allclose(a, b, rtol=0, atol=1e-15)


def predictions(backend, spec, params, windows):
    return backend.predict(spec, params, windows.values, windows.x_starts, 1)


def test_inference_has_no_dropout_and_the_mean_of_zoneout(rng):
    spec = network(hidden_sizes=(3,))
    params, windows = random_params(rng, spec), series_windows(rng, spec)
    dropped = replace(spec, dropout=0.5, recurrent_dropout=0.5)
    plain = predictions(REFERENCE, spec, params, windows)
    np.testing.assert_array_equal(predictions(REFERENCE, dropped, params, windows), plain)
    zoned = predictions(REFERENCE, replace(spec, zoneout=0.3), params, windows)
    blocks = {name.removeprefix("layers.0."): a for name, a in spec.views(params).items()}
    h = c = np.zeros((len(windows), 3))
    for t in range(spec.n_timesteps):  # by hand
        x = windows.values[windows.x_starts[:, None] + t * 2 + np.arange(2)]
        a = x @ blocks["w_x"] + h @ blocks["w_h"] + blocks["b"]
        i, f, o = (1.0 / (1.0 + np.exp(-a[:, 3 * k : 3 * k + 3])) for k in (0, 1, 3))
        new = f * c + i * np.tanh(a[:, 6:9])
        h, c = 0.3 * h + 0.7 * o * np.tanh(new), 0.3 * c + 0.7 * new
    np.testing.assert_allclose(zoned, h @ blocks["head.w"] + blocks["head.b"], rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"dropout": 1.0}, "dropout must be a rate"),
        ({"zoneout": -0.1}, "zoneout must be a rate"),
        ({"recurrent_dropout": float("nan")}, "recurrent_dropout must be a rate"),
        ({"zoneout": 0.1, "cell": "slstm"}, "no mean for inference; take dropout= or recurrent_dropout="),
        ({"recurrent_dropout": 0.1, "cell": "mingru"}, "no recurrent multiply .* take dropout= or zoneout="),
        ({"recurrent_dropout": 0.1, "cell": "minlstm"}, "no recurrent multiply .* take dropout= or zoneout="),
        (
            {"dropout": 0.1, "decoder": "recurrent"},
            "belong to decoder='dense', got 'recurrent'; set that, or .* alpha=",
        ),
    ],
)
def test_noise_without_meaning_is_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        network(**fields)


# Compiling takes seconds a cell: all of them run uncompiled, and compiled the two kinds of kernels that there are.
COMPILED = {"lstm", "gru"}


def assert_cpu_equals_reference(spec, rng, **settings):
    """Loss and gradient of a training step, and forecasts with their gradient."""
    params, windows, rule = random_params(rng, spec), series_windows(rng, spec), step_rule(**settings)
    expected_loss, expected = step_gradient(REFERENCE, spec, rule, params, windows)
    loss, gradient = step_gradient(CPU, spec, rule, params, windows)
    assert loss == pytest.approx(expected_loss, rel=1e-12)
    np.testing.assert_allclose(gradient, expected, rtol=0, atol=1e-12 * max(1.0, np.abs(expected).max()))
    np.testing.assert_allclose(
        predictions(CPU, spec, params, windows), predictions(REFERENCE, spec, params, windows), rtol=0, atol=1e-12
    )
    x, cotangent = rng.normal(size=(2, spec.n_timesteps, 2)), rng.normal(size=(2, spec.head_size))
    for ours, theirs in zip(*(b.gradient(spec, params, x, cotangent) for b in (CPU, REFERENCE)), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-12)


@pytest.mark.parametrize("cell", SUPPORTED_CELLS)
def test_kernels_equal_the_reference(cell, rng):
    if not JIT_DISABLED and cell not in COMPILED:
        pytest.skip("this cell is tested uncompiled")
    rates = rates_for(cell)
    if CELL_SHAPES[cell].reads_h:
        rates.pop("recurrent_dropout", None)
    assert_cpu_equals_reference(network(hidden_sizes=(3, 2), cell=cell, **rates), rng)


@pytest.mark.parametrize("cell", sorted(COMPILED))
@pytest.mark.parametrize("case", CASES)
def test_kernels_equal_the_reference_with_every_noise_over_every_link(case, cell, rng):
    assert_cpu_equals_reference(network(cell=cell, **CASES[case]), rng)
    if "dilations" not in CASES[case] and "learned_state" not in CASES[case]:
        assert_cpu_equals_reference(network(cell=cell, **CASES[case]), rng, bptt_steps=2)
    else:
        assert_cpu_equals_reference(network(cell=cell, learned_state=True, dropout=0.5), rng)


def test_steps_one_by_one_have_the_bits_of_all_at_once(rng):
    """Masks of ones, since 1 - 1e-17 is 1: nothing is dropped and nothing scaled, but every step is run by itself."""
    spec = replace(network(hidden_sizes=(3, 2)), n_timesteps=30)  # 330 rows: three passes for the weight gradient
    params, windows = random_params(rng, spec), series_windows(rng, spec)
    masked = replace(spec, recurrent_dropout=1e-17)
    plain, stepped = (step_gradient(CPU, s, step_rule(), params, windows) for s in (spec, masked))
    assert plain[0] == stepped[0]
    np.testing.assert_array_equal(plain[1], stepped[1])


@pytest.mark.needs_jit
def test_threads_change_no_bit(rng):
    """More shards than threads, several batches: a row's masks go with its place in the batch alone."""
    spec, rule = NetworkSpec(6, 1, (20, 9), 3, **RATES), step_rule(solver="adam", max_grad_norm=0.1)
    series, starts = rng.normal(size=160), np.arange(150, dtype=np.int64)
    windows = Windows(series, starts, series, starts + 6, np.ones(150))
    params, found = random_params(rng, spec), []

    def train(backend, n_jobs):
        state = TrainState(params.copy(), seed=5)
        loss = backend.train_epoch(spec, rule, state, windows, starts, 70, np.full(3, 0.01), n_jobs)
        return loss, state

    for n_jobs in (1, 2, 3):
        loss, state = train(CPU, n_jobs)
        found.append((loss, state.params.tobytes(), state.v.tobytes()))
    assert found[0] == found[1] == found[2]
    np.testing.assert_allclose(state.params, train(REFERENCE, 1)[1].params, rtol=0, atol=1e-10)


def test_the_seed_and_the_step_choose_the_masks(rng):
    spec = network(hidden_sizes=(3,), dropout=0.5)
    params, windows = random_params(rng, spec), series_windows(rng, spec)
    rows = np.arange(len(windows), dtype=np.int64)

    def loss(seed, step):
        state = TrainState(params.copy(), step=step, seed=seed)
        return CPU.train_epoch(spec, step_rule(), state, windows, rows, len(rows), np.zeros(1), 1)

    assert loss(1, 2) == loss(1, 2)
    assert len({loss(seed, step) for seed in (1, 2) for step in (1, 2)}) == 4


@pytest.mark.parametrize("cell", [cell for cell in SUPPORTED_CELLS if CELL_SHAPES[cell].reads_h])
def test_the_cpu_refuses_what_its_kernels_do_not_have(cell, rng):
    if CELLS[cell].recurrent:
        spec = network(cell=cell, recurrent_dropout=0.1)
        with pytest.raises(ValueError, match=r"no recurrent_dropout= for the cell .* dropout= or zoneout=, or device="):
            step_gradient(CPU, spec, step_rule(), random_params(rng, spec), series_windows(rng, spec))
        alone = Member(TrainState(random_params(rng, spec)), series_windows(rng, spec), None, 4, 0.1, np.ones((1, 3)),
                       None, 0, 0.0, 1)  # fmt: skip
        with pytest.raises(ValueError, match="no recurrent_dropout= for the cell"):
            CPU.train_fleet(spec, step_rule(), [alone], 1)
        if JIT_DISABLED:  # a network trained elsewhere has its gradient by the inputs
            x = np.zeros((1, spec.n_timesteps, spec.n_features))
            CPU.gradient(spec, random_params(rng, spec), x, np.zeros((1, spec.head_size)))
    else:
        with pytest.raises(ValueError, match="no recurrent multiply"):
            network(cell=cell, recurrent_dropout=0.1)
