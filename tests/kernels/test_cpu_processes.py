"""What only whole processes show: the kernel cache under damage and races, bits on other processors, Ctrl-C, fork."""

import hashlib
import os
import platform
import shutil
import signal
import stat
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest
from numpy._core._multiarray_umath import __cpu_features__

from tsforecast.backends.cpu import cache

pytestmark = pytest.mark.needs_jit

REPOSITORY = Path(__file__).resolve().parents[2]
SUM_OF_SQUARES = """
    import numpy as np
    from tsforecast.backends.cpu.jit import entry

    @entry
    def sum_of_squares(x):
        total = 0.0
        for value in x:
            total += value * value
        return total

    print(sum_of_squares(np.arange({n}, dtype=np.{dtype})), sum(sum_of_squares.stats.cache_hits.values()))
"""
GENERIC = {"NUMBA_CPU_NAME": "generic"}  # 8 lanes, no FMA units
AVX2 = {"NUMBA_CPU_NAME": "haswell", "NUMBA_CPU_FEATURES": "+sse4.2,+avx,+avx2,+fma,+bmi,+bmi2"}  # 8 lanes
SMALL_FIT = """
    import hashlib
    import numpy as np
    from tsforecast import LSTMRegressor

    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(200, 8)), rng.normal(size=(200, 3))
    for dtype in {dtypes}:
        for jobs in {jobs}:
            model = LSTMRegressor((20, 7), max_iter=3, random_state=1, n_jobs=jobs, batch_size=64, dtype=dtype)
            model.fit(X, y)
            own = hashlib.sha256(model.predict(X).tobytes())
            own.update(model._params.tobytes())
            print(jobs, dtype, own.hexdigest())
"""


def _start(code, tmp_path=None, **environment):
    """Run code in a process of its own. What is not a file cannot be cached, so it goes through one."""
    code = textwrap.dedent(code)
    script = (
        tmp_path or Path(os.environ["TSFORECAST_CACHE_DIR"])
    ) / f"{hashlib.sha256(code.encode()).hexdigest()[:16]}.py"
    if not script.exists():  # another process may be reading it
        script.parent.mkdir(parents=True, exist_ok=True)
        script.write_text(code)
    env = {**os.environ, "PYTHONPATH": str(REPOSITORY), **environment}
    return subprocess.Popen(
        [sys.executable, str(script)],
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=REPOSITORY,
    )


def _output(process):
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    return out.split()


def _run(code, tmp_path=None, **environment):
    return _output(_start(code, tmp_path, **environment))


def _files(folder):
    return sorted(p for p in Path(folder).rglob("*") if p.is_file() and p.suffix != ".py")


def test_the_second_process_loads_what_the_first_compiled(tmp_path):
    code = SUM_OF_SQUARES.format(n=4, dtype="float64")
    assert _run(code, tmp_path, TSFORECAST_CACHE_DIR=str(tmp_path)) == ["14.0", "0"]
    assert _run(code, tmp_path, TSFORECAST_CACHE_DIR=str(tmp_path)) == ["14.0", "1"]
    (file,) = _files(tmp_path)
    assert stat.S_IMODE(file.stat().st_mode) & 0o077 == 0
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700


KEPT = """
    import numpy as np
    from tsforecast.backends.base import get_backend
    from tsforecast.spec import NetworkSpec

    cpu, f4, f8 = get_backend("cpu"), np.dtype("float32"), np.dtype("float64")
    tanh, relu = (NetworkSpec(3, 1, (2,), 1, cell=cell) for cell in ("rnn_tanh", "rnn_relu"))
    wider = NetworkSpec(3, 1, (9,), 1, cell="rnn_tanh")
    def kept():
        print(*(int(cpu.can_predict_at_once(spec, dtype)) for spec in (tanh, relu, wider) for dtype in (f4, f8)))
    kept()
    cpu.predict(tanh, np.zeros(tanh.n_params), np.zeros(3), np.zeros(1, np.int64), 1)
    kept()
"""


def test_whether_code_is_kept_is_known_for_every_cell_and_dtype(tmp_path):
    """The cell and the dtype decide, the sizes do not; a new process learns it from the files."""
    none, double_tanh = "0 0 0 0 0 0".split(), "0 1 0 0 0 1".split()
    assert _run(KEPT, tmp_path, TSFORECAST_CACHE_DIR=str(tmp_path)) == none + double_tanh
    assert _run(KEPT, tmp_path, TSFORECAST_CACHE_DIR=str(tmp_path)) == double_tanh + double_tanh


