"""The smallest whole program: train an LSTM on 100 random windows and watch the loss fall.

    python scripts/document_program.py

100 windows of 5 steps of 1 feature, two LSTM layers of 50 units, a dense output; Adam on the mean squared error,
batches of 32, 100 epochs. There is nothing to learn in random numbers but their mean, and then the rows by heart: the
point is that the loss falls just as it does in other frameworks from the same initial weights.
"""

import time

import numpy as np

from tsforecast import LSTMRegressor

EPOCHS = 100


def make_windows(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Uniform random numbers: windows ``X [100, 5, 1]`` and targets ``y [100]``."""
    rng = np.random.default_rng(seed)
    return rng.random((100, 5, 1)), rng.random(100)


def make_model(seed: int = 0) -> LSTMRegressor:
    """The plain network: nothing is standardised, clipped or stopped early."""
    return LSTMRegressor(
        hidden_layer_sizes=(50, 50),
        loss="squared_error",
        solver="adam",
        learning_rate_init=1e-3,
        batch_size=32,
        max_iter=EPOCHS,
        n_iter_no_change=EPOCHS,
        max_grad_norm=None,
        standardize=False,
        random_state=seed,
    )


def main() -> None:
    X, y = make_windows()
    model = make_model()
    began = time.perf_counter()
    model.fit(X, y)
    seconds = time.perf_counter() - began
    for epoch in [1, *range(10, EPOCHS + 1, 10)]:
        print(f"epoch {epoch:3d}  loss {model.loss_curve_[epoch - 1]:.6f}")
    print(f"{model.n_iter_} epochs in {seconds:.2f} s (with the compilation, if this was the first run)")


if __name__ == "__main__":
    main()
