"""Write tests/golden/{torch,layer_norm,keras,onnx}_cells.npz: what other libraries compute for cells that they have.

Run from the root of a checkout, once for each library, in an environment that has it (float64 but for onnxruntime)::

    PYTHONPATH=. python scripts/make_golden_cells.py torch     # torch==2.13.0
    PYTHONPATH=. python scripts/make_golden_cells.py layer_norm  # the same
    PYTHONPATH=. KERAS_BACKEND=torch python scripts/make_golden_cells.py keras
    PYTHONPATH=. python scripts/make_golden_cells.py onnx      # onnx, onnxruntime

``torch``  two layers and a head for each cell, in one direction or two, in our flat layout: outputs, gradients of a
           random cotangent, losses of ten steps of Adam and the weights after them
``layer_norm``  the same for layer-normalised cells, made of torch's layer_norm and gradients by autograd; no training
``keras``  one layer each, in the layout of Keras (which the test translates): all hidden states and all gradients
``onnx``   one layer each, in the layout of the operator's inputs W, R, B, P: all hidden states, float32
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from tsforecast.spec import NetworkSpec

OUT = Path(__file__).resolve().parents[1] / "tests" / "golden"
N_ROWS, N_STEPS, N_INPUTS, N_UNITS, N_UPDATES = 4, 5, 3, 6, 10
TORCH_NETWORKS = [("rnn_tanh", "none"), ("rnn_relu", "none"), ("gru", "none"), ("gru", "concat"), ("lstm", "concat")]


def torch_cells(rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Outputs, gradients and ten steps of Adam of a network of each cell, in one direction or two."""
    data = {}
    for cell, both in TORCH_NETWORKS:
        spec = NetworkSpec(N_STEPS, N_INPUTS, (N_UNITS, 5), 2, cell=cell, bidirectional=both)
        one = {
            "params": rng.uniform(-0.6, 0.6, spec.n_params),
            "x": rng.normal(size=(N_ROWS, N_STEPS, N_INPUTS)),
            "y": rng.normal(size=(N_ROWS, 2)),
            "cotangent": rng.normal(size=(N_ROWS, 2)),
        }
        one |= run_torch(spec, **one)
        data |= {f"{cell}_{both}/{name}": array for name, array in one.items()}
    return data


def run_torch(spec: NetworkSpec, params, x, y, cotangent) -> dict[str, np.ndarray]:
    """What torch computes for one network: a module a layer, so that widths may differ."""
    import torch

    options = {"batch_first": True, "bidirectional": spec.bidirectional == "concat"}
    make = {
        "rnn_tanh": lambda i, h: torch.nn.RNN(i, h, **options),
        "rnn_relu": lambda i, h: torch.nn.RNN(i, h, nonlinearity="relu", **options),
        "gru": lambda i, h: torch.nn.GRU(i, h, **options),
        "lstm": lambda i, h: torch.nn.LSTM(i, h, **options),
    }[spec.cell]
    torch.set_default_dtype(torch.float64)
    layers = [make(run.inputs, run.units) for run in spec.topology.runs if not run.reverse]
    head = torch.nn.Linear(spec.topology.head_units, spec.head_size)
    views = spec.views(params)
    places = {"head.w": head.weight, "head.b": head.bias}
    for run in spec.topology.runs:
        layer, suffix = layers[run.layer], "_reverse" if run.reverse else ""
        second_bias = getattr(layer, f"bias_hh_l0{suffix}")
        torch.nn.init.zeros_(second_bias)
        places |= {
            f"{run.name}w_x": getattr(layer, f"weight_ih_l0{suffix}"),
            f"{run.name}w_h": getattr(layer, f"weight_hh_l0{suffix}"),
            f"{run.name}b": getattr(layer, f"bias_ih_l0{suffix}"),
        }
        if spec.cell == "gru":  # of the second bias, only that of the candidate is not redundant
            places[f"{run.name}b_h"] = second_bias
    own = {name: slice(-views[name].shape[-1], None) if name.endswith("b_h") else slice(None) for name in places}
    with torch.no_grad():
        for name, place in places.items():
            place[own[name]] = torch.tensor(views[name].T)

    def output(inputs):
        for layer in layers:
            inputs, last = layer(inputs)
        last = last[0] if spec.cell == "lstm" else last  # [directions,N,H]
        return head(torch.cat(list(last), dim=1))

    def flat(of):
        return np.concatenate([of(places[b.name])[own[b.name]].detach().numpy().T.ravel() for b in spec.blocks])

    inputs = torch.tensor(x, requires_grad=True)
    found = output(inputs)
    (found * torch.tensor(cotangent)).sum().backward()
    result = {"outputs": found.detach().numpy(), "dparams": flat(lambda p: p.grad), "dx": inputs.grad.numpy()}
    optimizer, losses = torch.optim.Adam(list(places.values()), lr=1e-2), []
    for _ in range(N_UPDATES):
        optimizer.zero_grad()
        loss = torch.nn.functional.mse_loss(output(torch.tensor(x)), torch.tensor(y))
        loss.backward()
        for name, place in places.items():  # the redundant biases stay as they are: zero
            if name.endswith("b_h"):
                place.grad[: own[name].start] = 0.0
        losses.append(loss.item())
        optimizer.step()
    return result | {"losses": np.array(losses), "trained": flat(lambda p: p)}


