"""Write tests/golden/torch_lstm.npz: what PyTorch computes for networks that the backends must reproduce.

Run from the root of a checkout, in an environment with torch==2.13.0 and numpy::

    PYTHONPATH=. python scripts/make_golden.py

Contents, by prefix (weights in the flat layout of ``NetworkSpec.blocks``, all float64 unless said):
``one/``, ``two/``   one and two layers: inputs, outputs, all gradients of a random cotangent; for each run of
                     ``SOLVERS`` the losses of ten steps and the final weights
``loss/<name>/``     weighted loss of one batch and its gradient, for each loss, on the inputs of ``two/``
``document/``        100 random windows of 5 steps of 1 feature, two layers of 50 units, Adam, squared error, batches
                     of 32, 100 epochs in the trainer's row order with seed 0: loss of each epoch in float32 and float64
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import torch

from tsforecast.backends.reference.shuffle import epoch_order
from tsforecast.spec import NetworkSpec

OUT = Path(__file__).resolve().parents[1] / "tests" / "golden" / "torch_lstm.npz"
SPECS = {"one": NetworkSpec(5, 3, (6,), 2), "two": NetworkSpec(5, 3, (6, 5), 2)}
N_ROWS, N_STEPS = 4, 10
QUANTILES = (0.1, 0.5, 0.9)
DELTA = 0.7
DOCUMENT = NetworkSpec(5, 1, (50, 50), 1)

# name: (torch's optimiser, its settings, decay of all weights but the biases); L2 is decay / 2 * |W|^2 in the loss
SOLVERS = {
    "adam": (torch.optim.Adam, {"lr": 1e-2}, 0.0),
    "adam_l2": (torch.optim.Adam, {"lr": 1e-2}, 0.05),
    "adamw": (torch.optim.AdamW, {"lr": 1e-2}, 0.05),
    "sgd_nesterov": (torch.optim.SGD, {"lr": 5e-2, "momentum": 0.9, "nesterov": True}, 0.0),
    "sgd_momentum": (torch.optim.SGD, {"lr": 5e-2, "momentum": 0.8}, 0.0),
    "rmsprop": (torch.optim.RMSprop, {"lr": 1e-2, "alpha": 0.95}, 0.0),
}


class Network(torch.nn.Module):
    """One ``nn.LSTM`` a layer and a linear head. Of torch's two biases a gate, the second stays zero and fixed."""

    def __init__(self, spec: NetworkSpec, flat: np.ndarray, dtype: torch.dtype = torch.float64):
        super().__init__()
        self.spec = spec
        widths = (spec.n_features, *spec.hidden_sizes)
        self.layers = torch.nn.ModuleList(
            torch.nn.LSTM(i, h, batch_first=True, dtype=dtype) for i, h in pairwise(widths)
        )
        self.head = torch.nn.Linear(widths[-1], spec.head_size, dtype=dtype)
        for layer in self.layers:
            torch.nn.init.zeros_(layer.bias_hh_l0)
            layer.bias_hh_l0.requires_grad_(False)
        with torch.no_grad():
            for name, view in spec.views(flat).items():
                self.tensors()[name].copy_(torch.tensor(view.T, dtype=dtype))

    def tensors(self) -> dict[str, torch.Tensor]:
        """Torch's parameters by our block names; matrices are the transposes of ours."""
        named = {}
        for i, layer in enumerate(self.layers):
            named[f"layers.{i}.w_x"] = layer.weight_ih_l0
            named[f"layers.{i}.w_h"] = layer.weight_hh_l0
            named[f"layers.{i}.b"] = layer.bias_ih_l0
        return {**named, "head.w": self.head.weight, "head.b": self.head.bias}

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # [N,T,F] -> [N,K*Q]
        for layer in self.layers:
            x, _ = layer(x)
        return self.head(x[:, -1])

    def flat(self, of_gradient: bool = False) -> np.ndarray:
        """Parameters (or their gradients) in our flat layout."""
        named = {name: (p.grad if of_gradient else p).detach().numpy() for name, p in self.tensors().items()}
        return np.concatenate([named[block.name].T.ravel() for block in self.spec.blocks])


def random_weights(rng: np.random.Generator, spec: NetworkSpec) -> np.ndarray:
    """Uniform weights that float16 holds exactly: every dtype starts from the same ones, and the file is small."""
    limit = 1.0 / np.sqrt(spec.hidden_sizes[0])
    return rng.uniform(-limit, limit, spec.n_params).astype(np.float16)


