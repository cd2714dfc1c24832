"""Decoders: gradients by all that enters, forced targets, and a second reading of what each step reads."""

import attention_cases
import cell_oracles
import numpy as np
import pytest
from kernel_cases import network, random_params, series_windows, step_gradient, step_rule

from tsforecast.backends.base import Windows, get_backend
from tsforecast.backends.cpu.jit import JIT_DISABLED
from tsforecast.backends.cpu.shapes import SUPPORTED_CELLS
from tsforecast.cells import CELLS
from tsforecast.nn.gradcheck import gradcheck, numerical_gradient, relative_error
from tsforecast.spec import NetworkSpec

REFERENCE = get_backend("reference")
DECODERS = ("recurrent", "recurrent_attention")
STACKS = {
    "stack": {"hidden_sizes": (3, 4)},
    "concat_quantiles": {"hidden_sizes": (4,), "bidirectional": "concat", "n_quantiles": 3},
    "residual_dilated": {"hidden_sizes": (4, 4), "residual": True, "dilations": (1, 3), "learned_state": True},
}


@pytest.mark.parametrize("n_future", [0, 2])
@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("stack", STACKS)
def test_network_gradients(rng, decoder, stack, n_future):
    spec, params, x, cotangent = random_case(rng, decoder, stack, n_future)
    errors = gradcheck(REFERENCE, spec, params, x, cotangent)
    assert set(errors) == {block.name for block in spec.blocks} | {"x"}
    assert max(errors.values()) <= 1e-6, errors


@pytest.mark.parametrize("n_future", [0, 2])
@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("stack", STACKS)
def test_kernels_equal_the_reference(rng, decoder, stack, n_future):
    spec, params, x, cotangent = random_case(rng, decoder, stack, n_future)
    found, expected = (b.gradient(spec, params, x, cotangent) for b in (get_backend("cpu"), REFERENCE))
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-12 * np.abs(theirs).max())


def random_case(rng, decoder, stack, n_future):
    spec = NetworkSpec(4, 2, n_outputs=3, decoder=decoder, n_future=n_future, **STACKS[stack])
    x = rng.normal(size=(3, spec.row_size)) if n_future else rng.normal(size=(3, 4, 2))
    return spec, 2.0 * random_params(rng, spec), x, rng.normal(size=(3, spec.head_size))


# Cells whose states differ in number and kind; the others' kernels have the same contract.
COMPILED = [pytest.param("cpu", cell, marks=pytest.mark.needs_jit) for cell in ("slstm",)]


@pytest.mark.parametrize(("name", "cell"), [*(("reference", cell) for cell in CELLS), *COMPILED])
def test_every_cell_hands_all_its_states_to_the_decoder(rng, name, cell):
    # Two inputs beside the output before, which is 0 at first: a layer norm has no derivative where all is equal.
    spec = NetworkSpec(4, 2, (4,), 3, cell=cell, decoder="recurrent", n_future=2)
    x, cotangent = rng.normal(size=(3, spec.row_size)), rng.normal(size=(3, 3))
    errors = gradcheck(get_backend(name), spec, random_params(rng, spec), x, cotangent)
    assert max(errors.values()) <= 1e-6, errors


@pytest.mark.skipif(not JIT_DISABLED, reason="would compile every cell once more")
@pytest.mark.parametrize("cell", SUPPORTED_CELLS)
def test_the_kernels_of_every_cell_run_step_by_step(rng, cell):
    spec = NetworkSpec(5, 2, (20,), 3, cell=cell, decoder="recurrent_attention", n_future=2)
    params, x, cotangent = random_params(rng, spec), rng.normal(size=(3, spec.row_size)), rng.normal(size=(3, 3))
    found, expected = (b.gradient(spec, params, x, cotangent) for b in (get_backend("cpu"), REFERENCE))
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-11 * np.abs(theirs).max())


@pytest.mark.parametrize("attention", ["none", "dot"])
def test_the_dense_head_reads_known_future_inputs_too(backend, rng, attention):
    spec = NetworkSpec(4, 2, (5,), 3, n_future=2, attention=attention)
    params, x = 2.0 * random_params(rng, spec), rng.normal(size=(3, spec.row_size))
    errors = gradcheck(backend, spec, params, x, rng.normal(size=(3, 3)))
    assert max(errors.values()) <= 1e-6, errors


