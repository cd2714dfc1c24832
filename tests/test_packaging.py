"""The wheel carries the data, the types and the command; metadata says what the code says."""

import os
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

import tsforecast
from tsforecast import datasets

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=120)
    (path,) = folder.glob("*.whl")
    return path


def test_the_wheel_holds_data_types_licences_and_entry_point(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        info = f"tsforecast-{tsforecast.__version__}.dist-info"
        entry_points = archive.read(f"{info}/entry_points.txt").decode()
        for file in ("README.md", "manifest.json", *(datasets.info(name).file for name in datasets.list_datasets())):
            assert archive.read(f"tsforecast/_datasets/{file}") == (ROOT / "datasets" / file).read_bytes()
    assert {"tsforecast/py.typed", f"{info}/licenses/LICENSE", f"{info}/licenses/NOTICE"} <= names
    assert "tsforecast = tsforecast.cli:main" in entry_points
    modules = {str(path.relative_to(ROOT)) for path in (ROOT / "tsforecast").rglob("*.py")}
    assert modules == {name for name in names if name.endswith(".py")}


def test_an_unpacked_wheel_finds_its_data(wheel, tmp_path):
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    code = "import tsforecast; print(tsforecast.__file__, tsforecast.datasets.load_air_passengers()['y'].sum())"
    environ = {**os.environ, "PYTHONPATH": str(tmp_path / "site"), "PYTHONSAFEPATH": "1"}
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environ, capture_output=True, text=True, check=True, timeout=120
    )
    assert result.stdout.split() == [str(tmp_path / "site" / "tsforecast" / "__init__.py"), "40363.0"]


def test_metadata_agrees_with_the_code():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["scripts"] == {"tsforecast": "tsforecast.cli:main"}
    assert project["requires-python"] == ">=3.11"
    floors = {"numpy": "2.0", "numba": "0.61", "pandas": "2.2", "scikit-learn": "1.6"}
    assert floors.items() <= dict(line.split(">=") for line in project["dependencies"]).items()
    assert f"## {tsforecast.__version__}" in (ROOT / "CHANGELOG.md").read_text()
