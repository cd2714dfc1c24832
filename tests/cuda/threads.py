"""Simulated CUDA threads: greenlets that run until they wait for one another, and the rules by which they meet."""

import contextvars
import inspect
import random
import sys
from contextlib import contextmanager
from dataclasses import dataclass, replace
from types import SimpleNamespace

import numpy as np
from greenlet import getcurrent, greenlet
from races import Ledger, SimulationError, Watched

WARP = 32


@dataclass(frozen=True)
class Options:
    """How launches run.

    ``order`` of threads is "forward", "reverse" or a seed; ``watch`` looks for races; ``met`` collects the barriers of
    blocks and grids that are met, as "path:line"; the barrier ``without`` is passed as if it were not there.
    """

    order: object = "forward"
    watch: bool = False
    met: set | None = None
    without: str | None = None


_options = Options()


@contextmanager
def options(**changes):
    """Change the options of the launches inside a ``with`` block."""
    global _options
    before = _options
    _options = replace(before, **changes)
    try:
        yield
    finally:
        _options = before


class Dim3(SimpleNamespace):
    """The fields x, y, z."""

    def __init__(self, xyz):
        x, y, z = xyz
        super().__init__(x=x, y=y, z=z)

    def __iter__(self):
        return iter((self.x, self.y, self.z))


class Thread(greenlet):
    """One CUDA thread; ``waits_for`` is None (it can run), "warp", "block" or "grid", ``site`` is where it waits."""

    def __init__(self, run, block, index):
        super().__init__(run)
        self.gr_context = contextvars.copy_context()  # np.errstate of the launch
        self.block, self.threadIdx = block, Dim3(index)
        dim = block.grid.block_dim
        self.number = index[0] + dim.x * (index[1] + dim.y * index[2])
        self.warp, self.lane = divmod(self.number, WARP)
        self.waits_for = self.message = self.answer = self.frame = None
        self.warp_epoch = 0

    def wait(self, what, message=None):
        """Give way until all have come; return what the meeting answers."""
        self.waits_for, self.message = what, message
        self.frame = sys._getframe(2)  # the kernel's: it calls a function of simulator.FUNCTIONS, and that calls this
        if what != "warp":
            if _options.met is not None:
                _options.met.add(self.site)
            if _options.without is not None and self.site == _options.without:
                self.waits_for = None
                return None
        self.parent.switch()
        return self.answer

    def resume(self, answer=None):
        self.waits_for, self.answer = None, answer

    @property
    def site(self):
        return f"{self.frame.f_code.co_filename}:{self.frame.f_lineno}"

    def __str__(self):
        return f"thread {self.number} of block {tuple(self.block.index)}"


def np_dtype(dtype):
    """NumPy's dtype of a type of Numba's."""
    return np.dtype(str(dtype)) if hasattr(dtype, "bitwidth") else np.dtype(dtype)


def poisoned(shape, dtype):
    """Array of bits 1: NaN, -1, or the largest unsigned number."""
    array = np.empty(shape, np_dtype(dtype))
    array.reshape(-1).view(np.uint8).fill(0xFF)
    return array


