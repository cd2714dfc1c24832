"""A session with the package writes where it was told to and nowhere else, and opens no connection."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SESSION = """
import json, os, sys
written, connected = set(), []

def watch(event, args):
    if event == "open":
        path, mode, flags = args
        writes = (isinstance(mode, str) and set(mode) & set("wax+")) or flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        if writes and isinstance(path, (str, bytes, os.PathLike)):
            written.add(os.path.abspath(os.fsdecode(path)))
    elif event in ("os.mkdir", "os.remove", "os.rmdir", "os.truncate"):
        written.add(os.path.abspath(os.fsdecode(args[0])))
    elif event in ("os.rename", "os.link", "os.symlink"):
        written.update(os.path.abspath(os.fsdecode(path)) for path in args[:2])
    elif event in ("socket.connect", "socket.getaddrinfo", "socket.bind"):
        connected.append(event)

sys.addaudithook(watch)

import numpy as np
from tsforecast import Forecaster, LSTMRegressor, datasets, load_model, sliding_windows

X, y = sliding_windows(np.sin(np.arange(60.0)), 6)
LSTMRegressor(4, max_iter=2, n_jobs=2).fit(X, y).save("model.tsf")
assert np.isfinite(load_model("model.tsf").predict(X)).all()
frame = datasets.load_air_passengers()
forecaster = Forecaster(LSTMRegressor(4, max_iter=2), freq="MS", horizon=3, n_timesteps=12).fit(frame)
assert len(forecaster.predict()) == 3
print(json.dumps([sorted(written), connected]))
"""


@pytest.mark.needs_jit
def test_nothing_is_written_outside_the_cache_and_the_given_files(tmp_path):
    home, work = tmp_path / "home", tmp_path / "work"
    home.mkdir()
    work.mkdir()
    environ = {**os.environ, "HOME": str(home), "PYTHONPATH": os.pathsep.join(sys.path)}
    environ.pop("XDG_CACHE_HOME", None)
    result = subprocess.run(
        [sys.executable, "-B", "-c", SESSION], cwd=work, env=environ, capture_output=True, text=True, timeout=300
    )
    assert result.returncode == 0, result.stderr
    written, connected = json.loads(result.stdout)
    cache = Path(os.environ["TSFORECAST_CACHE_DIR"])
    elsewhere = [path for path in map(Path, written) if cache not in (path, *path.parents) and path.parent != work]
    assert elsewhere in ([], [Path(os.devnull)])
    assert connected == []
    assert [path.name for path in work.iterdir()] == ["model.tsf"]
    assert list(home.iterdir()) == []
