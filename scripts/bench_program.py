"""The small program of ``document_program.py`` against the same in other frameworks: the fit only, warm."""

from __future__ import annotations

import statistics

import numpy as np
from bench_peers import PEERS, Job
from document_program import EPOCHS, make_model, make_windows
from sklearn.utils import check_random_state

from tsforecast.backends.reference.shuffle import epoch_order
from tsforecast.nn.initializers import init_params
from tsforecast.spec import NetworkSpec

SEED, BATCH, SECONDS = 0, 32, 3.0


def measure_program(peers: list[str], n_threads: int, pairs_of, peak) -> dict:
    """Milliseconds of a fit and the peers' ratios; their losses are compared with ours first, epoch by epoch."""
    X, y = make_windows(SEED)
    drawn = int(check_random_state(SEED).randint(np.iinfo(np.int32).max))  # as the estimator draws its seed
    spec = NetworkSpec(X.shape[1], X.shape[2], (50, 50), 1)
    flat = init_params(spec, drawn, np.float32)
    job = Job(spec, flat, X.astype(np.float32), y[:, None].astype(np.float32), BATCH, n_threads, rate=1e-3)
    orders = [epoch_order(len(X), drawn, epoch) for epoch in range(EPOCHS)]
    epochs = [np.split(order, range(BATCH, len(X), BATCH)) for order in orders]

    def ours() -> np.ndarray:
        return np.array(make_model(SEED).set_params(n_jobs=n_threads).fit(X, y).loss_curve_)

    curve, own, result = ours(), [], {}
    for name in peers or [""]:
        theirs = None
        if name:
            theirs = fit_of(PEERS[name](job), epochs)
            # Keras shuffles by itself, so only its level of loss can be compared, and the step by its own case.
            tolerance = 0.25 if name == "keras" else 1e-3
            np.testing.assert_allclose(theirs(), curve, rtol=tolerance, err_msg=f"{name}: losses of the program")
        pairs = pairs_of(ours, theirs, peak, SECONDS)
        own += [pair[0] for pair in pairs]
        if name:
            ms = statistics.median(pair[1] for pair in pairs) * 1e3
            result[name] = {"ms": ms, "ratio": statistics.median(pair[1] / pair[0] for pair in pairs)}
    return {"train": {"ms": statistics.median(own) * 1e3, "peers": result}}


def fit_of(contender, epochs: list[list[np.ndarray]]):
    """A call that trains for all epochs and returns the loss of each."""
    if contender.name == "keras":
        return lambda: np.array(contender.fit(slice(None), epochs=len(epochs), shuffle=True))
    return lambda: np.array([contender.train(batches) for batches in epochs])
