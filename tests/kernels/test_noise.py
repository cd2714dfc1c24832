"""Dropout, recurrent dropout and zoneout: their masks, the gradients of a training step with them, and inference."""

from dataclasses import replace

import numpy as np
import pytest
from kernel_cases import network, one_step, random_params, series_windows, step_gradient, step_rule

from tsforecast.backends.base import get_backend
from tsforecast.backends.reference import layer
from tsforecast.backends.reference.cells import CELLS as EQUATIONS
from tsforecast.backends.reference.noise import DROPOUT, RECURRENT, ZONEOUT, Noise, random_bits, threshold
from tsforecast.nn.gradcheck import numerical_gradient, relative_error
from tsforecast.spec import CELLS, SCALED_BY, NetworkSpec, layer_shapes

REFERENCE = get_backend("reference")
RATES = {"dropout": 0.4, "recurrent_dropout": 0.3, "zoneout": 0.2}
# Every noise by itself and all together, over every kind of link.
CASES = {
    "dropout": {"dropout": 0.4},
    "recurrent_dropout": {"recurrent_dropout": 0.3},
    "zoneout": {"zoneout": 0.2},
    "all": RATES,
    "all, both ways, added": RATES | {"bidirectional": "sum", "hidden_sizes": (3, 3), "learned_state": True},
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
    numeric = numerical_gradient(lambda p: one_step(backend, spec, rule, p, windows, learning_rate=0.0)[0], params)
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
        ({"zoneout": 0.1, "cell": "slstm"}, "no mean for inference"),
        ({"dropout": 0.1, "decoder": "recurrent"}, "belong to decoder='dense'"),
    ],
)
def test_noise_without_meaning_is_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        network(**fields)
