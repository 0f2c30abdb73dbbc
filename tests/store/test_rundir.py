"""Run directories: planned, locked, made; numbering, races, dead owners, and starts that are refused."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from fleets import until

from ganfleet.errors import ConfigError, RunInUse, StorageError
from ganfleet.store import lock, rundir


def made(root, name=None, label="gan"):
    """The path of a run directory that was made and given back."""
    with rundir.plan(root, name, label) as run:
        return run.create()


def content(root: Path) -> dict[str, bytes | None]:
    """Every file and directory below ``root``, with the bytes of the files."""
    return {str(each.relative_to(root)): each.read_bytes() if each.is_file() else None for each in root.rglob("*")}


# Places and numbers


def test_numbers_go_on_after_the_highest_whatever_the_label(tmp_path):
    for taken in ("00000-gan-embedded32", "00041-dcgan-faces64", "named-run", "7-not-ours"):
        (tmp_path / taken).mkdir()
    run = rundir.plan(tmp_path, None, "dcgan-embedded32").take()
    assert run.create() == run.path == tmp_path / "00042-dcgan-embedded32"
    assert sorted(each.name for each in run.path.iterdir()) == ["checkpoints", "samples"]
    assert (run.checkpoints, run.samples) == (run.path / "checkpoints", run.path / "samples")
    run.release()


def test_the_first_run_is_number_zero_and_makes_the_root(tmp_path):
    with rundir.plan(tmp_path / "a" / "runs", None, "gan") as run:
        run.create()
        run.write_config("seed: 3\n")
    assert content(tmp_path / "a" / "runs")["00000-gan/config.yaml"] == b"seed: 3\n"


def test_a_class_path_in_the_label_becomes_one_folder_name(tmp_path):
    assert rundir.plan(tmp_path, None, "my_pkg.mod:MyGAN-a/b32").path.name == "00000-my_pkg.mod-MyGAN-a-b32"


def test_a_tilde_is_the_home_directory(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert rundir.plan("~/runs", "mine", "gan").path == tmp_path / "runs" / "mine"
    assert rundir.plan("~/runs", None, "gan").path == tmp_path / "runs" / "00000-gan"
    with pytest.raises(ConfigError, match=r"run\.dir is ~nobody-has-this-name"):
        rundir.plan("~nobody-has-this-name/runs", "mine", "gan")


def test_a_named_run_is_used_again_with_what_is_in_it(tmp_path):
    with rundir.plan(tmp_path, "mine", "gan") as run:
        run.create()
        (run.checkpoints / "kept").write_text("weights")
    with rundir.plan(tmp_path, "mine", "gan") as again:
        assert again.create() == run.path == tmp_path / "mine"
        assert (again.checkpoints / "kept").read_text() == "weights"


def test_a_lock_leaves_nothing_behind(tmp_path):
    with rundir.plan(tmp_path, "mine", "gan") as run:
        run.create()
        run.write_config("")
        assert (tmp_path / ".mine.lock").is_dir()
    assert [each.name for each in tmp_path.iterdir()] == ["mine"]


# Several nodes


def test_a_directory_that_nodes_do_not_share_is_told_from_one_they_do(tmp_path, monkeypatch):
    monkeypatch.setattr(rundir, "SHARED_SECONDS", 0.1)
    (tmp_path / "link").symlink_to(tmp_path / "a")
    with rundir.plan(tmp_path / "a", "mine", "gan") as run, rundir.plan(tmp_path / "b", "mine", "gan"):
        rundir.check_shared(tmp_path / "link" / "mine", run.sign)
        with pytest.raises(ConfigError, match=f"{tmp_path}/b/mine is not the folder that rank 0 writes to"):
            rundir.check_shared(tmp_path / "b" / "mine", run.sign)


# Refused starts


def test_planning_makes_nothing(tmp_path):
    rundir.plan(tmp_path / "runs", None, "gan")
    rundir.plan(tmp_path / "runs", "mine", "gan")
    assert content(tmp_path) == {}


@pytest.mark.parametrize("name", ["mine", None])
@pytest.mark.parametrize("step", ["take", "create"])
def test_a_start_that_is_refused_leaves_no_new_directory(tmp_path, name, step):
    with pytest.raises(ConfigError), rundir.plan(tmp_path / "a" / "runs", name, "gan") as run:
        if step == "create":
            run.create()
        raise ConfigError("the data do not fit")
    assert content(tmp_path) == {}


def test_a_start_that_is_refused_leaves_a_run_byte_for_byte_as_it_was(tmp_path):
    with rundir.plan(tmp_path, "mine", "gan") as run:
        run.create()
        run.write_config("seed: 3\n")
    run.samples.rmdir()  # by its user, who wants no such folder
    before = content(tmp_path)
    with pytest.raises(ConfigError), rundir.plan(tmp_path, "mine", "gan") as again:
        again.create()
        raise ConfigError("the checkpoint is of another config")
    assert content(tmp_path) == before


def test_what_was_written_before_a_refusal_stays(tmp_path):
    with pytest.raises(ConfigError), rundir.plan(tmp_path, None, "gan") as run:
        run.create()
        (run.path / "log.jsonl").touch()
        raise ConfigError("too late")
    assert list(content(tmp_path)) == ["00000-gan", "00000-gan/log.jsonl"]


def test_a_root_that_is_a_file_is_one_storage_error_with_its_path(tmp_path):
    (tmp_path / "runs").write_text("")
    for name in ("mine", None):
        with pytest.raises(StorageError, match=f"cannot write {tmp_path / 'runs'}") as caught:
            made(tmp_path / "runs", name)
        assert caught.value.exit_code == 74
    assert content(tmp_path) == {"runs": b""}


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_an_existing_directory_without_write_permission_is_a_storage_error(tmp_path):
    run_dir = made(tmp_path, "mine")
    run_dir.mkdir(exist_ok=True)
    run_dir.chmod(0o555)
    try:
        with pytest.raises(StorageError, match="Permission denied"):
            made(tmp_path, "mine")
    finally:
        run_dir.chmod(0o755)


def test_an_existing_directory_that_takes_no_file_is_a_storage_error(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "samples").symlink_to("/proc")  # a directory, but nobody can create a file in it
    with pytest.raises(StorageError, match=f"cannot write {tmp_path / 'mine'}"):
        made(tmp_path, "mine")
    assert list(content(tmp_path)) == ["mine", "mine/samples"]


# Other processes

# Takes the run argv[2] in argv[1] when told to, says how that went, and holds it until told again.
STARTER = """
import sys; from ganfleet.errors import RunInUse; from ganfleet.store import lock, rundir
root, name, beat, dead_after = sys.argv[1:]
lock.BEAT, lock.DEAD_AFTER = float(beat), float(dead_after)
print("ready", flush=True); sys.stdin.readline()
run = rundir.plan(root, name or None, "gan")
try:
    run.take(); print("took", run.path.name, flush=True)
