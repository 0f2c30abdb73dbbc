"""The folders that a run writes to: room, permissions, and whether checkpoints and locks can be there."""

import errno
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from shlex import quote

import psutil

from ganfleet.doctor.finding import Finding, failure, ok, warning
from ganfleet.document import expanded, user_cache
from ganfleet.errors import RunInUse
from ganfleet.store import publish
from ganfleet.store.lock import Lock

GIB = 2**30
FEW, FEWEST = 4 * GIB, GIB // 4  # bytes: a few checkpoints; less than the quickstart writes
NETWORKS = ("nfs", "cifs", "smb", "fuse", "lustre", "gpfs", "9p", "ceph", "beegfs")


def check(run_dir: Path) -> Iterator[Finding]:
    """``run_dir`` is where the runs are (``run.dir``)."""
    yield from _folder("runs", expanded(run_dir, "run.dir"), "run.dir=/another/folder", locks=True)
    yield from _folder("the cache", user_cache(), "export XDG_CACHE_HOME=/another/folder", runs=True)
    try:
        temporary = tempfile.gettempdir()
    except FileNotFoundError as error:
        yield failure(f"temporary files can be written nowhere ({error.strerror})", "export TMPDIR=/another/folder")
    else:
        wanted = os.environ.get("TMPDIR")
        if wanted and os.path.realpath(wanted) != os.path.realpath(temporary):
            yield warning(
                f"temporary files: TMPDIR is {wanted}, which cannot be written, so {temporary} is used",
                f"mkdir -p {quote(wanted)}, mount it, or unset TMPDIR",
            )
        yield from _folder("temporary files", Path(temporary), "export TMPDIR=/another/folder")


def _folder(what: str, path: Path, other: str, locks: bool = False, runs: bool = False) -> Iterator[Finding]:
    """One folder, or the nearest above that is there: nothing of it is left.

    Args:
        other: how a user chooses another one.
        locks: runs are locked there.
        runs: libraries are loaded from there.
    """
    there = next((each for each in (path, *path.absolute().parents) if each.exists()), Path("/"))
    shown = quote(str(there))  # for a shell
    if not there.is_dir():
        yield failure(f"{what}: {there} is no folder", f"mv {shown} {shown}.old, or {other}")
        return
    try:
        _write(there)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            yield failure(f"{what}: {there} is full ({error.strerror})", f"du -xh {shown} | sort -h | tail; or {other}")
        else:
            # Nobody should own a folder of the system.
            mine = f"sudo chown $USER {shown}, or " if Path.home() in (there, *there.parents) else ""
            yield failure(f"{what}: {there} cannot be written ({error.strerror})", f"{mine}{other}")
        return
    room = shutil.disk_usage(there).free
    if room < FEWEST:
        yield failure(
            f"{what}: {room / GIB:.2f} GiB are free in {there}", f"du -xh {shown} | sort -h | tail; or {other}"
        )
    elif room < FEW:
        yield warning(f"{what}: {room / GIB:.1f} GiB are free in {there}", f"checkpoint.keep=1, or {other}")
    system, options = _mount(there)
    if runs and "noexec" in options:
        yield failure(f"{what}: {there} is mounted noexec, so compiled kernels cannot be loaded", other)
    if runs and system.startswith(NETWORKS):
        yield warning(f"{what}: {there} is a network file system ({system}); a local one is faster", other)
    if locks and (wrong := _unlocked(there)):
        yield failure(f"{what}: locks do not work in {there} ({system}): {wrong}", f"{other} on another file system")
    yield ok(f"{what}: {room / GIB:.1f} GiB are free in {there} ({system})", free=room)


def _write(folder: Path) -> None:
    """Do what ``store.publish`` does: write, flush to the disk, and rename.

    Raises:
        OSError: one of these fails.
    """
    with tempfile.TemporaryDirectory(prefix=".ganfleet-doctor-", dir=folder) as scratch:
        publish.new_file(Path(scratch, "new"), os.urandom(1 << 16))
        os.rename(Path(scratch, "new"), Path(scratch, "there"))


def _unlocked(folder: Path) -> str | None:
    """What is wrong with a lock in ``folder``: only one may hold it."""
    place = folder / f".ganfleet-doctor-{secrets.token_hex(4)}.lock"
    first, second = Lock(place, "a trial"), Lock(place, "a trial")
    try:
        first.take()
        try:
            second.take()
        except RunInUse:
            first.check()
            return None
        second.release()
        return "two processes can hold one at once"
    except (OSError, RunInUse) as error:
        return str(error)
    finally:
        with suppress(OSError):
            first.release()
            shutil.rmtree(place, ignore_errors=True)


def _mount(path: Path) -> tuple[str, list[str]]:
    """The type and the options of the file system that ``path`` is on."""
    real = os.path.realpath(path)
    found = [each for each in psutil.disk_partitions(all=True) if Path(real).is_relative_to(each.mountpoint)]
    if not found:
        return "unknown file system", []
    nearest = max(found, key=lambda each: len(each.mountpoint))  # of several mounted there, the last is seen
    nearest = [each for each in found if each.mountpoint == nearest.mountpoint][-1]
    return nearest.fstype, nearest.opts.split(",")
