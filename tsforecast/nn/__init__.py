"""Networks above the backends: initial weights, learning-rate schedules, the training loop, the gradient check."""