except RunInUse as error:
    print("refused", error, flush=True); sys.exit()
sys.stdin.readline()
run.release()
"""


class Starter:
    """A process that wants a run."""

    def __init__(self, root, name="mine", beat=15, dead_after=300, program=STARTER):
        command = [sys.executable, "-c", program, str(root), name, str(beat), str(dead_after)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout.readline() == "ready\n"

    def tell(self):
        self.process.stdin.write("go\n")
        self.process.stdin.flush()

    def answer(self) -> str:
        return self.process.stdout.readline().strip()

    def start(self) -> str:
        self.tell()
        return self.answer()

    def end(self):
        self.tell()
        assert self.process.wait(timeout=30) == 0

    def kill(self):
        self.process.kill()
        self.process.wait()


@pytest.fixture
def starter(tmp_path):
    """Makes processes that want a run in ``tmp_path``; none of them survives the test."""
    started = []

    def make(*args, **kwargs):
        started.append(Starter(tmp_path, *args, **kwargs))
        return started[-1]

    yield make
    for each in started:
        each.kill()


def test_a_run_in_use_is_refused_with_who_uses_it_and_what_to_do(tmp_path, starter):
    made(tmp_path, "mine")
    owner = starter()
    assert owner.start() == "took mine"
    before = content(tmp_path)
    with pytest.raises(RunInUse) as caught:
        rundir.plan(tmp_path, "mine", "gan").take()
    assert caught.value.exit_code == 73
    message = str(caught.value)
    assert "\n" not in message
    for part in (f"{tmp_path / 'mine'} is in use", f"process {owner.process.pid}", os.uname().nodename, "since 20"):
        assert part in message
    assert "-c" in message and "Wait until it ends, stop it, or choose another run.name" in message
    assert content(tmp_path) == before
    owner.end()
    made(tmp_path, "mine")


def test_the_same_process_is_refused_too(tmp_path):
    with rundir.plan(tmp_path, "mine", "gan"), pytest.raises(RunInUse):
        rundir.plan(tmp_path, "mine", "gan").take()
    made(tmp_path, "mine")


def test_a_run_reached_by_a_link_is_the_same_run(tmp_path):
    (tmp_path / "disk" / "real").mkdir(parents=True)
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "mine").symlink_to(tmp_path / "disk" / "real")
    with rundir.plan(tmp_path / "disk", "real", "gan"), pytest.raises(RunInUse):
        rundir.plan(tmp_path / "runs", "mine", "gan").take()


def test_of_many_that_start_at_once_one_gets_the_run(tmp_path, starter):
    starters = [starter() for _ in range(6)]
    for each in starters:
        each.tell()
    answers = [each.answer().split()[0] for each in starters]
    assert sorted(answers) == ["refused"] * 5 + ["took"]


def test_a_killed_owners_lock_is_taken_over_at_once_by_one_of_many(tmp_path, starter):
    """Round by round: whoever wins is killed, and the others, already started, race for what it left."""
    starters = [starter() for _ in range(12)]
    for _ in range(3):
        racing, starters = starters[:4], starters[4:]
        for each in racing:
            each.tell()
        answers = [each.answer().split()[0] for each in racing]
        assert sorted(answers) == ["refused"] * 3 + ["took"]
        racing[answers.index("took")].kill()
    made(tmp_path, "mine")
    assert [each.name for each in tmp_path.iterdir()] == []


def test_a_dead_owner_that_nobody_waited_for_is_dead(tmp_path, starter):
    owner = starter()
    assert owner.start() == "took mine"
    owner.process.send_signal(signal.SIGKILL)
    until(lambda: Path(f"/proc/{owner.process.pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z")
    made(tmp_path, "mine")


def test_an_owner_that_was_stopped_keeps_its_run(tmp_path, starter):
    owner = starter()
    assert owner.start() == "took mine"
    owner.process.send_signal(signal.SIGSTOP)
    age(tmp_path, 10**6)
    with pytest.raises(RunInUse):
        rundir.plan(tmp_path, "mine", "gan").take()


def test_four_processes_at_once_get_four_directories(tmp_path):
    program = (
        "import sys; from ganfleet.store import rundir\n"
        "print('ready', flush=True); sys.stdin.readline()\n"
        "for _ in range(20): print(rundir.plan(sys.argv[1], None, 'gan').take().create().name)"
    )
    command = [sys.executable, "-c", program, str(tmp_path)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    processes = [subprocess.Popen(command, **pipes) for _ in range(4)]
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    names = [name for process in processes for name in process.communicate(timeout=60)[0].split()]
    assert sorted(names) == [f"{number:05d}-gan" for number in range(80)]


def test_a_number_that_is_locked_and_not_yet_made_is_passed_over(tmp_path, starter):
    waiting = starter("")
    assert waiting.start() == "took 00000-gan"
    assert made(tmp_path).name == "00001-gan"


def test_a_number_that_was_made_since_it_was_planned_is_passed_over(tmp_path):
    late = rundir.plan(tmp_path, None, "gan")
    with rundir.plan(tmp_path, None, "gan") as early:
        early.create()
        early.write_config("")
    with late:
        assert (early.path.name, late.create().name) == ("00000-gan", "00001-gan")


# Owners whose process cannot be seen


def owner_file(root: Path) -> Path:
    [file] = (root / ".mine.lock").iterdir()
    return file


def age(root: Path, seconds: float):
    """Make the lock's last sign of life so old."""
    os.utime(owner_file(root), (time.time() - seconds,) * 2)


