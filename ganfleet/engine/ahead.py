"""The graphs of the next stage, compiled by a process of its own while this one trains: growth need not wait for them.

That process (see ``warm``) leaves them where compiled graphs are kept, and this one finds them there. It trains
nothing, and works on cores that no rank of this machine has claimed; where there are none, there is no such process.
With ``fleet.shard_optimizer`` the graphs of updates are others, and compiled when the stage begins.
"""

import json
import os
import subprocess
import sys
from contextlib import suppress
from dataclasses import asdict

from ganfleet.engine import compile_cache
from ganfleet.engine.callbacks import Callback
from ganfleet.fleet import cpu
from ganfleet.nn import forms
from ganfleet.strategies.base import Stage

LOWEST = 19  # nice


class Ahead(Callback):
    """Has rank 0 start that process when a stage has made its first step, and end it with the stage."""

    def __init__(self):
        self._stage: Stage | None = None
        self._process: subprocess.Popen | None = None

    def after_step(self, run, stats):
        if run.fleet.rank or run.stage == self._stage:
            return
        self._stage = run.stage
        self._end()
        following = [stage for stage in run.strategy.schedule() if stage.starts_at > run.stage.starts_at][:1]
        cores = cpu.free()
        if following and following[0].starts_at < run.clock.total_nimg and cores and compile_cache.place():
            self._process = start(request(run, following[0]), cores)

    def at_stop(self, run):
        self._end()

    def at_end(self, run):
        self._end()

    def on_error(self, run, error):
        self._end()

    def _end(self) -> None:
        if self._process:
            self._process.kill()
            self._process.wait()
            self._process = None


def request(run, stage: Stage) -> dict:
    """What the process has to know to compile the graphs that ``run`` needs in ``stage``."""
    image, samples = run.strategy.image, run.figure(0, stage)
    return {
        "config": run.config.resolved(),
        "image": asdict(image),
        "stage": stage.name,
        "samples": {name: [list(array.shape[1:]), array.dtype.name] for name, array in samples.items()},
        "form": forms.form(),
    }


def start(wanted: dict, cores: set[int]) -> subprocess.Popen:
    """The process, on ``cores`` and after all others there. It ends with this one, however that ends."""
    environment = {name: value for name, value in os.environ.items() if name != "MS_ROLE"}  # it is no rank
    with cpu.unpinned(cores):
        process = subprocess.Popen(
            [sys.executable, "-m", "ganfleet.engine.warm", str(os.getpid())],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
    with suppress(OSError):  # it has ended already
        os.setpriority(os.PRIO_PROCESS, process.pid, LOWEST)
        process.stdin.write(json.dumps(wanted).encode())
        process.stdin.close()
    return process
