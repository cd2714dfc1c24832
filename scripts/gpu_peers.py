"""What ``gpu_check.py`` compares with: PyTorch's LSTM on the same device, eager, in a CUDA graph, and 4,096 at once.

All use one bias a gate, as ours do: the second one of ``torch.nn.LSTM`` stays zero and fixed.
"""

from __future__ import annotations

import numpy as np
import torch
from gpu_jobs import Job

from tsforecast.spec import NetworkSpec

ADAM = {"betas": (0.9, 0.999), "eps": 1e-8}


def set_tf32(allowed: bool) -> None:
    """Let cuDNN and cuBLAS round the factors of their products to 10 bits, or not."""
    torch.backends.cudnn.allow_tf32 = allowed
    torch.backends.cuda.matmul.allow_tf32 = allowed


class Network(torch.nn.Module):
    """``torch.nn.LSTM``, of one direction or two side by side, and a dense head on its last states; a job's weights."""

    def __init__(self, job: Job, device: str):
        super().__init__()
        spec = job.spec
        units, n_layers, is_both = spec.hidden_sizes[0], len(spec.hidden_sizes), spec.bidirectional == "concat"
        self.lstm = torch.nn.LSTM(spec.n_features, units, n_layers, batch_first=True, bidirectional=is_both)
        self.n_directions = 1 + is_both
        self.head = torch.nn.Linear(self.n_directions * units, spec.n_outputs)
        self.named = {"head.w": self.head.weight, "head.b": self.head.bias}
        for run in spec.topology.runs:
            own = f"l{run.layer}_reverse" if run.reverse else f"l{run.layer}"
            for name, theirs in (("w_x", "weight_ih"), ("w_h", "weight_hh"), ("b", "bias_ih")):
                self.named[run.name + name] = getattr(self.lstm, f"{theirs}_{own}")
            torch.nn.init.zeros_(getattr(self.lstm, f"bias_hh_{own}").requires_grad_(False))
        views = spec.views(job.params)
        with torch.no_grad():
            for name, parameter in self.named.items():
                parameter.copy_(torch.tensor(np.ascontiguousarray(views[name].T)))
        self.to(device)

    def forward(self, x):
        last_states = self.lstm(x)[1][0]
        return self.head(torch.cat(list(last_states[-self.n_directions :]), dim=1))

    def flat(self, spec: NetworkSpec, what=lambda parameter: parameter.detach()) -> np.ndarray:
        """Weights, or what else belongs to each, as our flat vector."""
        arrays = {name: what(parameter).cpu().numpy().T for name, parameter in self.named.items()}
        return np.concatenate([arrays[block.name].ravel() for block in spec.blocks])


class Eager:
    """A training loop as the manual shows it: gather, forward, mean squared error, backward, clip, fused Adam."""

    name = "eager"

    def __init__(self, job: Job, device: str):
        self.job, self.device = job, device
        self.network = Network(job, device)
        self.x, self.y = torch.tensor(job.x, device=device), torch.tensor(job.y, device=device)
        capturable = {"capturable": True} if device == "cuda" else {}
        self.adam = torch.optim.Adam(self.network.named.values(), lr=job.rate, fused=True, **capturable, **ADAM)
        rows = np.random.default_rng(1).permutation(len(job.x)).reshape(-1, job.batch)
        self.batches = torch.tensor(rows, device=device)
        self.order = rows.ravel()

    def step(self, rows):
        self.adam.zero_grad(set_to_none=True)
        loss = torch.nn.functional.mse_loss(self.network(self.x[rows]), self.y[rows])
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.network.named.values(), 1.0)
        self.adam.step()
        return loss

    def epoch(self) -> None:
        for rows in self.batches:
            self.step(rows)
        synchronize(self.device)


class Graph(Eager):
    """The same step, recorded once and replayed, so that Python launches one thing a step."""

    name = "graph"

    def __init__(self, job: Job, device: str):
        super().__init__(job, device)
        self.rows = self.batches[0].clone()
        self.replay = captured(lambda: self.step(self.rows), device)

    def epoch(self) -> None:
        for rows in self.batches:
            self.rows.copy_(rows)
            self.replay()
        synchronize(self.device)


def synchronize(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def captured(work, device: str):
    """Function that replays what ``work`` launches."""
    if device != "cuda":
        return work
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            work()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        work()

    def replay(_recorded=work):  # which holds the memory that the recording reads
        graph.replay()

    return replay


def layers_alone(job: Job, device: str):
    """Function that runs forward and backward of the layers of a batch, weight gradients too: cuDNN's kernels."""
    network = Network(job, device)
    x = torch.tensor(job.x[: job.batch], device=device)
    weights = [p for name, p in network.named.items() if name.startswith("layers")]
    cotangent = torch.ones(job.batch, job.spec.hidden_sizes[-1], device=device)

    def work():
        return torch.autograd.grad(network.lstm(x)[0][:, -1], weights, cotangent)

    return captured(work, device)


class Many:
    """M networks of one layer trained side by side by batched products: what ``vmap`` makes of a written-out LSTM."""

    def __init__(self, n_models: int, job: Job, device: str):
        spec, self.job, self.device = job.spec, job, device
        views, units = spec.views(job.params), spec.hidden_sizes[0]
        self.units, self.n_models = units, n_models

        def copies(name):
            a = torch.tensor(views[name], device=device)
            return a.expand(n_models, *a.shape).contiguous().requires_grad_()

        names = ("layers.0.w_x", "layers.0.w_h", "layers.0.b", "head.w", "head.b")
        self.weights = [copies(name) for name in names]
        self.x = torch.tensor(job.x, device=device).expand(n_models, *job.x.shape).contiguous()  # [M,N,T,F]
        self.y = torch.tensor(job.y, device=device).expand(n_models, *job.y.shape).contiguous()
        capturable = {"capturable": True} if device == "cuda" else {}
        self.adam = torch.optim.Adam(self.weights, lr=job.rate, fused=True, **capturable, **ADAM)
        self.rows = torch.arange(job.batch, device=device)
        self.replay = captured(self.step, device)

    def step(self):
        w_x, w_h, b, head_w, head_b = self.weights
        self.adam.zero_grad(set_to_none=True)
        x, y = self.x[:, self.rows], self.y[:, self.rows]
        n_rows, n_steps = x.shape[1:3]
        products = torch.einsum("mbtf,mfg->tmbg", x, w_x) + b[:, None]
        h = c = x.new_zeros(self.n_models, n_rows, self.units)
        for t in range(n_steps):
            i, f, g, o = torch.baddbmm(products[t], h, w_h).chunk(4, dim=2)
            c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
            h = torch.sigmoid(o) * torch.tanh(c)
        outputs = torch.baddbmm(head_b[:, None], h, head_w)
        ((outputs - y) ** 2).mean(dim=(1, 2)).sum().backward()
        self.adam.step()

    def epoch(self) -> None:
        for _ in range(self.job.n_batches):
            self.replay()
        synchronize(self.device)
