"""Which targets a decoder is told in training: scheduled sampling, by numbers that do not depend on anything else.

The probability moves in a straight line from the first of ``teacher_forcing`` to the second over ``max_iter`` epochs.

S. Bengio, O. Vinyals, N. Jaitly, N. Shazeer: Scheduled Sampling for Sequence Prediction with Recurrent Neural Networks.
NIPS 2015 (linear decay, section 2.4).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# The second half of a random key, apart from ``initializers.INIT_STREAM``.
TEACHING_STREAM = 2


def probability(teacher_forcing: tuple[float, float], epoch: int, max_iter: int) -> float:
    """Probability that a target is told in ``epoch``, from 0; beyond ``max_iter`` epochs it stays at its end."""
    first, last = teacher_forcing
    return first + (last - first) * min(1.0, epoch / max(1, max_iter - 1))


def forced_targets(
    n_rows: int, n_outputs: int, teacher_forcing: tuple[float, float], seed: int, epoch: int, max_iter: int
) -> NDArray[np.uint8] | None:
    """``[N,K]`` 1 where the decoder is told the target; None where it never is.

    A function of its arguments alone: row i has the same numbers whatever the order, batch or thread it is visited in.
    """
    p = probability(teacher_forcing, epoch, max_iter)
    if p <= 0.0:
        return None
    key = np.array([seed, TEACHING_STREAM], dtype=np.uint64)
    rng = np.random.Generator(np.random.Philox(key=key, counter=[0, 0, 0, epoch]))
    return (rng.random((n_rows, n_outputs)) < p).astype(np.uint8)
