"""``ganfleet doctor``: what is broken on purpose, through variables, the PATH and folders, is named with its remedy."""

import json
import os
import re
import resource
import shutil
import socket
import subprocess
import sys
from configparser import ConfigParser
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import psutil
import pytest
from commands import ganfleet
from fleets import BIN, REPOSITORY, free_port, one_at_a_time, until

from ganfleet.doctor import CHECKS, Settings, alone, device, folders, hccl, machine, ranks, versions
from ganfleet.doctor.allreduce import _compare
from ganfleet.errors import ReplicasDiverged

HERE = Path(__file__).parent
WITHOUT_RANKS = [name for name, check in CHECKS.items() if not check.measures]

CARDS = """\
+------------------------------------------------------------------------------------------------+
| npu-smi {driver}                 Version: {driver}                                             |
+---------------------------+---------------+----------------------------------------------------+
| NPU   Name                | Health        | Power(W)    Temp(C)           Hugepages-Usage(page)|
| Chip                      | Bus-Id        | AICore(%)   Memory-Usage(MB)  HBM-Usage(MB)        |
+===========================+===============+====================================================+
| 0     910B3               | OK            | 90.3        35                0    / 0             |
| 0                         | 0000:C1:00.0  | 0           0    / 0          3162 / 65536         |
+===========================+===============+====================================================+
| 1     910B3               | {health:<13} | 90.3        35                0    / 0             |
| 0                         | 0000:C2:00.0  | 0           0    / 0          3162 / 65536         |
+===========================+===============+====================================================+
| NPU     Chip              | Process id    | Process name             | Process memory(MB)      |
+===========================+===============+====================================================+
| 0       0                 | 1234          | python                   | 3162                    |
+===========================+===============+====================================================+
"""
TWO_CHIPS = """\
| npu-smi 25.5.0                   Version: 25.5.0                                               |
| NPU   Name                | Health        | Power(W)    Temp(C)           Hugepages-Usage(page)|
| Chip  Phy-ID              | Bus-Id        | AICore(%)   Memory-Usage(MB)  HBM-Usage(MB)        |
| 6     Ascend910           | OK            | 170.4       36                0    / 0             |
| 0     12                  | 0000:99:00.0  | 0           0    / 0          3162 / 65536         |
| 6     Ascend910           | Warning       | -           36                0    / 0             |
| 1     13                  | 0000:9B:00.0  | 0           0    / 0          2865 / 65536         |
"""


def examined(*arguments, code=0):
    """The findings of ``ganfleet doctor --json``, by check, of those that are not ok; it ends with ``code``."""
    ended = ganfleet("doctor", "--json", *arguments)
    report, end = json.JSONDecoder().raw_decode(ended.output)
    assert (ended.code, report["exit_code"], report["ok"]) == (code, code, code == 0), ended.output
    assert ("ganfleet: error:" in ended.output[end:]) == (code != 0)
    assert all(each["remedy"] for each in report["findings"] if each["status"] in ("warning", "failure"))
    found = {}
    for each in report["findings"]:
        found.setdefault(each["check"], []).append((each["status"], each["text"], each["remedy"]))
    return found


def unwell(findings):
    return [(status, text, remedy) for status, text, remedy in findings if status in ("failure", "warning")]


def program(folder, name, script):
    """An executable on its way to the PATH."""
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)


def package(folder, name, source):
    """A package that is found before the real one of its name."""
    (folder / name).mkdir(parents=True)
    (folder / name / "__init__.py").write_text(source)


@pytest.fixture
def first(tmp_path, monkeypatch):
    """Two folders: what is in them is found first, as a program and as a package."""
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{BIN}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path / "site"), str(REPOSITORY)]))
    yield tmp_path / "bin", tmp_path / "site"
    device.npu_smi.cache_clear()


def works(pid):
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@contextmanager
def at_most(files):
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


# ── The command


