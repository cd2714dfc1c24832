"""Passes that only some networks have: the type of ``net`` says which kernel is meant, or that there is nothing to do.

What a network does not have is not compiled for it.
"""

from __future__ import annotations

from collections.abc import Callable

from numba import types
from numba.core import cgutils

from tsforecast.backends.cpu.jit import emit_call, twin_of


@twin_of(lambda net: type(net).decodes != "dense")
def decodes(typingctx, net):
    """Whether the net has a decoder: a constant to the compiler."""

    def codegen(context, builder, sig, args):
        return context.get_constant(types.boolean, net.instance_class.decodes != "dense")

    return types.boolean(net), codegen


def optional(choose: Callable):
    """A function for kernels that calls the one which ``choose(type of net)`` names, with a tuple of its arguments.

    ``net`` comes first; ``choose`` returns None for a network that does nothing here.
    """

    def plain(arguments):
        chosen = choose(type(arguments[0]))
        if chosen is not None:
            chosen(*arguments)

    def call(typingctx, arguments):
        kinds = tuple(types.unliteral(kind) for kind in arguments.types)
        chosen = choose(kinds[0].instance_class)
        if chosen is not None:
            chosen.compile(kinds)

        def codegen(context, builder, sig, args):
            if chosen is not None:
                emit_call(context, builder, chosen, kinds, cgutils.unpack_tuple(builder, args[0]), sig.args[0].types)
            return context.get_dummy_value()

        return types.void(arguments), codegen

    return twin_of(plain)(call)
