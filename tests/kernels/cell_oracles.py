"""Second readings of the papers: every cell once more, one row and one unit at a time, written without the package.

Nothing here is shared with the backends: gates are scalars, sums are spelled out, and names are those of the papers.
``run(name, x, p, n_units)`` takes one window ``x [T,D]`` and the blocks of one layer and returns ``h [T,H]``.

A scalar may also be a vector of M complex numbers, ``x [T,D,M]`` and blocks with one axis more: M runs at once, which
``derivatives`` uses.
"""

import numpy as np

STEP = 1e-30  # squares of it vanish beside anything, and no difference is taken, so that nothing is lost to rounding


def sigma(a):
    return 1.0 / (1.0 + np.exp(-a))


def rectified(a):
    return np.where(np.real(a) > 0.0, a, 0.0)


class Weights:
    """Blocks of a layer by the letter of a gate: what reaches unit ``j`` of that gate from a vector."""

    def __init__(self, p, letters, n_units):
        self.p, self.place, self.n = p, {letter: k * n_units for k, letter in enumerate(letters)}, n_units

    def from_input(self, gate, j, x):
        return sum(x[d] * self.p["w_x"][d, self.place[gate] + j] for d in range(len(x)))

    def from_hidden(self, gate, j, y):
        return sum(y[k] * self.p["w_h"][k, self.place[gate] + j] for k in range(self.n))

    def bias(self, gate, j):
        return self.p["b"][self.place[gate] + j]

    def net(self, gate, j, x, y):
        return self.from_input(gate, j, x) + self.from_hidden(gate, j, y) + self.bias(gate, j)


def elman(x, p, n, squash):
    w, y, out = Weights(p, "a", n), [0.0] * n, []
    for x_t in x:
        y = [squash(w.net("a", j, x_t, y)) for j in range(n)]
        out.append(y)
    return out


def greff(x, p, n, letters="ifgo", coupled=False, squash_in=np.tanh, squash_out=np.tanh):
    """Eqs. of section II of Greff et al., and their variants; peepholes where ``p`` has ``w_c``, FGR where ``w_g``."""
    w, peep, full = Weights(p, letters, n), p.get("w_c", np.zeros(3 * n)), p.get("w_g", np.zeros((3 * n, 3 * n)))
    y, c, out = [0.0] * n, [0.0] * n, []
    i_gate, f_gate, o_gate = [0.0] * n, [0.0] * n, [0.0] * n
    for x_t in x:
        y_new, c_new, i_new, f_new, o_new = [], [], [], [], []
        before = [*i_gate, *f_gate, *o_gate]
        for j in range(n):
            among = [sum(before[k] * full[k, g * n + j] for k in range(3 * n)) for g in range(3)]
            z = squash_in(w.net("g", j, x_t, y))
            i = sigma(w.net("i", j, x_t, y) + peep[j] * c[j] + among[0]) if "i" in letters else 1.0
            f = sigma(w.net("f", j, x_t, y) + peep[n + j] * c[j] + among[1]) if "f" in letters else 1.0
            if coupled:
                f = 1.0 - i
            c_t = z * i + c[j] * f
            o = sigma(w.net("o", j, x_t, y) + peep[2 * n + j] * c_t + among[2]) if "o" in letters else 1.0
            y_new.append(squash_out(c_t) * o)
            c_new.append(c_t)
            i_new.append(i)
            f_new.append(f)
            o_new.append(o)
        y, c, i_gate, f_gate, o_gate = y_new, c_new, i_new, f_new, o_new
        out.append(y)
    return out


def reset_after(x, p, n):
    w, y, out = Weights(p, "rzn", n), [0.0] * n, []
    for x_t in x:
        new = []
        for j in range(n):
            r, z = sigma(w.net("r", j, x_t, y)), sigma(w.net("z", j, x_t, y))
            recurrent = w.from_hidden("n", j, y) + p["b_h"][j]
            candidate = np.tanh(w.from_input("n", j, x_t) + w.bias("n", j) + r * recurrent)
            new.append(candidate + z * (y[j] - candidate))
        y = new
        out.append(y)
    return out


def exponential(x, p, n):
    """Eqs. 8 to 14 of Beck et al., without the stabiliser: sums of exponentials as they are."""
    w, y, c, total, out = Weights(p, "ifzo", n), [0.0] * n, [0.0] * n, [0.0] * n, []
    for x_t in x:
        new = []
        for j in range(n):
            i, f = np.exp(w.net("i", j, x_t, y)), sigma(w.net("f", j, x_t, y))
            c[j] = f * c[j] + i * np.tanh(w.net("z", j, x_t, y))
            total[j] = f * total[j] + i
            new.append(sigma(w.net("o", j, x_t, y)) * c[j] / total[j])
        y = new
        out.append(y)
    return out


