"""What a run survives, with real processes, real collectives and real signals: rows of docs/faults.md.

The oracle is the digest of a run that nothing has happened to: weights, averages, optimizers, clock and data position.
"""

import json
import os
import re
import signal
import subprocess
import tempfile
from pathlib import Path

import psutil
import pytest
from commands import ganfleet, one_error, tiny
from fake_fleet import member
from fleets import BIN, Ended, digest, free_port, newest, one_at_a_time, run, start, survivors, until, workers
from PIL import Image

pytestmark = [one_at_a_time, pytest.mark.slow]
STEPS = 40


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Where all runs of this file are, so that they share compiled graphs, and one that is their oracle."""
    folder = tmp_path_factory.mktemp("faults")
    before = Path.cwd()
    os.chdir(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(Path(__file__).parents[1]), prepend=os.pathsep)
        ended = ganfleet("train", *arguments(folder, "straight"))
        assert ended.code == 0, ended.output
        yield folder
    os.chdir(before)


def arguments(folder, name, **strategy):
    """Of a tiny run with faults as ``strategy`` says."""
    strategy = {"name": "faulty_gan:FaultyGAN", "once": f"{name}-failed"} | strategy
    options = [f"strategy.{key}={value}" for key, value in strategy.items() if value is not None]
    run = ["train.steps=40", "log.every_steps=1", "checkpoint.every_kimg=0.048", f"run.name={name}"]
    return ["--config", tiny(folder), *options, *run]


def launch(*options, to) -> list[str]:
    return [str(BIN / "ganfleet"), "launch", "-n", "2", *options, "--", *to]


def chaos(faults, command) -> list[str]:
    """``command`` while these faults happen, each once however often it is started."""
    folder = Path(tempfile.mkdtemp(dir="."))
    (folder / "faults.yaml").write_text("\n".join(["faults:", *(f"  - {{{fault}}}" for fault in faults)]))
    return [command[0], "chaos", "--plan", f"{folder}/faults.yaml", "--keep", f"{folder}/kept", "--", *command[1:]]


def same_as_straight(name) -> None:
    """The run has the bits of the one without faults, and used every sample as often."""
    assert digest(Path("runs", name)) == digest(Path("runs", "straight"))


def steps_of(name) -> list[int]:
    path = Path("runs", name, "log.jsonl")
    if not path.exists():
        return []
    return [line["step"] for line in map(json.loads, path.read_text().splitlines()) if "Loss/D" in line]


def reached(name, step) -> None:
    """Wait until a run has logged this step."""
    until(lambda: max(steps_of(name), default=0) >= step, 120)


def test_a_run_whose_ranks_and_scheduler_are_killed_reaches_its_end_with_the_same_bits(place):
    """Rows 1, 2 and 4."""
    words = arguments(place, "killed", seconds=0.2)
    process = start(launch("--max-restarts", "3", "--log-dir", "killed-logs", to=words), place)
    for step, role, rank in ((6, "MS_WORKER", 1), (15, "MS_WORKER", 0), (24, "MS_SCHED", 0)):
        reached("killed", step)
        victim = member(process, role, rank)
        victim.kill()
        others = [each for each in psutil.Process(process.pid).children() if each.pid != victim.pid]
        _, left = psutil.wait_procs(others, timeout=5)
        assert not left, f"{left} outlive rank {rank} by 5 s"
    output = process.communicate(timeout=120)[0]
    assert process.returncode == 0, output
    assert output.count("from the newest checkpoint that is valid") == 3
    assert re.search(r"rank 1 ended without an exit code \(killed by SIGKILL\) in step \d+, ", output)
    same_as_straight("killed")
    assert survivors(place) == []


def test_a_launcher_that_is_killed_leaves_nobody_and_a_start_at_once_goes_on(place):
    """Rows 3 and 26."""
    words = arguments(place, "orphaned", seconds=0.2)
    first = start(launch(to=words), place)
    reached("orphaned", 8)
    ranks = psutil.Process(first.pid).children()
    first.kill()
    second = start(launch(to=words), place)
    assert psutil.wait_procs(ranks, timeout=5)[1] == []
    first.communicate()
    output = second.communicate(timeout=120)[0]
    assert second.returncode == 0, output
    assert "resumed from" in output
    steps = steps_of("orphaned")
    assert steps == sorted(set(steps))  # one writer only
    same_as_straight("orphaned")


def test_a_rank_that_is_stopped_by_a_signal_is_named_and_the_run_starts_again(place):
    """Row 9. Nobody has given the run a name; the restart finds it all the same."""
    words = [*arguments(place, "frozen", fault="stop", at=5, until=5), "run.name=null"]
    ended = run(launch("--max-restarts", "1", "--hang-after", "3", to=words), place)
    assert ended.code == 0, ended.output
    assert re.search(r"rank 1 on \S+ is stopped by a signal in step 6, phase D; rank 0 waits for it", ended.output)
    shown = re.search(r"ganfleet: rank 1 on \S+ is in step 6, phase D; its threads:(.*)", ended.output, re.DOTALL)
    assert "faulty_gan.py" in shown[1]
    [made] = Path("runs").glob("0*")
    same_as_straight(made.name)


def test_a_fleet_with_a_stopped_rank_heeds_sigterm(place):
    """Row 27."""
    words = arguments(place, "both", fault="stop", at=5, until=5)
    process = start(launch(to=words), place)
    reached("both", 5)
    until(lambda: member(process, "MS_WORKER", 1).status() == psutil.STATUS_STOPPED)
    process.send_signal(signal.SIGTERM)
    output = process.communicate(timeout=60)[0]
    assert process.returncode == 75, output
    ended = ganfleet("train", *words)
    assert ended.code == 0, ended.output
    same_as_straight("both")


def test_a_collective_that_one_rank_skips_is_named(place):
    """Row 10."""
    ended = run(launch(to=arguments(place, "skips", fault="skip", at=5, until=5)), place)
    assert ended.code == 83, ended.output
    told = "rank 0 is at the sum of step 6, phase G, but rank 1 is at the gathering of step 6, Checkpoints"
    assert told in ended.output


def test_a_rank_that_fails_alone_is_told_first_with_its_place(place):
    """Row 11; for row 12 see tests/fleet."""
    ended = run(workers(2, *arguments(place, "raise", fault="raise", at=5, until=5)), place)
    assert ended.code == 70
    assert "ganfleet: rank 1 ended first, with 70, in step 6, phase D" in ended.output
    assert "RuntimeError: this rank alone" in ended.output


def test_a_slow_rank_is_named_and_sigusr1_saves_and_neither_changes_a_bit(place):
    """Row 22."""
    words = [*arguments(place, "slow", fault="slow", at=2, until=100, once=None), "checkpoint.every_kimg=100"]
    process = start(launch(to=words), place)
    output = ""
    while "slow" not in output and (line := process.stdout.readline()):
        output += line
    assert "warning: rank 1 on" in output and steps_of("slow")[-1] <= 2 + 20
    process.send_signal(signal.SIGUSR1)
    until(lambda: list(Path("runs/slow/checkpoints").glob("step-*")), 30)
    assert newest(Path("runs/slow")).facts["clock"]["step"] < STEPS and process.poll() is None
    output += process.communicate(timeout=120)[0]
    assert process.returncode == 0, output
    same_as_straight("slow")


def test_a_run_that_meets_one_fault_after_another_ends_with_the_bits_of_none(place, monkeypatch):
    """Rows 25, 14, 16 and 17, 7, 18, 21: each ends two ranks with its code, and the next start goes on."""
    words, run_dir = [*arguments(place, "unlucky"), "train.nonfinite_budget=1"], Path("runs/unlucky")
    faults = [
        "do: slow, step: 1, until: 9, seconds: 0.3",
        "do: nan, rank: 1, step: 19, until: 20",
        "do: full, step: 33",
    ]
    command = chaos(faults, launch("--max-restarts", "3", to=words))

    process = start(command, place)
    reached("unlucky", 1)
    assert "runs/unlucky is in use: process" in one_error(ganfleet("train", *words), 73)
    output = process.communicate(timeout=120)[0]
    assert "more than train.nonfinite_budget 1" in one_error(Ended(process.returncode, output), 80)
    assert newest(run_dir).facts["clock"]["step"] == 18

    harm(run_dir, 18, "D.optimizer.safetensors", flip)
    harm(run_dir, 15, "G.weights.safetensors", Path.unlink)
    monkeypatch.setenv("GANFLEET_CALLBACKS", "faulty_gan:SlowDisk")
    process = start(command, place)
    until(lambda: unfinished(run_dir), 120)
    process.send_signal(signal.SIGTERM)
    assert unfinished(run_dir)
    output = process.communicate(timeout=120)[0]
    one_error(Ended(process.returncode, output), 75)
    assert "step-00000018/D.optimizer.safetensors is damaged" in output
    assert "step-00000015/G.weights.safetensors is missing" in output
    assert "resumed from runs/unlucky/checkpoints/step-00000012" in output
    assert not unfinished(run_dir)
    monkeypatch.delenv("GANFLEET_CALLBACKS")

    ended = run(command, place)
    told = one_error(ended, 74)
    assert "No space left on device" in told and "restart 1" not in ended.output
    assert newest(run_dir).facts["clock"]["step"] == 30

    ended = ganfleet("train", *words)
    assert ended.code == 0 and "resumed from runs/unlucky/checkpoints/step-00000030" in ended.output, ended.output
    same_as_straight("unlucky")
    assert len(steps_of("unlucky")) == STEPS

    assert "train.seed was 3, is 4" in one_error(ganfleet("train", *words, "train.seed=4"), 85)
    same_as_straight("unlucky")


def test_a_run_without_a_whole_checkpoint_ends_two_ranks_with_65(place):
    """Rows 16 and 17."""
    words = arguments(place, "damaged")
    assert ganfleet("train", *words, "train.steps=6").code == 0
    harm(Path("runs/damaged"), 3, "state.json", Path.unlink)
    harm(Path("runs/damaged"), 6, "G.ema.safetensors", flip)
    told = one_error(run(launch("--max-restarts", "3", to=words), place), 65)
    assert "None of the 2 checkpoints in runs/damaged/checkpoints is valid" in told


def harm(run_dir, step, file, how) -> None:
    how(run_dir / "checkpoints" / f"step-{step:08d}" / file)


def flip(path) -> None:
    """Flip one bit of a file."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def unfinished(run_dir) -> list[Path]:
    return list((run_dir / "checkpoints").glob(".tmp-*"))


