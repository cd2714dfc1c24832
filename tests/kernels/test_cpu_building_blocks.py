"""Lanes, activations and the register tile against NumPy, in float32 and float64, compiled or plain."""

import numpy as np
import pytest

from tsforecast.backends.cpu import activations
from tsforecast.backends.cpu.activations import decay, exp, relu, relu_slope, sigmoid, tanh
from tsforecast.backends.cpu.jit import JIT_DISABLED, entry
from tsforecast.backends.cpu.lanes import LANES, clamp, fma, larger, load, splat, sqrt, store, where_positive, widen
from tsforecast.backends.cpu.tile import multiply, panel_index
from tsforecast.backends.cpu.transpose import transpose_columns

DTYPES = [np.float32, np.float64]


@entry
def _lane_arithmetic(a, b, out):
    x, y = load(a, 1), load(b, 0)
    store(out, 0, x + y)
    store(out, LANES, x - y)
    store(out, 2 * LANES, x * y)
    store(out, 3 * LANES, x / y)
    store(out, 4 * LANES, fma(x, y, splat(a, 3)))


def squasher(kinds):
    """Compiled: rows of lanes side by side, one a letter of ``kinds``."""
    squash = getattr(activations, f"squash_{kinds}")

    @entry
    def two(z, out):
        n = len(z) // 2
        for k in range(0, n, LANES):
            a, b = squash(load(z, k), load(z, n + k))
            store(out, k, a)
            store(out, n + k, b)

    @entry
    def three(z, out):
        n = len(z) // 3
        for k in range(0, n, LANES):
            a, b, c = squash(load(z, k), load(z, n + k), load(z, 2 * n + k))
            store(out, k, a)
            store(out, n + k, b)
            store(out, 2 * n + k, c)

    @entry
    def four(z, out):
        n = len(z) // 4
        for k in range(0, n, LANES):
            a, b, c, d = squash(load(z, k), load(z, n + k), load(z, 2 * n + k), load(z, 3 * n + k))
            store(out, k, a)
            store(out, n + k, b)
            store(out, 2 * n + k, c)
            store(out, 3 * n + k, d)

    return {2: two, 3: three, 4: four}[len(kinds)]


@entry
def _rectify(x, out):
    store(out, 0, relu(load(x, 0)))
    store(out, LANES, relu_slope(relu(load(x, 0))))
    store(out, 2 * LANES, sqrt(load(x, 0) * load(x, 0)))
    store(out, 3 * LANES, clamp(load(x, 0), splat(x, 0.5)))


@entry
def _exponentials(x, out):
    for i in range(0, len(x), LANES):
        store(out, i, exp(load(x, i)))


@entry
def _larger(a, b, out):
    store(out, 0, larger(load(a, 0), load(b, 0)))


@entry
def _decay_and_choose(x, decayed, chosen):
    for i in range(0, len(x), LANES):
        store(decayed, i, decay(load(x, i)))
        store(chosen, i, where_positive(load(x, i), splat(x, 2), splat(x, 3)))


@entry
def _squares(x, out):
    store(out, 0, widen(load(x, 0)) * widen(load(x, 0)))


@entry
def _transpose(source, s_row, n_rows, target, n_target_rows, first_row):
    transpose_columns(source, 0, s_row, n_rows, target, 0, n_target_rows, first_row)


@entry
def _activate(x, tanh_out, sigmoid_out):
    for i in range(0, len(x), LANES):
        store(tanh_out, i, tanh(load(x, i)))
        store(sigmoid_out, i, sigmoid(load(x, i)))


@entry
def _multiply(M, V, K, a, a0, a_row, a_k, b, b0, c, c0, c_row, c_vec, add, b_row=0):
    multiply(M, V, K, a, a0, a_row, a_k, b, b0, b_row, c, c0, c_row, c_vec, add)


