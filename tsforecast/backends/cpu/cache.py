"""Machine code of the entry kernels, kept between processes; never a reason to fail.

Numba's own ``cache=True`` raises where no folder is writable, misses edits in other files, crashes on damaged files,
and two processes that race can read each other's code. Here one file holds one function for one signature:

- the folder is ``<root>/tsforecast/jit/<digest>``; root is ``$TSFORECAST_CACHE_DIR``, ``$XDG_CACHE_HOME`` or
  ``~/.cache``; the digest covers every source file of ``backends``, ``backends.cpu`` and ``backends.reference``,
  whose constants kernels share, and the versions of Python, Numba, llvmlite and NumPy;
- the file name hashes the function, its argument types, the processor and the compiler settings;
- a file is written under a temporary name and moved into place, and starts with the sha256 of its body;
- anything unexpected (missing, unreadable, damaged, other signature) is a miss: the file is removed and the kernel
  compiled.

The body is a pickle, so the folder must belong to this user (or root) and be writable by nobody else; otherwise there
is no cache.
"""

from __future__ import annotations

import hashlib
import logging
import os
import pickle
import platform
import stat
import tempfile
from pathlib import Path

import llvmlite
import numba
import numpy
from numba.core import config
from numba.core.caching import _Cache
from numba.core.compiler import CompileResult
from numba.core.serialize import dumps

_log = logging.getLogger("tsforecast.cache")
_SETTINGS = ("BOUNDSCHECK", "OPT", "DEBUGINFO_DEFAULT", "LOOP_VECTORIZE", "SLP_VECTORIZE", "ENABLE_AVX")
_DIGEST_BYTES = 32


def cache_root() -> Path | None:
    """The folder above ``tsforecast/jit``, or None where there is no home."""
    for variable in ("TSFORECAST_CACHE_DIR", "XDG_CACHE_HOME"):
        if os.environ.get(variable):
            return Path(os.environ[variable])
    try:
        return Path.home() / ".cache"
    except RuntimeError:
        return None


def source_digest() -> str:
    """Changes whenever any kernel source, Python, Numba, llvmlite or NumPy changes."""
    digest = hashlib.sha256()
    for version in (platform.python_version(), numba.__version__, llvmlite.__version__, numpy.__version__):
        digest.update(version.encode() + b"\0")
    backends = Path(__file__).parent.parent
    sources = sorted(source for room in (".", "cpu", "reference") for source in (backends / room).glob("*.py"))
    if not sources:
        raise OSError("the sources are not plain files, so an edit could not be noticed")
    for source in sources:
        digest.update(source.name.encode() + b"\0" + source.read_bytes() + b"\0")
    return digest.hexdigest()[:32]


def cache_folder() -> Path | None:
    """The folder of this version's kernels (it may not exist yet), or None where there can be none."""
    try:
        root = cache_root()
        return None if root is None else root / "tsforecast" / "jit" / source_digest()
    except OSError as error:
        _log.info("kernel cache: none (%s)", error)
        return None


def _is_private(folder: Path) -> bool:
    if not hasattr(os, "geteuid"):
        return True
    info = folder.stat()
    return info.st_uid in (os.geteuid(), 0) and not stat.S_IMODE(info.st_mode) & (stat.S_IWGRP | stat.S_IWOTH)


class KernelCache(_Cache):
    """What Numba asks of a dispatcher's cache, with one checked file a signature."""

    def __init__(self, function, folder: Path):
        self._function = f"{function.__module__}.{function.__qualname__}"
        self._bytecode = function.__code__.co_code
        self._folder = folder
        self._enabled = True

    @property
    def cache_path(self) -> str:
        """Folder of the files."""
        return str(self._folder)

    def enable(self):
        """Use the files again."""
        self._enabled = True

    def disable(self):
        """Neither read nor write files."""
        self._enabled = False

    def flush(self):
        """Remove this function's files."""
        for path in self._folder.glob(f"{self._short_name()}-*"):
            path.unlink(missing_ok=True)

    def _short_name(self) -> str:
        return self._function.rpartition(".")[2]

    def _path(self, sig, codegen) -> Path:
        settings = [getattr(config, name, None) for name in _SETTINGS]
        key = repr((self._function, self._bytecode, [str(a) for a in sig], codegen.magic_tuple(), settings))
        return self._folder / f"{self._short_name()}-{hashlib.sha256(key.encode()).hexdigest()[:32]}"

    def has(self, sig, target_context) -> bool:
        """Whether there is a file for the argument types ``sig``."""
        return self._path(sig, target_context.codegen()).exists()

    def load_overload(self, sig, target_context):
        """Return the compiled result for the argument types ``sig``, or None."""
        if not self._enabled:
            return None
        path = None
        try:
            target_context.refresh()
            path = self._path(sig, target_context.codegen())
            if not path.exists() or not _is_private(self._folder):
                return None
            data = path.read_bytes()
            digest, body = data[:_DIGEST_BYTES], data[_DIGEST_BYTES:]
            if hashlib.sha256(body).digest() != digest:
                raise ValueError("checksum differs")
            result = CompileResult._rebuild(target_context, *pickle.loads(body))
            if tuple(result.signature.args) != tuple(sig):
                raise ValueError("another signature")
            return result
        except Exception as error:
            _log.info("kernel cache: %s is not usable (%s); compiling", path, error)
            _remove(path)
            return None

    def save_overload(self, sig, data):
        """Keep the compiled result ``data``; does nothing where that is not possible."""
        if not self._enabled:
            return
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if not _is_private(self._folder):
                return
            body = dumps(data._reduce())
            handle, temporary = tempfile.mkstemp(dir=self._folder)
            try:
                with os.fdopen(handle, "wb") as file:
                    file.write(hashlib.sha256(body).digest() + body)
                os.replace(temporary, self._path(sig, data.codegen))
            except BaseException:
                _remove(Path(temporary))
                raise
        except Exception as error:
            _log.info("kernel cache: cannot write to %s (%s)", self._folder, error)


def _remove(path: Path | None):
    try:
        if path is not None:
            path.unlink(missing_ok=True)
    except OSError:
        pass


def is_kept(dispatcher, arguments: tuple) -> bool:
    """Whether machine code of this function for arguments of these types is loaded or in the cache."""
    if not hasattr(dispatcher, "overloads"):  # nothing is compiled at all
        return True
    sig = tuple(dispatcher.typeof_pyval(a) for a in arguments)
    cache = dispatcher._cache
    return sig in dispatcher.overloads or (isinstance(cache, KernelCache) and cache.has(sig, dispatcher.targetctx))


def attach(dispatcher):
    """Give a compiled function the cache, where there is a place for one; returns the function.

    A closure gets none: two of the same text would not be told apart.
    """
    folder = cache_folder()
    if folder is not None and hasattr(dispatcher, "_cache") and dispatcher.py_func.__closure__ is None:
        dispatcher._cache = KernelCache(dispatcher.py_func, folder)
    return dispatcher