def test_a_fleet_that_makes_no_step_goes_on_with_fewer_ranks_to_the_same_bits(place):
    """Rank 1 dies in the fifth step, as often as there is one."""
    words = arguments(place, "fewer", fault="kill", at=4, until=4, once=None)
    assert ganfleet("train", *words, "train.steps=4").code == 0
    ended = run(launch("--max-restarts", "1", "--min-workers", "1", to=words), place)
    assert ended.code == 0, ended.output
    assert "restart 1 of 1 in 1 s, with 1 workers" in ended.output
    same_as_straight("fewer")


def test_mpi_is_watched_and_restarted_too(place):
    """And a kill after a step, while the next ones are made."""
    command = launch("--backend", "mpi", "--max-restarts", "1", to=arguments(place, "mpi"))
    ended = run(chaos(["do: kill, rank: 1, step: 5, after: 0.02"], command), place)
    assert ended.code == 0, ended.output
    assert re.search("ranks? (0, )?1 ended without an exit code", ended.output)  # mpiexec ends the other one
    same_as_straight("mpi")


# ── Two hosts


@pytest.fixture
def hosts(tmp_path):
    """Two hosts with a network between them, as namespaces; gives the words that run a command on either."""
    if os.getuid() or not Path("/usr/bin/unshare").exists() or run(["unshare", "-nmu", "true"], tmp_path).code:
        pytest.skip("network namespaces need root and unshare")
    ip = ["ip"]
    names = [f"gf{os.getpid()}{side}" for side in "ab"]
    made = [run([*ip, "netns", "add", name], tmp_path).code for name in names]
    if any(made):
        pytest.skip("no network namespace can be made here")
    commands = [["link", "add", "veth0", "netns", names[0], "type", "veth", "peer", "name", "veth0", "netns", names[1]]]
    for i, name in enumerate(names):
        commands += [
            ["-n", name, "addr", "add", f"10.213.77.{i + 1}/24", "dev", "veth0"],
            ["-n", name, "link", "set", "veth0", "up"],
            ["-n", name, "link", "set", "lo", "up"],
        ]
    for words in commands:
        ended = run([*ip, *words], tmp_path)
        assert ended.code == 0, ended.output
    yield Hosts(names)
    for name in names:
        run([*ip, "netns", "delete", name], tmp_path)


