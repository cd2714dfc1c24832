"""Attention by itself: the reference against a second reading and central differences, the kernels against it."""

import cell_oracles
import numpy as np
import pytest
from attention_cases import KINDS, random_params, second_reading
from kernel_cases import network, one_step, series_windows, step_rule
from kernel_cases import random_params as random_network_params

from tsforecast.backends.base import TrainState, get_backend
from tsforecast.backends.cpu.attention import KERNELS, scratch_size
from tsforecast.backends.cpu.jit import entry
from tsforecast.backends.cpu.lanes import LANES
from tsforecast.backends.cpu.tile import panel_index, whole_vectors
from tsforecast.backends.reference import attention
from tsforecast.nn.gradcheck import gradcheck, numerical_gradient, relative_error
from tsforecast.spec import NetworkSpec

N_STEPS, N_ROWS, N_QUERY, N_UNITS = 5, 3, 4, 6


def random_case(rng, kind):
    p = random_params(rng, kind, N_QUERY, N_UNITS)
    return p, rng.normal(size=(N_ROWS, N_QUERY)), rng.normal(size=(N_STEPS, N_ROWS, N_UNITS))


@pytest.mark.parametrize("kind", KINDS)
def test_the_reference_equals_a_second_reading(rng, kind):
    p, query, states = random_case(rng, kind)
    context, tape = attention.attend(query, attention.keys(states, p), states, p)
    for b in range(N_ROWS):
        weights, expected = second_reading(kind, query[b], states[:, b], p)
        np.testing.assert_allclose(tape.weights[:, b], weights, rtol=0, atol=1e-14)
        np.testing.assert_allclose(context[b], expected, rtol=0, atol=1e-14)


def test_scores_beyond_the_range_of_exp_pick_one_step(rng):
    p, query, states = random_case(rng, "dot")
    p["w_q"] *= 1e4
    _, tape = attention.attend(query, attention.keys(states, p), states, p)
    np.testing.assert_array_equal(np.sort(tape.weights, axis=0)[-1], np.ones(N_ROWS))


@pytest.mark.parametrize("kind", KINDS)
def test_the_reference_has_the_gradients_of_two_queries_over_the_same_keys(rng, kind):
    """As a decoder asks: parameters, keys and states gather the gradients of all queries."""
    p, first, states = random_case(rng, kind)
    queries = np.stack([first, rng.normal(size=first.shape)])
    cotangent = rng.normal(size=(2, N_ROWS, N_UNITS))

    def objective(p, queries, states):
        made = attention.keys(states, p)
        return sum((attention.attend(q, made, states, p)[0] * d).sum() for q, d in zip(queries, cotangent, strict=True))

    made = attention.keys(states, p)
    dp = {name: np.zeros_like(block) for name, block in p.items()}
    dkeys, dstates, dqueries = np.zeros_like(made), np.zeros_like(states), np.zeros_like(queries)
    for k in range(2):
        _, tape = attention.attend(queries[k], made, states, p)
        dqueries[k] = attention.attend_backward(cotangent[k], tape, made, states, p, dp, dkeys, dstates)
    attention.keys_backward(dkeys, states, p, dp, dstates)
    for name in p:
        numeric = numerical_gradient(lambda block, name=name: objective(p | {name: block}, queries, states), p[name])
        assert relative_error(dp[name], numeric) <= 1e-6, name
    assert relative_error(dqueries, numerical_gradient(lambda q: objective(p, q, states), queries)) <= 1e-6
    assert relative_error(dstates, numerical_gradient(lambda s: objective(p, queries, s), states)) <= 1e-6


def compiled(kind):
    """Both passes of one kind of attention, for two queries over the same keys."""
    make_keys, attend, attend_backward, keys_backward = KERNELS[kind]

    @entry
    def run(
        T, B, H, N, K, S, R, weights_of, transposed, queries, states, keys, turned, q, weights, context, dcontext,
        dscores, dq, dquery, dkeys, dstates, gradients, z,
    ):  # fmt: skip
        w_q, w_k, w_v = weights_of
        dw_q, dw_k, dw_v = gradients
        keys_t, states_t = turned
        make_keys(T, B, H, w_k, states, keys, keys_t, states_t, True)
        for i in range(len(queries)):
            query = queries[i] if K > N else queries[i][1:]
            attend(T, B, H, K, w_q, w_v, query, S, states, keys_t, states_t, q[i], weights[i], context[i], R, z)
        for i in range(len(queries)):
            query = queries[i] if K > N else queries[i][1:]
            attend_backward(
                T, B, H, K, N, transposed[0], w_v, query, S, states, keys, states_t, q[i], weights[i], dcontext[i], R,
                dscores, dq, dquery[i], len(dquery[i]) // B, dkeys, dstates, dw_q, dw_v, z,
            )  # fmt: skip
        keys_backward(T, B, H, transposed[1], states, dkeys, dstates, dw_k, z)

    return run


RUNS = {kind: compiled(kind) for kind in KINDS}


