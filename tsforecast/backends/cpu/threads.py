"""Runs compiled calls on threads of their own, while the caller's thread stays free to hear Ctrl-C.

How many threads is a matter of the work alone, and changes no bit of a result: starting one takes 0.1 ms, letting all
of them meet in every batch some microseconds. Short work begins on the caller's thread.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

import numpy as np

from tsforecast.backends.cpu.sync import ABORT, STOP

SHORT = 500_000_000  # operations that take any processor less than 0.1 s: Ctrl-C may wait for them
A_THREAD = 150_000_000  # operations, about 1 ms, that are worth another thread
POLL_SECONDS = 0.1  # a wait without a limit cannot be interrupted everywhere


class _Crew:
    """Threads that start their calls together, once all of them exist, and tell when they have ended."""

    def __init__(self, calls: list[Callable[[], object]], sync: np.ndarray):
        self._calls, self._sync = calls, sync
        self.results: list[object] = [None] * len(calls)
        self.errors: list[BaseException] = []
        self._gate, self._called_off = threading.Event(), False
        self._ended = [threading.Event() for _ in calls]

    def start(self) -> None:
        """Start the threads; if that fails half-way, none of them calls anything."""
        try:
            for i in range(len(self._calls)):
                threading.Thread(target=self._run, args=(i,), daemon=True).start()
        except BaseException:
            self._called_off = True
            raise
        finally:
            self._gate.set()

    def _run(self, i: int) -> None:
        self._gate.wait()
        try:
            if not self._called_off:
                self.results[i] = self._calls[i]()
        except BaseException as error:
            self.errors.append(error)
            self._sync[ABORT] = self._sync[STOP] = 1  # the others must not wait for this thread at a barrier
        finally:
            self._ended[i].set()

    def wait(self) -> None:
        """Return when every call has ended; an interrupt asks them to stop, and is raised after they have."""
        interrupt = None
        for ended in self._ended:
            while not ended.is_set():
                try:
                    ended.wait(POLL_SECONDS)
                except BaseException as error:  # not join(): after an interrupt it would take the thread for ended
                    interrupt = interrupt or error
                    self._sync[STOP] = 1
        if interrupt is not None:
            raise interrupt


def thread_count(n_jobs: int, n_parts: int, operations: int) -> int:
    """Threads for work of so many operations, which can be cut into ``n_parts``."""
    return max(1, min(n_jobs, n_parts, operations // A_THREAD))


def run_threads(calls: list[Callable[[], object]], sync: np.ndarray, operations: int = SHORT) -> list[object]:
    """Run all calls at once, one thread each, and return their results in order.

    No call is running any more when this returns or raises, so that nobody writes behind the caller's back and nothing
    is left for a fork to trip over. An interrupt of the waiting thread (Ctrl-C) sets the stop flag that kernels poll,
    waits for them and is then raised again. What a call raises is raised here, after the others were stopped. Work of
    less than ``SHORT`` operations has its first call run on this thread.
    """
    n_here = int(operations < SHORT)
    if n_here == len(calls):
        return [call() for call in calls]
    crew = _Crew(calls[n_here:], sync)
    crew.start()
    here: list[object] = []
    try:
        here = [call() for call in calls[:n_here]]
    except BaseException:
        sync[ABORT] = sync[STOP] = 1
        raise
    finally:
        crew.wait()
    if crew.errors:
        raise crew.errors[0]
    return here + crew.results