class Hosts:
    def __init__(self, names):
        self.names, self.port = names, free_port()

    def start(self, rank, place, words, *options, before="true"):
        """``ganfleet launch`` with one rank on a host called node0 or node1, after ``before`` has been run there."""
        settings = ["-n", "1", "--nodes", "2", "--node-rank", str(rank), "--master-addr", "10.213.77.1"]
        settings += ["--master-port", str(self.port), *options]
        shell = f'hostname node{rank} && {before} && exec "$@"'
        inside = ["ip", "netns", "exec", self.names[rank], "unshare", "-mu", "sh", "-c", shell, "sh"]
        return start([*inside, str(BIN / "ganfleet"), "launch", *settings, "--", *words], place)

    def link(self, state):
        subprocess.run(["ip", "-n", self.names[0], "link", "set", "veth0", state], check=True)


def both(processes):
    outputs = [process.communicate(timeout=180)[0] for process in processes]
    return [process.returncode for process in processes], outputs


def test_a_link_that_breaks_ends_both_hosts_and_a_restart_joins_them_again(place, hosts):
    """Row 23."""
    words = arguments(place, "hosts", seconds=0.2)
    processes = [hosts.start(rank, place, words, "--max-restarts", "2") for rank in (0, 1)]
    reached("hosts", 6)
    hosts.link("down")
    before = [each for process in processes for each in psutil.Process(process.pid).children()]
    assert before and psutil.wait_procs(before, timeout=30)[1] == []  # silence, and the end
    hosts.link("up")
    codes, outputs = both(processes)
    assert codes == [0, 0], outputs
    same_as_straight("hosts")


