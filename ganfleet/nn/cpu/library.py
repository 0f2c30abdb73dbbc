"""The compiled kernels: from kernels.cc to a shared library that is known to compute what it should.

It is compiled once, when first asked for, by this machine's C++ compiler, against the oneDNN that MindSpore brings, and
checked by a process of its own: the first kernel that oneDNN runs fixes how many cores it uses, which is the fleet's to
say, and decides the bits of MindSpore's operators too.
"""

import contextlib
import ctypes
import functools
import hashlib
import os
import platform
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import mindspore

from ganfleet.compiler import NoCompiler, cxx
from ganfleet.document import is_homeless, user_cache

SOURCE = Path(__file__).with_name("kernels.cc")
CHECK = Path(__file__).with_name("check.py")
# No flag may let the compiler round otherwise than the source says: the bits must not depend on the compiler. Without
# -fno-trapping-math, GCC makes jumps of the gate, five times as slow as what it makes of them with it; and without
# -fno-math-errno, it asks of each root whether to call it an error.
FLAGS = ("-std=c++17", "-O3", "-mavx2", "-ffp-contract=off", "-fno-trapping-math", "-fno-math-errno")
FLAGS = (*FLAGS, "-shared", "-fPIC")
PATIENCE = 600  # seconds for the compiler: it takes four, but many times that where a machine is overloaded
AVX2 = 0x7  # oneDNN's number for it; the kernels' choice of layouts was made for this instruction set
DIGEST = hashlib.sha256().digest_size


class Unavailable(Exception):
    """Why this machine cannot have the kernels."""


@dataclass(frozen=True)
class Kernels:
    """``path`` of the shared library, and ``form``, the name of how it computes, which decides the bits."""

    path: str
    form: str


@dataclass(frozen=True)
class OneDNN:
    """The library that MindSpore uses; ``file`` is its size and time of change, ``instructions`` the set it may use."""

    path: Path
    file: tuple[int, int]
    version: str
    instructions: int


@functools.cache
def kernels() -> Kernels | None:
    """The kernels, or None where stock operators have to do; where a user can change that, one line says how."""
    if sys.platform != "linux" or platform.machine() != "x86_64":
        return None
    try:
        onednn = load_onednn(onednn_path())
        if onednn.instructions != AVX2:
            return None
        path = compiled(onednn)
    except Unavailable as reason:
        print(f"ganfleet: MindSpore's own convolutions run, at half the speed: {reason}", file=sys.stderr)
        return None
    return Kernels(str(path), f"onednn-any/{onednn.version}/avx2")


def onednn_path() -> Path:
    """The oneDNN in this process: the one loaded already, or the one that MindSpore will load."""
    for line in Path("/proc/self/maps").read_text().splitlines():
        if line.endswith("/libdnnl.so.3"):
            return Path(line.split(maxsplit=5)[5])
    return Path(mindspore.__file__).parent / "lib" / "libdnnl.so.3"


class _Version(ctypes.Structure):
    _fields_ = [(name, ctypes.c_int) for name in ("major", "minor", "patch")]


def load_onednn(path: Path) -> OneDNN:
    """What ``path`` is.

    Raises:
        Unavailable: no oneDNN of version 3.
    """
    try:
        library = ctypes.CDLL(str(path))
        library.dnnl_version.restype = ctypes.POINTER(_Version)
        version = library.dnnl_version().contents
        instructions = library.dnnl_get_effective_cpu_isa()
    except (OSError, AttributeError) as error:
        raise Unavailable(f"{path} is no oneDNN ({error}): install MindSpore again") from None
    if version.major != 3:
        raise Unavailable(f"{path} is oneDNN {version.major}, and its version 3 is needed: install MindSpore again")
    facts = path.stat()
    number = f"{version.major}.{version.minor}.{version.patch}"
    return OneDNN(path, (facts.st_size, facts.st_mtime_ns), number, instructions)


def compiled(onednn: OneDNN) -> Path:
    """The shared library of kernels.cc for ``onednn``: from the cache, or compiled into it and checked.

    Raises:
        Unavailable: there is no compiler, it fails, what it makes is wrong, or there is no place for it.
    """
    facts = (SOURCE.read_bytes(), CHECK.read_bytes(), FLAGS, mindspore.__version__, onednn, _processor())
    name = hashlib.sha256(repr(facts).encode()).hexdigest()[:32]
    path = user_cache() / f"kernels-{name}.so"
    if is_homeless(path):
        raise Unavailable("there is no home folder for its cache: set XDG_CACHE_HOME")
    if ":" in str(path):
        raise Unavailable(f"MindSpore cannot load {path}, for the colon in it: set XDG_CACHE_HOME")
    if not sound(path):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            publish(path, cxx(), onednn.path)
        except NoCompiler as error:
            raise Unavailable(str(error)) from None
        except OSError as error:
            raise Unavailable(f"{path} cannot be written ({error.strerror}): set XDG_CACHE_HOME") from None
    return path


def _processor() -> str:
    """What this machine's processor can do."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line for line in lines if line.startswith("flags")), "")


def sound(path: Path) -> bool:
    """Whether ``path`` ends in the SHA-256 of what is before. To load a file cut short would kill the process."""
    try:
        content = path.read_bytes()
    except OSError:
        return False
    return hashlib.sha256(content[:-DIGEST]).digest() == content[-DIGEST:]


def publish(path: Path, compiler: list[str], onednn: Path) -> None:
    """Compile to a file aside, check it, add its digest and rename it. All ranks may do so at once: files are alike.

    Raises:
        Unavailable: the compiler fails, or what it makes is wrong.
    """
    handle, aside = tempfile.mkstemp(prefix=path.name, dir=path.parent)
    os.close(handle)
    link = (str(onednn), f"-Wl,-rpath,{onednn.parent}", "-Wl,-z,defs")  # defs: a missing function is an error now
    try:
        command = [*compiler, *FLAGS, "-o", aside, str(SOURCE), *link]
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=PATIENCE)
        if done.returncode:
            said = next((line for line in done.stderr.splitlines() if "error" in line), "no message")
            raise Unavailable(f"{compiler[0]} cannot compile {SOURCE}: {said}")
        if wrong := wrong_kernel(aside):
            raise Unavailable(f"{wrong}, as {compiler[0]} compiles it, is wrong: name another compiler in CXX")
        with open(aside, "r+b") as file:
            digest = hashlib.sha256(file.read()).digest()
            file.write(digest)
        os.replace(aside, path)
    except subprocess.TimeoutExpired:
        raise Unavailable(f"{compiler[0]} takes more than {PATIENCE} s: start again when there is less to do") from None
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(aside)


def wrong_kernel(path: str) -> str | None:
    """The name of the first kernel of the library at ``path`` that computes something else than it should, or None."""
    code = (
        "import runpy, sys; check, library, *sys.path = sys.argv[1:]; "
        "sys.exit(runpy.run_path(check)['wrong_kernel'](library))"
    )
    command = [sys.executable, "-I", "-c", code, str(CHECK), path, *sys.path]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=PATIENCE)
    if done.returncode == 0:
        return None
    return done.stderr.strip().splitlines()[-1] if done.returncode == 1 and done.stderr.strip() else "everything"
