"""Which cores a rank is bound to, and that it gives them back."""

import errno
import os
import socket
import subprocess
import sys
import threading
import uuid
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest

from ganfleet.data.threads import leave_pinned_core
from ganfleet.errors import ConfigError
from ganfleet.fleet import cpu

ALL = set(range(os.cpu_count()))
needs_cores = pytest.mark.skipif(len(ALL) < 2, reason="needs two cores")

# A process that may use the cores argv[2:], pins itself to one, says which, and stays until its input ends. What other
# fleets of this machine have claimed does not count.
PIN = """
import os, sys
from ganfleet.fleet import cpu
cpu.NAME = sys.argv[1]
os.sched_setaffinity(0, map(int, sys.argv[2:]))
cpu.pin(1)
print(*os.sched_getaffinity(0), flush=True)
sys.stdin.read()
"""


@pytest.fixture
def free():
    """A process that may use every core, as one that nobody has pinned."""
    before, pins = os.sched_getaffinity(0), cpu._pinned[:]
    cpu._pinned.clear()
    os.sched_setaffinity(0, ALL)
    yield
    os.sched_setaffinity(0, before)
    cpu._pinned[:] = pins


@pytest.fixture
def started(free):
    """Starts a process that pins itself to one of the given cores; (the process, its core)."""
    processes, name = [], uuid.uuid4().hex

    def start(*cores):
        command = [sys.executable, "-c", PIN, name, *map(str, cores)]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        processes.append(process)
        return process, int(process.stdout.readline())

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def test_the_cores_are_given_back_to_this_thread_and_those_started_since(free):
    done = threading.Event()
    with cpu.pin(1) as pinned, ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(lambda: (done.wait(), os.sched_getaffinity(0))[1])
        assert os.sched_getaffinity(0) == pinned.cores and len(pinned.cores) == 1
        pinned.release()
        done.set()
        assert waiting.result() == ALL
    assert os.sched_getaffinity(0) == ALL


def test_a_pin_inside_another_gives_back_the_cores_of_that_one(free):
    with cpu.pin(1) as outer:
        with cpu.pin(1):
            pass
        assert os.sched_getaffinity(0) == outer.cores
    assert os.sched_getaffinity(0) == ALL


@needs_cores
def test_only_cores_that_the_process_was_given_are_chosen(free):
    """As taskset, numactl and msrun give them."""
    os.sched_setaffinity(0, {1})
    with cpu.pin(1, local_rank=4) as pinned:
        assert pinned.cores == {1}
        with ThreadPoolExecutor(1, initializer=leave_pinned_core) as pool:
            assert pool.submit(os.sched_getaffinity, 0).result() == {1}
    with pytest.raises(ConfigError, match="cpu_threads is 2, but this process may use 1 cores"):
        cpu.pin(2)


@needs_cores
def test_threads_that_decode_leave_the_pinned_core(free):
    with cpu.pin(1), ThreadPoolExecutor(1, initializer=leave_pinned_core) as pool:
        assert pool.submit(os.sched_getaffinity, 0).result() == ALL


@needs_cores
def test_processes_started_apart_take_different_cores_and_share_when_none_is_left(started):
    first, second, third, fourth = (started(0, 1)[1] for _ in range(4))
    assert {first, second} == {third, fourth} == {0, 1}


@needs_cores
def test_the_core_of_a_process_that_was_killed_is_free_again(started):
    killed, core = started(0, 1)
    started(0, 1)
    killed.kill()
    killed.wait()
    assert started(0, 1)[1] == core


@needs_cores
def test_an_empty_core_is_taken_before_one_that_is_claimed_out_of_turn(started):
    """Of three processes, the one that shares a core is left alone when the other two have ended."""
    first, second, third = (started(0, 1) for _ in range(3))
    for process, _ in (first, second):
        process.kill()
        process.wait()
    assert started(0, 1)[1] != third[1]


@needs_cores
def test_processes_that_start_at_once_take_different_cores(started):
    with ThreadPoolExecutor(4) as pool:
        cores = [core for _, core in pool.map(lambda _: started(0, 1), range(4))]
    assert sorted(cores) == [0, 0, 1, 1]


@needs_cores
def test_where_no_core_can_be_claimed_a_rank_takes_those_of_its_number(free, monkeypatch):
    """As in a sandbox that allows no sockets with names."""

    class NoNames(socket.socket):
        def bind(self, name):
            raise PermissionError(errno.EPERM, "not permitted")

    monkeypatch.setattr(socket, "socket", NoNames)
    monkeypatch.setattr(cpu, "_claims", Counter)  # nor have others any
    with cpu.pin(1, local_rank=1) as pinned:
        assert pinned.cores == {sorted(ALL)[1]}


@pytest.mark.skipif(not hasattr(os, "SCHED_BATCH"), reason="needs Linux")
def test_in_turn_new_threads_wait_for_running_ones_until_it_ends(free):
    """MindSpore's network thread must not overtake the thread that starts it."""
    policies, ends = {}, threading.Event()

    def work():
        policies["new"] = os.sched_getscheduler(0)
        policies["id"] = threading.get_native_id()
        ends.wait(10)

    with cpu.pin(1) as pinned:
        with cpu.in_turn():
            policies["main"], cores = os.sched_getscheduler(0), os.sched_getaffinity(0)
            thread = threading.Thread(target=work)
            thread.start()
            while "id" not in policies:
                pass
        assert (policies["main"], policies["new"], cores) == (os.SCHED_BATCH, os.SCHED_BATCH, ALL)
        assert os.sched_getscheduler(0) == os.sched_getscheduler(policies["id"]) == os.SCHED_OTHER
        assert os.sched_getaffinity(0) == pinned.cores
    ends.set()
    thread.join()
