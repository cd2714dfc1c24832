"""Arrays and short texts in one checked file, in the layout of safetensors.

    8 bytes    length N of the header, unsigned little-endian
    N bytes    JSON: {"__metadata__": {...}, "<name>": {"dtype", "shape", "data_offsets"}, ...}, padded with spaces
    the rest   the arrays, little-endian, C order, without gaps, in the order of their offsets

``__metadata__`` holds the texts, and a sha256 of header and arrays (with zeros in the digest's own place). Other
programs can read the arrays with any safetensors reader.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import stat
import struct
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO, NoReturn

import numpy as np

from tsforecast._files import replacing
from tsforecast.exceptions import ModelFileError

DTYPES = {"F64": "<f8", "F32": "<f4", "I64": "<i8", "I32": "<i4", "U8": "|u1"}
MAX_HEADER = 1 << 20
MAX_DIMENSIONS = 4
MAX_ELEMENTS = 1 << 48  # also of empty arrays, whose other dimensions no length of the file bounds
_NO_DIGEST = "0" * 64


def write(path: str | os.PathLike[str], about: Mapping[str, str], arrays: Mapping[str, np.ndarray]) -> None:
    """Write a file; an existing one is replaced only when the new one is complete.

    ``ModelFileError`` for arrays that cannot be stored, and for a header above 1 MiB.
    """
    # The digest comes first, so that nothing in the other texts is taken for its place.
    header: dict[str, Any] = {"__metadata__": {"sha256": _NO_DIGEST, **about}}
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


def read(
    path: str | os.PathLike[str], check: Callable[[dict[str, str]], None]
) -> tuple[dict[str, str], dict[str, np.ndarray]]:
    """Texts and arrays (owned and writable) of a file; ``check`` looks at the texts before anything else is read."""
    status = os.stat(path)
    if not stat.S_ISREG(status.st_mode):
        raise ModelFileError("not a regular file")
    with open(path, "rb") as file:
        return _read(file, status.st_size, check)


def parse_json(text: Any, what: str, **options: Any) -> dict[str, Any]:
    try:
        value = json.loads(text, **options)
    except (ValueError, TypeError, RecursionError):
        _refuse(what)
    if not isinstance(value, dict):
        _refuse(what)
    return value


def _refuse(what: str) -> NoReturn:
    raise ModelFileError(f"not a model file ({what} cannot be read)")


def _read(
    file: BinaryIO, size: int, check: Callable[[dict[str, str]], None]
) -> tuple[dict[str, str], dict[str, np.ndarray]]:
    start = file.read(8)
    length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
    if not 2 <= length <= min(MAX_HEADER, size - 8):
        raise ModelFileError("not a model file (its header has no possible length)")
    text = file.read(length)
    header = parse_json(text, "its header")
    about = header.pop("__metadata__", None)
    if not isinstance(about, dict) or set(map(type, about.values())) != {str}:
        raise ModelFileError("not a model file (its header has no text about it)")
    check(about)
    extents = _check_layout(header, size - 8 - length)
    body = file.read()
    _check_digest(text, body, about.get("sha256"))
    arrays = {}
    for name, (dtype, shape, begin) in extents.items():
        stored = np.frombuffer(body, dtype, math.prod(shape), begin).reshape(shape)
        arrays[name] = stored.astype(stored.dtype.newbyteorder("="))
        _check_finite(name, arrays[name])
    return about, arrays


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