def disguise(root: Path, **changes):
    """Make the lock that of another owner."""
    file = owner_file(root)
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def test_a_number_that_another_process_has_now_is_not_the_owner(tmp_path):
    first = rundir.plan(tmp_path, "mine", "gan").take()
    disguise(tmp_path, started="1")
    made(tmp_path, "mine")
    with pytest.raises(RunInUse, match="another process took it over"):
        first.check()


def test_an_owner_on_another_host_is_dead_after_five_minutes_of_silence(tmp_path):
    first = rundir.plan(tmp_path, "mine", "gan").take()
    disguise(tmp_path, host="node7", namespace="node7", pid=2**22 + 1)
    age(tmp_path, lock.DEAD_AFTER - 20)
    with pytest.raises(RunInUse, match=r"on node7 .* last sign of life is 28\d s old; if node7 is down, start again"):
        rundir.plan(tmp_path, "mine", "gan").take()
    first.check()
    age(tmp_path, lock.DEAD_AFTER + 20)
    with rundir.plan(tmp_path, "mine", "gan") as second:
        with pytest.raises(RunInUse, match="gave no sign of life"):
            first.check()
        first.release()  # takes nothing from the new owner
        second.check()
        with pytest.raises(RunInUse):
            rundir.plan(tmp_path, "mine", "gan").take()


