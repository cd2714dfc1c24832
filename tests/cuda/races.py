"""Which memory accesses of a simulated launch are ordered, and which race.

An access is ordered before a later one if both are by one thread, or if a barrier of the grid, of their block or of
their warp lies between them. Two accesses of one cell race if they are not ordered, one of them writes, and not both
are atomic. Memory is followed by address, so that arrays that alias are one memory.
"""

import math
from typing import NamedTuple

import numpy as np

CELL = 4  # bytes; an element of 8 bytes is two cells


class SimulationError(AssertionError):
    """A launch did what a GPU would not forgive."""


class RaceError(SimulationError):
    """Two threads use a cell without a barrier between them."""


class UninitializedError(SimulationError):
    """A thread reads shared memory that no thread has written."""


class Access(NamedTuple):
    """Who used a cell, and after how many barriers."""

    thread: object
    block: object
    warp: int
    grid_epoch: int
    block_epoch: int
    warp_epoch: int
    atomic: bool


class Ledger:
    """Accesses of one launch by address: the last write and the reads since. ``who()`` names the running thread."""

    def __init__(self, who):
        self._who = who
        self._writes: dict[int, Access] = {}
        self._reads: dict[int, dict] = {}
        self.in_atomic = False

    def _access(self, thread):
        block = thread.block
        return Access(thread, block, thread.warp, block.grid.epoch, block.epoch, thread.warp_epoch, self.in_atomic)

    @staticmethod
    def _ordered(past, now):
        if past.thread is now.thread or past.grid_epoch < now.grid_epoch:
            return True
        if past.block is not now.block:
            return False
        return past.block_epoch < now.block_epoch or (past.warp == now.warp and past.warp_epoch < now.warp_epoch)

    def _check(self, past, now, kind, array, index):
        if self._ordered(past, now) or (past.atomic and now.atomic):
            return
        raise RaceError(
            f"{kind} race on {array.name}[{index}]: {past.thread} and {now.thread} without a barrier between them"
        )

    def read(self, array, index, address):
        thread = self._who()
        if thread is None:
            return
        now = self._access(thread)
        for cell in range(address, address + array.itemsize, CELL):
            write = self._writes.get(cell)
            if write is not None:
                self._check(write, now, "read-after-write", array, index)
            elif array.starts_empty:
                raise UninitializedError(f"{thread} reads {array.name}[{index}], which nobody has written")
            self._reads.setdefault(cell, {})[thread] = now

    def write(self, array, index, address):
        thread = self._who()
        if thread is None:
            return
        now = self._access(thread)
        for cell in range(address, address + array.itemsize, CELL):
            if cell in self._writes:
                self._check(self._writes[cell], now, "write-after-write", array, index)
            for read in self._reads.pop(cell, {}).values():
                self._check(read, now, "write-after-read", array, index)
            self._writes[cell] = now


class Watched:
    """An array that reports its element accesses, and has no negative indices."""

    __slots__ = ("_addresses", "data", "itemsize", "ledger", "name", "starts_empty")

    def __init__(self, data, ledger, name, starts_empty=False, addresses=None):
        self.data, self.ledger, self.name, self.starts_empty = data, ledger, name, starts_empty
        self.itemsize = data.dtype.itemsize
        if addresses is None:
            start = data.__array_interface__["data"][0]
            addresses = np.full(data.shape, start, dtype=np.int64)
            for axis, stride in enumerate(data.strides):
                shape = [1] * data.ndim
                shape[axis] = -1
                addresses += (np.arange(data.shape[axis]) * stride).reshape(shape)
        self._addresses = addresses

    shape = property(lambda self: self.data.shape)
    size = property(lambda self: self.data.size)
    ndim = property(lambda self: self.data.ndim)
    dtype = property(lambda self: self.data.dtype)

    def __len__(self):
        return len(self.data)

    def reshape(self, *shape):
        return self._part(self.data.reshape(*shape), self._addresses.reshape(*shape))

    def _part(self, data, addresses):
        return Watched(data, self.ledger, self.name, self.starts_empty, addresses)

    def __getitem__(self, index):
        self._refuse_negative(index)
        value = self.data[index]
        if isinstance(value, np.ndarray):
            return self._part(value, self._addresses[index])
        self.ledger.read(self, index, int(self._addresses[index]))
        return value

    def __setitem__(self, index, value):
        self._refuse_negative(index)
        for address in np.ravel(self._addresses[index]).tolist():
            self.ledger.write(self, index, address)
        self.data[index] = value

    def _refuse_negative(self, index):
        for i in index if isinstance(index, tuple) else (index,):
            if not isinstance(i, slice) and i < 0:
                raise IndexError(f"{self.name}[{index}] lies before the array")

    def __repr__(self):
        return f"<{self.name}, {math.prod(self.shape)} elements>"