@pytest.mark.parametrize("dtype", DTYPES)
def test_lane_operators_round_like_numpy(dtype, rng):
    a, b = rng.normal(size=LANES + 1).astype(dtype), rng.normal(size=LANES).astype(dtype)
    out = np.full(5 * LANES, np.nan, dtype)
    _lane_arithmetic(a, b, out)
    x = a[1:]
    np.testing.assert_array_equal(out[: 4 * LANES], np.concatenate([x + b, x - b, x * b, x / b]))
    exact = x.astype(np.longdouble) * b.astype(np.longdouble) + 3
    np.testing.assert_allclose(out[4 * LANES :], exact.astype(dtype), rtol=0, atol=np.spacing(dtype(4)))


@pytest.mark.skipif(JIT_DISABLED, reason="the plain twin of fma rounds twice")
def test_fma_rounds_once():
    """(1 + e)^2 - (1 + 2e) is e^2 exactly, and zero if the product is rounded first."""
    e = np.float32(2.0**-12)
    a, b = np.full(LANES + 1, 1 + e, np.float32), np.full(LANES, 1 + e, np.float32)
    out = np.empty(LANES, np.float32)

    @entry
    def difference(a, b, out):
        x = load(a, 0)
        store(out, 0, fma(x, load(b, 0), splat(a, -1.00048828125)))

    difference(a, b, out)
    assert (out == e * e).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_activations_are_accurate_everywhere(dtype):
    """Absolute error of 3 ulp of 1; tanh also 4 ulp relative where it is small; saturation exact; NaN stays NaN."""
    ulp = np.finfo(dtype).eps
    x = np.concatenate([np.linspace(-30, 30, 4096), np.geomspace(1e-30, 1, 512), -np.geomspace(1e-30, 1, 512)]).astype(
        dtype
    )
    t, s = np.empty_like(x), np.empty_like(x)
    _activate(x, t, s)
    exact = x.astype(np.longdouble)
    np.testing.assert_allclose(t.astype(np.longdouble), np.tanh(exact), rtol=4 * ulp, atol=3 * ulp)
    small = np.abs(x) < 0.1
    np.testing.assert_allclose(t[small].astype(np.longdouble), np.tanh(exact[small]), rtol=4 * ulp, atol=0)
    np.testing.assert_allclose(s.astype(np.longdouble), 1 / (1 + np.exp(-exact)), rtol=0, atol=3 * ulp)
    special = np.zeros(LANES, dtype)
    special[:4] = np.nan, np.inf, -np.inf, 0.0
    t, s = np.empty_like(special), np.empty_like(special)
    _activate(special, t, s)
    np.testing.assert_array_equal(t[:4], [np.nan, 1, -1, 0])
    np.testing.assert_allclose(s[:4], [np.nan, 1, 0, 0.5], rtol=0, atol=ulp)


@pytest.mark.parametrize("dtype", DTYPES)
def test_exp_is_accurate_to_a_few_ulp_and_a_part_of_the_argument(dtype):
    """The factor log2(e) is off by up to half an ulp, which |x| multiplies; beyond its range exp stays where it is."""
    ulp, most = np.finfo(dtype).eps, {np.float32: 86, np.float64: 707}[dtype]
    x = np.concatenate([np.linspace(-most, most, 4096), np.geomspace(1e-30, 1, 512), [0.0] * 512]).astype(dtype)
    out = np.empty_like(x)
    _exponentials(x, out)
    exact = np.exp(x.astype(np.longdouble))
    error = np.abs(out.astype(np.longdouble) / exact - 1) / ulp
    assert (error <= 2 + np.abs(x)).all()
    assert (out[x == 0] == 1).all()
    special = np.zeros(LANES, dtype)
    special[:3] = np.nan, 1e30, -1e30
    _exponentials(special, out[:LANES])
    assert np.isnan(out[0])
    if not JIT_DISABLED:  # the plain twin has no bounds
        np.testing.assert_allclose(
            out[1:3].astype(np.longdouble), np.exp(np.longdouble([most, -most])), rtol=most * ulp
        )