def layer_norm_cells(rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Outputs and gradients of two layers and a head of each cell."""
    import torch
    from torch.nn.functional import layer_norm

    def standardised(a):
        return layer_norm(a, a.shape[1:])

    def lstm(p, u, v, _, c):
        a = p["g_x"] * standardised(u) + p["g_h"] * standardised(v) + p["b"]
        i, f, g, o = a.chunk(4, dim=1)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        return o.sigmoid() * layer_norm(c, c.shape[1:], p["g_c"], p["b_c"]).tanh(), c

    def gru(p, u, v, h, c):
        cut = 2 * h.shape[1]
        u = p["g_x"] * torch.cat([standardised(u[:, :cut]), standardised(u[:, cut:])], dim=1) + p["b"]
        v = p["g_h"] * torch.cat([standardised(v[:, :cut]), standardised(v[:, cut:])], dim=1)
        r, z = (u[:, :cut] + v[:, :cut]).sigmoid().chunk(2, dim=1)
        n = (u[:, cut:] + r * (v[:, cut:] + p["b_h"])).tanh()
        return (1 - z) * n + z * h, c

    data = {}
    for cell, step in {"lstm_layer_norm": lstm, "gru_layer_norm": gru}.items():
        spec = NetworkSpec(N_STEPS, N_INPUTS, (N_UNITS, 5), 2, cell=cell)
        one = {
            "params": rng.uniform(-0.9, 0.9, spec.n_params),
            "x": rng.normal(size=(N_ROWS, N_STEPS, N_INPUTS)),
            "cotangent": rng.normal(size=(N_ROWS, 2)),
        }
        params, x = (torch.tensor(one[name], requires_grad=True) for name in ("params", "x"))
        p, sequence = spec.views(params), list(x.unbind(dim=1))
        for i, units in enumerate(spec.hidden_sizes):
            own = {name.removeprefix(f"layers.{i}."): view for name, view in p.items()}
            h = c = torch.zeros(N_ROWS, units, dtype=torch.float64)
            for t, x_t in enumerate(sequence):
                h, c = step(own, x_t @ own["w_x"], h @ own["w_h"], h, c)
                sequence[t] = h
        outputs = sequence[-1] @ p["head.w"] + p["head.b"]
        (outputs * torch.tensor(one["cotangent"])).sum().backward()
        one |= {"outputs": outputs.detach().numpy(), "dparams": params.grad.numpy(), "dx": x.grad.numpy()}
        data |= {f"{cell}/{name}": array for name, array in one.items()}
    return data


def keras_cells(rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Hidden states and gradients of one layer of each kind, in Keras's layout."""
    import keras
    import torch

    keras.config.set_floatx("float64")
    data = {}
    for name, layer in {
        "lstm": keras.layers.LSTM(N_UNITS, return_sequences=True),
        "gru": keras.layers.GRU(N_UNITS, return_sequences=True),
    }.items():
        x, cotangent = rng.normal(size=(N_ROWS, N_STEPS, N_INPUTS)), rng.normal(size=(N_ROWS, N_STEPS, N_UNITS))
        layer.build(x.shape)
        for variable in layer.trainable_variables:
            variable.assign(rng.uniform(-0.6, 0.6, variable.shape))
        inputs = torch.tensor(x, requires_grad=True)
        hidden = layer(inputs)
        (hidden * torch.tensor(cotangent)).sum().backward()
        data |= {f"{name}/x": x, f"{name}/cotangent": cotangent, f"{name}/dx": inputs.grad.numpy()}
        data[f"{name}/hidden"] = hidden.detach().numpy()
        for variable in layer.trainable_variables:
            data[f"{name}/{variable.name}"] = variable.numpy()
            data[f"{name}/d_{variable.name}"] = variable.value.grad.numpy()
    return data


def onnx_cells(rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Hidden states of the operators, float32."""
    import onnxruntime
    from onnx import TensorProto, helper

    kinds = {  # operator, gates, its inputs beyond X, attributes
        "lstm": ("LSTM", 4, "WRB", {}),
        "lstm_peephole": ("LSTM", 4, "WRBP", {}),
        "lstm_coupled": ("LSTM", 4, "WRB", {"input_forget": 1}),
        "gru": ("GRU", 3, "WRB", {"linear_before_reset": 1}),
        "rnn_tanh": ("RNN", 1, "WRB", {}),
        "rnn_relu": ("RNN", 1, "WRB", {"activations": ["Relu"]}),
    }
    data = {}
    for name, (operator, gates, letters, attributes) in kinds.items():
        shapes = {
            "X": (N_STEPS, N_ROWS, N_INPUTS),
            "W": (1, gates * N_UNITS, N_INPUTS),
            "R": (1, gates * N_UNITS, N_UNITS),
            "B": (1, 2 * gates * N_UNITS),
            "P": (1, 3 * N_UNITS),
        }
        feed = {k: rng.uniform(-0.8, 0.8, shapes[k]).astype(np.float32) for k in "X" + letters}
        names = ["X", "W", "R", "B", *(["", "", "", "P"] if "P" in letters else [])]
        node = helper.make_node(operator, names, ["Y"], hidden_size=N_UNITS, **attributes)
        graph = helper.make_graph(
            [node],
            name,
            [helper.make_tensor_value_info(k, TensorProto.FLOAT, shapes[k]) for k in feed],
            [helper.make_tensor_value_info("Y", TensorProto.FLOAT, (N_STEPS, 1, N_ROWS, N_UNITS))],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)], ir_version=8)
        session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        data |= {f"{name}/{k}": array for k, array in feed.items()}
        data[f"{name}/Y"] = session.run(["Y"], feed)[0]
    return data


def main() -> None:
    library = sys.argv[1]
    makers = {"torch": torch_cells, "layer_norm": layer_norm_cells, "keras": keras_cells, "onnx": onnx_cells}
    data = makers[library](np.random.default_rng(12))
    path = OUT / f"{library}_cells.npz"
    np.savez_compressed(path, **data)
    print(f"wrote {path}, {path.stat().st_size / 1024:.0f} KiB, {len(data)} arrays")


if __name__ == "__main__":
    main()
