"""A fleet is watched, and started again where that helps. Its ranks do not train, so that it starts in a second."""

import re
import signal
import socket
import time

import psutil
import pytest
from fake_fleet import ONCE, RANK, TRAINING, launch, printed
from fleets import Ended, free_port, one_at_a_time, run, start, survivors, until

pytestmark = one_at_a_time
STOP = "os.kill(os.getpid(), signal.SIGSTOP)"
KILL = "os.kill(os.getpid(), signal.SIGKILL)"


def train(directory, fault="pass", steps=6, workers=2, **options) -> Ended:
    """Ranks that meet in every step, of which rank 1 has a ``fault`` from its third step on."""
    command = launch(directory, fault, steps, TRAINING, workers, log_dir="None", **options)
    return run(command, directory, timeout=60)


def tries(directory, rank=0) -> int:
    return len(list(directory.glob(f"tried-{rank}-*")))


@pytest.mark.parametrize(
    "fault, told",
    [(STOP, "is stopped by a signal in step 3, phase D"), ("time.sleep(300)", "hangs in step 3, phase D")],
)
def test_a_rank_that_hangs_is_named_and_every_rank_shows_what_it_is_doing(fault, told, tmp_path):
    ended = train(tmp_path, fault, hang_after=1)
    assert ended.code == 83
    assert f"rank 1 on {socket.gethostname()} {told}; rank 0 waits for it" in ended.output
    script = (tmp_path / "rank.py").read_text().splitlines()
    for rank, line in ((0, "time.sleep(0.01)"), (1, fault)):
        number = max(i for i, each in enumerate(script, 1) if line in each)
        numbers = f"({number}|{number - 1})" if rank == 0 else number  # it looks, and sleeps, in turn
        shown = ended.output.partition(f"ganfleet: rank {rank} on {socket.gethostname()} is in step 3")[2].partition(
            "\nganfleet: "
        )[0]
        assert re.search(rf'rank.py", line {numbers} in ', shown), ended.output


def test_a_rank_that_compiles_is_waited_for_and_does_not_hang(tmp_path):
    compiles = "exec('with heartbeat.compiling(): time.sleep(2.5)')"
    ended = train(tmp_path, compiles, steps=3, hang_after=1)
    assert ended.code == 0, ended.output


def test_a_collective_that_one_rank_leaves_out_is_named(tmp_path):
    ended = train(tmp_path, "if step == 3: continue", steps=300)
    assert ended.code == 83
    told = r"rank 0 is at the sum of step (\d+), phase D, but rank 1 is at the sum of step (\d+), phase D"
    first, second = map(int, re.search(told, ended.output).groups())
    assert second == first + 1 >= 4


def test_a_slow_rank_is_named_within_20_steps(tmp_path):
    ended = train(tmp_path, "time.sleep(0.08)", steps=20)
    assert ended.code == 0
    [line] = [line for line in ended.output.splitlines() if "slow" in line]
    assert line.startswith(f"ganfleet: warning: rank 1 on {socket.gethostname()} is slow")


@pytest.mark.parametrize("fault", [KILL, STOP, "sys.exit('only once')"])
def test_a_fleet_that_may_starts_again(fault, tmp_path):
    ended = train(tmp_path, f"{ONCE}{fault}", max_restarts=2, hang_after=1)
    assert ended.code == 0, ended.output
    assert (tries(tmp_path, 0), tries(tmp_path, 1)) == (2, 2)
    assert "ganfleet: restart 1 of 2 in 0 s, with 2 workers" in ended.output


def test_a_spent_budget_ends_the_fleet_with_86_and_the_last_failure(tmp_path):
    ended = train(tmp_path, KILL, max_restarts=1)
    assert (ended.code, tries(tmp_path)) == (86, 2)
    [told] = [line for line in ended.output.splitlines() if "--max-restarts" in line]
    assert "restarts: 1, which is --max-restarts" in told and "killed by SIGKILL) in step 3, phase D" in told


def test_what_a_restart_cannot_cure_is_not_tried_again(tmp_path):
    ended = train(tmp_path, "raise DataError('bring back the images')", max_restarts=5)
    assert (ended.code, tries(tmp_path)) == (65, 1)


def test_an_exception_that_comes_back_in_the_same_step_is_not_tried_for_ever(tmp_path):
    ended = train(tmp_path, "raise RuntimeError('always')", max_restarts=5)
    assert (ended.code, tries(tmp_path)) == (70, 2)
    assert "rank 1 has failed in step 3, phase D for the second time" in ended.output


