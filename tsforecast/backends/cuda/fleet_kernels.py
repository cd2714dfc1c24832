"""What happens to each model of a fleet between two epochs, one block a model: row orders, copies, a look at weights.

Row orders are those of ``backends.reference.shuffle``, whose lines are numbered: a row's place is the number of smaller
keys, so nothing has to be sorted.
"""

from __future__ import annotations

import math

import numpy as np
from numba import cuda, int64, uint64

from tsforecast.backends.cuda.activations import ZERO
from tsforecast.backends.cuda.jit import device, kernel, load, store
from tsforecast.backends.reference.shuffle import GOLDEN, LAST_SHIFT, MIX

THREADS = 256
# What is to be done with a model, added up.
RESTORE, KEEP_BEST, TAKE_BEST, BEGIN = 1, 2, 4, 8
_GOLDEN, _LAST_SHIFT, _ONE = np.uint64(GOLDEN), np.uint64(LAST_SHIFT), np.uint64(1)
_SHIFT_0, _FACTOR_0, _SHIFT_1, _FACTOR_1 = (np.uint64(n) for pair in MIX for n in pair)


@device
def row_key(first, mask, row):
    """1, 2: the key of a row; ``first`` is ``hash(seed, epoch)``, ``mask`` covers the bits of row numbers."""
    x = first + (uint64(row) + _ONE) * _GOLDEN
    x = (x ^ (x >> _SHIFT_0)) * _FACTOR_0
    x = (x ^ (x >> _SHIFT_1)) * _FACTOR_1
    x = (x ^ (x >> _LAST_SHIFT)) >> _ONE
    return (x & ~mask) | uint64(row)


@device
def copy(source, target, first, n, tid):
    for i in range(first + tid, first + n, THREADS):
        store(target, i, load(source, i))


@kernel(THREADS)
def turn(
    actions,  # [models] int32
    params, m, v,  # [models,P]
    before_params, before_m, before_v,  # [models,P] as the last epoch left them
    best,  # [models,P] weights of the best epoch
    n_params,
    rows,  # [models+1] int32 first row of each model
    batch_sizes, first_batches,  # [models] int32
    shuffled,  # [models] int32: whether rows come in random order
    hashes, masks,  # [models] uint64, see row_key
    weights,  # [rows] loss weights
    keys,  # [rows] uint64 scratch
    order,  # [rows] int32 out
    weight_sums,  # [batches] out
):  # fmt: skip
    tid, model = cuda.threadIdx.x, cuda.blockIdx.x
    action, P = load(actions, model), n_params
    at = int64(model) * P
    if action & KEEP_BEST != 0:
        copy(params, best, at, P, tid)
    if action & RESTORE != 0:
        copy(before_params, params, at, P, tid)
        copy(before_m, m, at, P, tid)
        copy(before_v, v, at, P, tid)
    if action & TAKE_BEST != 0:
        copy(best, params, at, P, tid)
    if action & BEGIN != 0:
        copy(params, before_params, at, P, tid)
        copy(m, before_m, at, P, tid)
        copy(v, before_v, at, P, tid)
        first, end = int64(load(rows, model)), int64(load(rows, model + 1))
        for i in range(first + tid, end, THREADS):
            if load(shuffled, model) != 0:
                store(keys, i, row_key(load(hashes, model), load(masks, model), i - first))
            else:
                store(order, i, i)
        cuda.syncthreads()
        if load(shuffled, model) != 0:
            for i in range(first + tid, end, THREADS):
                key, place = load(keys, i), first
                for k in range(first, end):
                    place += 1 if load(keys, k) < key else 0
                store(order, place, i)  # 3
        cuda.syncthreads()
        size = int64(load(batch_sizes, model))
        for batch in range(tid, (end - first + size - 1) // size, THREADS):
            total = ZERO
            for i in range(first + batch * size, min(end, first + (batch + 1) * size)):
                total += load(weights, load(order, i))
            store(weight_sums, load(first_batches, model) + batch, total)


@kernel(THREADS)
def find_non_finite(
    params, m, v,  # [models,P]
    n_params,
    finite,  # [models] int32 out
):  # fmt: skip
    tid, model = cuda.threadIdx.x, cuda.blockIdx.x
    all_finite = 1
    for i in range(int64(model) * n_params + tid, int64(model + 1) * n_params, THREADS):
        if not (math.isfinite(load(params, i)) and math.isfinite(load(m, i)) and math.isfinite(load(v, i))):
            all_finite = 0
    all_finite = cuda.syncthreads_and(all_finite)
    if tid == 0:
        finite[model] = all_finite
