"""Runs compiled calls on threads of their own, while the caller's thread stays free to hear Ctrl-C."""

from __future__ import annotations

import threading
from collections.abc import Callable

import numpy as np

from tsforecast.backends.cpu.sync import STOP


def run_threads(calls: list[Callable[[], object]], sync: np.ndarray) -> list[object]:
    """Run all calls at once, one thread each, and return their results in order.

    The threads end with this function, so nothing is left behind for a fork to trip over. An interrupt of the waiting
    thread (Ctrl-C) sets the stop flag that kernels poll, waits for them and is then raised again.
    """
    results: list[object] = [None] * len(calls)
    errors: list[BaseException] = []

    def run(i: int) -> None:
        try:
            results[i] = calls[i]()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(i,), daemon=True) for i in range(len(calls))]
    for thread in threads:
        thread.start()
    try:
        for thread in threads:
            thread.join()
    except BaseException:
        sync[STOP] = 1
        for thread in threads:
            thread.join()
        raise
    if errors:
        raise errors[0]
    return results
