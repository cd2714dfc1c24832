"""What lets the threads of one epoch wait for each other inside compiled code: a barrier and a stop flag.

``sync`` is an int64 array: threads that have arrived, how often the barrier has opened, the stop flag Python may set
at any time, the decision to stop that all threads see alike, and a flag that says that a thread died. Waiting threads
poll a little and then give their processor away, so that more threads than cores is slow but never stuck.
"""

from __future__ import annotations

import os
import threading
import time

from llvmlite import ir
from numba import types
from numba.core import cgutils

from tsforecast.backends.cpu.jit import JIT_DISABLED, inlined, twin_of
from tsforecast.backends.cpu.lanes import as_i64, element

ARRIVED, OPENED, STOP, HALT, ABORT = 0, 8, 16, 24, 32  # one cache line each
SYNC_SIZE = 40
POLLS_BEFORE_YIELD = 1 if JIT_DISABLED else 2000
_YIELD_SYMBOL = "SwitchToThread" if os.name == "nt" else "sched_yield"
_plain_lock = threading.Lock()


def _plain_atomic_add(array, i, value):
    with _plain_lock:
        array[i] += value
        return array[i] - value


@twin_of(_plain_atomic_add)
def atomic_add(typingctx, array, i, value):
    """Add to an int64 element; return what it held before."""

    def codegen(context, builder, sig, args):
        pointer = element(context, builder, sig.args[0], args[0], args[1], sig.args[1])
        return builder.atomic_rmw("add", pointer, as_i64(builder, args[2], sig.args[2]), "seq_cst")

    return types.int64(array, i, value), codegen


@twin_of(lambda array, i: array[i])
def atomic_load(typingctx, array, i):
    """Read an int64 element that another thread may write."""

    def codegen(context, builder, sig, args):
        pointer = element(context, builder, sig.args[0], args[0], args[1], sig.args[1])
        return builder.load_atomic(pointer, "seq_cst", 8)

    return types.int64(array, i), codegen


def _plain_atomic_store(array, i, value):
    array[i] = value


@twin_of(_plain_atomic_store)
def atomic_store(typingctx, array, i, value):
    """Write an int64 element that another thread may read."""

    def codegen(context, builder, sig, args):
        pointer = element(context, builder, sig.args[0], args[0], args[1], sig.args[1])
        builder.store_atomic(as_i64(builder, args[2], sig.args[2]), pointer, "seq_cst", 8)
        return context.get_dummy_value()

    return types.void(array, i, value), codegen


@twin_of(lambda: time.sleep(0))
def yield_processor(typingctx):
    """Let another thread run."""

    def codegen(context, builder, sig, args):
        function_type = ir.FunctionType(ir.IntType(32), [])
        builder.call(cgutils.get_or_insert_function(builder.module, function_type, _YIELD_SYMBOL), [])
        return context.get_dummy_value()

    return types.void(), codegen


@inlined
def wait_for_all(sync, n_threads):
    """Return True once all ``n_threads`` threads have called this, False if one of them never will."""
    if n_threads == 1:
        return True
    opened = atomic_load(sync, OPENED)
    if atomic_add(sync, ARRIVED, 1) == n_threads - 1:
        atomic_store(sync, ARRIVED, 0)
        atomic_add(sync, OPENED, 1)
        return True
    polls = 0
    while atomic_load(sync, OPENED) == opened:
        if atomic_load(sync, ABORT) != 0:
            return False
        polls += 1
        if polls >= POLLS_BEFORE_YIELD:
            yield_processor()
    return True
