"""Libraries in place of CANN's, made from what the installed MindSpore's Ascend plug-in asks of them."""

import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from ganfleet.compiler import NoCompiler, cxx
from ganfleet.document import is_homeless, user_cache
from ganfleet.errors import ConfigError

SOURCE = Path(__file__).with_name("stubs.cc")
PATIENCE = 600  # seconds for the compiler, which takes three
PLUGIN = "lib/plugin/libmindspore_ascend.so.2"
# All of the plug-in that wants CANN, as patterns: not every release has each.
PARTS = (
    PLUGIN,
    "lib/plugin/libmindspore_ops_ascend.so",
    "lib/plugin/ascend/libmindspore_ascend_res_manager.so",
    "lib/plugin/ascend/libmindspore_graph_ir.so",
    "lib/plugin/ascend/libd_collective.so",
    "lib/plugin/ascend/libhccl_plugin.so",
    "lib/plugin/ascend/ms_kernels_symmetric_memory/shmem/*/lib/*.so",
)
# CANN's libraries that the plug-in loads. All are links to one file, which has every symbol.
LIBRARIES = (
    *("libascendcl", "libacl_op_compiler", "libacl_tdt_channel", "libacl_tdt_queue", "libascend_hal"),
    *("libc_sec", "libge_runner", "libgraph", "libhccl", "libmsprofiler", "libnnopbase", "libopapi", "libplatform"),
    *("libruntime", "driver/libascend_hal"),
)
# Functions that the plug-in looks up by a name in its text, and what CANN's C++ symbols look like.
LOOKED_UP = re.compile(rb"(?<=\0)(?:acl|Hccl|Hcom|hal|rt|Msprof)[A-Za-z]*[A-Z]\w*(?=\0)")
UNDEFINED = re.compile(r"^ +U ((?:acl|Hccl|Hcom|hal|rt|Msprof)\w+|_Z\w*2ge\d\w+)$", re.MULTILINE)
HANDLE = re.compile(r"aclCreate|aclopCreateAttr|aclprofCreateConfig|acltdtCreateChannel")


class NotChecked(ConfigError):
    """The check cannot be made on this machine. That is not the same as a check that was passed."""

    def __init__(self, reason: str):
        super().__init__(f"not checked: {reason}")


@dataclass(frozen=True)
class Wheel:
    """The installed MindSpore: where it is, its version, and ``sha256`` of its list of files with their checksums."""

    root: Path
    version: str
    sha256: str


def wheel() -> Wheel:
    """The installed MindSpore.

    Raises:
        NotChecked: there is none, or it has no Ascend plug-in.
    """
    found = importlib.util.find_spec("mindspore")
    if found is None:
        raise NotChecked("MindSpore is not installed: install it with pip")
    root = Path(found.origin).parent
    if not (root / PLUGIN).is_file():
        raise NotChecked(f"this MindSpore has no Ascend plug-in ({PLUGIN} is missing): install the wheel for Linux")
    record = metadata.distribution("mindspore").read_text("RECORD") or ""
    # What pip adds, compiled Python and scripts with the path of the interpreter, is no part of the wheel.
    files = sorted(line for line in record.splitlines() if line.startswith("mindspore/") and ",sha256=" in line)
    return Wheel(root, metadata.version("mindspore"), hashlib.sha256("\n".join(files).encode()).hexdigest())


def build(installed: Wheel) -> Path:
    """The folder of the stubs for that wheel: from the user's cache, or compiled into it.

    Raises:
        NotChecked: there is no C++ compiler or no ``nm``, the compiler fails, or there is no place for the folder.
    """
    name = hashlib.sha256(SOURCE.read_bytes() + Path(__file__).read_bytes() + installed.sha256.encode()).hexdigest()
    folder = user_cache() / f"ascend-stubs-{name[:32]}"
    if is_homeless(folder):
        raise NotChecked("there is no home folder for the stubs: set XDG_CACHE_HOME")
    if folder.is_dir():
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix="ascend-stubs-unfinished-") as made:
            _make(Path(made), symbols(installed))
            os.rename(made, folder)
            os.mkdir(made)  # for the context to remove
    except OSError as error:
        if not folder.is_dir():  # another process was not quicker either
            raise NotChecked(f"the stubs cannot be written ({error}): free space, or set XDG_CACHE_HOME") from error
    return folder