def test_the_larger_of_two_is_the_second_where_one_is_no_number():
    a, b, out = np.arange(LANES, dtype=np.float64), np.full(LANES, 2.5), np.empty(LANES)
    a[0], b[-1] = np.nan, np.nan
    _larger(a, b, out)
    np.testing.assert_array_equal(out, [2.5, 2.5, 2.5, *range(3, LANES - 1), np.nan])


@pytest.mark.parametrize("dtype", DTYPES)
def test_decay_and_choice(dtype):
    """e^-|x| within 2 ulp of 1, and of itself where it is large; neither loses a NaN to a number."""
    ulp = np.finfo(dtype).eps
    x = np.concatenate([np.linspace(-50, 50, 4096), np.geomspace(1e-30, 1, 512), [np.nan, np.inf, -np.inf, 0.0] * 8])
    x = x.astype(dtype)
    decayed, chosen = np.empty_like(x), np.empty_like(x)
    _decay_and_choose(x, decayed, chosen)
    exact = np.exp(-np.abs(x.astype(np.longdouble)))
    np.testing.assert_allclose(decayed.astype(np.longdouble), exact, rtol=0, atol=2 * ulp)
    assert decayed[~np.isnan(x)].min() >= 0
    np.testing.assert_array_equal(np.isnan(decayed), np.isnan(x))
    np.testing.assert_array_equal(chosen, np.where(x > 0, 2, 3))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kinds", ["ss", "st", "sst", "sts", "sss", "ssts"])