def test_a_fleet_that_makes_no_step_starts_again_with_fewer_ranks_if_it_may(tmp_path):
    dies = f"while len(list(Path().glob('tried-*-0'))) < 4: time.sleep(0.01)\n        {KILL}"
    script = TRAINING.replace("number = 0", f"number = 0\n    if ranks == 4 and rank == '3':\n        {dies}")
    command = launch(tmp_path, "pass", 2, script, 4, log_dir="None", max_restarts=3, min_workers=1)
    ended = run(command, tmp_path, timeout=60)
    assert ended.code == 0, ended.output
    assert "restart 1 of 3 in 1 s, with 2 workers" in ended.output
    assert [tries(tmp_path, rank) for rank in range(4)] == [2, 2, 1, 1]


def test_a_signal_between_two_attempts_ends_the_fleet_with_75(tmp_path):
    process = start(launch(tmp_path, KILL, 6, TRAINING, log_dir="None", max_restarts=9), tmp_path)
    output = ""
    while "restart 2" not in output:
        output += process.stdout.readline()
    process.send_signal(signal.SIGTERM)
    output += printed(process)
    assert process.returncode == 75 and "stopped by a signal; start again" in output


def test_the_first_rank_to_fail_is_told_first(tmp_path):
    fault = "raise RuntimeError('the cause')"
    script = TRAINING.replace("time.sleep(0.01)", "time.sleep(0.01)\n            print('the effect', flush=True)")
    ended = run(launch(tmp_path, fault, 6, script, log_dir="None"), tmp_path, timeout=60)
    assert ended.code == 70
    heading = "ganfleet: rank 1 ended first, with 70, in step 3, phase D"
    assert ended.output.index(heading) < ended.output.index("the cause")
    assert "the effect" not in ended.output.partition(heading)[0] or ended.output.rindex(
        "the effect"
    ) > ended.output.index("the cause")


def test_a_fleet_is_watched_though_nobody_reads_what_it_prints(tmp_path):
    """As behind Ctrl-S, a pager, or a frozen connection."""
    loud = TRAINING.replace("time.sleep(0.01)", "time.sleep(0.01)\n            print('x' * 10000, flush=True)")
    process = start(launch(tmp_path, f"time.sleep(1); {KILL}", 6, loud, log_dir="None"), tmp_path)
    until(lambda: psutil.Process(process.pid).children())
    until(lambda: not psutil.Process(process.pid).children())  # and only then is it read
    assert "xxx" in printed(process) and process.returncode == 69


CHILD = "import subprocess; subprocess.Popen(['sleep', '987'])"


@pytest.mark.parametrize("killed", ["rank", "launcher"])
def test_what_a_rank_has_started_ends_with_the_fleet(killed, tmp_path):
    """Though the rank itself could not see to it."""
    fault = f"{CHILD}; {KILL}" if killed == "rank" else f"{CHILD}; print('started', flush=True)"
    process = start(launch(tmp_path, fault, log_dir="None"), tmp_path)
    if killed == "launcher":
        until(lambda: any("sleep" in each.cmdline() for each in psutil.Process(process.pid).children(recursive=True)))
        process.kill()
    printed(process)
    assert survivors(tmp_path) == []


MPI = RANK.replace("MS_NODE_ID", "PMI_RANK")


def test_the_ranks_of_mpiexec_are_watched_too(tmp_path):
    ended = run(launch(tmp_path, KILL, rank=MPI, log_dir="None", backend="mpi"), tmp_path, timeout=60)
    assert ended.code == 69
    assert re.search("ranks? (0, )?1 ended without an exit code", ended.output)  # mpiexec ends the other one


def test_the_ranks_of_mpiexec_end_with_a_launcher_that_is_killed(tmp_path):
    process = start(launch(tmp_path, rank=MPI, log_dir="None", backend="mpi"), tmp_path)
    while "works" not in process.stdout.readline():
        pass
    process.kill()
    process.communicate()
    assert survivors(tmp_path) == []


# ── Several nodes


class Nodes:
    """The launchers of two nodes; here each has one rank."""

    def __init__(self, directory, fault="pass", steps=6, script=TRAINING, **options):
        self.directory, self._script = directory, script
        self._options = {"nodes": 2, "master_addr": "127.0.0.1", "master_port": free_port(), "patience": 20} | options
        self._fault, self._steps = fault, steps

    def start(self, rank):
        command = launch(
            self.directory, self._fault, self._steps, self._script, 1, "None", node_rank=rank, **self._options
        )
        script = self.directory / f"node{rank}.py"
        text = (self.directory / "launch.py").read_text()
        script.write_text(
            text.replace("supervisor.GRACE", "from ganfleet.fleet import nodes\nnodes.SILENCE = 2.5\nsupervisor.GRACE")
        )
        return start([command[0], script.name], self.directory)

    def ended(self, *processes):
        ended = [Ended(process.returncode, output) for process, output in [(p, printed(p)) for p in processes]]
        assert survivors(self.directory) == []
        return ended