def test_damaged_files_are_misses(tmp_path):
    """200 seeded damages of one file: cut, flipped, replaced by noise or by a pickle that would run code."""
    code = (
        SUM_OF_SQUARES.format(n=4, dtype="float64")
        + """
    import sys
    from pathlib import Path
    rng = np.random.default_rng(7)
    (path,) = [p for p in Path(sum_of_squares._cache.cache_path).iterdir() if p.is_file()]
    good = path.read_bytes()
    context = sum_of_squares.targetctx
    (sig,) = [r.signature.args for r in sum_of_squares.overloads.values()]
    for i in range(200):
        bad = bytearray(good)
        kind = i % 4
        if kind == 0:
            bad = bad[: rng.integers(len(bad))]
        elif kind == 1:
            bad[rng.integers(len(bad))] ^= 1 << rng.integers(8)
        elif kind == 2:
            bad = bytearray(rng.bytes(rng.integers(100)))
        else:
            bad = bytearray(b"cos\\nsystem\\n(S'echo damaged'\\ntR.") + bad
        path.write_bytes(bad)
        assert sum_of_squares._cache.load_overload(sig, context) is None, (i, kind)
        assert not path.exists()
    path.write_bytes(good)
    assert sum_of_squares._cache.load_overload(sig, context) is not None
    """
    )
    assert _run(code, tmp_path, TSFORECAST_CACHE_DIR=str(tmp_path)) == ["14.0", "0"]


