"""One process at a time may write to a run; a lock whose owner is dead is taken over.

A lock is a directory that holds one file, named by chance, in which the owner says who it is. A process takes it by
renaming a directory with such a file to the lock's name: that is one step, and it fails if the lock is a directory that
is not empty, on NFS as on a local disk. A process takes over the lock of a dead owner by removing the owner's file, by
its name, and then taking the lock like everybody else: whoever comes too late finds that file gone, and never removes
that of a new owner.

`filelock` does not fit. `FileLock` uses flock, which on NFS depends on the server and its mount and does not say who
holds it; `SoftFileLock` has no sign of life, so that the lock of a lost host stays for ever, and it judges a process by
its number alone.
"""

import atexit
import errno
import json
import os
import secrets
import shlex
import shutil
import socket
import sys
import threading
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path

from ganfleet.errors import RunInUse
from ganfleet.store import process, publish

BEAT = 15  # seconds between two signs of life
# A thread gives the signs, and MindSpore may keep Python from running threads for minutes while it compiles a graph.
DEAD_AFTER = 300  # seconds without one
TRIES = 20


@dataclass(frozen=True)
class Owner:
    """Who holds a lock. In a ``namespace``, ``pid`` and ``started`` mean one process for ever."""

    pid: int
    host: str
    namespace: str
    started: str | None
    since: str
    command: str

    @classmethod
    def this_process(cls) -> "Owner":
        pid, since = os.getpid(), datetime.now().astimezone().isoformat(" ", "seconds")
        command = " ".join(shlex.join(sys.orig_argv).split())[:200]  # one line
        return cls(pid, socket.gethostname(), process.namespace(), process.started(pid), since, command)

    def is_here(self) -> bool:
        """Whether this process can see the owner's, if it lives."""
        return self.namespace == process.namespace()

    def is_dead(self, silent: float) -> bool:
        """Whether the owner has ended, where its last sign of life is ``silent`` seconds old."""
        if self.is_here():
            started = process.started(self.pid)
            return started != self.started if started else not process.alive(self.pid)
        return silent > DEAD_AFTER


class Lock:
    """The lock at ``place``, held by this process from ``take`` to ``release``."""

    def __init__(self, place: Path, what: object):
        self._place, self._what = place, what
        self.name = secrets.token_hex(8)  # of the owner's file, which nobody else has
        self._file = place / self.name
        self._pid: int | None = None  # of the process that holds it: a fork does not
        self._ended = threading.Event()

    def take(self) -> None:
        """Take the lock, if its owner is dead from that one.

        Raises:
            RunInUse: another process holds it; who, and what to do.
            OSError: the lock cannot be written.
        """
        made = publish.temporary(self._place.parent)
        os.mkdir(made)
        try:
            publish.new_file(made / self._file.name, json.dumps(asdict(Owner.this_process())).encode())
            for tries in range(TRIES):
                if self._rename(made):
                    break
                self._refuse_or_clear(made / self._file.name)
                time.sleep(tries / 100)  # an NFS client may still keep the name of a file that it has open
            else:
                raise OSError(f"{self._place} is neither held nor free; remove it if no run writes to {self._what}")
        except NotADirectoryError as error:
            raise OSError(f"{self._place} is no lock of ganfleet's; remove it") from error
        finally:
            shutil.rmtree(made, ignore_errors=True)
        self._pid = os.getpid()
        threading.Thread(target=self._beat, name="run-lock", daemon=True).start()
        atexit.register(self.release)

    def check(self) -> None:
        """Make sure that the lock is still this process's.

        Raises:
            RunInUse: another process took it over, because this one gave no sign of life for too long.
        """
        try:
            self._file.open().close()  # asks an NFS server, where a mere look may be answered from memory
        except FileNotFoundError:
            raise RunInUse(
                f"{self._what} is no longer this run's: it gave no sign of life for {DEAD_AFTER} s, and another "
                f"process took it over, or {self._place} was removed. Nothing more is written; resume when that one "
                "has ended."
            ) from None

    def release(self) -> None:
        """Give the lock back. Does nothing where it is not held, as in a fork."""
        if self._pid != os.getpid():
            return
        self._pid = None
        self._ended.set()
        atexit.unregister(self.release)
        with suppress(OSError):
            self._file.unlink()
            self._place.rmdir()  # fails if somebody has taken it since: it is theirs

    def _rename(self, made: Path) -> bool:
        """Whether the lock is now this process's.

        Raises:
            OSError: it is not, and not because somebody else has it.
        """
        try:
            os.rename(made, self._place)
        except OSError as error:
            # The answer of a rename that was sent twice over NFS may be an error although it was done.
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST) and not self._file.exists():
                raise
        return self._file.exists()

    def _refuse_or_clear(self, mine: Path) -> None:
        """Raise RunInUse, or remove what a dead owner left."""
        for file in list(self._place.iterdir()) if self._place.is_dir() else ():
            try:
                with file.open("rb") as opened:  # opening it asks an NFS server for what is true now
                    owner, seen = _read(opened.read()), os.fstat(opened.fileno()).st_mtime
            except FileNotFoundError:
                continue
            # By the clock of the disk that both files are on: those of two hosts may differ.
            os.utime(mine)
            silent = mine.stat().st_mtime - seen
            if file.name.startswith(".") or owner.is_dead(silent):  # such as .DS_Store: names of ours have no dot
                with suppress(FileNotFoundError):
                    file.unlink()
            else:
                raise RunInUse(self._refusal(owner, silent))

    def _refusal(self, owner: Owner, silent: float) -> str:
        text = (
            f"{self._what} is in use: process {owner.pid} on {owner.host} has been writing to it since {owner.since} "
            f"({owner.command}). Wait until it ends, stop it, or choose another run.name"
        )
        if silent < -1 and not owner.is_here():
            text += (
                f". The time of its last sign of life, on the disk, is {-silent:.0f} s ahead of now, so a clock was "
                f"wrong; if {owner.host} is down, remove {self._place}"
            )
        elif not owner.is_here():
            text += (
                f". Its last sign of life is {max(silent, 0):.0f} s old; if {owner.host} is down, start again when it "
                f"is {DEAD_AFTER} s old, or remove {self._place}"
            )
        return text

    def _beat(self) -> None:
        while not self._ended.wait(BEAT):
            with suppress(OSError):  # the disk may be back at the next beat; that the lock is gone, ``check`` tells
                os.utime(self._file)


def _read(content: bytes) -> Owner:
    try:
        return Owner(**json.loads(content))
    except (ValueError, TypeError):  # of another version, or not of ours
        return Owner(0, "an unknown host", "", None, "an unknown time", "unknown command")
