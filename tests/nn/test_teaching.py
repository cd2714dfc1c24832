"""Scheduled sampling: its line, and numbers that depend on seed and epoch alone."""

import numpy as np
import pytest

from tsforecast.nn.teaching import forced_targets, probability


@pytest.mark.parametrize(
    ("pair", "expected"), [((1.0, 0.0), [1.0, 0.75, 0.5, 0.25, 0.0, 0.0]), ((0.2, 0.2), [0.2] * 6)]
)
def test_the_probability_moves_in_a_straight_line_and_stays(pair, expected):
    assert [probability(pair, epoch, 5) for epoch in range(6)] == pytest.approx(expected)


def test_a_single_epoch_has_the_first():
    assert probability((0.7, 0.1), 0, 1) == 0.7


def test_targets_are_told_as_often_as_asked_and_never_without():
    told = forced_targets(4000, 5, (0.3, 0.3), 1, 2, 10)
    assert told.dtype == np.uint8
    assert told.mean() == pytest.approx(0.3, abs=4 * np.sqrt(0.3 * 0.7 / 20000))
    assert forced_targets(10, 5, (1.0, 0.0), 1, 9, 10) is None
    assert forced_targets(10, 5, (1.0, 0.0), 1, 0, 10).all()


def test_rows_keep_their_numbers_and_epochs_and_seeds_have_their_own():
    few, many = forced_targets(7, 3, (0.5, 0.5), 3, 4, 10), forced_targets(70, 3, (0.5, 0.5), 3, 4, 10)
    np.testing.assert_array_equal(few, many[:7])
    for seed, epoch in ((4, 4), (3, 5)):
        assert (forced_targets(70, 3, (0.5, 0.5), seed, epoch, 10) != many).mean() > 0.3
