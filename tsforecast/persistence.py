"""Model files: arrays and a JSON header, in the layout of safetensors. Loading one never runs code from it.

    8 bytes    length N of the header, unsigned little-endian
    N bytes    JSON: {"__metadata__": {...}, "<name>": {"dtype", "shape", "data_offsets"}, ...}, padded with spaces
    the rest   the arrays, little-endian, C order, without gaps, in the order of their offsets

``__metadata__`` holds text: the schema version, the class (a key of ``CLASSES``), the version that wrote the file, what
the class wants to know as JSON, and a sha256 of header and arrays (with zeros in the digest's own place). Other
programs can read the arrays with any safetensors reader.

A class takes part with two methods: ``_model_state() -> (arrays, meta)`` and the class method
``_from_model_state(arrays, meta)``, which has to check that they fit together.
"""

from __future__ import annotations

import hashlib
import importlib
import itertools
import json
import math
import os
import stat
import struct
from collections.abc import Mapping
from typing import Any, BinaryIO, NoReturn

import numpy as np

import tsforecast
from tsforecast._files import replacing
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
DTYPES = {"F64": "<f8", "F32": "<f4", "I64": "<i8", "I32": "<i4", "U8": "|u1"}
MAX_HEADER = 1 << 20
MAX_DIMENSIONS = 4
MAX_ELEMENTS = 1 << 48  # also of empty arrays, whose other dimensions no length of the file bounds
_NO_DIGEST = "0" * 64
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
    header: dict[str, Any] = {
        "__metadata__": {
            "format": "tsforecast",
            "schema": SCHEMA,
            "class": class_name,
            "tsforecast_version": tsforecast.__version__,
            "sha256": _NO_DIGEST,
            "meta": json.dumps(_plain(meta, "meta")),
        }
    }
    buffers, offset = [], 0
    for name, array in arrays.items():
        dtype, raw = _encode_array(name, array)
        header[name] = {"dtype": dtype, "shape": list(array.shape), "data_offsets": [offset, offset + len(raw)]}
        buffers.append(raw)
        offset += len(raw)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    if len(text) > MAX_HEADER:
        raise ModelFileError(f"the header would have {len(text)} bytes, above {MAX_HEADER}; store long lists as arrays")
    digest = hashlib.sha256(text)
    for raw in buffers:
        digest.update(raw)
    text = text.replace(_NO_DIGEST.encode(), digest.hexdigest().encode(), 1)
    with replacing(path) as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for raw in buffers:
            file.write(raw)


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
    cls = getattr(importlib.import_module(CLASSES[class_name]), class_name)
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
    status = os.stat(path)
    if not stat.S_ISREG(status.st_mode):
        raise ModelFileError(f"{path}: not a regular file")
    with open(path, "rb") as file:
        try:
            return _read(file, status.st_size)
        except ModelFileError as error:
            raise ModelFileError(f"{path}: {error}") from error


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


def _read(file: BinaryIO, size: int) -> tuple[str, dict[str, np.ndarray], dict[str, Any]]:
    start = file.read(8)
    length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
    if not 2 <= length <= min(MAX_HEADER, size - 8):
        raise ModelFileError("not a model file (its header has no possible length)")
    text = file.read(length)
    header = _parse_json(text, "its header")
    metadata = header.pop("__metadata__", None)
    if not isinstance(metadata, dict) or set(map(type, metadata.values())) != {str}:
        raise ModelFileError("not a model file (its header has no text about it)")
    if metadata.get("format") != "tsforecast":
        raise ModelFileError("not a model file of tsforecast")
    if metadata.get("schema") != SCHEMA:
        raise ModelFileError(
            f"schema {metadata.get('schema')!r}, written by tsforecast {metadata.get('tsforecast_version')!r}; "
            f"this version reads schema {SCHEMA!r}: upgrade tsforecast"
        )
    extents = _check_layout(header, size - 8 - length)
    body = file.read()
    _check_digest(text, body, metadata.get("sha256"))
    if metadata.get("class") not in CLASSES:
        raise ModelFileError(f"class {metadata.get('class')!r} is unknown to this version; upgrade tsforecast")
    arrays = {}
    for name, (dtype, shape, begin) in extents.items():
        stored = np.frombuffer(body, dtype, math.prod(shape), begin).reshape(shape)
        arrays[name] = stored.astype(stored.dtype.newbyteorder("="))
        _check_finite(name, arrays[name])
    meta = _parse_json(metadata.get("meta", ""), "what it says of the model", object_hook=_restore_tuple)
    return metadata["class"], arrays, meta


def _check_layout(header: dict[str, Any], size: int) -> dict[str, tuple[str, tuple[int, ...], int]]:
    """Check that the arrays fill ``size`` bytes exactly, in order; name -> (dtype, shape, begin)."""
    extents, position = {}, 0
    for name, entry in header.items():
        try:
            dtype, shape, (begin, end) = DTYPES[entry["dtype"]], tuple(entry["shape"]), entry["data_offsets"]
        except (KeyError, TypeError, ValueError):
            raise ModelFileError(f"array {name[:80]!r} is not described as it must be") from None
        numbers = (*shape, begin, end)
        possible = set(map(type, numbers)) == {int} and min(numbers) >= 0 and len(shape) <= MAX_DIMENSIONS
        if not possible or math.prod(max(n, 1) for n in shape) > MAX_ELEMENTS:
            raise ModelFileError(f"array {name[:80]!r} has an impossible shape or place")
        if begin != position or end - begin != math.prod(shape) * np.dtype(dtype).itemsize:
            raise ModelFileError(f"array {name[:80]!r} does not lie where its shape says")
        extents[name] = (dtype, shape, begin)
        position = end
    if position != size:
        raise ModelFileError(f"the arrays take {position} bytes, but {size} are there; the file is cut off or damaged")
    return extents


def _check_digest(text: bytes, body: bytes, digest: Any) -> None:
    if not isinstance(digest, str) or len(digest) != 64 or not digest.isascii():
        raise ModelFileError("the file has no digest")
    found = hashlib.sha256(text.replace(digest.encode(), _NO_DIGEST.encode(), 1) + body).hexdigest()
    if found != digest:
        raise ModelFileError("the file is damaged (its sha256 is wrong); take another copy")


def _check_finite(name: str, array: np.ndarray) -> None:
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise ModelFileError(f"array {name[:80]!r} holds NaN or infinity")


def _encode_array(name: str, array: np.ndarray) -> tuple[str, bytes]:
    """Return the name of the type in the file, and the little-endian bytes."""
    codes = {np.dtype(dtype).newbyteorder("="): code for code, dtype in DTYPES.items()}
    code = codes.get(array.dtype.newbyteorder("="))
    if code is None:
        raise ModelFileError(f"array {name!r} of type {array.dtype} cannot be stored; types are {', '.join(DTYPES)}")
    if name == "__metadata__" or array.ndim > MAX_DIMENSIONS:
        raise ModelFileError(f"array {name!r} with {array.ndim} dimensions cannot be stored")
    _check_finite(name, array)
    return code, array.astype(DTYPES[code]).tobytes()


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


def _parse_json(text: Any, what: str, **options: Any) -> dict[str, Any]:
    try:
        value = json.loads(text, **options)
    except (ValueError, TypeError, RecursionError):
        _refuse(what)
    if not isinstance(value, dict):
        _refuse(what)
    return value


def _refuse(what: str) -> NoReturn:
    raise ModelFileError(f"not a model file ({what} cannot be read)")