def test_a_lock_of_an_unknown_kind_is_somebody_elses_until_it_is_old(tmp_path):
    (tmp_path / ".mine.lock").mkdir()
    (tmp_path / ".mine.lock" / "0123").write_text("{}")
    with pytest.raises(RunInUse, match="an unknown host"):
        rundir.plan(tmp_path, "mine", "gan").take()
    age(tmp_path, lock.DEAD_AFTER + 20)
    made(tmp_path, "mine")


def test_an_owner_whose_clock_was_ahead_is_told_as_such(tmp_path):
    first = rundir.plan(tmp_path, "mine", "gan").take()
    disguise(tmp_path, host="node7", namespace="node7", pid=2**22 + 1)
    age(tmp_path, -86400)
    with pytest.raises(RunInUse, match=r"is 86(400|399) s ahead of now, .* if node7 is down, remove .*\.mine\.lock"):
        rundir.plan(tmp_path, "mine", "gan").take()
    first.release()


def test_what_a_file_manager_leaves_in_a_lock_is_no_owner(tmp_path):
    (tmp_path / ".mine.lock").mkdir()
    (tmp_path / ".mine.lock" / ".DS_Store").write_bytes(b"\0")
    made(tmp_path, "mine")
    assert list(tmp_path.iterdir()) == []


def test_a_file_in_the_place_of_a_lock_is_named(tmp_path):
    (tmp_path / ".mine.lock").write_text("x")
    with pytest.raises(StorageError, match=r"\.mine\.lock is no lock of ganfleet's; remove it"):
        rundir.plan(tmp_path, "mine", "gan").take()


@pytest.mark.parametrize("length", [250, 300])
def test_a_name_that_no_disk_takes_is_told_to_be_shorter(length, tmp_path):
    with pytest.raises(ConfigError, match=rf"run.name has {length} bytes, .*: choose a shorter one"):
        rundir.plan(tmp_path, "x" * length, "gan")


def test_the_longest_name_that_a_disk_takes_is_taken(tmp_path):
    assert made(tmp_path, "x" * 249) == tmp_path / ("x" * 249)


def test_an_owner_gives_signs_of_life_and_stays_the_owner_on_another_host(tmp_path, starter):
    owner = starter(beat=0.05)
    assert owner.start() == "took mine"
    disguise(tmp_path, namespace="node7")
    age(tmp_path, 10**6)
    until(lambda: time.time() - owner_file(tmp_path).stat().st_mtime < 10**5)
    with pytest.raises(RunInUse, match="last sign of life is"):
        rundir.plan(tmp_path, "mine", "gan").take()


def test_an_empty_lock_of_a_process_killed_while_it_gave_it_back_is_free(tmp_path):
    (tmp_path / ".mine.lock").mkdir()
    made(tmp_path, "mine")
    assert list(tmp_path.iterdir()) == []


# Threads, forks, exits


ENDS = """
import os, sys; from ganfleet.store import rundir
run = rundir.plan(sys.argv[1], "mine", "gan").take()
run.create(); run.write_config("")
{end}
"""


@pytest.mark.parametrize(
    "end, code",
    [("", 0), ("sys.exit(3)", 3), ("raise RuntimeError", 1)],
    ids=["end", "exit", "exception"],
)
def test_a_process_that_ends_without_giving_the_run_back_gives_it_back(tmp_path, end, code):
    """And its thread does not keep it from ending."""
    command = [sys.executable, "-c", ENDS.format(end=end), str(tmp_path)]
    assert subprocess.run(command, timeout=30, stderr=subprocess.DEVNULL).returncode == code
    assert [each.name for each in tmp_path.iterdir()] == ["mine"]


@pytest.mark.filterwarnings("ignore:.*fork.*")
def test_a_fork_neither_holds_the_run_nor_gives_it_back(tmp_path):
    forks = """
child = os.fork()
if child == 0:
    run.release()
    sys.exit()
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
run.check()
assert os.path.exists(sys.argv[1] + "/.mine.lock")
"""
    subprocess.run(
        [sys.executable, "-W", "ignore", "-c", ENDS.format(end=forks), str(tmp_path)], check=True, timeout=30
    )