def test_a_damaged_file_is_replaced_by_the_next_process(tmp_path):
    code = SUM_OF_SQUARES.format(n=4, dtype="float64")
    _run(code, tmp_path, TSFORECAST_CACHE_DIR=str(tmp_path))
    (file,) = _files(tmp_path)
    good = file.read_bytes()
    file.write_bytes(good[: len(good) // 2])
    assert _run(code, tmp_path, TSFORECAST_CACHE_DIR=str(tmp_path)) == ["14.0", "0"]
    assert _run(code, tmp_path, TSFORECAST_CACHE_DIR=str(tmp_path)) == ["14.0", "1"]


def test_processes_that_race_get_their_own_numbers(tmp_path):
    """Six cold processes, two element types: no file is shared between signatures, no reader sees half a file."""
    jobs = [(4, "float64", "14.0"), (5, "int64", "30.0")] * 3
    processes = [
        _start(SUM_OF_SQUARES.format(n=n, dtype=dtype), tmp_path, TSFORECAST_CACHE_DIR=str(tmp_path))
        for n, dtype, _ in jobs
    ]
    assert [_output(p)[0] for p in processes] == [expected for *_, expected in jobs]
    assert not [f for f in _files(tmp_path) if f.name.startswith("tmp")]


@pytest.mark.parametrize("case", ["no home", "not a folder", "writable by others"])
def test_odd_folders_mean_no_cache_and_no_error(case, tmp_path):
    """A read-only folder cannot be had as root; a file in its place fails in the same way for everybody."""
    blocked = tmp_path / "blocked"
    environment = {"TSFORECAST_CACHE_DIR": str(blocked)}
    if case == "no home":
        environment = {"TSFORECAST_CACHE_DIR": "", "XDG_CACHE_HOME": "", "HOME": "/proc/nonexistent"}
    elif case == "not a folder":
        blocked.write_text("a file")
    else:
        folder = blocked / "tsforecast" / "jit" / cache.source_digest()
        folder.mkdir(parents=True)
        folder.chmod(0o777)
    code = SUM_OF_SQUARES.format(n=4, dtype="float64")
    for _ in range(2):
        assert _run(code, tmp_path, **environment) == ["14.0", "0"]
    assert len(_files(tmp_path)) == (1 if case == "not a folder" else 0)


def test_a_read_only_home_and_package_folder_are_no_error(tmp_path):
    """Root writes anywhere unless it gives that up, which takes the command setpriv."""
    wrapper = []
    if os.geteuid() == 0:
        if shutil.which("setpriv") is None:
            pytest.skip("as root, this needs the command setpriv")
        wrapper = ["setpriv", "--bounding-set=-dac_override,-dac_read_search", "--inh-caps=-all"]
    home, package = tmp_path / "home", tmp_path / "package"
    home.mkdir()
    shutil.copytree(REPOSITORY / "tsforecast", package / "tsforecast", ignore=shutil.ignore_patterns("__pycache__"))
    script = package / "script.py"
    script.write_text(textwrap.dedent(SUM_OF_SQUARES.format(n=4, dtype="float64")))
    folders = [home, package, *(p for p in package.rglob("*") if p.is_dir())]
    for folder in folders:
        folder.chmod(0o555)
    env = {k: v for k, v in os.environ.items() if k not in ("TSFORECAST_CACHE_DIR", "XDG_CACHE_HOME")}
    env |= {"HOME": str(home), "PYTHONPATH": str(package)}
    try:
        command = [*wrapper, sys.executable, "-W", "error", str(script)]
        for _ in range(2):
            out = subprocess.run(command, env=env, check=True, capture_output=True, text=True, cwd="/")
            assert (out.stdout.split(), out.stderr) == (["14.0", "0"], "")
        assert not list(home.iterdir())
    finally:
        for folder in folders:
            folder.chmod(0o755)


def test_the_digest_sees_every_kernel_source(tmp_path, monkeypatch):
    before = cache.source_digest()
    shutil.copytree(Path(cache.__file__).parent.parent, tmp_path / "backends")
    monkeypatch.setattr(cache, "__file__", str(tmp_path / "backends" / "cpu" / "cache.py"))
    assert cache.source_digest() == before
    for name in ("cpu/lstm.py", "approximation.py", "reference/shuffle.py"):
        source = tmp_path / "backends" / name
        text = source.read_text()
        source.write_text(text + "\n# edited\n")
        assert cache.source_digest() != before
        source.write_text(text)


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="names processors of this architecture")
def test_same_bits_for_any_threads_and_processor():
    """Weights and forecasts: n_jobs 1, 2, 3, 8 here, fewer on processors with other registers and without FMA units."""
    here = _run(SMALL_FIT.format(dtypes=("float32", "float64"), jobs=(1, 2, 3, 8)))
    generic = _run(SMALL_FIT.format(dtypes=("float32", "float64"), jobs=(1, 3)), **GENERIC)
    avx2 = _run(SMALL_FIT.format(dtypes=("float32",), jobs=(2,)), **AVX2) if _has_avx2() else []
    for dtype in ("float32", "float64"):
        digests = {h for _, d, h in np.reshape(here + generic + avx2, (-1, 3)) if d == dtype}
        assert len(digests) == 1, here + generic + avx2


def test_sums_along_a_row_have_the_same_bits_on_any_processor():
    """Layer normalisation is the one that adds across lanes."""
    code = """
        import sys
        sys.path.insert(0, "tests/kernels")
        from layer_norm_rows import digest
        print(digest("float32"), digest("float64"))
    """
    processors = [{}, GENERIC, *([AVX2] if _has_avx2() else [])]
    assert len({tuple(_run(code, **processor)) for processor in processors}) == 1


def _has_avx2():
    return bool(__cpu_features__.get("AVX2") and __cpu_features__.get("FMA3"))


def test_ctrl_c_ends_a_long_fit_within_a_second(tmp_path):
    code = """
        import sys, time
        import numpy as np
        from tsforecast import LSTMRegressor

        rng = np.random.default_rng(0)
        X, y = rng.normal(size=(20_000, 64)), rng.normal(size=20_000)
        LSTMRegressor((64,), max_iter=1, batch_size=200).fit(X[:1000], y[:1000])
        print("training", flush=True)
        try:
            LSTMRegressor((64,), max_iter=10_000, batch_size=200).fit(X, y)
        except KeyboardInterrupt:
            print("interrupted", flush=True)
    """
    process = _start(code, tmp_path)
    assert process.stdout.readline().strip() == "training"
    time.sleep(1.0)
    start = time.perf_counter()
    process.send_signal(signal.SIGINT)
    assert process.stdout.readline().strip() == "interrupted"
    assert time.perf_counter() - start < 1.0
    process.communicate(timeout=60)


def test_a_fork_after_a_fit_can_fit():
    """No pool is left behind for the child to wait on."""
    code = """
        import os
        import numpy as np
        from tsforecast import LSTMRegressor

        X, y = np.random.default_rng(0).normal(size=(64, 6)), np.arange(64.0)
        first = LSTMRegressor((8,), max_iter=2, random_state=0, n_jobs=2, batch_size=32).fit(X, y).predict(X)
        child = os.fork()
        if child == 0:
            again = LSTMRegressor((8,), max_iter=2, random_state=0, n_jobs=2, batch_size=32).fit(X, y).predict(X)
            os._exit(0 if (again == first).all() else 1)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    """
    assert _run(code) == ["0"]


INTERRUPTED_FIT = """
    import signal, threading, time
    import numpy as np
    from tsforecast.backends.base import StepRule, TrainState, Windows, get_backend
    from tsforecast.nn.initializers import init_params
    from tsforecast.nn.trainer import TrainConfig, train
    from tsforecast.spec import NetworkSpec

    # Many parameters and small batches: most of the time weights are being written.
    spec = NetworkSpec(2, 1, (300,), 1)
    x, n = np.random.default_rng(0).normal(size=8000).astype(np.float32), 4000
    windows = Windows(x, np.arange(n) * 2, x, np.arange(n), np.ones(n, np.float32))
    config = TrainConfig(StepRule(), batch_size=8, max_iter=1000, n_jobs={jobs})
    state = TrainState(init_params(spec, 0, np.float32))
    train(get_backend("cpu"), spec, TrainConfig(StepRule(), batch_size=8, max_iter=1), state, windows)
    for i in range(8):
        main = threading.main_thread().ident
        threading.Timer(0.05 + 0.01 * i, signal.pthread_kill, (main, signal.SIGINT)).start()
        before = threading.active_count()
        try:
            train(get_backend("cpu"), spec, config, state, windows)
        except KeyboardInterrupt:
            pass
        kept, step = state.params.copy(), state.step
        time.sleep(0.05)
        assert (state.params == kept).all(), "a kernel wrote after the interrupt was raised"
        assert step % 500 == 0, "an unfinished epoch was kept"
        assert threading.active_count() <= before
    print("whole")
"""


@pytest.mark.skipif(os.name == "nt", reason="sends a signal to a thread")
@pytest.mark.parametrize("jobs", [1, 2])
def test_an_interrupt_leaves_the_epoch_before_it_and_no_thread(jobs):
    assert _run(INTERRUPTED_FIT.format(jobs=jobs)) == ["whole"]
