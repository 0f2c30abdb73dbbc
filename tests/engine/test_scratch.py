"""Folders of processes that were killed do not pile up, and nobody's is taken away."""

import subprocess
import sys
import tempfile

from ganfleet.engine.scratch import scratch

OTHER = """\
import os, signal, sys
from ganfleet.engine.scratch import scratch
print(scratch("mine-"), flush=True)
sys.stdin.readline()
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_the_next_process_removes_what_a_killed_one_left_and_nothing_that_is_in_use(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    (tmp_path / "mine-of-another-program").mkdir()
    words = [sys.executable, "-c", OTHER]
    others = [subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    killed, living = ([each.stdout.readline().strip(), each] for each in others)
    killed[1].communicate("\n")
    mine = scratch("mine-")
    assert {str(each) for each in tmp_path.iterdir()} == {living[0], str(mine), f"{tmp_path}/mine-of-another-program"}
    living[1].communicate("\n")
    again = scratch("mine-")
    assert {each.name for each in tmp_path.iterdir()} == {mine.name, again.name, "mine-of-another-program"}
