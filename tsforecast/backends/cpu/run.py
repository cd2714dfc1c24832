"""One run of a cell over its steps: under noise the passes of ``noisy``, else the cell's own.

The type of ``net`` tells whether there is noise; a network without it gets its cell's kernels, and nothing of ``noisy``
is compiled.
"""

from __future__ import annotations

from tsforecast.backends.cpu import cells, noisy
from tsforecast.backends.cpu.jit import twin_of


def _call(name, arguments, n_own):
    """Signature and code of a call of the noisy kernel, or of the cell's one, which lacks some first arguments."""
    kind = arguments[0].instance_class
    if kind.noisy:
        return cells.call(getattr(noisy, name), arguments, 0)
    return cells.call(getattr(cells.kernels_of(kind), name), arguments, n_own)


def _plain(name, n_own):
    def run(net, *arguments):
        if type(net).noisy:
            getattr(noisy, name)(net, *arguments)
        else:
            getattr(cells.kernels_of(type(net)), name)(*arguments[n_own - 1 :])

    return run


@twin_of(_plain("infer", 4))
def infer(typingctx, net, layers, i, work, T, n, D, H, w, extra, xh, c, z):
    """Run ``i`` in inference."""
    return _call("infer", (net, layers, i, work, T, n, D, H, w, extra, xh, c, z), 4)


@twin_of(_plain("forward", 6))
def forward(typingctx, net, noise, layers, i, before, work, first, last, T, n, D, H, w, extra, xh, c, gates, kept):
    """Steps ``first..last-1`` of a turn of T steps of run ``i``, which has as many steps ``before`` it."""
    return _call(
        "forward", (net, noise, layers, i, before, work, first, last, T, n, D, H, w, extra, xh, c, gates, kept), 6
    )


@twin_of(_plain("backward", 5))
def backward(
    typingctx, net, noise, layers, i, work, first, last, T, n, D, H, wh_t, wx_t, extra, xh, c, kept, gates, dout,
    every_step, want_dx, want_state, dh, dc, dz, dx, dw, dextra,
):  # fmt: skip
    """The way back through the steps ``first..last-1`` of the T that run ``i`` keeps."""
    return _call(
        "backward",
        (net, noise, layers, i, work, first, last, T, n, D, H, wh_t, wx_t, extra, xh, c, kept, gates, dout, every_step,
         want_dx, want_state, dh, dc, dz, dx, dw, dextra), 5,
    )  # fmt: skip
