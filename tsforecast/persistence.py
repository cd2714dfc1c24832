"""Model files: a fitted model as arrays and plain values in a checked file. Loading one never runs code from it.

``_container`` says how the file is laid out. The text beside the arrays is the schema version, the class (a key of
``CLASSES``), the version that wrote the file, and what the class wants to know, as JSON.

A class takes part with two methods: ``_model_state() -> (arrays, meta)`` and the class method
``_from_model_state(arrays, meta)``, which has to check that they fit together.
"""

from __future__ import annotations

import importlib
import itertools
import json
import os
from collections.abc import Mapping
from typing import Any

import numpy as np

import tsforecast
from tsforecast._container import parse_json, read, write
from tsforecast.exceptions import ModelFileError

__all__ = ["load_model", "save_model"]

SCHEMA = "1"
CLASSES = {
    "Forecaster": "tsforecast.forecasting.forecaster",
    "LSTMRegressor": "tsforecast.estimators.lstm",
    "GRURegressor": "tsforecast.estimators.regressors",
    "RNNRegressor": "tsforecast.estimators.regressors",
    "SLSTMRegressor": "tsforecast.estimators.regressors",
}
_TUPLE = "__tuple__"


def save_model(
    path: str | os.PathLike[str], class_name: str, arrays: Mapping[str, np.ndarray], meta: Mapping[str, Any]
) -> None:
    """Write a model file; an existing one is replaced only when the new one is complete.

    Parameters
    ----------
    path : path-like
        Where to write.
    class_name : str
        A key of ``CLASSES``.
    arrays : mapping of str to ndarray
        Finite numbers (float64, float32, int64, int32, uint8), at most four dimensions. Many strings go in as
        `pack_strings`; the header holds at most 1 MiB.
    meta : mapping of str to plain value
        None, bool, int, float, str, list, tuple and dicts with text keys, nested; NumPy scalars become Python's.

    Raises
    ------
    ModelFileError
        Something cannot be stored; the message names it.
    OSError
        The file cannot be written.
    """
    if class_name not in CLASSES:
        raise ModelFileError(
            f"models of class {class_name!r} cannot be stored; these can: {', '.join(sorted(CLASSES))}"
        )
    about = {
        "format": "tsforecast",
        "schema": SCHEMA,
        "class": class_name,
        "tsforecast_version": tsforecast.__version__,
        "meta": json.dumps(_plain(meta, "meta")),
    }
    write(path, about, arrays)


def load_model(path: str | os.PathLike[str]) -> Any:
    """Load a model that ``save`` wrote. Files from anywhere may be tried: nothing in a file is ever executed.

    Parameters
    ----------
    path : path-like
        A model file.

    Returns
    -------
    LSTMRegressor or Forecaster
        The fitted model, which predicts the same bits as the one that was saved.

    Raises
    ------
    ModelFileError
        The file is not a model file, is damaged, or comes from a version that this one does not know.
    OSError
        The file cannot be opened.
    """
    class_name, arrays, meta = read_model(path)
    cls = class_of(class_name)
    try:
        return cls._from_model_state(arrays, meta)
    except ModelFileError as error:
        raise ModelFileError(f"{path}: {error}") from error
    except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        raise ModelFileError(f"{path}: the parts of the {class_name} do not fit together: {error}") from error


def read_model(path: str | os.PathLike[str]) -> tuple[str, dict[str, np.ndarray], dict[str, Any]]:
    """Read and check a model file without building the model.

    Parameters
    ----------
    path : path-like
        A model file.

    Returns
    -------
    class_name : str
    arrays : dict of str to ndarray
        Owned and writable.
    meta : dict

    Raises
    ------
    ModelFileError, OSError
        As for `load_model`.
    """
    try:
        about, arrays = read(path, _check_origin)
        if about.get("class") not in CLASSES:
            raise ModelFileError(f"class {about.get('class')!r} is unknown to this version; upgrade tsforecast")
        meta = parse_json(about.get("meta", ""), "what it says of the model", object_hook=_restore_tuple)
    except ModelFileError as error:
        raise ModelFileError(f"{path}: {error}") from error
    return about["class"], arrays, meta


def class_of(name: str) -> Any:
    """The class of this name, a key of ``CLASSES``."""
    return getattr(importlib.import_module(CLASSES[name]), name)


def _check_origin(about: dict[str, str]) -> None:
    """Refuse files of other programs, and those of versions that describe arrays otherwise."""
    if about.get("format") != "tsforecast":
        raise ModelFileError("not a model file of tsforecast")
    if about.get("schema") != SCHEMA:
        raise ModelFileError(
            f"schema {about.get('schema')!r}, written by tsforecast {about.get('tsforecast_version')!r}; "
            f"this version reads schema {SCHEMA!r}: upgrade tsforecast"
        )


def pack_strings(strings: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Lay strings out as arrays: their UTF-8 bytes one after the other (uint8) and where each ends (int64)."""
    encoded = [text.encode("utf-8", "surrogatepass") for text in strings]
    ends = np.cumsum([len(raw) for raw in encoded], dtype=np.int64)
    return np.frombuffer(b"".join(encoded), dtype=np.uint8), ends


def unpack_strings(text: np.ndarray, ends: np.ndarray) -> list[str]:
    """Undo `pack_strings`; ``ModelFileError`` where the two arrays do not fit together."""
    bounds = [0, *ends.tolist()]
    if text.dtype != np.uint8 or ends.dtype != np.int64 or bounds != sorted(bounds) or bounds[-1] != text.size:
        raise ModelFileError("stored strings do not fit their bounds")
    raw = text.tobytes()
    return [raw[a:b].decode("utf-8", "surrogatepass") for a, b in itertools.pairwise(bounds)]


def _plain(value: Any, where: str) -> Any:
    """Turn a value into what JSON can say; tuples are marked, so that they come back as tuples."""
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, (list, tuple)):
        items = [_plain(item, f"{where}[{i}]") for i, item in enumerate(value)]
        return {_TUPLE: items} if isinstance(value, tuple) else items
    if isinstance(value, Mapping) and all(isinstance(key, str) and key != _TUPLE for key in value):
        return {key: _plain(item, f"{where}[{key!r}]") for key, item in value.items()}
    raise ModelFileError(f"{where} is a {type(value).__name__} and cannot be stored; use a plain number, text or tuple")


def _restore_tuple(value: dict[str, Any]) -> Any:
    return tuple(value[_TUPLE]) if set(value) == {_TUPLE} and isinstance(value[_TUPLE], list) else value