class Block:
    """Threads that share memory."""

    def __init__(self, grid, index, run):
        self.grid, self.index, self.epoch = grid, Dim3(index), 0
        self._shared = {}
        self._dynamic = np.full(grid.shared_bytes, 0xFF, dtype=np.uint8)  # float32 of these bits is NaN
        dim = tuple(grid.block_dim)
        self.threads = [Thread(run, self, i[::-1]) for i in np.ndindex(*dim[::-1])]
        self._warps = [self.threads[first : first + WARP] for first in range(0, len(self.threads), WARP)]

    def shared_array(self, shape, dtype, frame):
        """Return the array of a place in the program; the size 0 names the dynamic memory."""
        is_dynamic = shape in (0, (0,))
        place = dtype if is_dynamic else (frame.f_code, frame.f_lasti)
        if place not in self._shared:
            if is_dynamic:
                name = "dynamic shared memory"
                array = self._dynamic[: len(self._dynamic) // dtype.itemsize * dtype.itemsize].view(dtype)
            else:
                name, array = f"shared array of line {frame.f_lineno}", poisoned(shape, dtype)
            self._shared[place] = self.grid.watched(array, name, starts_empty=True)
        return self._shared[place]

    def meet(self):
        """Let a barrier of warps or of the block pass if all it waits for have come; True if one did."""
        passed = any([_meet_warp(warp) for warp in self._warps])
        if passed or any(t.waits_for != "block" and not t.dead for t in self.threads):
            return passed
        alive = [t for t in self.threads if not t.dead]
        if alive:
            _same_site(alive, self.threads, "barrier")
            _answer_block(alive)
            self.epoch += 1
            passed = True
        return passed


class Grid:
    """One launch."""

    def __init__(self, function, grid_dim, block_dim, shared_bytes, args):
        self.grid_dim, self.block_dim, self.shared_bytes = Dim3(grid_dim), Dim3(block_dim), shared_bytes
        self.epoch = 0
        self.ledger = Ledger(current) if _options.watch else None
        names = list(inspect.signature(function).parameters)
        args = [self._argument(name, arg) for name, arg in zip(names, args, strict=True)]
        self.blocks = [Block(self, i[::-1], lambda: function(*args)) for i in np.ndindex(*grid_dim[::-1])]
        self._random = random.Random(_options.order if isinstance(_options.order, int) else 0)

    def _argument(self, name, arg):
        arg = getattr(arg, "_ary", arg)  # a device array of Numba's simulator
        if not isinstance(arg, np.ndarray) or arg.ndim == 0:
            return arg
        return self.watched(arg, name)

    def watched(self, array, name, starts_empty=False):
        return array if self.ledger is None else Watched(array, self.ledger, name, starts_empty)

    def run(self):
        """Run all threads to their end."""
        try:
            while any(not t.dead for block in self.blocks for t in block.threads):
                self._round()
        finally:
            for block in self.blocks:
                for thread in block.threads:
                    if thread:  # has begun and not ended
                        thread.throw()

    def _round(self):
        moved = False
        for block in self._in_order(self.blocks):
            for thread in self._in_order(block.threads):
                if not thread.dead and thread.waits_for is None:
                    moved = True
                    thread.switch()
            moved |= block.meet()
        alive = [t for block in self.blocks for t in block.threads if not t.dead]
        if alive and all(t.waits_for == "grid" for t in alive):
            _same_site(alive, [t for block in self.blocks for t in block.threads], "grid barrier")
            self.epoch += 1
            for thread in alive:
                thread.resume()
        elif alive and not moved:
            raise SimulationError(f"deadlock: {_sites(alive)}")

    def _in_order(self, items):
        if _options.order == "forward":
            return items
        if _options.order == "reverse":
            return items[::-1]
        return self._random.sample(items, len(items))


def current():
    """Return the running CUDA thread, None on the host."""
    thread = getcurrent()
    return thread if isinstance(thread, Thread) else None


def _sites(threads):
    found = {}
    for thread in threads:
        found.setdefault((thread.waits_for, thread.site), []).append(str(thread))
    return "; ".join(f"{who[0]} and {len(who) - 1} more wait for the {what} at {site}"
                     for (what, site), who in found.items())  # fmt: skip


def _same_site(arrived, expected, what):
    if len(arrived) != len(expected):
        raise SimulationError(f"{what} that {len(expected) - len(arrived)} threads never reach: {_sites(arrived)}")
    first = arrived[0].frame
    if any(t.frame.f_lasti != first.f_lasti or t.frame.f_code is not first.f_code for t in arrived):
        raise SimulationError(f"divergent {what}: {_sites(arrived)}")


_VOTES = {"count": sum, "and": lambda votes: int(all(votes)), "or": lambda votes: int(any(votes))}


def _answer_block(threads):
    kind = threads[0].message and threads[0].message[0]
    answer = _VOTES[kind]([bool(t.message[1]) for t in threads]) if kind else None
    for thread in threads:
        thread.resume(answer)


def _meet_warp(warp):
    """Let the lanes that wait for one another exchange their values, if all that the mask names have come."""
    first = next((t for t in warp if t.waits_for == "warp"), None)
    if first is None:
        return False
    operation, mask = first.message[:2]
    party = [t for t in warp if mask >> t.lane & 1 and not t.dead]
    if any(t.waits_for != "warp" for t in party):
        return False
    _same_site(party, party, "warp operation")
    if any(t.message[0] != operation or t.message[1] != mask for t in party):
        raise SimulationError(f"lanes of a warp in different operations: {[t.message for t in party]}")
    values = {t.lane: t.message[2] for t in party}
    if operation in _SOURCES:
        answers = [_shuffled(t, _SOURCES[operation](t.lane, t.message[3]), values) for t in party]
    else:
        answers = [_WARP_VOTES[operation](values)] * len(party)
    for thread, answer in zip(party, answers, strict=True):
        thread.warp_epoch += 1
        thread.waits_for, thread.answer = None, answer
    return True


_WARP_VOTES = {
    "sync": lambda _: None,
    "all": lambda votes: all(votes.values()),
    "any": lambda votes: any(votes.values()),
    "ballot": lambda votes: sum(1 << lane for lane, vote in votes.items() if vote),
}
# The lane whose value a lane gets, which keeps its own where that lies beyond the warp.
_SOURCES = {
    "idx": lambda _, wanted: wanted % WARP,
    "xor": lambda lane, distance: lane ^ distance,
    "up": lambda lane, distance: lane - distance if lane >= distance else lane,
    "down": lambda lane, distance: lane + distance if lane + distance < WARP else lane,
}


def _shuffled(thread, source, values):
    if source not in values:
        raise SimulationError(f"{thread} takes the value of lane {source}, which takes no part")
    return values[source]