def golden_gradients(prefix: str, spec: NetworkSpec, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Outputs and gradients of one network, and its training by every solver."""
    flat = random_weights(rng, spec).astype(np.float64)
    data = {
        "params": flat,
        "x": rng.normal(size=(N_ROWS, spec.n_timesteps, spec.n_features)),
        "y": rng.normal(size=(N_ROWS, spec.n_outputs)),
        "cotangent": rng.normal(size=(N_ROWS, spec.head_size)),
    }
    x = torch.tensor(data["x"], requires_grad=True)
    net = Network(spec, flat)
    outputs = net(x)
    (outputs * torch.tensor(data["cotangent"])).sum().backward()
    data |= {"outputs": outputs.detach().numpy(), "dparams": net.flat(of_gradient=True), "dx": x.grad.numpy()}
    for name in SOLVERS:
        data[f"{name}/losses"], data[f"{name}/params"] = ten_steps(spec, flat, data["x"], data["y"], name)
    return {f"{prefix}/{name}": array for name, array in data.items()}


def ten_steps(spec: NetworkSpec, flat: np.ndarray, x: np.ndarray, y: np.ndarray, name: str):
    """Losses (before each step) and final weights of ten full-batch steps on the mean squared error."""
    optimizer_class, settings, decay = SOLVERS[name]
    net = Network(spec, flat)
    named = net.tensors()
    weights = [p for block, p in named.items() if not block.endswith(".b")]
    biases = [p for block, p in named.items() if block.endswith(".b")]
    groups = [{"params": weights, "weight_decay": decay}, {"params": biases, "weight_decay": 0.0}]
    optimizer = optimizer_class(groups, **settings)
    losses = []
    for _ in range(N_STEPS):
        optimizer.zero_grad()
        loss = torch.nn.functional.mse_loss(net(torch.tensor(x)), torch.tensor(y))
        loss.backward()
        penalty = 0.0 if name == "adamw" else 0.5 * decay * sum((w.detach() ** 2).sum().item() for w in weights)
        losses.append(loss.item() + penalty)
        optimizer.step()
    return np.array(losses), net.flat()


def golden_losses(rng: np.random.Generator, x: np.ndarray, y: np.ndarray) -> dict[str, np.ndarray]:
    """Weighted loss of one batch and its gradient, for every loss."""
    weights = torch.tensor(rng.uniform(0.5, 2.0, N_ROWS))
    target = torch.tensor(y)
    functional = torch.nn.functional
    entry_losses = {
        "squared_error": lambda out: functional.mse_loss(out[..., 0], target, reduction="none"),
        "absolute_error": lambda out: functional.l1_loss(out[..., 0], target, reduction="none"),
        "huber": lambda out: functional.huber_loss(out[..., 0], target, reduction="none", delta=DELTA),
        "quantile": lambda out: pinball(target[..., None] - out),
    }
    data = {"loss/weights": weights.numpy()}
    for name, entry_loss in entry_losses.items():
        spec = NetworkSpec(5, 3, (6, 5), 2, n_quantiles=len(QUANTILES) if name == "quantile" else 1)
        flat = random_weights(rng, spec).astype(np.float64)
        net = Network(spec, flat)
        out = net(torch.tensor(x)).reshape(N_ROWS, spec.n_outputs, spec.n_quantiles)
        row_losses = entry_loss(out).reshape(N_ROWS, -1).mean(dim=1)
        loss = (weights * row_losses).sum() / weights.sum()
        loss.backward()
        gradient = net.flat(of_gradient=True)
        data |= {f"loss/{name}/params": flat, f"loss/{name}/loss": loss.item(), f"loss/{name}/gradient": gradient}
    return data


def pinball(shortfall: torch.Tensor) -> torch.Tensor:  # [N,K,Q] target - output
    q = torch.tensor(QUANTILES, dtype=shortfall.dtype)
    return torch.maximum(q * shortfall, (q - 1.0) * shortfall)


def document_losses(flat: np.ndarray, x: np.ndarray, y: np.ndarray, dtype: torch.dtype) -> np.ndarray:
    """Mean loss of each of 100 epochs, every batch's taken before its update."""
    net = Network(DOCUMENT, flat, dtype)
    optimizer = torch.optim.Adam([p for p in net.parameters() if p.requires_grad], lr=1e-3)
    inputs, targets = torch.tensor(x, dtype=dtype), torch.tensor(y, dtype=dtype)
    curve = []
    for epoch in range(100):
        total = 0.0
        for rows in torch.split(torch.tensor(epoch_order(len(x), 0, epoch)), 32):
            optimizer.zero_grad()
            loss = torch.nn.functional.mse_loss(net(inputs[rows]), targets[rows])
            loss.backward()
            optimizer.step()
            total += loss.item() * len(rows)
        curve.append(total / len(x))
    return np.array(curve)


def main() -> None:
    torch.set_num_threads(1)
    rng = np.random.default_rng(11)
    data: dict[str, np.ndarray] = {"quantiles": np.array(QUANTILES), "delta": np.array(DELTA)}
    for prefix, spec in SPECS.items():
        data |= golden_gradients(prefix, spec, rng)
    data |= golden_losses(rng, data["two/x"], data["two/y"])
    flat = random_weights(rng, DOCUMENT)
    x = rng.random((100, 5, 1)).astype(np.float16)
    y = rng.random((100, 1)).astype(np.float16)
    data |= {"document/params": flat, "document/x": x, "document/y": y}
    for name, dtype in (("float32", torch.float32), ("float64", torch.float64)):
        data[f"document/loss_{name}"] = document_losses(flat, x, y, dtype)
    OUT.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(OUT, **data)
    print(f"wrote {OUT}, {OUT.stat().st_size / 1024:.0f} KiB, {len(data)} arrays")


if __name__ == "__main__":
    main()
