"""Files that are written whole, or not at all."""

from __future__ import annotations

import contextlib
import os
import stat
from os import PathLike
from pathlib import Path


def write_bytes(
    path: str | PathLike[str], *content: bytes | memoryview, follow: bool = True
) -> None:
    """Write one file of these parts, whole or not at all; OSErrors say what to do.

    With `follow` it goes to where a link of that name leads, else it takes the place of whatever
    is there, as the files of a run do: one that is read-only too.
    """
    target = _end_of_links(Path(path)) if follow else Path(path)
    if os.fspath(path).endswith(("/", os.sep)):
        raise IsADirectoryError(f"cannot write {path}: it names a folder, expected a file's name")
    if not target.parent.is_dir():
        raise FileNotFoundError(
            f"cannot write {path}: there is no folder {target.parent}; make it first"
        )
    if target.is_dir():
        raise IsADirectoryError(f"cannot write {path}: it is a folder, expected a file's name")
    if target.exists() and not (target.is_file() or target.is_symlink()):
        raise OSError(
            f"cannot write {path}: it is a device, a pipe or a socket, which a file would "
            "replace; expected a file's name"
        )
    if follow and target.is_file() and not os.access(target, os.W_OK):
        raise PermissionError(
            f"cannot write {path}: it is read-only, and stays as it is; name another file, or "
            "allow writing to it"
        )
    try:
        replace(target, *content)
    except OSError as error:
        kept = "the old file is untouched" if target.exists() else "nothing was left behind"
        raise OSError(
            error.errno,
            f"cannot write {path}: {error.strerror or error}; {kept}: make room there, or name a "
            "place that may be written to",
        ) from error


def _end_of_links(path: Path) -> Path:
    try:
        target = path.resolve()
        is_loop = target.is_symlink()
    except RuntimeError:  # before Python 3.13
        is_loop = True
    if is_loop:
        raise OSError(f"cannot write {path}: its links lead in a circle")
    return target


def replace(target: Path, *content: bytes | memoryview) -> None:
    """Replace `target` by these parts, or raise OSError and leave everything as it was."""
    temporary = target.with_name(f".bpx-{os.urandom(8).hex()}.tmp")
    old = _stat(target)
    try:
        temporary.touch(0o666 if old is None else 0o600, exist_ok=False)
        with temporary.open("wb") as file:
            if old is not None:
                with contextlib.suppress(OSError, AttributeError):  # not root, or not on POSIX
                    os.chown(temporary, old.st_uid, old.st_gid)
                with contextlib.suppress(OSError):  # a file system without permissions
                    temporary.chmod(stat.S_IMODE(old.st_mode))
            file.writelines(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    # Makes the rename itself durable, where the system lets a folder be flushed.
    with contextlib.suppress(OSError):
        folder = os.open(target.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _stat(target: Path) -> os.stat_result | None:
    """The owner and permissions of an old file; None: there is none, and the umask decides."""
    try:
        return None if target.is_symlink() else target.stat()
    except OSError:
        return None