@pytest.mark.slow
@one_at_a_time
def test_this_machine_can_train(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", f"{BIN}{os.pathsep}{os.environ['PATH']}")
    found = examined("--run-dir", str(tmp_path))
    assert set(found) == set(CHECKS)
    [(status, text, _)] = found["allreduce"]
    assert status == "ok" and re.match(r"2 ranks over mccl add up right: 4 KiB in .* as a link \S+s,\S+B/s$", text)
    [(status, text, _)] = found["mpi"]
    assert status == "ok" and text.startswith("2 ranks over mpi add up right")
    assert os.listdir(tmp_path) == []


def test_what_is_broken_is_named_with_what_mends_it(first, tmp_path, monkeypatch):
    """Eight things at once, each in the place where users break it."""
    programs, packages = first
    package(packages, "mindspore", "raise ImportError('libascendcl.so: cannot open shared object file')")
    (packages / "numpy-2.4.0.dist-info").mkdir()
    (packages / "numpy-2.4.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: numpy\nVersion: 2.4.0\n")
    program(programs, "npu-smi", f"cat <<'END'\n{CARDS.format(driver='25.5.1', health='Alarm')}\nEND")
    (tmp_path / "table.json").write_text('{"server_list": [{"device": [{"rank_id": "1", "device_ip": "10.0.0.1"}]}]}')
    (tmp_path / "runs").write_text("a file, and no folder")
    monkeypatch.setenv("RANK_TABLE_FILE", str(tmp_path / "table.json"))
    monkeypatch.setenv("HCCL_CONNECT_TIMEOUT", "5")
    monkeypatch.setenv("http_proxy", "http://10.0.0.1:3128")
    monkeypatch.delenv("ASCEND_HOME_PATH", raising=False)
    with at_most(512):
        found = examined("--run-dir", str(tmp_path / "runs"), *WITHOUT_RANKS, code=2)
    told = {name: unwell(findings) for name, findings in found.items()}
    versions, device = told["versions"], told["device"]
    assert ("failure", "numpy 2.4.0: MindSpore is built against numpy 1", "pip install 'numpy<2'") in versions
    assert any(
        "libascendcl.so" in text and "pip install --force-reinstall mindspore==" in cure for _, text, cure in versions
    )
    sick, cure = next((text, cure) for _, text, cure in device if text.startswith("card 1"))
    assert sick == "card 1 (910B3): its health is Alarm" and cure.endswith("export ASCEND_RT_VISIBLE_DEVICES=0")
    assert "source /usr/local/Ascend/" in next(
        cure for _, text, cure in device if "ASCEND_HOME_PATH is not set" in text
    )
    assert any(text == "/dev/davinci0 is not there" and "--device=/dev/davinci0" in cure for _, text, cure in device)
    [(status, text, cure)] = told["ranks"]
    assert status == "failure" and "its ranks are 1: expected 0 to 0" in text and cure == "unset RANK_TABLE_FILE"
    [(status, text, cure)] = told["hccl"]
    assert status == "failure" and text.startswith("HCCL_CONNECT_TIMEOUT is '5': expected a number from 120 to 7200")
    assert cure == "unset HCCL_CONNECT_TIMEOUT"
    assert ("warning", "unset http_proxy") in [(status, cure) for status, _, cure in told["ports"]]
    [(status, text, cure)] = told["limits"]
    assert (status, cure) == ("failure", "ulimit -Sn $(ulimit -Hn)") and "open files, is 512: 1,024 or more" in text
    [(status, text, cure)] = told["folders"]
    assert status == "failure" and text.startswith(f"runs: {tmp_path / 'runs'} is no folder") and "run.dir=" in cure


def test_the_exit_code_is_that_of_a_run_which_meets_the_same(tmp_path):
    (tmp_path / "runs").write_text("a file, and no folder")
    ended = ganfleet("doctor", "folders", "limits", "--run-dir", str(tmp_path / "runs"))
    assert ended.code == 74
    lines = ended.output.splitlines()
    assert lines[0].split()[:2] == ["limits", "ok"]  # in their own order
    assert re.match(r"folders +failure +runs: ", lines[1]) and lines[2].split()[0] == "→"
    assert lines[-1].startswith("ganfleet: error: 1 of 2 checks failed: folders. ")


def test_a_check_that_hangs_is_ended_with_all_that_it_has_started(first, tmp_path):
    _, packages = first
    package(
        packages,
        "mindspore",
        f"import os, subprocess, time\nchild = subprocess.Popen(['sleep', '600'])\n"
        f"open({str(tmp_path / 'pids')!r}, 'w').write(f'{{os.getpid()}} {{child.pid}}')\ntime.sleep(600)",
    )
    found = examined("--timeout", "8", "versions", code=2)
    [(status, text, cure)] = found["versions"]
    assert (status, text) == ("failure", "the check did not end within 8 s")
    assert "ganfleet doctor --timeout 16 versions" in cure
    pids = [int(pid) for pid in (tmp_path / "pids").read_text().split()]
    assert len(pids) == 2
    until(lambda: not any(works(pid) for pid in pids), 10)


def test_a_check_that_crashes_says_how(first):
    _, packages = first
    package(packages, "mindspore", "import os\nos.write(2, b'double free\\n')\nos.abort()")
    [(status, text, _)] = examined("versions", code=2)["versions"]
    assert (status, text) == ("failure", "the check was killed by SIGABRT and said 'double free'")


@one_at_a_time
def test_a_rank_that_is_lost_is_found(first):
    """Rank 1 ends before it connects."""
    _, packages = first
    packages.mkdir()
    (packages / "sitecustomize.py").write_text("import os\nos.environ.get('MS_NODE_ID') == '1' and os._exit(9)\n")
    [(status, text, cure)] = examined("allreduce", code=69)["allreduce"]
    assert status == "failure" and re.match(r"an all-reduce between two processes ended with 69: .*rank 1\b", text)
    assert "--log-dir" in cure


def test_an_mpiexec_of_another_mpi_is_found(first):
    programs, _ = first
    program(programs, "mpiexec", "echo 'mpiexec (Open MPI) 4.1.6'")
    [(status, text, cure)] = examined("mpi", code=2)["mpi"]
    assert (
        status == "failure" and f"{programs / 'mpiexec'} is of another MPI (it says 'mpiexec (open mpi) 4.1.6')" in text
    )
    assert str(Path(sys.executable).parent) in cure


def test_a_taken_port_is_found(monkeypatch):
    with socket.socket() as taken:
        taken.bind(("", 0))
        taken.listen()
        port = taken.getsockname()[1]
        monkeypatch.setattr(machine, "SCHEDULER", port)  # 8118 itself may be anybody's
        [found] = [each for each in machine.ports() if str(port) in each.text]
    assert found.status == "warning" and "is taken" in found.text
    assert re.search(r"msrun --master_port=\d+", found.remedy)


def test_a_full_disk_a_small_shm_and_a_folder_of_no_execution_are_found(tmp_path):
    """In a mount namespace of its own, where /dev/shm is as small as Docker may make it."""
    unshare = shutil.which("unshare")
    if os.geteuid() or not unshare or subprocess.run([unshare, "-m", "true"], capture_output=True).returncode:
        pytest.skip("needs root and unshare, to mount file systems that only the test sees")
    (tmp_path / "cache").mkdir()
    script = (
        "mount -t tmpfs -o size=4m tmpfs /dev/shm && mount -t tmpfs -o noexec tmpfs $1 && "
        "dd if=/dev/zero of=/dev/shm/fill bs=1M 2>/dev/null; "
        'exec "$0" -m ganfleet doctor --json --run-dir /dev/shm memory folders'
    )
    ended = subprocess.run(
        [unshare, "-m", "sh", "-c", script, sys.executable, str(tmp_path / "cache")],
        env={**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cache")},
        capture_output=True,
        text=True,
        cwd=REPOSITORY,
    )
    found = {(each["check"], each["text"]): each["remedy"] for each in json.loads(ended.stdout)["findings"]}
    assert ended.returncode == 2
    shm = next(
        cure for (check, text), cure in found.items() if check == "memory" and "MiB are free in /dev/shm" in text
    )
    assert "--shm-size=1g" in shm
    assert "run.dir=" in next(cure for (_, text), cure in found.items() if text.startswith("runs: /dev/shm is full"))
    cure = next(cure for (_, text), cure in found.items() if "is mounted noexec" in text)
    assert cure.startswith("export XDG_CACHE_HOME=")


def test_locks_that_let_two_in_are_found(tmp_path, monkeypatch):
    class NoLock(folders.Lock):
        def take(self):
            pass

    monkeypatch.setattr(folders, "Lock", NoLock)
    told = [each.text for each in folders.check(tmp_path)]
    assert any("two processes can hold one at once" in text for text in told)


def test_a_wrong_sum_is_found():
    total = np.arange(8, dtype=np.float32)
    _compare(total, total.copy())
    with pytest.raises(ReplicasDiverged, match=r"of 32 bytes is wrong: number 5 is 5, expected 6"):
        _compare(total, np.where(total == 5, 6, total))


# ── Versions


def table(page):
    """The rows of the table of versions of a page, each a list of the versions in its cells."""
    rows = re.findall(r"^\| (2\.\d+)\.0 \| ([^|]*) \| ([^|]*) \| ([^|]*) \|$", page, re.MULTILINE)
    return {row[0]: [re.findall(r"\d+\.\d+", cell) for cell in row[1:]] for row in rows}


@pytest.mark.parametrize("name", ["ascend.md", "zh/ascend.md"])
def test_the_page_shows_the_table_that_the_doctor_uses(name):
    rows = table((REPOSITORY / "docs" / name).read_text(encoding="utf-8"))
    assert list(rows) == list(versions.MINDSPORE)
    for release, (built, accepts, drivers) in rows.items():
        used = versions.MINDSPORE[release]
        assert (built, accepts) == ([used.built], list(used.accepts))
        first, cann, *others = drivers
        assert cann == used.built and (first, *others) == versions.DRIVERS[used.built]


def test_the_package_installs_what_the_table_has():
    setup = ConfigParser()
    setup.read(REPOSITORY / "setup.cfg")
    assert versions.INSTALL.removeprefix("pip install ").strip("'") in setup["options"]["install_requires"]
    classified = re.findall(r"Python :: (3\.\d+)", setup["metadata"]["classifiers"])
    assert list(versions.PYTHONS) == classified


def test_the_table_is_what_the_installed_mindspore_says_of_itself():
    root = Path(find_spec("mindspore").origin).parent
    release = versions.MINDSPORE[versions.short(versions._installed("mindspore"))]
    source = (root / "run_check" / "_check_version.py").read_text()
    [accepts] = re.findall(r"class AscendEnvChecker.*?self\.version = \[(.*?)\]", source, re.DOTALL)
    assert re.findall(r"[\d.]+", accepts) == list(release.accepts)
    built = root / "lib" / "plugin" / "ascend" / "custom_ascendc_910b" / "version.info"
    if built.exists():  # not in wheels for some systems
        assert versions.short(built.read_text()) == release.built


# ── Cards


def card_findings(first, tmp_path, monkeypatch, printed, cann=None):
    programs, _ = first
    program(programs, "npu-smi", f"cat <<'END'\n{printed}\nEND")
    if cann:
        (tmp_path / "cann" / "compiler").mkdir(parents=True)
        (tmp_path / "cann" / "compiler" / "version.info").write_text(f"Version={cann}\ntimestamp=20260901\n")
        monkeypatch.setenv("ASCEND_HOME_PATH", str(tmp_path / "cann"))
    device.npu_smi.cache_clear()
    return [(each.status, each.text, each.remedy) for each in device.check()]


@pytest.mark.parametrize(
    "cann, driver, status, what",
    [
        ("9.1.0", "25.5.1", "ok", "driver 25.5"),
        ("9.1.0-beta.2", "26.0.rc1", "ok", "driver 26.0"),
        ("9.1.0", "24.1.0", "failure", "driver 24.1: CANN 9.1 runs with 26.0, 25.2, 25.3, 25.5, 26.1"),
        ("8.1.RC1", "25.5.1", "failure", "CANN 8.1: this MindSpore accepts"),
        ("8.3.RC1", "25.5.1", "warning", "driver 25.5: no table says which drivers go with CANN 8.3"),
    ],
)
def test_cann_and_driver_are_compared_with_the_table(first, tmp_path, monkeypatch, cann, driver, status, what):
    found = card_findings(first, tmp_path, monkeypatch, CARDS.format(driver=driver, health="OK"), cann)
    assert any((each, text[: len(what)]) == (status, what) for each, text, _ in found), found
    assert any(each[:2] == ("ok", "2 of 2 cards are healthy (910B3)") for each in found)


def test_a_card_of_two_chips_is_two_devices(first, tmp_path, monkeypatch):
    monkeypatch.setenv("ASCEND_RT_VISIBLE_DEVICES", "12,14")
    found = card_findings(first, tmp_path, monkeypatch, TWO_CHIPS, "8.5.0")
    assert device.cards() == {12: ("Ascend910", "OK"), 13: ("Ascend910", "Warning")}
    assert ("failure", "ASCEND_RT_VISIBLE_DEVICES names card 14, which npu-smi does not list") in [x[:2] for x in found]


def test_npu_smi_that_fails_is_told(first):
    programs, _ = first
    program(programs, "npu-smi", "echo 'dcmi module initialize failed. ret is -8005' >&2; exit 255")
    device.npu_smi.cache_clear()
    [told] = device.check()
    assert told.status == "failure" and "ends with 255 and says 'dcmi module initialize failed" in told.text


@pytest.mark.parametrize("chosen", ["1,0", "0, 1", "0;1", "a", "0,0"])
def test_cards_are_chosen_in_ascending_order(chosen, monkeypatch):
    monkeypatch.setenv("ASCEND_RT_VISIBLE_DEVICES", chosen)
    told = next(device._visible())
    assert told.status == "failure" and re.fullmatch(r"export ASCEND_RT_VISIBLE_DEVICES=\d(,\d)*", told.remedy)


# ── Variables


RANKS = [{"device_id": str(i), "device_ip": f"192.168.1.{i}", "rank_id": str(i)} for i in range(4)]
SERVERS = [{"server_id": "10.0.0.1", "device": RANKS[:2]}, {"server_id": "10.0.0.2", "device": RANKS[2:]}]


def rank_table(**changes):
    return {"version": "1.0", "server_count": "2", "status": "completed", "server_list": SERVERS} | changes


@pytest.mark.parametrize(
    "written, wrong",
    [
        (rank_table(), None),
        (rank_table(status="initializing"), "its status is 'initializing'"),
        (rank_table(server_count="3"), "server_count is 3, but 2 servers are listed"),
        (
            rank_table(server_list=rank_table()["server_list"][1:], server_count="1"),
            "its ranks are 2, 3: expected 0 to 1",
        ),
        (rank_table(server_list=rank_table()["server_list"][:1] * 2), "its ranks are 0, 0, 1, 1: expected 0 to 3"),
        (
            rank_table(server_list=[{"device": [{"rank_id": "0", "device_ip": "10.0.0"}]}], server_count="1"),
            "no address",
        ),
        ({"ranks": []}, "it is no rank table: 'server_list'"),
        ([], "it is no rank table: it has another form"),
        ("no JSON", "it is no JSON"),
        (None, "it is no regular file"),
    ],
)
def test_a_rank_table_is_read(written, wrong, tmp_path, monkeypatch):
    path = tmp_path / "hccl.json"
    if written is None:
        os.mkfifo(path)
    else:
        path.write_text(written if isinstance(written, str) else json.dumps(written))
    monkeypatch.setenv("RANK_TABLE_FILE", str(path))
    [told] = ranks.check()
    assert told.remedy == "unset RANK_TABLE_FILE"
    assert told.status == ("failure" if wrong else "warning") and (wrong or "not from msrun") in told.text


@pytest.mark.parametrize("sign", ["MS_ROLE", "OMPI_COMM_WORLD_SIZE", "PMI_SIZE"])
def test_variables_of_half_a_launcher_are_found_beside_everything_else(sign, monkeypatch):
    monkeypatch.setenv(sign, "4")
    monkeypatch.setenv("RANK_TABLE_FILE", "")
    found = examined("ranks", "limits", code=2)
    first, second = unwell(found["ranks"])
    assert first[0] == "failure" and f"the variable {sign} says" in first[1] and first[2] == f"unset {sign}"
    assert second[1] == "RANK_TABLE_FILE is '': it names no file"
    assert found["limits"]


def test_a_rank_whose_fleet_does_not_come_says_so_and_waits_no_longer_than_it_may(monkeypatch):
    address = {"MS_SCHED_HOST": "127.0.0.1", "MS_SCHED_PORT": str(free_port())}
    for name, value in {"MS_ROLE": "MS_WORKER", "MS_WORKER_NUM": "8", "MS_NODE_ID": "0", **address}.items():
        monkeypatch.setenv(name, value)
    command = [sys.executable, "-m", "ganfleet", "doctor", "--timeout", "2"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60)
    told = "MS_ROLE says that this is one of 8 ranks: it waits for the others for up to 2 s; unset MS_ROLE to"
    assert ended.returncode == 69 and ended.stderr.startswith(told), ended.stderr


def test_a_temporary_folder_that_is_not_there_is_told(tmp_path):
    command = [sys.executable, "-m", "ganfleet", "doctor", "folders", "--run-dir", str(tmp_path)]
    ended = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"TMPDIR": "/nowhere"})
    assert "temporary files: TMPDIR is /nowhere, which cannot be written, so " in ended.stdout