def gates_of_the_input(x, p, n, letters):
    """Sections 3.1 and 3.2 of Feng et al.: what a gate reads is the input, and the candidate is linear."""
    w, y, out = Weights(p, letters, n), [0.0] * n, []
    for x_t in x:
        new = []
        for j in range(n):
            a = {letter: w.from_input(letter, j, x_t) + w.bias(letter, j) for letter in letters}
            if "z" in letters:
                keep, write = 1.0 - sigma(a["z"]), sigma(a["z"])
            else:
                total = sigma(a["f"]) + sigma(a["i"])
                keep, write = sigma(a["f"]) / total, sigma(a["i"]) / total
            new.append(keep * y[j] + write * a["g"])
        y = new
        out.append(y)
    return out


def standardised(numbers):
    """Eq. 3 of Ba et al., with a constant that keeps rows of equal numbers finite."""
    mu = sum(numbers) / len(numbers)
    variance = sum((a - mu) ** 2 for a in numbers) / len(numbers)
    return [(a - mu) / np.sqrt(variance + 1e-5) for a in numbers]


def layer_norm_lstm(x, p, n):
    """Eqs. 20 to 22 of Ba et al."""
    w, letters = Weights(p, "ifgo", n), "ifgo"
    h, c, out = [0.0] * n, [0.0] * n, []
    for x_t in x:
        from_x = standardised([w.from_input(gate, j, x_t) for gate in letters for j in range(n)])
        from_h = standardised([w.from_hidden(gate, j, h) for gate in letters for j in range(n)])
        a = [p["g_x"][k] * from_x[k] + p["g_h"][k] * from_h[k] + p["b"][k] for k in range(4 * n)]
        c = [sigma(a[n + j]) * c[j] + sigma(a[j]) * np.tanh(a[2 * n + j]) for j in range(n)]
        seen = standardised(c)
        h = [sigma(a[3 * n + j]) * np.tanh(p["g_c"][j] * seen[j] + p["b_c"][j]) for j in range(n)]
        out.append(h)
    return out


def layer_norm_gru(x, p, n):
    """Eqs. 23 to 25 of Ba et al., their z being 1 - z here: the gates normalised together, the candidate by itself."""
    w, h, out = Weights(p, "rzn", n), [0.0] * n, []
    for x_t in x:
        gates_x = standardised([w.from_input(gate, j, x_t) for gate in "rz" for j in range(n)])
        gates_h = standardised([w.from_hidden(gate, j, h) for gate in "rz" for j in range(n)])
        candidate_x = standardised([w.from_input("n", j, x_t) for j in range(n)])
        candidate_h = standardised([w.from_hidden("n", j, h) for j in range(n)])
        gate = [sigma(p["g_x"][k] * gates_x[k] + p["g_h"][k] * gates_h[k] + p["b"][k]) for k in range(2 * n)]
        new = []
        for j in range(n):
            recurrent = p["g_h"][2 * n + j] * candidate_h[j] + p["b_h"][j]
            candidate = np.tanh(p["g_x"][2 * n + j] * candidate_x[j] + p["b"][2 * n + j] + gate[j] * recurrent)
            new.append(gate[n + j] * h[j] + (1.0 - gate[n + j]) * candidate)
        h = new
        out.append(h)
    return out


def identity(a):
    return a


ORACLES = {
    "rnn_tanh": lambda x, p, n: elman(x, p, n, np.tanh),
    "rnn_relu": lambda x, p, n: elman(x, p, n, rectified),
    "lstm": greff,
    "lstm_peephole": greff,
    "lstm_coupled": lambda x, p, n: greff(x, p, n, "igo", coupled=True),
    "lstm_no_input_gate": lambda x, p, n: greff(x, p, n, "fgo"),
    "lstm_no_forget_gate": lambda x, p, n: greff(x, p, n, "igo"),
    "lstm_no_output_gate": lambda x, p, n: greff(x, p, n, "ifg"),
    "lstm_no_input_activation": lambda x, p, n: greff(x, p, n, squash_in=identity),
    "lstm_no_output_activation": lambda x, p, n: greff(x, p, n, squash_out=identity),
    "lstm_full_gate_recurrence": greff,
    "slstm": exponential,
    "gru": reset_after,
    "mingru": lambda x, p, n: gates_of_the_input(x, p, n, "zg"),
    "minlstm": lambda x, p, n: gates_of_the_input(x, p, n, "ifg"),
    "lstm_layer_norm": layer_norm_lstm,
    "gru_layer_norm": layer_norm_gru,
}


def run(name, x, p, n_units):
    """Hidden states ``[T,H]`` of one window, from a zero state."""
    return np.array(ORACLES[name](x, p, n_units))


def derivatives(function, at):
    """Of a number ``function(at)``, by every entry of ``at [P]``: W. Squire, G. Trapp, SIAM Review 40(1), 1998.

    The function is given ``[P,P]``, in whose column k entry k has moved by an imaginary ``STEP``, and returns ``[P]``.
    """
    return np.imag(function(at[:, None] + 1j * STEP * np.eye(at.size))) / STEP
