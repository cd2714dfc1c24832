"""Every kernel of the CUDA backend, compiled to machine code: nothing spilled, nothing in float64, wide reads kept.

The backend's own calls say which kernels there are, for which types and blocks; they are recorded, not executed.
"""

import re
from dataclasses import replace

import numpy as np
import offline
import pytest
from offline import REGISTERS_PER_BLOCK, REGISTERS_PER_THREAD, SHARED_BYTES

from tsforecast.backends.base import StepRule, TrainState, Windows
from tsforecast.backends.cuda.cells import CELLS
from tsforecast.backends.cuda.plan import WIDEST_OF_A_BLOCK
from tsforecast.exceptions import DivergedError
from tsforecast.nn.fleet import TrainJob, train_many
from tsforecast.nn.trainer import TrainConfig
from tsforecast.spec import NetworkSpec

pytest.importorskip("numba_cuda", reason="compiling CUDA kernels needs the extra cuda: pip install tsforecast[cuda]")

STATIC_SHARED_BYTES = 48 * 1024  # more has to be asked for at launch
BARRIERS = 4  # of the grid, in ``epoch.make_train``
IN_FLOAT64 = ("measure",)  # mean and deviation of each window, once a fit
OF_ALL_SIZES = ("measure", "turn", "find_non_finite")
SIZES = (16, 32, 48, 64, 96, 128, 200)
OF_WIDE = [("lstm_peephole", 200), ("gru", 200), ("rnn_relu", 200)]
NETWORK = ("train", "infer", "differentiate")
OTHERS = [(target, units) for target in ("sm_80", "sm_100") for units in (32, 128, 200)]


def launches_of(units, **network):
    """Launches of all calls of the backend: training of one network and of many, scores, forecasts, gradients."""
    from tsforecast.backends.cuda.backend import CudaBackend

    plain = NetworkSpec(4, 1, (units, units), 2, **network)
    spec = replace(plain, window_norm="standard", season_length=2, linear_skip=True)
    series, starts = np.zeros(110, np.float32), np.arange(100, dtype=np.int64)
    windows = Windows(series, starts, series, starts + 4, np.ones(100, np.float32))
    params, backend = np.zeros(spec.n_params, np.float32), CudaBackend()
    with offline.recording() as launches:
        with pytest.raises(DivergedError):  # since no launch tells of a batch that is done
            backend.train_epoch(spec, StepRule(), TrainState(params), windows, starts, 50, np.ones(2), 1)
        if units <= WIDEST_OF_A_BLOCK:
            train_many(backend, [TrainJob(spec, TrainConfig(StepRule()), TrainState(params), windows, seed=0)], 1)
        backend.evaluate(spec, StepRule(), params, windows, 1)
        backend.predict(spec, params, series, starts, 1)
        x, cotangent = np.zeros((9, 4, 1), np.float32), np.zeros((9, 2), np.float32)
        backend.gradient(plain, np.zeros(plain.n_params, np.float32), x, cotangent)
    different = {(launch.kernel, launch.argtypes): launch for launch in launches}
    return list(different.values())


def check(launch, target):
    used = offline.compile_kernel(launch.kernel, launch.argtypes, target)
    where = f"{launch.name} of {launch.n_threads} threads for {target}: {used.registers} registers"
    assert launch.name in IN_FLOAT64 or not offline.FLOAT64.search(used.ptx), where
    assert used.stack_bytes == used.spill_bytes == 0, f"{where}, {used.stack_bytes} + {used.spill_bytes} bytes"
    assert used.registers <= REGISTERS_PER_THREAD, where
    assert used.registers * launch.n_threads <= REGISTERS_PER_BLOCK, where
    assert used.shared_bytes <= STATIC_SHARED_BYTES, where
    assert used.shared_bytes + launch.shared_bytes <= SHARED_BYTES[target], where
    assert "tanh.approx" not in used.ptx, where  # its error is 5e-4
    assert ".nc." not in used.ptx, where  # would read past the barriers what other blocks have written
    together = launch.name.endswith("_wide") or (launch.name == "train" and launch.grid[0] > 1)
    assert used.cooperative == together, where
    if together:
        calls = re.findall(r"call\S* \(retval0\),\s*cudaCGSynchronize", used.ptx)
        assert len(calls) == BARRIERS or launch.name != "train", where  # none is copied into branches
        most = offline.PROCESSORS * used.blocks_per_processor(launch.n_threads, target)
        assert np.prod(launch.grid) <= most, where  # else the launch is refused
    return used


@pytest.mark.parametrize("units", SIZES)
def test_resources(units):
    launches = launches_of(units)
    names = [launch.name for launch in launches]
    wide = "_wide" if units > 128 else ""
    assert {f"train{wide}", f"infer{wide}", f"differentiate{wide}"} == set(names) - {*OF_ALL_SIZES}
    assert names.count("train") == (0 if wide else 2)
    for launch in launches:
        if launch.name in OF_ALL_SIZES and units != SIZES[0]:
            continue
        used = check(launch, "sm_90")
        if launch.name not in OF_ALL_SIZES:
            assert "ld.shared.v4.f32" in used.ptx, launch.name
            assert "st.global.v4.f32" in used.ptx or "st.v4.f32" in used.ptx, launch.name


@pytest.mark.parametrize(("target", "units"), OTHERS)
def test_resources_on_other_architectures(target, units):
    for launch in launches_of(units):
        if launch.name.startswith(NETWORK if units == 128 else ("train", "infer")):
            check(launch, target)


@pytest.mark.parametrize(("target", "units"), [("sm_90", 64), ("sm_90", 128), ("sm_90", 200), ("sm_80", 128)])
def test_resources_of_networks_that_are_no_chain(target, units):
    for launch in launches_of(units, bidirectional="concat", dropout=0.3):
        if launch.name.startswith(NETWORK if units == 128 else "train"):
            check(launch, target)


@pytest.mark.parametrize(
    ("cell", "units"),
    [*((cell, 128) for cell in CELLS if cell != "lstm"), ("gru", 96), ("rnn_tanh", 96), *OF_WIDE],
)
def test_resources_of_other_cells(cell, units):
    for launch in launches_of(units, cell=cell):
        if launch.name.startswith("train"):
            check(launch, "sm_90")


def test_peepholes_where_there_are_fewest_registers():
    for launch in launches_of(128, cell="lstm_peephole"):
        if launch.name.startswith("train"):
            check(launch, "sm_80")