def test_a_host_that_is_late_or_comes_to_a_wrong_port_ends_on_both_in_time(place, hosts):
    """Row 23."""
    words, wait = arguments(place, "nobody"), ("--wait", "3")
    late = []
    for rank in (0, 1):  # the second host comes when the first has gone
        late += [ended_in_time(hosts.start(rank, place, words, *wait))]
    port = str(free_port())
    processes = [hosts.start(0, place, words, *wait), hosts.start(1, place, words, *wait, "--master-port", port)]
    wrong = [ended_in_time(process) for process in processes]
    for first, second in (late, wrong):
        assert f"node 1 has not come to 10.213.77.1:{hosts.port} in 3 s" in one_error(first, 69)
        assert "node 0 at 10.213.77.1:" in one_error(second, 69) and "does not answer" in second.output
    assert f"10.213.77.1:{port} does not answer" in wrong[1].output
    assert not Path("runs/nobody").exists()


def ended_in_time(process) -> Ended:
    output = process.communicate(timeout=30)[0]  # 3 of them to wait, the others to start
    return Ended(process.returncode, output)


def test_what_only_one_host_has_is_refused_on_both(place, hosts):
    """Data that are not on the second host, and a run directory that the hosts do not share."""
    (place / "images").mkdir()
    for seed in range(40):
        Image.new("RGB", (8, 8), (seed * 6, 0, 0)).save(place / "images" / f"{seed}.png")
    words = [*arguments(place, "refused"), "data.source=folder", f"data.path={place}/images"]
    hidden = f"mount -t tmpfs none {place}/images"
    codes, outputs = both([hosts.start(0, place, words), hosts.start(1, place, words, before=hidden)])
    assert codes == [2, 2], outputs
    for output in outputs:
        assert "rank 1 on node1" in output and f"{place}/images" in output
    assert not Path("runs/refused").exists()

    words = arguments(place, "apart")
    hidden = f"mount -t tmpfs none {place}/runs"
    codes, outputs = both([hosts.start(0, place, words), hosts.start(1, place, words, before=hidden)])
    assert codes == [2, 2], outputs
    for output in outputs:
        assert f"rank 1 on node1: {place}/runs/apart is not the folder that rank 0 writes to" in output
    assert not Path("runs/apart").exists()
