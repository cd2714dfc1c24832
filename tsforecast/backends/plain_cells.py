"""One layer of every cell in plain NumPy, operation by operation as the CPU kernels do it, and so with their bits.

The equations are those of the cells' files in ``backends.cpu``, by whose numbers the lines are called.
Letters: T steps, B rows, D inputs, H units, G gate columns.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial, reduce

import numpy as np
from numpy.typing import NDArray

from tsforecast.backends.plain_activations import decay, exp, sigmoid_denominator, squash, tanh
from tsforecast.backends.reference.layer_norm import EPSILON
from tsforecast.backends.rounding import fma

Array = NDArray
Params = Mapping[str, Array]  # a layer's blocks by their short names
Layer = Callable[[list[Array], Params], list[Array]]  # T inputs [B,D] to T hidden states [B,H]


def chain(
    columns: list[Array],  # [B,.] side by side K of them
    weights: list[Array],  # [.,N] one below the other K of them
    total: Array | None = None,  # [B,N]; None: zero
) -> Array:
    """``[B,N]``: every element one chain of fused multiply-adds over k, from ``total``."""
    if total is None:
        total = np.zeros((len(columns[0]), weights[0].shape[1]), weights[0].dtype)
    for a, w in zip(columns, weights, strict=True):
        for k in range(len(w)):
            total = fma(a[:, k : k + 1], w[k], total)
    return total


def _lstm(
    x: list[Array],
    p: Params,
    columns: str = "ifgo",
    coupled: bool = False,
    input_activation: bool = True,
    output_activation: bool = True,
) -> list[Array]:
    """The LSTM and its relatives, told apart by the blocks they have (``w_c``, ``w_g``) and by the flags."""
    c = np.zeros((len(x[0]), len(p["w_h"])), p["w_h"].dtype)
    h, one, states = c, np.ones_like(c), []
    fed_back = [c, c, c]  # i, f, o of the step before
    for x_t in x:
        sums = chain([x_t, one[:, :1], h], [p["w_x"], p["b"][None], p["w_h"]])  # 1a
        z = dict(zip(columns, np.split(sums, len(columns), axis=1), strict=True))
        if "w_g" in p:
            gates = np.concatenate([z["i"], z["f"], z["o"]], axis=1)
            gates = chain([np.concatenate(fed_back, axis=1)], [p["w_g"]], gates)  # 1b
            z |= dict(zip("ifo", np.split(gates, 3, axis=1), strict=True))
        if "w_c" in p:
            w_i, w_f, w_o = np.split(p["w_c"], 3)
            z_o, z["i"], z["f"] = z.pop("o"), fma(w_i, c, z["i"]), fma(w_f, c, z["f"])  # 2a
        tanhs = "g" if input_activation else ""
        squashed = [gate for gate in columns if gate in z and (gate != "g" or tanhs)]
        kinds = ["t" if gate in tanhs else "s" for gate in squashed]
        z |= dict(zip(squashed, squash(kinds, [z[gate] for gate in squashed]), strict=True))  # 2a 2b
        i, g = z.get("i", one), z["g"]
        f = one - i if coupled else z.get("f", one)
        c = fma(f, c, i * g)  # 3a
        if "w_c" in p:
            o, s = squash(["s", "t"], [fma(w_o, c, z_o), c])  # 3b 4a
        else:
            o, s = z.get("o", one), tanh(c) if output_activation else c
        h, fed_back = o * s, [i, f, o]  # 4b
        states.append(h)
    return states


def _slstm(x: list[Array], p: Params) -> list[Array]:
    """The sLSTM; the state is r, n, m."""
    r = np.zeros((len(x[0]), len(p["w_h"])), p["w_h"].dtype)
    h, n, m, one, states = r, r, r, np.ones_like(r), []
    for x_t in x:
        sums = chain([x_t, one[:, :1], h], [p["w_x"], p["b"][None], p["w_h"]])  # 1a
        a_i, a_f, a_z, a_o = np.split(sums, 4, axis=1)
        k, o, z = squash(["s", "s", "t"], [np.where(a_f > 0, a_f, 0 - a_f), a_o, a_z])  # 2d
        past = m + np.where(a_f > 0, 0, a_f)  # 2a
        ahead = past - a_i
        e = decay(ahead)  # 2b
        is_past = (ahead > 0) & (n > 0)
        i, f, m = np.where(is_past, e, one), np.where(is_past, one, e) * k, np.where(is_past, past, a_i)  # 2c
        n = fma(f, n, i)  # 3a
        r = fma(i / n, z - r, r)  # 3b 3c
        m, n = np.where(n < 1, m - m.dtype.type(math.log(2.0)), m), np.where(n < 1, n + n, n)
        h = o * r  # 4a
        states.append(h)
    return states


def _gru(x: list[Array], p: Params) -> list[Array]:
    """The gated recurrent unit; public gate order r, z, n."""
    h = np.zeros((len(x[0]), len(p["w_h"])), p["w_h"].dtype)
    one, units, states = np.ones((len(h), 1), h.dtype), h.shape[1], []
    for x_t in x:
        sums = chain([x_t, one], [p["w_x"], p["b"][None]])  # 1a
        rz = chain([h], [p["w_h"][:, : 2 * units]], sums[:, : 2 * units])  # 1b
        m = chain([h], [p["w_h"][:, 2 * units :]], np.tile(p["b_h"], (len(h), 1)))  # 1b
        r, z = squash(["s", "s"], np.split(rz, 2, axis=1))  # 2a
        n = tanh(fma(r, m, sums[:, 2 * units :]))  # 2b
        h = fma(z, h - n, n)  # 3a
        states.append(h)
    return states


def _minimal(x: list[Array], p: Params, is_lstm: bool) -> list[Array]:
    """The minGRU and the minLSTM."""
    h = np.zeros((len(x[0]), p["w_x"].shape[1] // (3 if is_lstm else 2)), p["w_x"].dtype)
    one, states = np.ones_like(h), []
    for x_t in x:
        sums = chain([x_t, one[:, :1]], [p["w_x"], p["b"][None]])  # 1a
        *gates, g = np.split(sums, 3 if is_lstm else 2, axis=1)  # 2a
        if is_lstm:
            x_i, x_f = (0 - a for a in gates)
            beyond = np.maximum(np.maximum(x_i, x_f), 37.0) - 37.0
            above_i, above_f = (one + exp(x - beyond, 37.0) for x in (x_i, x_f))  # 2c
            w = above_f * (one / (above_i + above_f))
        else:
            w = one / sigmoid_denominator(gates[0])  # 2b
        h = fma(w, g - h, h)  # 3a
        states.append(h)
    return states


def _layer_norm_lstm(x: list[Array], p: Params) -> list[Array]:
    """The LSTM with layer normalisation."""
    h = c = np.zeros((len(x[0]), len(p["w_h"])), p["w_h"].dtype)
    states = []
    for x_t in x:
        u, v = (_standardised(np.split(chain([a], [w]), 4, axis=1)) for a, w in ((x_t, p["w_x"]), (h, p["w_h"])))  # 1
        g_x, g_h, b = (np.split(p[name], 4) for name in ("g_x", "g_h", "b"))
        i, f, g, o = squash([*"ssts"], [fma(g_x[k], u[k], fma(g_h[k], v[k], b[k])) for k in range(4)])  # 2a 2b
        c = fma(f, c, i * g)  # 3a
        h = o * tanh(fma(p["g_c"], _standardised([c])[0], p["b_c"]))  # 4a 4b 4c
        states.append(h)
    return states


def _layer_norm_gru(x: list[Array], p: Params) -> list[Array]:
    """The gated recurrent unit with layer normalisation."""
    h = np.zeros((len(x[0]), len(p["w_h"])), p["w_h"].dtype)
    states = []
    for x_t in x:
        (*u, u_n), (*v, v_n) = (
            [*_standardised([a_r, a_z]), *_standardised([a_n])]
            for a_r, a_z, a_n in (np.split(chain([a], [w]), 3, axis=1) for a, w in ((x_t, p["w_x"]), (h, p["w_h"])))
        )  # 1a 1b 1c
        (*g_x, g_xn), (*g_h, g_hn), (*b, b_n) = (np.split(p[name], 3) for name in ("g_x", "g_h", "b"))
        r, z = squash(["s", "s"], [fma(g_x[k], u[k], fma(g_h[k], v[k], b[k])) for k in range(2)])  # 2a
        m = fma(g_hn, v_n, p["b_h"])  # 2b
        n = tanh(fma(r, m, fma(g_xn, u_n, b_n)))  # 2c
        h = fma(z, h - n, n)  # 3a
        states.append(h)
    return states


def _standardised(gates: list[Array]) -> list[Array]:
    """``layer_norm.standardise`` of gates ``[B,H]`` normalised together."""
    n = gates[0].dtype.type(len(gates) * gates[0].shape[1])
    mean = _row_sums(reduce(np.add, gates)) / n
    first, *rest = deviations = [gate - mean for gate in gates]
    variance = _row_sums(reduce(lambda total, d: fma(d, d, total), rest, first * first)) / n
    scale = 1 / np.sqrt(variance + n.dtype.type(EPSILON))
    return [d * scale for d in deviations]


def _row_sums(a: Array) -> Array:
    """``[B,1]`` of ``a [B,H]``: 16 chains, then by halves."""
    n_rows, units = a.shape
    blocks = np.pad(a, ((0, 0), (0, -units % 16))).reshape(n_rows, -1, 16)
    sums = reduce(np.add, blocks.swapaxes(0, 1), np.zeros((n_rows, 16), a.dtype))
    while sums.shape[1] > 1:
        half = sums.shape[1] // 2
        sums = sums[:, :half] + sums[:, half:]
    return sums


def _rnn(x: list[Array], p: Params, rectified: bool) -> list[Array]:
    """The plain recurrent network."""
    h = np.zeros((len(x[0]), len(p["w_h"])), p["w_h"].dtype)
    one, states = np.ones((len(h), 1), h.dtype), []
    for x_t in x:
        a = chain([x_t, one, h], [p["w_x"], p["b"][None], p["w_h"]])  # 1a
        h = np.where(a <= 0, a.dtype.type(0), a) if rectified else tanh(a)  # 2a
        states.append(h)
    return states


LAYERS: dict[str, Layer] = {
    "lstm": _lstm,
    "lstm_peephole": _lstm,
    "lstm_coupled": partial(_lstm, columns="igo", coupled=True),
    "lstm_no_input_gate": partial(_lstm, columns="fgo"),
    "lstm_no_forget_gate": partial(_lstm, columns="igo"),
    "lstm_no_output_gate": partial(_lstm, columns="ifg"),
    "lstm_no_input_activation": partial(_lstm, input_activation=False),
    "lstm_no_output_activation": partial(_lstm, output_activation=False),
    "lstm_full_gate_recurrence": _lstm,
    "slstm": _slstm,
    "gru": _gru,
    "mingru": partial(_minimal, is_lstm=False),
    "minlstm": partial(_minimal, is_lstm=True),
    "lstm_layer_norm": _layer_norm_lstm,
    "gru_layer_norm": _layer_norm_gru,
    "rnn_tanh": partial(_rnn, rectified=False),
    "rnn_relu": partial(_rnn, rectified=True),
}