def in_panels(matrix, dtype):
    """A flat copy in panels, columns filled up with zeros."""
    rows, columns = matrix.shape
    places = panel_index(np.arange(rows)[:, None], np.arange(columns), rows, whole_vectors(columns) // LANES)
    packed = np.zeros(rows * whole_vectors(columns), dtype)
    packed[places] = matrix
    return packed, places


def with_zeros(a, dtype):
    """Rows filled up to whole vectors."""
    return np.concatenate([a, np.zeros((*a.shape[:-1], whole_vectors(a.shape[-1]) - a.shape[-1]))], axis=-1).astype(
        dtype
    )


def run_kernels(kind, p, queries, states, cotangent, dtype):
    """Weights, contexts and all gradients, in the shapes of the reference."""
    (n_queries, n_rows, n_query), (n_steps, _, n_units) = queries.shape, states.shape
    is_additive, padded, lanes_of_rows = kind == "additive", whole_vectors(n_units), whole_vectors(n_rows)
    first = [p["b"][None], p["w_q"]] if is_additive else [p["w_q"]]
    w_q, q_places = in_panels(np.concatenate(first), dtype)
    w_k, k_places = in_panels(p.get("w_k", np.zeros((1, 1))), dtype)
    w_v = with_zeros(p.get("w_v", np.zeros(1)), dtype)
    transposed = tuple(in_panels(with_zeros(p.get(name, w_k[:1, None]), dtype).T, dtype)[0] for name in ("w_q", "w_k"))
    gradients = tuple(np.zeros_like(w) for w in (w_q, w_k, w_v))
    rows = np.concatenate([np.ones((n_queries, n_rows, 1)), queries], axis=2).astype(dtype)
    flat_states = with_zeros(states, dtype).ravel()
    stride = padded + 2 * LANES
    context = np.full((n_queries, n_rows * stride), np.nan, dtype)
    dcontext = np.full((n_queries, n_rows, stride), np.nan, dtype)
    dcontext[:, :, :padded] = with_zeros(cotangent, dtype)
    weights = np.full((n_queries, n_steps * lanes_of_rows), np.nan, dtype)
    q, dquery = (
        np.empty((n_queries, n_rows * padded), dtype),
        np.zeros((n_queries, n_rows * whole_vectors(n_query)), dtype),
    )
    dkeys, dstates = np.zeros((2, flat_states.size), dtype)
    turned = tuple(np.full((2, n_rows * padded * whole_vectors(n_steps)), np.nan, dtype))
    RUNS[kind](
        n_steps, n_rows, n_units, n_query, n_query + is_additive, n_query + 1, stride, (w_q, w_k, w_v), transposed,
        rows.reshape(n_queries, -1), flat_states, np.empty_like(flat_states), turned, q, weights, context,
        dcontext.reshape(n_queries, -1), np.empty_like(weights[0]), np.empty_like(q[0]), dquery, dkeys, dstates,
        gradients, np.full(scratch_size(n_steps, n_rows, padded), np.nan, dtype),
    )  # fmt: skip
    dw_q = gradients[0][q_places]
    found = {"w_q": dw_q[1:], "b": dw_q[0], "w_k": gradients[1][k_places], "w_v": gradients[2][:n_units]}
    found = found if is_additive else {"w_q": dw_q}
    found["query"] = dquery.reshape(n_queries, n_rows, -1)[:, :, :n_query]
    found["states"] = dstates.reshape(n_steps, n_rows, padded)[:, :, :n_units]
    found["weights"] = weights.reshape(n_queries, n_steps, -1)[:, :, :n_rows]
    found["context"] = context.reshape(n_queries, n_rows, stride)[:, :, :n_units]
    for padding in (dstates.reshape(-1, padded)[:, n_units:], gradients[2][n_units:]):
        assert not padding.any()
    return found


def reference_run(p, queries, states, cotangent):
    """What ``run_kernels`` returns, by the reference."""
    keys = attention.keys(states, p)
    found = {name: np.zeros_like(block) for name, block in p.items()}
    dkeys, dstates = np.zeros_like(keys), np.zeros_like(states)
    contexts, tapes = zip(*(attention.attend(query, keys, states, p) for query in queries), strict=True)
    dqueries = [
        attention.attend_backward(d, tape, keys, states, p, found, dkeys, dstates)
        for d, tape in zip(cotangent, tapes, strict=True)
    ]
    attention.keys_backward(dkeys, states, p, found, dstates)
    weights = np.array([tape.weights for tape in tapes])
    return found | {"query": np.array(dqueries), "states": dstates, "weights": weights, "context": np.array(contexts)}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "shape",
    [
        (5, 3, 4, 6),
        (1, 1, 1, 1),
        (3, LANES + 1, 2 * LANES, LANES),
        (2, 2, 3, 4 * LANES + 5),
        (4 * LANES + 3, 2, 3, LANES - 1),
    ],
)
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_kernels_equal_the_reference(rng, kind, shape, dtype):
    """Few and many rows, units that fill vectors or do not, more than one panel of units or of steps."""
    n_steps, n_rows, n_query, n_units = shape
    p = random_params(rng, kind, n_query, n_units)
    queries, states = rng.normal(size=(2, n_rows, n_query)), rng.normal(size=(n_steps, n_rows, n_units))
    cotangent = rng.normal(size=(2, n_rows, n_units))
    found = run_kernels(kind, p, queries, states, cotangent, dtype)
    expected = reference_run(p, queries, states, cotangent)
    assert set(found) == set(expected)
    tolerance = 1e-12 if dtype is np.float64 else 2e-4  # scores of some tens lose digits before the softmax
    for name, value in expected.items():
        assert relative_error(found[name].astype(np.float64), value) <= tolerance, name


