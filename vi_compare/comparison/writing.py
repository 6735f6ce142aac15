"""A run folder, written: its files appear together or not at all, and leave nothing else."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from vi_compare.errors import InputError

try:
    import fcntl
except ImportError:  # on Windows nothing is locked, and nothing is swept away
    fcntl = None  # type: ignore[assignment]

RESULTS, DRAWS, PAGE, PATH = "results.json", "fits.nc", "report.html", "path.json"
# sha256sum's line about the draws: HDF5 may crash on a file that is damaged, so it is not tried.
CHECKSUM = f"{DRAWS}.sha256"
# Names of scratch folders begin so; what a killed run has left is known by it.
SCRATCH = ".vi-compare-"
# What an operating system says of a disk, or of somebody's share of it, that is full.
FULL = (errno.ENOSPC, errno.EDQUOT)


def checksum(draws: Path) -> str:
    """What ``sha256sum fits.nc`` prints in its folder."""
    with draws.open("rb") as file:
        return f"{hashlib.file_digest(file, 'sha256').hexdigest()}  {DRAWS}\n"


def write_page(folder: Path, page: str, name: str = PAGE) -> Path:
    """Replace one page of a folder, whole or not at all, and return its path.

    Raises:
        InputError: when the folder cannot be written.
    """
    with writable(folder) as scratch:
        (scratch / name).write_text(page, encoding="utf-8")
        return (scratch / name).replace(folder / name)


def write_file(to: Path, write: Callable[[Path], None]) -> Path:
    """A file of its own, written whole or not at all; its folder is made if need be.

    Args:
        write: of the file, to a path.

    Raises:
        InputError: when it cannot be written there.
    """
    if to.is_dir():
        raise InputError(f"{to} is a folder; give the name of a file")
    with writable(to.parent) as scratch:
        write(scratch / to.name)
        to.parent.mkdir(parents=True, exist_ok=True)
        return (scratch / to.name).replace(to)


@contextmanager
def writable(folder: Path) -> Iterator[Path]:
    """A scratch folder on the same disk as `folder`, removed afterwards.

    What a run that was killed has left there is removed, too.

    Raises:
        InputError: when nothing can be written there.
        OSError: where a disk is full, which no other --out need mend.
    """
    anchor = _anchor(folder)
    for place in {anchor, folder.parent}:
        _remove_leftovers(place)
    try:
        with tempfile.TemporaryDirectory(prefix=SCRATCH, dir=anchor) as scratch:
            if not os.access(anchor, os.W_OK):
                raise PermissionError(13, "Permission denied")
            with _held(Path(scratch)):
                yield Path(scratch)
    except OSError as error:
        if error.errno in FULL:
            raise
        raise InputError(_refusal(folder, error.strerror or str(error))) from error


def require_room(folder: Path, needed: int) -> None:
    """Refuse a folder that `needed` bytes have no room in.

    Raises:
        InputError: with the number.
    """
    try:
        with writable(folder) as scratch:
            reserve(scratch, needed)
    except OSError as error:
        raise InputError(
            f"the output folder {folder} needs about {needed / 1e6:,.0f} MB ({error.strerror}); "
            f"make room or give another --out"
        ) from error


def reserve(scratch: Path, needed: int) -> None:
    """Ask the disk for `needed` bytes and give them back, so that quotas count, too. HDF5
    ends the process where it finds no room itself.

    Raises:
        OSError: when they are not there.
    """
    if not hasattr(os, "posix_fallocate"):
        if shutil.disk_usage(scratch).free < needed:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(scratch))
        return
    file = scratch / "room"
    try:
        with file.open("wb") as handle:
            os.posix_fallocate(handle.fileno(), 0, needed)
    finally:
        file.unlink(missing_ok=True)


def _refusal(folder: Path, why: str) -> str:
    return f"the output folder {folder} cannot be written ({why}); give another --out"


def _anchor(folder: Path) -> Path:
    """The folder itself, or the nearest one above it that is there.

    Raises:
        InputError: when `folder` can never be a folder.
    """
    try:
        for anchor in (folder, *folder.parents):
            # Not `exists`, for which a link that leads nowhere, or to itself, is not there.
            if anchor.is_symlink() or anchor.exists():
                break
        if not anchor.exists():
            raise InputError(_refusal(folder, f"the link {anchor} leads nowhere"))
        if not anchor.is_dir():
            what = f"{anchor} is a file" if anchor != folder else "it is a file"
            raise InputError(_refusal(folder, what))
        for name in (RESULTS, DRAWS, CHECKSUM, PAGE, PATH):
            if anchor == folder and (folder / name).is_dir():
                raise InputError(_refusal(folder, f"its {name} is a folder"))
    except (OSError, ValueError) as error:  # a name too long, a NUL in it
        why = getattr(error, "strerror", None) or str(error)
        raise InputError(_refusal(folder, why)) from None
    return anchor


@contextmanager
def _held(scratch: Path) -> Iterator[None]:
    """Say by a lock that the folder is in use; the lock goes with its process."""
    handle = os.open(scratch, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # not every file system has locks
            _lock(handle)
        yield
    finally:
        os.close(handle)


def _lock(handle: int) -> None:
    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _remove_leftovers(place: Path, age: float = 2.0) -> None:
    """Remove scratch folders that no process holds and that are older than `age` seconds, by
    which time every one is held."""
    if fcntl is None:
        return
    with contextlib.suppress(OSError):
        for left in place.glob(f"{SCRATCH}*"):
            if left.is_dir() and time.time() - left.stat().st_mtime > age:
                handle = os.open(left, os.O_RDONLY)
                with contextlib.suppress(OSError):
                    _lock(handle)
                    shutil.rmtree(left, ignore_errors=True)
                os.close(handle)


def put_in_place(scratch: Path, folder: Path, stale: Sequence[str] = ()) -> None:
    """Move all files of a scratch folder into the folder together, which is made if need be;
    `stale` are names of files there that go."""
    folder.mkdir(parents=True, exist_ok=True)
    with undisturbed():
        for name in stale:
            (folder / name).unlink(missing_ok=True)
        for made in scratch.iterdir():
            made.replace(folder / made.name)


@contextmanager
def undisturbed() -> Iterator[None]:
    """Ctrl-C and SIGTERM wait until the files are in place together."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    caught: list[int] = []
    wait = lambda number, frame: caught.append(number)
    old = {number: signal.signal(number, wait) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in old.items():
            signal.signal(number, handler or signal.SIG_DFL)
        if caught:
            signal.raise_signal(caught[0])