def symbols(installed: Wheel) -> list[str]:
    """The functions of CANN's that the plug-in asks for: its undefined symbols, and names that it looks up."""
    wanted: set[str] = set()
    for path in (path for pattern in PARTS for path in sorted(installed.root.glob(pattern))):
        wanted |= {each.decode() for each in LOOKED_UP.findall(path.read_bytes())}
        wanted |= set(UNDEFINED.findall(_run([_tool("nm"), "-D", "--undefined-only", str(path)])))
    # Of an operator's kernel the text has one of two names.
    operators = {each.removesuffix("GetWorkspaceSize") for each in wanted if each.startswith("aclnn")}
    return sorted(wanted | operators | {f"{each}GetWorkspaceSize" for each in operators})


def _make(folder: Path, names: list[str]) -> None:
    """Compile the stubs into ``folder``, laid out as CANN's own is."""
    try:
        compiler = cxx()
    except NoCompiler as error:
        raise NotChecked(str(error)) from None
    libraries = folder / "latest" / "lib64"
    (libraries / "driver").mkdir(parents=True)
    for each in ("opp/built-in", "opp/vendors"):
        (folder / "latest" / each).mkdir(parents=True)
    aliases = folder / "aliases.cc"
    aliases.write_text(_aliases(names))
    stub = libraries / "libstub.so"
    flags = ["-std=c++17", "-O1", "-w", "-shared", "-fPIC", "-Wl,-soname,libstub.so"]
    _run([*compiler, *flags, "-o", str(stub), str(SOURCE), str(aliases)])
    for name in LIBRARIES:
        path = libraries / f"{name}.so"
        path.symlink_to(os.path.relpath(stub, path.parent))
    # MindSpore looks for HCCL's Python package too, and for its version only.
    package = folder / "python" / "hccl"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "sys_version.py").write_text('__sys_version__ = "0.0"\n')


def _aliases(names: list[str]) -> str:
    """A C++ file in which each of ``names`` is a weak alias of a function that does nothing, or gives a new handle."""
    lines = [
        f'asm(".weak {name}\\n.type {name}, %function\\n.set {name}, {"handle" if HANDLE.match(name) else "nothing"}");'
        for name in names
    ]
    functions = 'extern "C" void* nothing() { return 0; }\nextern "C" void* handle() { return malloc(256); }'
    return "\n".join(["#include <stdlib.h>", functions, *lines, ""])


def _tool(name: str) -> str:
    path = shutil.which(name)
    if path is None:
        raise NotChecked(f"there is no {name} on the PATH, which comes with a C++ compiler: install g++")
    return path


def _run(command: list[str]) -> str:
    try:
        ended = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NotChecked(f"{command[0]} cannot be run ({error}): install g++") from error
    if ended.returncode:
        first = next((line for line in ended.stderr.splitlines() if "error" in line.lower()), ended.stderr.strip())
        raise NotChecked(f"{Path(command[0]).name} has failed ({first}): install another C++ compiler, or set CXX")
    return ended.stdout


def environment(folder: Path, world_size: int) -> dict[str, str]:
    """The environment of a process that takes the stubs in ``folder`` for CANN, as rank 0 of ``world_size``.

    MindSpore runs nothing there (a dry run), and its C++ code tells of every kernel that it chooses.
    """
    home = folder / "latest"
    own = {
        "LD_LIBRARY_PATH": str(home / "lib64"),
        "ASCEND_HOME_PATH": str(home),
        "ASCEND_TOOLKIT_HOME": str(home),
        "ASCEND_AICPU_PATH": str(home),
        "ASCEND_OPP_PATH": str(home / "opp"),
        "MS_SIMULATION_LEVEL": "1",
        "RANK_SIZE": str(world_size),
        "RANK_ID": "0",
    }
    kept = {name: value for name, value in os.environ.items() if not name.startswith(DROPPED)}
    path = [str(folder / "python"), str(Path(__file__).parents[2]), *kept.get("PYTHONPATH", "").split(os.pathsep)]
    return kept | own | LOGGED | {"PYTHONPATH": os.pathsep.join(filter(None, path))}


# From error upwards for most modules; for these two all, among it the kernels' names.
LOGGED = {"GLOG_v": "3", "GLOG_logtostderr": "1", "MS_SUBMODULE_LOG_v": "{DEVICE:1,KERNEL:1}"}
# What a launcher or a user has set for a real run.
DROPPED = ("MS_ROLE", "MS_WORKER", "MS_SCHED", "MS_NODE", "MS_SIMULATION", "RANK_", "ASCEND_", "GLOG_", "MS_SUBMODULE")
