"""The one place that holds compiler options, and the few instructions that Numba has no name for.

``device`` is for functions called by kernels, ``kernel`` for what Python launches. Rules for both: flat arrays and
int32 sizes in, no float64, no fast-math, no float atomics, constant shapes for what shall stay in registers. The
intrinsics read and write without Python's wrap-around of negative indices; under Numba's CUDA simulator their
plain-Python twins take their place.
"""

from __future__ import annotations

import numpy as np
from llvmlite import ir
from numba import config, cuda, types

SIMULATED = bool(config.ENABLE_CUDASIM)
ALL_LANES = 0xFFFFFFFF


def device(function):
    """Compile a function into each of its callers, so that local arrays passed to it stay in registers."""
    return cuda.jit(device=True, forceinline=True)(function)


def kernel(threads: int, blocks_per_processor: int = 1):
    """Compile a kernel for blocks of ``threads``, with registers left for so many blocks on a multiprocessor."""
    return cuda.jit(launch_bounds=(threads, blocks_per_processor))


def twin_of(plain):
    """Decorate an intrinsic with its plain-Python twin, which takes its place in the simulator."""

    def choose(codegen):
        if SIMULATED:
            return plain
        from numba.cuda.extending import intrinsic

        return intrinsic(codegen)

    return choose


def _address(context, builder, array_type, array, index):
    return builder.gep(context.make_array(array_type)(context, builder, array).data, [index])


def _address4(*arguments):
    place = _address(*arguments)
    return arguments[1].bitcast(place, ir.VectorType(ir.FloatType(), 4).as_pointer(place.type.addrspace))


def _plain_load4(a, i):
    return a[i], a[i + 1], a[i + 2], a[i + 3]


def _plain_store4(a, i, v0, v1, v2, v3):
    a[i], a[i + 1], a[i + 2], a[i + 3] = v0, v1, v2, v3


def _plain_store(a, i, value):
    a[i] = value


@twin_of(lambda a, i: a[i])
def load(typingctx, a, i):
    """``a[i]`` of an array of numbers of 1, 4 or 8 bytes."""

    def codegen(context, builder, sig, args):
        return builder.load(_address(context, builder, sig.args[0], args[0], args[1]))

    return a.dtype(a, types.intp), codegen


@twin_of(_plain_store)
def store(typingctx, a, i, value):
    """``a[i] = value``."""

    def codegen(context, builder, sig, args):
        builder.store(args[2], _address(context, builder, sig.args[0], args[0], args[1]))
        return context.get_dummy_value()

    return types.void(a, types.intp, a.dtype), codegen


@twin_of(_plain_load4)
def load4(typingctx, a, i):
    """Four neighbours of a float32 array in one 16-byte read; ``i`` is a multiple of 4."""
    result = types.UniTuple(types.float32, 4)

    def codegen(context, builder, sig, args):
        vector = builder.load(_address4(context, builder, sig.args[0], args[0], args[1]), align=16)
        lanes = [builder.extract_element(vector, ir.Constant(ir.IntType(32), lane)) for lane in range(4)]
        return context.make_tuple(builder, result, lanes)

    return result(a, types.intp), codegen


@twin_of(_plain_store4)
def store4(typingctx, a, i, v0, v1, v2, v3):
    """Write four neighbours in one 16-byte write; ``i`` is a multiple of 4."""

    def codegen(context, builder, sig, args):
        vector = ir.Constant(ir.VectorType(ir.FloatType(), 4), ir.Undefined)
        for lane in range(4):
            vector = builder.insert_element(vector, args[2 + lane], ir.Constant(ir.IntType(32), lane))
        builder.store(vector, _address4(context, builder, sig.args[0], args[0], args[1]), align=16)
        return context.get_dummy_value()

    return types.void(a, types.intp, *(types.float32,) * 4), codegen