def test_nodes_begin_together_though_one_is_late_and_end_together(tmp_path):
    nodes = Nodes(tmp_path)
    first = nodes.start(0)
    time.sleep(2)
    one, other = nodes.ended(first, nodes.start(1))
    assert (one.code, other.code) == (0, 0), (one, other)


@pytest.mark.parametrize("max_restarts, code", [(0, 69), (1, 0)])
def test_a_rank_that_is_lost_on_one_node_ends_or_restarts_all(max_restarts, code, tmp_path):
    begins = "rank == '0' and heartbeat.tell_run('runs/00003-a'); print(sys.argv[1:])"
    script = TRAINING.replace("number = 0\n", f"number = 0\n    {begins}\n")
    nodes = Nodes(tmp_path, f"{ONCE}{KILL}", script=script, max_restarts=max_restarts)
    one, other = nodes.ended(nodes.start(0), nodes.start(1))
    assert (one.code, other.code) == (code, code), (one, other)
    assert "rank 1 ended without an exit code (killed by SIGKILL) in step 3" in one.output
    assert [tries(tmp_path, rank) for rank in (0, 1)] == [1 + max_restarts] * 2
    for each in (one, other):
        assert each.output.count("['run.name=00003-a']") == max_restarts


def test_a_hang_on_one_node_ends_all_and_each_shows_its_ranks(tmp_path):
    nodes = Nodes(tmp_path, STOP, hang_after=1)
    ended = nodes.ended(nodes.start(0), nodes.start(1))
    for rank, each in enumerate(ended):
        assert each.code == 83
        assert "is stopped by a signal in step 3, phase D; rank 0 waits for it" in each.output
        assert (
            f"ganfleet: rank {rank} on {socket.gethostname()} is in step 3" in each.output and 'rank.py"' in each.output
        )


@pytest.mark.parametrize("killed", [0, 1])
def test_a_launcher_that_is_killed_ends_the_other_node(killed, tmp_path):
    nodes = Nodes(tmp_path, steps=10_000)
    processes = [nodes.start(0), nodes.start(1)]
    while not (tmp_path / "came-0-1-5").exists():
        time.sleep(0.05)
    processes[killed].kill()
    ended = nodes.ended(*processes)
    assert ended[1 - killed].code == 69
    assert f"node {killed}" in ended[1 - killed].output and "is gone" in ended[1 - killed].output


def test_a_node_that_does_not_come_and_a_wrong_port_end_both_in_time(tmp_path):
    nodes = Nodes(tmp_path, patience=2)
    one = nodes.start(0)
    nodes._options["master_port"] = free_port()
    one, other = nodes.ended(one, nodes.start(1))
    assert (one.code, other.code) == (69, 69)
    assert "node 1 has not come to 127.0.0.1:" in one.output
    assert f"node 0 at 127.0.0.1:{nodes._options['master_port']} does not answer" in other.output


def test_nodes_with_other_options_are_refused_on_both(tmp_path):
    nodes = Nodes(tmp_path)
    one = nodes.start(0)
    nodes._options["nodes"] = 3
    ended = nodes.ended(one, nodes.start(1))
    assert [each.code for each in ended] == [2, 2], ended
    for each in ended:
        assert "--nodes is 2 on node 0" in each.output and "but 3 on node 1" in each.output


def test_a_signal_to_one_launcher_stops_all_nodes(tmp_path):
    stops = "if Path('stop').exists(): raise Stopped('stopped, start again')"
    script = TRAINING.replace("import DataError", "import DataError, Stopped").replace(
        "        meet(", f"        {stops}\n        meet("
    )
    script = script.replace(
        "number = 0\n", "number = 0\n    signal.signal(signal.SIGTERM, lambda *_: Path('stop').touch())\n"
    )
    nodes = Nodes(tmp_path, steps=10_000, script=script)
    processes = [nodes.start(0), nodes.start(1)]
    while not (tmp_path / "came-0-1-5").exists():
        time.sleep(0.05)
    processes[1].send_signal(signal.SIGTERM)
    one, other = nodes.ended(*processes)
    assert (one.code, other.code) == (75, 75), (one, other)
    assert "ganfleet: error: node 0 says: stopped by a signal: rank " in other.output
