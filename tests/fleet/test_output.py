"""What a process prints reaches who started it, whatever becomes of the file that keeps it."""

import subprocess
import sys
import time
from pathlib import Path

from commands import small_disk
from fake_fleet import launch
from fleets import one_at_a_time, run

from ganfleet.fleet.output import TAIL, Output

pytestmark = one_at_a_time


def ended(output, code):
    """Run Python ``code`` into ``output``; all that it told at once."""
    process = subprocess.Popen([sys.executable, "-c", code], stdout=output.handle)
    output.started()
    news = b""
    while process.poll() is None:
        output.read()
        news += output.news()
        time.sleep(0.01)
    output.read()
    return news + output.news()


def test_all_of_it_is_told_and_kept_and_its_end_remembered(tmp_path):
    output = Output(tmp_path / "log")
    told = ended(output, f"for number in range({TAIL // 4}): print(number, 'and more')")
    lines = [f"{number} and more" for number in range(TAIL // 4)]
    assert told.decode().splitlines() == lines
    assert (tmp_path / "log").read_bytes() == told and output.size == len(told) > 3 * TAIL
    assert TAIL <= len(output.since(0)) < 2 * TAIL and told.endswith(output.since(0))
    assert output.lines(since=len(told) - len(lines[-1]) - 1) == lines[-1:]
    assert (output.news(), output.warning()) == (b"", None)
    output.close()


def test_a_full_disk_costs_the_log_and_not_what_is_told():
    output = Output(Path("/dev/full"))
    assert ended(output, "print('it works')") == b"it works\n"
    assert output.warning() == "cannot write /dev/full: No space left on device. It lacks what it had no room for"
    assert output.warning() is None
    output.close()


def test_ranks_whose_logs_have_no_room_go_on_and_say_so(tmp_path):
    words = "['word'] * 100_000"
    with small_disk(tmp_path / "disk", "64k") as disk:
        ended = run(launch(tmp_path, f"print(*{words})", seconds=0, log_dir=f"Path({str(disk)!r})"), tmp_path)
        assert (disk / "worker_1.log").read_text().startswith("rank 1 works\n")
    assert ended.code == 0, ended.output
    assert ended.output.splitlines()[0] == "rank 0 works"
    assert f"ganfleet: warning: cannot write {disk}/worker_1.log: No space left on device" in ended.output
