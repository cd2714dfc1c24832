"""The order of an epoch's rows: NumPy's and the kernel's against the definition, and its randomness."""

import itertools

import numpy as np
import pytest

from tsforecast.backends.cpu import shuffle
from tsforecast.backends.cpu.jit import JIT_DISABLED, entry
from tsforecast.backends.reference.shuffle import epoch_order, hash64

SIZES = (1, 2, 3, 5, 8, 9, 100, 257)
SEEDS = ((0, 0), (1, 2), (2**31 - 2, 10**6), (2**63 - 1, 3))


@entry
def kernel_order(n_rows, seed, epoch, first, order, scratch):
    shuffle.epoch_order(n_rows, seed, epoch, first, order, scratch)


def test_hash_is_that_of_splitmix64():
    """The first numbers that SplitMix64 draws from seed 1234567, as published with its source; halved here."""
    known = [6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431, 16408922859458223821]
    assert [hash64(1234567, n) for n in range(5)] == [x // 2 for x in known]


@pytest.mark.parametrize("n_rows", SIZES)
@pytest.mark.parametrize(("seed", "epoch"), SEEDS)
def test_numpy_and_kernel_sort_the_hashes(n_rows, seed, epoch):
    bits = (n_rows - 1).bit_length()
    key = hash64(seed, epoch)
    expected = sorted(range(n_rows), key=lambda i: (hash64(key, i) >> bits, i))
    np.testing.assert_array_equal(epoch_order(n_rows, seed, epoch), expected)
    order, scratch = np.empty(n_rows, np.int64), np.empty(3 * n_rows, np.int64)
    kernel_order(n_rows, seed, epoch, 40, order, scratch)
    np.testing.assert_array_equal(order, np.add(expected, 40))


def test_all_permutations_are_equally_frequent():
    counts = dict.fromkeys(itertools.permutations(range(4)), 0)
    n = 4800
    for draw in range(n):
        counts[tuple(epoch_order(4, draw % 60, draw // 60).tolist())] += 1
    chi_square = sum((count - n / 24) ** 2 / (n / 24) for count in counts.values())
    assert chi_square < 49.7  # 23 degrees of freedom: 0.1 % of fair shuffles are above


def test_the_order_is_pinned():
    np.testing.assert_array_equal(epoch_order(12, 5, 7), [1, 7, 6, 5, 11, 10, 9, 8, 0, 3, 2, 4])


@pytest.mark.skipif(JIT_DISABLED, reason="asks the compiler for types")
def test_kernel_takes_seeds_from_arrays():
    seeds, order = np.array([3, 4]), np.empty(20, np.int64)
    for seed in seeds:
        kernel_order(20, seed, 1, 0, order, np.empty(60, np.int64))
        np.testing.assert_array_equal(order, epoch_order(20, int(seed), 1))