# What the attention reads: a stack; both directions, side by side or added up, of all layers; a skip beside it.
STACKS = {
    "stack": {"hidden_sizes": (3, 5)},
    "concat": {"hidden_sizes": (4,), "bidirectional": "concat"},
    "sum_residual": {"hidden_sizes": (4, 4), "bidirectional": "sum", "residual": True},
    "dilated_skip": {"hidden_sizes": (4, 3), "dilations": (1, 2), "linear_skip": True},
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("stack", STACKS)
def test_network_gradients(backend, rng, kind, stack):
    spec = NetworkSpec(4, 2, n_outputs=2, attention=kind, **STACKS[stack])
    params, x, cotangent = random_network_params(rng, spec), rng.normal(size=(3, 4, 2)), rng.normal(size=(3, 2))
    params *= 2.0  # states that differ from step to step: else the gradients of the scores drown in rounding
    errors = gradcheck(backend, spec, params, x, cotangent)
    assert {name for name in errors if name.startswith("attention.")} == {
        f"attention.{name}" for name in random_params(rng, kind, 1, 1)
    }
    assert max(errors.values()) <= 1e-6, errors


@pytest.mark.parametrize("kind", KINDS)
def test_the_head_reads_the_last_states_and_their_context(backend, rng, kind):
    """Both directions side by side: the head's weights pick out what the second reading makes of the states."""
    spec = NetworkSpec(4, 2, (3,), 12, bidirectional="concat", attention=kind)
    params, x = random_network_params(rng, spec), rng.normal(size=(2, 4, 2))
    p = spec.views(params)
    p["head.w"][:], p["head.b"][:] = np.eye(12), 0.0
    outputs, _, _ = backend.gradient(spec, params, x, np.zeros((2, 12)))
    own = {name.removeprefix("attention."): block for name, block in p.items() if name.startswith("attention.")}
    for row, window in zip(outputs, x, strict=True):
        forward, backward = (
            _states(p, name, w) for name, w in (("layers.0.", window), ("layers.0.reverse.", window[::-1]))
        )
        states = np.concatenate([forward, backward[::-1]], axis=1)
        query = np.concatenate([forward[-1], backward[-1]])
        np.testing.assert_allclose(row[:6], query, rtol=0, atol=1e-13)
        np.testing.assert_allclose(row[6:], second_reading(kind, query, states, own)[1], rtol=0, atol=1e-13)


def _states(p, name, window):
    """Hidden states ``[T,H]`` of one run, by the second reading of its cell."""
    blocks = {key.removeprefix(name): block for key, block in p.items() if key.startswith(name)}
    return cell_oracles.run("lstm", window, blocks, len(blocks["w_h"]))


@pytest.mark.parametrize("kind", KINDS)
def test_a_training_step_spares_only_the_bias_from_the_penalty(backend, rng, kind):
    spec = network(hidden_sizes=(4, 3), window_norm="standard", season_length=3, attention=kind)
    params, windows = random_network_params(rng, spec), series_windows(rng, spec)
    _, decayed = one_step(backend, spec, step_rule(alpha=0.3), params, windows)
    _, plain = one_step(backend, spec, step_rule(), params, windows)
    pulled = spec.views(plain.params - decayed.params - 0.3 / windows.weights.sum() * params)
    for name, rest in pulled.items():
        is_spared = np.abs(rest).max() > 1e-9
        assert is_spared == name.endswith((".b", ".b_h")), name


@pytest.mark.needs_jit
def test_threads_and_company_change_no_bit(rng):
    """Batches of several shards; forecasts of all windows at once and one by one."""
    spec = network(hidden_sizes=(9,), bidirectional="sum", attention="additive")
    windows, cpu = series_windows(rng, spec), get_backend("cpu")
    order = np.tile(np.arange(len(windows), dtype=np.int64), 6)
    params = random_network_params(rng, spec)
    states = [TrainState(params.copy()) for _ in range(3)]
    for n_jobs, state in enumerate(states, start=1):
        cpu.train_epoch(spec, step_rule(solver="adam"), state, windows, order, 66, np.array([0.1]), n_jobs)
        np.testing.assert_array_equal(state.params, states[0].params)
    together = cpu.predict(spec, params, windows.values, windows.x_starts, 2)
    alone = [cpu.predict(spec, params, windows.values, windows.x_starts[i : i + 1], 1) for i in range(len(windows))]
    np.testing.assert_array_equal(together, np.concatenate(alone))
