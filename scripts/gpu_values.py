"""Numbers of the CUDA backend beside those of the CPU backend and, where there is PyTorch, of ``torch.nn.LSTM``."""

from __future__ import annotations

from importlib.util import find_spec

import numpy as np
from gpu_jobs import Job

from tsforecast.backends.base import StepRule, TrainState, get_backend


def relative(found: np.ndarray, expected: np.ndarray) -> float:
    """Largest difference in units of the largest number."""
    return float(np.abs(found - expected).max() / np.abs(expected).max())


def has_torch(device: str) -> bool:
    """Whether there is a PyTorch that can use the device."""
    if find_spec("torch") is None:
        return False
    import torch

    return device != "cuda" or torch.cuda.is_available()


def of_torch(job: Job, cotangent: np.ndarray, device: str, tf32: bool) -> list[np.ndarray]:
    """Outputs, gradient by the weights and by the windows."""
    import torch
    from gpu_peers import Network, set_tf32

    set_tf32(tf32)
    network = Network(job, device)
    x = torch.tensor(job.x, device=device, requires_grad=True)
    outputs = network(x)
    outputs.backward(torch.tensor(cotangent, device=device))
    set_tf32(False)
    dparams = network.flat(job.spec, lambda parameter: parameter.grad)
    return [outputs.detach().cpu().numpy(), dparams, x.grad.cpu().numpy()]


def values(
    device: str, units: int, layers: int, bidirectional: str = "none", n_timesteps: int = 24, n_rows: int = 64
) -> dict:
    """Errors of outputs, weight gradients and input gradients, all against float64 on the CPU."""
    job = Job.make(units, layers, n_rows, n_timesteps, 1, n_features=3, bidirectional=bidirectional)
    cotangent = np.random.default_rng(2).normal(size=(n_rows, 1)).astype(np.float32)
    exact = get_backend("cpu").gradient(
        job.spec, job.params.astype(float), job.x.astype(float), cotangent.astype(float)
    )
    found = {"ours": get_backend("cuda").gradient(job.spec, job.params, job.x, cotangent)}
    if has_torch(device):
        for name, tf32 in (("torch_fp32", False), ("torch_tf32", True)):
            found[name] = of_torch(job, cotangent, device, tf32)
    row: dict = {"units": units, "layers": layers, "bidirectional": bidirectional}
    for name, three in found.items():
        row[name] = max(relative(a, b) for a, b in zip(three, exact, strict=True))
    return row


def curves(units: int, n_timesteps: int, batch: int, n_steps: int, dropout: float = 0.0) -> dict:
    """One training step, and a number of them, beside the CPU in float32; and whether two runs have the same bits."""
    job = Job.make(units, 1, batch, n_timesteps, 4, dropout=dropout)
    windows = job.windows()
    batches = [np.random.default_rng(i).permutation(len(job.x))[:batch] for i in range(n_steps)]

    def train(device):
        backend, state, losses, first = get_backend(device), TrainState(job.params.copy()), [], None
        for rows in batches:
            rates = np.array([job.rate])
            losses.append(backend.train_epoch(job.spec, StepRule(), state, windows, rows, batch, rates, 1))
            first = state.params.copy() if first is None else first
        return np.array(losses), first, state.params

    cpu, ours, again = train("cpu"), train("cuda"), train("cuda")
    return {
        "units": units,
        "dropout": dropout,
        "one_step": float(np.linalg.norm(ours[1] - cpu[1]) / np.linalg.norm(cpu[1])),
        f"loss_after_{n_steps}": float(np.abs(ours[0] / cpu[0] - 1).max()),
        "same_bits": bool((ours[0] == again[0]).all() and (ours[2] == again[2]).all()),
    }