def test_gates_share_a_division_and_keep_their_accuracy(dtype, kinds, rng):
    """Four roundings more than alone, also where all denominators are at their largest."""
    ulp, squash, m = np.finfo(dtype).eps, squasher(kinds), len(kinds)
    n = 64 * LANES
    z = np.concatenate([rng.uniform(-30, 30, (m, n // 2)), rng.normal(size=(m, n // 2))], axis=1).astype(dtype)
    z[:, :4] = [[-1e30, -40, 40, 0]] * m
    out = np.empty(m * n, dtype)
    squash(z.ravel(), out)
    exact = z.astype(np.longdouble)
    expected = 1 / (1 + np.exp(-np.clip(exact, -5000, 5000)))
    expected[np.array(list(kinds)) == "t"] = np.tanh(exact[np.array(list(kinds)) == "t"])
    np.testing.assert_allclose(out.reshape(m, n).astype(np.longdouble), expected, rtol=0, atol=6 * ulp)
    assert np.isfinite(out).all()
    z[1, 7] = np.nan
    squash(z.ravel(), out)
    is_nan = np.isnan(out.reshape(m, n))
    assert is_nan[1, 7], "a NaN must not be clamped away"
    assert not np.delete(is_nan, 7, axis=1).any()


@pytest.mark.parametrize("dtype", DTYPES)
def test_relu_roots_bounds_and_widening(dtype):
    x = np.linspace(-1.3, 1.7, LANES).astype(dtype)
    x[0], x[1] = np.nan, 0.0
    out, wide = np.empty(4 * LANES, dtype), np.empty(LANES)
    _rectify(x, out)
    np.testing.assert_array_equal(out[:LANES], np.where(np.isnan(x), x, np.maximum(x, 0)))
    np.testing.assert_array_equal(out[LANES : 2 * LANES], np.where(x > 0, 1, 0))
    np.testing.assert_array_equal(out[2 * LANES : 3 * LANES], np.sqrt(x * x))
    np.testing.assert_array_equal(out[3 * LANES :], np.where(np.abs(x) > 0.5, dtype(0.5) * np.sign(x), x))
    _squares(x, wide)
    np.testing.assert_array_equal(wide, x.astype(np.float64) ** 2)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n_rows", [1, LANES - 1, LANES, 3 * LANES + 2, 6 * LANES])
def test_transposed_columns_stand_in_panels_with_zero_padding(dtype, n_rows, rng):
    row, n_target_rows, first = 3 * LANES, 2 * LANES, LANES
    source = rng.normal(size=(n_rows, row)).astype(dtype)
    n_vectors = -(-n_rows // LANES)
    target = np.full(n_target_rows * n_vectors * LANES, np.nan, dtype)
    _transpose(source.ravel(), row, n_rows, target, n_target_rows, first)
    k, j = np.arange(LANES)[:, None] + first, np.arange(n_vectors * LANES)
    copied = target[panel_index(k, j, n_target_rows, n_vectors)]
    np.testing.assert_array_equal(copied[:, :n_rows], source[:, :LANES].T)
    assert not copied[:, n_rows:].any()
    assert np.isnan(target).sum() == target.size - copied.size


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n_vectors", [1, 2, 3, 4, 5, 7, 8])
@pytest.mark.parametrize("n_rows", [1, 5, 13, 31])
def test_multiply_equals_matmul(dtype, n_vectors, n_rows, rng):
    """Any rows and columns, both layouts of C, both orders of A, overwriting and adding."""
    k, width = 9, n_vectors * LANES
    a, b = rng.normal(size=(n_rows, k)).astype(dtype), rng.normal(size=(k, width)).astype(dtype)
    packed = np.full(k * width + 3, np.nan, dtype)
    packed[3 + panel_index(np.arange(k)[:, None], np.arange(width), k, n_vectors)] = b
    expected = a.astype(np.float64) @ b.astype(np.float64)
    # A sum of k products, each rounded once, of terms below 4 * 4.
    tolerance = {"rtol": 0, "atol": 16 * k * np.finfo(dtype).eps}

    c = np.full(n_rows * width, np.nan, dtype)
    _multiply(n_rows, n_vectors, k, a.ravel(), 0, k, 1, packed, 3, c, 0, width, LANES, False)
    np.testing.assert_allclose(c.reshape(n_rows, width), expected, **tolerance)

    again = c.copy()
    transposed = np.ascontiguousarray(a.T)
    _multiply(n_rows, n_vectors, k, transposed.ravel(), 0, 1, n_rows, packed, 3, again, 0, width, LANES, True)
    np.testing.assert_allclose(again.reshape(n_rows, width), 2 * expected, **tolerance)

    panels = np.full(n_rows * width, np.nan, dtype)
    _multiply(n_rows, n_vectors, k, a.ravel(), 0, k, 1, packed, 3, panels, 0, 0, n_rows * LANES, False)
    place = panel_index(np.arange(n_rows)[:, None], np.arange(width), n_rows, n_vectors)
    np.testing.assert_array_equal(panels[place], c.reshape(n_rows, width))


def test_multiply_in_blocks_of_k_gives_the_same_bits(rng):
    n_rows, k, n_vectors = 7, 40, 4
    a, b = rng.normal(size=n_rows * k).astype(np.float32), rng.normal(size=k * n_vectors * LANES).astype(np.float32)
    whole, blocks = np.empty((2, n_rows * n_vectors * LANES), np.float32)
    width = n_vectors * LANES
    _multiply(n_rows, n_vectors, k, a, 0, k, 1, b, 0, whole, 0, width, LANES, False)
    _multiply(n_rows, n_vectors, 13, a, 0, k, 1, b, 0, blocks, 0, width, LANES, False)
    _multiply(n_rows, n_vectors, k - 13, a, 13, k, 1, b, 13 * width, blocks, 0, width, LANES, True)
    if JIT_DISABLED:  # the plain twin adds up with NumPy
        np.testing.assert_allclose(blocks, whole, rtol=1e-5, atol=1e-5)
    else:
        np.testing.assert_array_equal(blocks, whole)


@pytest.mark.parametrize("first", [0, 1])
def test_multiply_by_a_part_of_a_wider_panel(first, rng):
    """Vectors first..first+2 of panels of 4: what the GRU's two weight gradients read."""
    a, b = rng.normal(size=(5, 9)), rng.normal(size=(9, 4 * LANES))
    c = np.empty((5, 3 * LANES))
    _multiply(5, 3, 9, a.ravel(), 0, 9, 1, b.ravel(), first * LANES, c.ravel(), 0, 0, 0, False, 4 * LANES)
    np.testing.assert_allclose(c, a @ b[:, first * LANES : (first + 3) * LANES], rtol=0, atol=1e-13)
