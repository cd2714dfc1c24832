"""Where a block stands, in shared memory: a number that stays the same for long is not held in each thread's registers.

Whoever needs one reads it anew; what was read before a barrier would have to be held, since another may stand there.
"""

from __future__ import annotations

from numba import cuda, int32

from tsforecast.backends.cuda.jit import device, store, thread

# The block's run, and the tile that it is at (training: the first one of the round); and of training: the first row of
# the tile in its batch, the batch, the model, and 0 after a batch whose loss or gradient is not finite.
RUN, TILE, N_PLACE = 0, 1, 2
FIRST_ROW, BATCH, MODEL, IS_FINITE, N_STATE = 2, 3, 4, 5, 6


@device
def put(state, i, value):
    """Write a number, the same for all threads of the block, which all call this. Begins and ends with a barrier."""
    cuda.syncthreads()  # all have read what stood there
    if thread() == 0:
        store(state, i, int32(value))
    cuda.syncthreads()
