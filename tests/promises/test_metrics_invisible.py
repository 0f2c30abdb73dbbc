"""Metrics have the same bits from one process and from a real fleet, killed half-way or not."""

import json
import os
import signal

import pytest
from commands import ganfleet
from fleets import BIN, free_port, run, start, survivors, until

TINY = """\
strategy: {name: gan, resolution: 8, latent: 8, hidden: [16]}
data: {source: embedded}
train: {steps: 2, batch_size: 16, lanes: 2}
log: {samples: 4}
"""
MEASURE = ["--checkpoint", "runs/tiny", "--count", "40", "--real-count", "40", "--metrics", "fid,kid,pr"]


def fleet(ranks):
    where = ["--log_dir=logs", "--join=True", f"--master_port={free_port()}"]
    return [str(BIN / "msrun"), f"--worker_num={ranks}", f"--local_worker_num={ranks}", *where, str(BIN / "ganfleet")]


@pytest.mark.slow
def test_a_fleet_that_is_killed_and_one_process_find_the_same_numbers(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.yaml").write_text(TINY)
    assert ganfleet("train", "--config", "tiny.yaml", "run.name=tiny").code == 0

    def kept(cache):
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / cache))
        return lambda: list((tmp_path / cache / "ganfleet" / "features").glob("*/*"))

    there = kept("one")
    ended = ganfleet("evaluate", *MEASURE)
    assert ended.code == 0, ended.output
    assert there()

    there = kept("two")
    process = start([*fleet(2), "evaluate", *MEASURE], tmp_path)
    until(lambda: len(there()) >= 2, seconds=120)
    os.killpg(process.pid, signal.SIGKILL)  # msrun, its scheduler and what shows the output; ranks are in other groups
    process.communicate()
    assert survivors(tmp_path) == []
    begun = {path: path.stat().st_mtime_ns for path in there() if not path.name.startswith(".")}
    assert run([*fleet(2), "evaluate", *MEASURE], tmp_path).code == 0
    assert {path: path.stat().st_mtime_ns for path in begun} == begun  # they were read, not made again

    records = [json.loads(line) for line in (tmp_path / "runs/tiny/metrics.jsonl").read_text().splitlines()]
    assert len(records) == 2 and records[0] == records[1]
    assert len(records[0]["metrics"]) == 5