@twin_of(lambda a, b: np.float32(a) / np.float32(b))
def divide(typingctx, a, b):
    """``a / b`` within 2 ulp, for b below 2^126 and above -2^126, in few instructions."""

    def codegen(context, builder, sig, args):
        number = ir.FloatType()
        function = ir.FunctionType(number, [number, number])
        return builder.asm(function, "div.approx.f32 $0, $1, $2;", "=f,f,f", args, False)

    return types.float32(types.float32, types.float32), codegen


@twin_of(lambda: cuda.threadIdx.x)
def thread(typingctx):
    """Number of the thread in its block, read anew: see ``renewed``."""

    def codegen(context, builder, sig, args):
        function = ir.FunctionType(ir.IntType(32), [])
        return builder.zext(builder.asm(function, "mov.u32 $0, %tid.x;", "=r", [], True), ir.IntType(64))

    return types.intp(), codegen


@twin_of(lambda: (cuda.threadIdx.x, cuda.blockIdx.x, cuda.gridDim.x))
def place(typingctx):
    """Numbers of the thread and its block, and how many blocks there are, read anew: see ``renewed``."""

    def codegen(context, builder, sig, args):
        function, numbers = ir.FunctionType(ir.IntType(32), []), []
        for register in ("tid", "ctaid", "nctaid"):
            number = builder.asm(function, f"mov.u32 $0, %{register}.x;", "=r", [], True)
            numbers.append(builder.zext(number, ir.IntType(64)))
        return context.make_tuple(builder, sig.return_type, numbers)

    return types.UniTuple(types.intp, 3)(), codegen


@twin_of(lambda: cuda.cg.this_grid().sync())
def grid_barrier(typingctx):
    """``cuda.cg.this_grid().sync()``, of which the compiler knows that all threads meet in one and the same call.

    Without that word it may copy the call into the branches before it, where threads of a warp would wait apart.
    """

    def codegen(context, builder, sig, args):
        context.active_code_library.use_cooperative = True  # as the original tells numba-cuda
        i32, i64 = ir.IntType(32), ir.IntType(64)
        handle = _call_together(builder, ir.FunctionType(i64, [i32]), "cudaCGGetIntrinsicHandle", [i32(1)])
        _call_together(builder, ir.FunctionType(i32, [i64, i32]), "cudaCGSynchronize", [handle, i32(0)])
        return context.get_dummy_value()

    return types.void(), codegen


def _call_together(builder, function_type, name, args):
    function = builder.module.globals.get(name) or ir.Function(builder.module, function_type, name)
    function.attributes.add("convergent")
    return builder.call(function, args)


@twin_of(lambda a, b: (a // b, a % b))
def split(typingctx, a, b):
    """``a // b, a % b`` of numbers from 0 to 2^31 - 1: the GPU divides only in 32 bits at a bearable price."""

    def codegen(context, builder, sig, args):
        a, b = (builder.trunc(number, ir.IntType(32)) for number in args)
        parts = (builder.udiv(a, b), builder.urem(a, b))
        return context.make_tuple(builder, sig.return_type, [builder.zext(part, ir.IntType(64)) for part in parts])

    return types.UniTuple(types.intp, 2)(types.intp, types.intp), codegen


@twin_of(lambda a, i: a[i:])
def beyond(typingctx, a, i):
    """``a[i:]`` of a flat array, for ``load`` and ``store`` alone: its length is not worked out."""

    def codegen(context, builder, sig, args):
        array = context.make_array(sig.args[0])(context, builder, args[0])
        array.data = builder.gep(array.data, [args[1]])
        return array._getvalue()

    return a(a, types.intp), codegen


@twin_of(lambda n: n)
def renewed(typingctx, n):
    """``n``, of which the compiler does not know that it is ``n``.

    What is worked out from the number of a thread does not change through batches, tiles and layers, so the compiler
    would work it all out once and keep it: dozens of registers, which the weights need.
    """

    def codegen(context, builder, sig, args):
        function = ir.FunctionType(ir.IntType(64), [ir.IntType(64)])
        return builder.asm(function, "mov.b64 $0, $1;", "=l,l", args, True)

    return types.intp(types.intp), codegen
