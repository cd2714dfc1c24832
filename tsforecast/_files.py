"""Files that are whole or not there."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Open a file that takes the place of ``path`` when the block ends well, and vanishes when it does not.

    The bytes are on the disk before the name changes hands, so a full disk, a crash or an error in the block leaves the
    old file as it was. A symbolic link stays one; the file it points to is replaced. What is there and is no ordinary
    file (a pipe, ``/dev/null``) is written to directly.
    """
    target = Path(os.path.realpath(path))
    if target.exists() and not target.is_file():
        with open(target, "wb") as file:
            yield file
        return
    temporary = target.with_name(f".{target.name[:100]}.{secrets.token_hex(8)}.tmp")
    try:
        with open(temporary, "xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except BaseException as err:
        with suppress(OSError):
            temporary.unlink()
        if isinstance(err, OSError) and str(err.filename) == str(temporary):  # people know the name that they gave
            raise OSError(err.errno, err.strerror, os.fspath(path)) from err
        raise
    _sync_folder(target.parent)


def check_target(path: str | os.PathLike[str]) -> None:
    """Raise ``OSError`` with the name of ``path`` where ``replacing`` could not write it; the file stays untouched.

    A file is made in the folder and removed, because permissions alone do not tell (a read-only disk, ``/proc``).
    """
    target = Path(os.path.realpath(path))
    if target.is_dir():
        raise IsADirectoryError(f"{os.fspath(path)!r} is a folder; name a file in it")
    if target.exists() and not target.is_file():
        return
    if not target.parent.is_dir():
        raise FileNotFoundError(f"{os.fspath(path)!r}: its folder does not exist; make it first")
    probe = target.with_name(f".{target.name[:100]}.{secrets.token_hex(8)}.tmp")
    try:
        with open(probe, "xb"):
            pass
        probe.unlink()
    except OSError as err:
        raise type(err)(f"{os.fspath(path)!r} cannot be written in its folder: {err.strerror}") from err


def _sync_folder(folder: Path) -> None:
    """Make the new name last; some file systems cannot, and then the old one may come back after a power cut."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
