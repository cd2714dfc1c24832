"""Learning rates against their closed forms."""

import numpy as np
import pytest

from tsforecast.nn.schedules import learning_rates


def rates(name, epoch, n_batches=4, max_iter=20):
    return learning_rates(name, 0.5, epoch, n_batches, max_iter, gamma=0.9, step_size=3)


@pytest.mark.parametrize("epoch", [0, 1, 2, 3, 7, 19, 100])
def test_rates_within_an_epoch_are_level(epoch):
    np.testing.assert_array_equal(rates("constant", epoch), np.full(4, 0.5))
    np.testing.assert_allclose(rates("exponential", epoch), np.full(4, 0.5 * 0.9**epoch), rtol=1e-13)
    np.testing.assert_allclose(rates("step", epoch), np.full(4, 0.5 * 0.9 ** (epoch // 3)), rtol=1e-13)


def test_cosine_falls_with_every_batch_from_lr0_to_almost_zero():
    whole = np.concatenate([rates("cosine", epoch) for epoch in range(20)])
    np.testing.assert_allclose(whole, 0.25 * (1 + np.cos(np.pi * np.arange(80) / 80)), rtol=0, atol=1e-15)
    assert whole[0] == 0.5
    assert (np.diff(whole) < 0).all()
    assert 0 < whole[-1] < 1e-3


def test_cosine_starts_over_after_its_period():
    np.testing.assert_array_equal(rates("cosine", 23), rates("cosine", 3))


def test_unknown_name_lists_the_known_ones():
    with pytest.raises(ValueError, match="unknown learning_rate 'linear'; known: 'constant', 'cosine'"):
        rates("linear", 0)
