"""Asking for a GPU where something is missing, and where nothing is: the driver is played by a stand-in."""

import json
import os
import subprocess
import sys
import types

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LinearRegression

from tsforecast import BackendUnavailableError, Forecaster, LSTMRegressor, WindowRegressor, load_model
from tsforecast.backends.base import get_backend
from tsforecast.backends.cuda import availability


class Driver:
    """What the CUDA driver library answers."""

    def __init__(self, init=0, count=1, name=b"NVIDIA H100", capability=(9, 0), version=13010, memory=80 << 30):
        self.init, self.count, self.name, self.capability = init, count, name, capability
        self.version, self.memory = version, memory

    def cuInit(self, flags):
        return self.init

    def cuGetErrorName(self, status, text):
        text._obj.value = {3: b"CUDA_ERROR_NOT_INITIALIZED", 100: b"CUDA_ERROR_NO_DEVICE"}[status]

    def cuDriverGetVersion(self, number):
        number._obj.value = self.version

    def cuDeviceGetCount(self, count):
        count._obj.value = self.count

    def cuDeviceGet(self, device, which):
        device._obj.value = which

    def cuDeviceGetName(self, name, length, device):
        name.value = self.name

    def cuDeviceGetAttribute(self, value, attribute, device):
        value._obj.value = self.capability[{75: 0, 76: 1}[attribute]]

    def cuDeviceTotalMem_v2(self, memory, device):
        memory._obj.value = self.memory


@pytest.fixture
def machine(monkeypatch):
    """Function that sets the driver (None: there is none), and whether all of the extra is there."""

    def set_up(driver, missing=None, broken=None, linked=__file__):
        def open_library(name, *args, **kwargs):
            if driver is None:
                raise OSError("no such library")
            return driver

        def import_module(name):
            if broken is not None and name == broken:
                raise RuntimeError("Failure finding libnvvm.so\nin many places")
            return types.SimpleNamespace(
                load_nvidia_dynamic_lib=lambda library: None,
                get_libdevice=lambda: __file__,
                get_cudalib=lambda library, static: linked,
            )

        for variable in ("NUMBA_ENABLE_CUDASIM", "NUMBA_DISABLE_CUDA", "CUDA_VISIBLE_DEVICES"):
            monkeypatch.delenv(variable, raising=False)
        monkeypatch.setattr(availability, "CDLL", open_library)
        monkeypatch.setattr(availability, "find_spec", lambda name: None if name == missing else name)
        monkeypatch.setattr(availability, "import_module", import_module)
        availability.find_gpu.cache_clear()
        availability.problem_of_extra.cache_clear()

    yield set_up
    monkeypatch.undo()
    availability.find_gpu.cache_clear()
    availability.problem_of_extra.cache_clear()


MISSING = [
    ((None,), "there is no NVIDIA driver; install one of release 580 or later"),
    ((Driver(init=100),), r"finds no GPU to use \(CUDA_ERROR_NO_DEVICE, 100\)"),
    ((Driver(count=0),), "finds no GPU to use; CUDA_VISIBLE_DEVICES may hide it"),
    ((Driver(version=12080),), r"driver is for CUDA 12.8, and the kernels need one for CUDA 13.0; install .* 580"),
    ((Driver(capability=(7, 5), name=b"Tesla T4"),), "Tesla T4 has compute capability 7.5, and the kernels need 8.0"),
    ((Driver(), "numba_cuda"), r"numba-cuda is not installed: pip install 'tsforecast\[cuda\]'"),
    ((None, "numba_cuda"), r"no NVIDIA driver.*; and the package numba-cuda is not installed"),
    ((Driver(), None, "cuda.pathfinder"), r"not all that it needs \(Failure finding libnvvm.so\): pip install"),
    ((Driver(), None, None, "libcudadevrt.a"), r"not all that it needs \(no cudadevrt\): .* CUDA_HOME name a toolkit"),
    ((Driver(), None, "numba.cuda"), r"not all that it needs \(Failure finding libnvvm.so\): pip install"),
]


@pytest.mark.parametrize(("state", "message"), MISSING)
def test_what_is_missing_is_said_with_how_to_get_it(machine, state, message):
    machine(*state)
    assert not availability.is_available()
    with pytest.raises(BackendUnavailableError, match=message) as caught:
        get_backend("cuda")
    assert str(caught.value).startswith('device="cuda" cannot be used: ')
    assert 'device="cpu" works everywhere' in str(caught.value)
    assert get_backend("auto").name == "cpu"


@pytest.mark.parametrize(
    ("variable", "driver", "message"),
    [
        ("CUDA_VISIBLE_DEVICES", Driver(init=100), r"NO_DEVICE, 100\); CUDA_VISIBLE_DEVICES hides it"),
        ("NUMBA_DISABLE_CUDA", Driver(), "NUMBA_DISABLE_CUDA is set, .*; unset it"),
    ],
)
def test_what_hides_a_gpu_is_named(machine, monkeypatch, variable, driver, message):
    machine(driver)
    monkeypatch.setenv(variable, "1")
    with pytest.raises(BackendUnavailableError, match=message):
        get_backend("cuda")
    assert get_backend("auto").name == "cpu"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # since other tests have left threads
def test_a_fork_of_a_process_that_used_the_gpu_is_told_so(machine):
    driver = Driver()
    machine(driver)
    assert availability.is_available()
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        driver.init = 3  # as the driver answers there
        try:
            os.write(writing, f"{get_backend('auto').name}: {availability.problem_of_gpu()}".encode())
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    assert os.read(reading, 1000).decode() == (
        "cpu: the NVIDIA driver finds no GPU to use (CUDA_ERROR_NOT_INITIALIZED, 3); if this process was forked "
        "from one that had used the GPU, start it by spawn instead"
    )
    os.close(reading)
    os.close(writing)
    assert availability.is_available()