def test_what_a_launcher_has_left_is_told(monkeypatch):
    monkeypatch.setenv("RANK_SIZE", "8")
    monkeypatch.setenv("DEVICE_ID", "3")
    told = next(ranks.check())
    assert (told.status, told.remedy) == ("warning", "unset RANK_SIZE DEVICE_ID")


@pytest.mark.parametrize(
    "name, value, wrong",
    [
        ("HCCL_CONNECT_TIMEOUT", "7200", None),
        ("HCCL_CONNECT_TIMEOUT", "2 min", "expected a number from 120 to 7200"),
        ("HCCL_BUFFSIZE", "0", "expected a number from 1"),
        ("HCCL_DETERMINISTIC", "strict", None),
        ("HCCL_DETERMINISTIC", "yes", "expected false, true, strict"),
        ("HCCL_IF_IP", "127.0.0.1", None),
        ("HCCL_IF_IP", "203.0.113.9", "expected an address of this machine: 127.0.0.1"),
        ("HCCL_SOCKET_IFNAME", "=lo", None),
        ("HCCL_SOCKET_IFNAME", "^docker", None),
        ("HCCL_SOCKET_IFNAME", "=l", "expected an interface of this machine"),
        ("HCCL_SOCKET_IFNAME", "ib", "expected an interface of this machine"),
        ("HCCL_IF_BASE_PORT", "65530", "expected a number from 1024 to 65504"),
        ("HCCL_NPU_SOCKET_PORT_RANGE", "61000-61050,62000", None),
        ("HCCL_NPU_SOCKET_PORT_RANGE", "61050-61000", "expected ports from 1024 to 65535"),
        ("HCCL_WHITELIST_DISABLE", "0", "HCCL_WHITELIST_FILE is not set"),
        ("HCCL_EXEC_TIMEOUTS", "3600", "HCCL knows no variable HCCL_EXEC_TIMEOUTS"),
    ],
)
def test_hccls_variables_are_read(name, value, wrong, monkeypatch):
    for each in [*os.environ]:
        if each.startswith(("HCCL_", "TE_")):
            monkeypatch.delenv(each)
    monkeypatch.setenv(name, value)
    [told] = hccl.check()
    assert (told.status == "ok") == (wrong is None) and (wrong or name) in told.text
    if wrong:
        assert told.remedy.startswith("unset HCCL_")


def test_an_error_of_ganfleets_own_is_a_finding(tmp_path):
    settings = Settings(run_dir=Path("~nobody-at-all/runs"))
    [told, *_] = alone("folders", settings)
    assert told["status"] == "failure" and told["remedy"]
