r"""The LSTM and its relatives: with peepholes, with gates or activations taken away, coupled, or feeding one another.

Letters: B rows of a batch, H units, G gate columns. Forward, with u = x_t W_x and v = h_{t-1} W_h, both ``[B,G*H]``,
and the state h_{t-1}, c_{t-1} ``[B,H]``::

    1a   a   = u + v + b                            one block of H columns a gate
    1b   a  += (i_{t-1} f_{t-1} o_{t-1}) W_g        full gate recurrence; for the columns of i, f, o
    2a   i   = sigmoid(a_i + w_ci * c_{t-1})        input gate
    2b   f   = sigmoid(a_f + w_cf * c_{t-1})        forget gate
    2c   g   = tanh(a_g)                            candidate
    3a   c_t = f * c_{t-1} + i * g                  cell state
    3b   o   = sigmoid(a_o + w_co * c_t)            output gate, which sees the new cell
    4a   s   = tanh(c_t)
    4b   h_t = o * s                                hidden state

The plain LSTM has no peepholes w_c. A gate that is taken away is 1; coupled gates have f = 1 - i; without input
(output) activation g = a_g (s = c_t). Greff et al. vary the LSTM with peepholes, here it is the one without: they find
no difference between the two. With full gate recurrence i, f and o of the step before are part of the state, first 0.

Each backward line names the one that it undoes.

References
----------
S. Hochreiter, J. Schmidhuber: Long Short-Term Memory. Neural Computation 9(8), 1997.
F. Gers, J. Schmidhuber, F. Cummins: Learning to Forget: Continual Prediction with LSTM. Neural Computation 12(10),
2000 (the forget gate).
F. Gers, J. Schmidhuber: Recurrent Nets that Time and Count. IJCNN 2000 (peepholes).
K. Greff, R. Srivastava, J. Koutnik, B. Steunebrink, J. Schmidhuber: LSTM: A Search Space Odyssey. IEEE Transactions on
Neural Networks and Learning Systems 28(10), 2017; arXiv 1503.04069, 2015 (the variants).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from tsforecast.backends.reference.activations import Array, sigmoid, sigmoid_slope, tanh_slope
from tsforecast.backends.reference.cell import Params, State


class Variant(NamedTuple):
    """One member of the family; the defaults are the plain LSTM."""

    columns: str = "ifgo"  # the gate columns that exist, in their order
    peepholes: bool = False
    coupled: bool = False
    input_activation: bool = True
    output_activation: bool = True
    gate_recurrence: bool = False


class Kept(NamedTuple):
    """What a step leaves for its undoing, ``[B,H]`` each."""

    c_before: Array
    c: Array
    i: Array
    f: Array
    g: Array
    o: Array
    s: Array
    gates_before: Array | None  # [B,3H] i, f, o of the step before, with gate recurrence


def step(
    variant: Variant,
    u: Array,  # [B,G*H]
    v: Array,  # [B,G*H]
    state: State,  # h_{t-1}, c_{t-1} (, i_{t-1}, f_{t-1}, o_{t-1})
    p: Params,
) -> tuple[State, Kept]:
    """Return the new state and what ``step_backward`` needs."""
    _, c_before, *gates = state
    a = _by_gate(variant, u + v + p["b"])  # 1a
    gates_before = np.concatenate(gates, axis=1) if variant.gate_recurrence else None
    if gates_before is not None:
        for gate, addition in zip("ifo", np.split(gates_before @ p["w_g"], 3, axis=1), strict=True):
            a[gate] = a[gate] + addition  # 1b
    w_ci, w_cf, w_co = _peepholes(variant, p)
    one = np.ones_like(c_before)
    i = sigmoid(a["i"] + w_ci * c_before) if "i" in a else one  # 2a
    if variant.coupled:
        f = 1.0 - i  # 2b
    else:
        f = sigmoid(a["f"] + w_cf * c_before) if "f" in a else one  # 2b
    g = np.tanh(a["g"]) if variant.input_activation else a["g"]  # 2c
    c = f * c_before + i * g  # 3a
    o = sigmoid(a["o"] + w_co * c) if "o" in a else one  # 3b
    s = np.tanh(c) if variant.output_activation else c  # 4a
    gates = [i, f, o] if variant.gate_recurrence else []
    return (o * s, c, *gates), Kept(c_before, c, i, f, g, o, s, gates_before)  # 4b


def step_backward(
    variant: Variant,
    dstate: State,  # derivatives by the new state
    kept: Kept,
    p: Params,
    dp: Params,
) -> tuple[Array, Array, State]:
    """Undo ``step``; return ``du``, ``dv`` (equal) and the derivatives by the state before."""
    c_before, c, i, f, g, o, s, gates_before = kept
    dh, dc, *dgates = dstate
    di_out, df_out, do_out = dgates or (0.0, 0.0, 0.0)
    w_ci, w_cf, w_co = _peepholes(variant, p)
    da = {"o": (dh * s + do_out) * sigmoid_slope(o)}  # 4b 3b
    dc = dc + dh * o * (tanh_slope(s) if variant.output_activation else 1.0)  # 4b 4a
    dc = dc + da["o"] * w_co  # 3b
    df, di, dg = dc * c_before + df_out, dc * g + di_out, dc * i  # 3a
    if variant.coupled:
        di = di - df  # 2b
    da["g"] = dg * (tanh_slope(g) if variant.input_activation else 1.0)  # 2c
    da["f"] = 0.0 * df if variant.coupled else df * sigmoid_slope(f)  # 2b
    da["i"] = di * sigmoid_slope(i)  # 2a
    dc_before = dc * f + da["i"] * w_ci + da["f"] * w_cf  # 3a 2a 2b
    if variant.peepholes:
        seen = (da["i"] * c_before, da["f"] * c_before, da["o"] * c)  # 2a 2b 3b
        dp["w_c"] += np.concatenate([d.sum(axis=0) for d in seen])
    dgates_before: State = ()
    if gates_before is not None:
        da_ifo = np.concatenate([da[gate] for gate in "ifo"], axis=1)
        dp["w_g"] += gates_before.T @ da_ifo  # 1b
        dgates_before = tuple(np.split(da_ifo @ p["w_g"].T, 3, axis=1))  # 1b
    du = np.concatenate([da[gate] for gate in variant.columns], axis=1)
    dp["b"] += du.sum(axis=0)  # 1a
    return du, du, (np.zeros_like(dh), dc_before, *dgates_before)


def _by_gate(variant: Variant, a: Array) -> dict[str, Array]:
    """Split the columns of ``a [B,G*H]`` by gate."""
    return dict(zip(variant.columns, np.split(a, len(variant.columns), axis=1), strict=True))


def _peepholes(variant: Variant, p: Params) -> list[Array] | tuple[float, float, float]:
    """Weights of the cell in gates i, f, o, ``[H]`` each; zeros where there are none."""
    return np.split(p["w_c"], 3) if variant.peepholes else (0.0, 0.0, 0.0)