def with_teacher(rng, spec, share):
    """Windows of a series whose targets are told with probability ``share``, and known-future inputs behind them."""
    windows, n_values = series_windows(rng, spec), spec.n_timesteps * spec.n_features
    rows = [windows.values[start : start + n_values] for start in windows.x_starts]
    rows = np.concatenate([rows, rng.normal(size=(len(rows), spec.row_size - n_values))], axis=1)
    forced = (rng.random((len(rows), spec.n_outputs)) < share).astype(np.uint8)
    starts = np.arange(len(rows), dtype=np.int64) * spec.row_size
    return Windows(rows.ravel(), starts, windows.targets, windows.y_starts, windows.weights, windows.y_stride, forced)


@pytest.mark.parametrize("loss", ["squared_error", "quantile"])
@pytest.mark.parametrize(
    ("name", "decoder"),
    [*(("reference", d) for d in DECODERS), pytest.param("cpu", DECODERS[1], marks=pytest.mark.needs_jit)],
)
def test_a_training_step_follows_the_gradient_where_targets_are_forced(rng, name, decoder, loss):
    """A target that is told has no gradient, an output that is fed back has one: the loss says so itself."""
    spec = network(loss, hidden_sizes=(3,), window_norm="center", season_length=3, decoder=decoder, n_future=1)
    rule, params, backend = step_rule(loss), random_params(rng, spec), get_backend(name)
    windows = with_teacher(rng, spec, 0.5)
    assert 0 < windows.forced.mean() < 1
    value, gradient = step_gradient(backend, spec, rule, params, windows)
    numeric = numerical_gradient(lambda p: step_gradient(backend, spec, rule, p, windows)[0], params)
    assert relative_error(gradient, numeric) <= 1e-6
    assert value != pytest.approx(backend.evaluate(spec, rule, params, windows, 1), rel=1e-6), "no teacher outside"


@pytest.mark.parametrize("decoder", DECODERS)
def test_outputs_equal_a_second_reading(rng, decoder):
    """Step by step, from the last state of the second reading of the encoder."""
    spec = NetworkSpec(4, 2, (3,), 3, cell="gru", decoder=decoder, n_future=2)
    params, x = random_params(rng, spec), rng.normal(size=(2, spec.row_size))
    p = spec.views(params)
    outputs, _, _ = REFERENCE.gradient(spec, params, x, np.zeros((2, 3)))
    for row, got in zip(x, outputs, strict=True):
        states = cell_oracles.run("gru", row[:8].reshape(4, 2), _own(p, "layers.0."), 3)
        h, fed = states[-1], 0.0
        for k, future in enumerate(row[8:].reshape(3, 2)):
            read = [fed, *future]
            if decoder == "recurrent_attention":
                read += [*attention_cases.second_reading("additive", h, states, _own(p, "decoder.attention."))[1]]
            h = _gru_step(np.array(read), h, _own(p, "decoder."))
            fed = float(h @ p["head.w"][:, 0] + p["head.b"][0])
            assert got[k] == pytest.approx(fed, rel=1e-12)


def _own(p, name):
    return {key.removeprefix(name): block for key, block in p.items() if key.startswith(name)}


def _gru_step(x, h, p):
    """One step from a state that is not zero: the reset-after form."""
    u, v = x @ p["w_x"] + p["b"], h @ p["w_h"]
    r, z = (1 / (1 + np.exp(-(u + v)[k * 3 : k * 3 + 3])) for k in range(2))
    n = np.tanh(u[6:] + r * (v[6:] + p["b_h"]))
    return (1 - z) * n + z * h


def test_what_does_not_go_together_is_refused():
    for field in ({"attention": "dot"}, {"linear_skip": True}):
        with pytest.raises(ValueError, match=r"belong to decoder='dense'.* 'recurrent_attention' attends by itself"):
            NetworkSpec(4, 1, (3,), 2, decoder="recurrent", **field)
    with pytest.raises(ValueError, match="decoder must be one of"):
        NetworkSpec(4, 1, (3,), 2, decoder="transformer")
