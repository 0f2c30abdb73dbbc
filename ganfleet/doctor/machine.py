"""This machine: ports, memory, limits of this shell, and what makes it fast."""

import contextlib
import os
import resource
import shutil
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil

from ganfleet.doctor.device import cards
from ganfleet.doctor.finding import Finding, failure, ok, warning
from ganfleet.doctor.hccl import PORTS

GIB, MIB = 2**30, 2**20
SCHEDULER = 8118  # msrun's port
SHM = "/dev/shm"
SHM_NEEDED = 64 * MIB  # of MPI on one machine; Docker's default is as large
RANK = GIB  # the memory of a small rank on a CPU
FILES, PROCESSES = 1024, 4096
FILE_SIZE = 4 * GIB
ADDRESSES = 16 * GIB  # MindSpore maps its libraries and thread stacks


def ports() -> Iterator[Finding]:
    if error := _taken("127.0.0.1", 0):
        yield failure(
            f"no port can be opened on 127.0.0.1 ({error}): ranks cannot find each other", "sudo ip link set lo up"
        )
        return
    if error := _taken("", SCHEDULER):
        yield warning(
            f"port {SCHEDULER}, msrun's default, is taken ({error})",
            f"msrun --master_port={_free()} …; `ganfleet train --workers` finds a free port by itself",
        )
    else:
        yield ok(f"port {SCHEDULER}, msrun's default, is free")
    base = os.environ.get("HCCL_IF_BASE_PORT", "60000")
    if cards() and base.isdecimal():
        taken = [port for port in range(int(base), min(int(base) + PORTS, 65536)) if _taken("", port)]
        if taken:
            yield failure(
                f"HCCL's port {taken[0]} is taken", f"export HCCL_IF_BASE_PORT={61000 if base != '61000' else 62000}"
            )
    proxies = [name for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY") if os.environ.get(name)]
    if proxies:
        yield warning(
            f"{', '.join(proxies)} is set: msrun's processes may look for each other through the proxy",
            f"unset {' '.join(proxies)}",
        )


def _taken(host: str, port: int) -> str | None:
    """Why ``port`` cannot be listened at; None if it can."""
    with socket.socket() as tried:
        tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            tried.bind((host, port))
            tried.listen()
        except OSError as error:
            return error.strerror
    return None


def _free() -> int:
    with socket.socket() as free:
        free.bind(("", 0))
        return free.getsockname()[1]


def memory() -> Iterator[Finding]:
    available = min(psutil.virtual_memory().available, _left_in_container())
    if available < 2 * RANK:
        yield failure(
            f"{available / GIB:.1f} GiB of memory are available: two small ranks take {2 * RANK / GIB:g} GiB",
            "ps aux --sort=-rss | head shows what takes it; for a container docker run --memory=16g …",
        )
    else:
        yield ok(f"{available / GIB:.1f} GiB of memory are available", available=available)
    if not os.path.isdir(SHM) or not os.access(SHM, os.W_OK):
        yield failure(f"{SHM} is not there or cannot be written", f"sudo mount -t tmpfs -o mode=1777 tmpfs {SHM}")
        return
    free = shutil.disk_usage(SHM).free
    if free < SHM_NEEDED:
        yield failure(
            f"{free / MIB:.0f} MiB are free in {SHM}: ranks of one machine exchange data there",
            f"docker run --ipc=host … or --shm-size=1g; else sudo mount -o remount,size=1g {SHM}",
        )
    else:
        yield ok(f"{free / MIB:.0f} MiB are free in {SHM}")


def _left_in_container() -> float:
    """What the container of this process may still take (cgroup v2)."""
    with contextlib.suppress(OSError, ValueError):
        limit, used = (int(Path(f"/sys/fs/cgroup/memory.{name}").read_text()) for name in ("max", "current"))
        return limit - used
    return float("inf")


def limits() -> Iterator[Finding]:
    wanted = (  # what, its letter and unit in ulimit, what is needed, and why
        ("number of open files", "n", 1, resource.RLIMIT_NOFILE, FILES, "a rank holds images, sockets and graphs open"),
        ("number of processes", "u", 1, resource.RLIMIT_NPROC, PROCESSES, "each rank starts a hundred threads"),
        ("size of a file", "f", 1024, resource.RLIMIT_FSIZE, FILE_SIZE, "a larger checkpoint ends the run"),
        ("address space", "v", 1024, resource.RLIMIT_AS, ADDRESSES, "MindSpore maps as much"),
        ("CPU seconds", "t", 1, resource.RLIMIT_CPU, resource.RLIM_INFINITY, "then a process is killed"),
    )
    short = False
    for what, letter, unit, number, needed, why in wanted:
        limit, highest = resource.getrlimit(number)
        if _reaches(limit, needed):
            continue
        short = True
        if _reaches(highest, needed):
            remedy = f"ulimit -S{letter} $(ulimit -H{letter})"
        else:
            remedy = f"raise the hard limit in /etc/security/limits.conf and log in again (now: ulimit -H{letter})"
        least = "no limit" if needed == resource.RLIM_INFINITY else f"{needed // unit:,} or more"
        yield failure(f"ulimit -{letter}, the {what}, is {limit // unit:,}: {least} is needed, {why}", remedy)
    if not short:
        yield ok("no limit of this shell (ulimit) is too low")


def _reaches(limit: int, needed: int) -> bool:
    return limit == resource.RLIM_INFINITY or (needed != resource.RLIM_INFINITY and limit >= needed)


def kernels() -> Iterator[Finding]:
    """What the CPU kernels of ganfleet need; without them MindSpore's run, at half the speed."""
    if sys.platform != "linux" or os.uname().machine != "x86_64":
        yield ok(f"{os.uname().machine}: MindSpore's own kernels are used")
        return
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    flags = next((line.split() for line in lines if line.startswith("flags")), [])
    compiler = next(filter(None, map(shutil.which, ("c++", "g++", "clang++"))), None)
    if "avx2" not in flags:
        yield warning(
            "this processor has no AVX2: MindSpore's own convolutions run, at half the speed",
            "train on a newer machine",
        )
    if compiler is None:
        yield warning(
            "there is no C++ compiler on the PATH: MindSpore's own convolutions run, at half the speed",
            "sudo apt-get install g++ (or dnf install gcc-c++)",
        )
    else:
        yield ok(f"C++ compiler {compiler}")