def test_with_everything_there(machine):
    machine(Driver())
    availability.require()
    assert availability.is_available()
    assert availability.find_gpu() == availability.Gpu("NVIDIA H100", (9, 0), 80 << 30, (13, 1))
    facts = availability.facts()
    assert facts["gpu"] == "NVIDIA H100, compute capability 9.0, 80 GiB"
    assert facts["gpu_driver"].endswith("CUDA 13.1")
    assert facts["device_auto"] == "cuda"


def test_fitting_on_a_gpu_that_is_not_there(machine, rng):
    machine(None)
    X, y = rng.normal(size=(20, 5)), rng.normal(size=20)
    model = LSTMRegressor(2, max_iter=1, device="cuda", random_state=0)
    with pytest.raises(BackendUnavailableError, match="no NVIDIA driver"):
        model.fit(X, y)
    assert not hasattr(model, "n_iter_")
    model.set_params(device="reference").fit(X, y)
    expected = model.predict(X)
    for use in (lambda: model.predict(X), lambda: model.fit(X, y)):
        model.set_params(device="cuda")
        with pytest.raises(BackendUnavailableError):
            use()
    np.testing.assert_array_equal(model.set_params(device="reference").predict(X), expected)


@pytest.mark.needs_jit
def test_auto_has_the_bits_of_the_cpu_where_there_is_no_gpu(machine, rng):
    machine(None)
    X, y = rng.normal(size=(20, 5)), rng.normal(size=20)
    auto, cpu = (LSTMRegressor(2, max_iter=2, device=d, random_state=0).fit(X, y) for d in ("auto", "cpu"))
    np.testing.assert_array_equal(auto.predict(X), cpu.predict(X))


def test_a_model_saved_by_a_gpu_takes_what_there_is(machine, rng, tmp_path):
    X, y = rng.normal(size=(20, 5)), rng.normal(size=20)
    model = LSTMRegressor(2, max_iter=1, device="reference", random_state=0).fit(X, y)
    expected = model.predict(X)
    model.set_params(device="cuda").save(tmp_path / "model.tsf")
    machine(None)
    loaded = load_model(tmp_path / "model.tsf")
    assert loaded.device == "auto"
    np.testing.assert_allclose(loaded.predict(X), expected, rtol=1e-5, atol=1e-6)


def test_auto_gives_to_the_processor_what_the_gpu_refuses():
    from tsforecast.backends.auto import AutoBackend

    def refuse(what):
        raise BackendUnavailableError("only lstm")

    gpu = types.SimpleNamespace(predict=refuse, evaluate=lambda what: f"gpu {what}")
    backend = AutoBackend(gpu, types.SimpleNamespace(predict=lambda what: f"cpu {what}"))
    assert backend.predict("windows") == "cpu windows"
    assert backend.evaluate("windows") == "gpu windows"


def test_importing_and_using_the_package_does_not_touch_cuda():
    code = """
import sys, json, numpy as np, tsforecast
model = tsforecast.LSTMRegressor(2, max_iter=1, device="reference").fit(np.ones((9, 3)), np.arange(9.0))
model.predict(np.ones((1, 3)))
cuda = ("numba.cuda", "numba_cuda", "cuda", "tsforecast.backends.cuda")
print(json.dumps([name for name in sys.modules if name.startswith(cuda)]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == []


@pytest.fixture
def frame(rng):
    return pd.DataFrame({"ds": np.arange(30), "y": 5 + rng.normal(size=30)})


def test_a_forecaster_hands_its_device_to_our_networks_only(machine, frame, tmp_path):
    machine(None)
    sizes = {"horizon": 2, "n_timesteps": 4, "season_length": 1, "device": "cuda"}
    for estimator in (None, LSTMRegressor(2)):
        with pytest.raises(BackendUnavailableError, match="no NVIDIA driver"):
            Forecaster(estimator, **sizes).fit(frame)
    with pytest.raises(BackendUnavailableError, match="no NVIDIA driver"):
        WindowRegressor(LSTMRegressor(2, device="cuda"), 4).fit(frame[["y"]], frame["y"])
    assert len(Forecaster(LinearRegression(), **sizes).fit(frame).predict()) == 2


def test_a_forecaster_saved_by_a_gpu_takes_what_there_is(machine, frame, tmp_path):
    network = LSTMRegressor(2, max_iter=1, device="reference", random_state=0)
    model = Forecaster(network, horizon=2, n_timesteps=4, season_length=1).fit(frame)
    expected = model.predict()["LSTMRegressor"]
    model.set_params(device="cuda")
    model.estimator_.set_params(device="cuda")
    model.save(tmp_path / "model.tsf")
    machine(None)
    loaded = load_model(tmp_path / "model.tsf")
    assert (loaded.device, loaded.estimator_.device) == ("auto", "auto")
    np.testing.assert_allclose(loaded.predict()["LSTMRegressor"], expected, rtol=1e-5)


def test_the_command_line_exits_with_the_environments_code(machine, frame, tmp_path, capsys):
    from tsforecast import cli

    machine(None)
    frame.to_csv(tmp_path / "table.csv", index=False)
    code = cli.main(["forecast", str(tmp_path / "table.csv"), "--horizon", "2", "--device", "cuda", "--quiet"])
    assert code == cli.ENVIRONMENT
    assert "there is no NVIDIA driver" in capsys.readouterr().err
