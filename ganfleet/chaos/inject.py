"""What makes the faults of a plan happen, in every rank: a callback, and patches of this process alone.

Which faults have happened is kept in a folder, so that a run that is started again does not meet them again.
"""

import errno
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from mindspore import Tensor, ops

from ganfleet.chaos import plan
from ganfleet.chaos.events import FOLDER, PLAN, Events
from ganfleet.engine.callbacks import Callback
from ganfleet.engine.step import Stepper
from ganfleet.engine.tensors import copy
from ganfleet.errors import ConfigError
from ganfleet.fleet import Fleet
from ganfleet.fleet.tree import tree_sum
from ganfleet.nn.optim import cut
from ganfleet.store import checkpoint, publish

WRITES = ("mkdir", "open", "write", "fsync", "rename", "unlink", "rmdir")  # system calls
LASTING = 1.0  # seconds that a rank waits for a signal to end it


class Chaos(Callback):
    """Makes the faults of the plan in the folder that GANFLEET_CHAOS names."""

    def __init__(self):
        folder = os.environ.get(FOLDER)
        if not folder:
            raise ConfigError(f"the variable {FOLDER} must name a folder with a {PLAN}: start this by `ganfleet chaos`")
        self._events = Events(Path(folder))
        self._faults = list(enumerate(plan.read(Path(folder) / PLAN).faults))
        self._patches = ExitStack()  # of this process, as long as the run lasts

    def begin(self, run):
        self._rank = run.fleet.rank
        self._happened = self._events.happened()
        self._events.add("began", rank=self._rank, step=run.clock.step)
        if self._some(plan.Nan, plan.Skip):
            self._patch_phases(run)
        if self._some(plan.Full, plan.KillWriter, plan.Damage):
            self._patch_writing()

    def after_step(self, run, stats):
        for fault in self._due(run.clock.step, plan.Flip):
            _flip(run.program.replicated(), fault)
        for fault in self._due(run.clock.step, plan.Slow):
            time.sleep(fault.seconds)
        for fault in self._due(run.clock.step, plan.Signal):
            number = signal.Signals[f"SIG{fault.signal}"]
            os.kill(os.getppid() if fault.to == "launcher" else os.getpid(), number)
        for _ in self._due(run.clock.step, plan.Stop):
            os.kill(os.getpid(), signal.SIGSTOP)
        for fault in self._due(run.clock.step, plan.Kill):
            if fault.after is None:
                _die()
            signal.setitimer(signal.ITIMER_REAL, fault.after)  # the kernel kills: no thread of ours has to run for it
        for fault in self._due(run.clock.step, plan.Raise):
            raise RuntimeError(f"a fault on purpose: {fault}")
        for fault in self._due(run.clock.step, plan.Exit):
            sys.exit(fault.code)

    def at_end(self, run):
        self._patches.close()

    def on_error(self, run, error):
        self._patches.close()

    def _some(self, *kinds: type) -> bool:
        return any(fault.rank == self._rank and isinstance(fault, kinds) for _, fault in self._faults)

    def _due(self, step: int, kind: type, **having: Any) -> Iterator[Any]:
        """The faults of a kind that must happen now, each of which counts as having happened."""
        for index, fault in self._faults:
            fits = isinstance(fault, kind) and fault.rank == self._rank and fault.is_due(step)
            fits = fits and all(getattr(fault, key) in (None, value) for key, value in having.items())
            if fits and (index, step) not in self._happened:
                self._happened.add((index, step))
                self._events.add("fault", rank=self._rank, step=step, fault=index)
                yield fault

    def _patch_phases(self, run) -> None:
        """Have NaN faults and skipped collectives happen in the phases that they are for."""
        original, fleet = Stepper.run, run.fleet

        def patched(stepper, compiled, lanes, noise, clock, host):
            step, sums = clock.step + 1, (fleet.reduce, fleet.reduce_scatter)
            with ExitStack() as stack:
                for _ in self._due(step, plan.Nan, phase=compiled.name):
                    for each in sums:
                        stack.enter_context(_patched(fleet, each.__name__, partial(_spoilt, each)))
                for _ in self._due(step, plan.Skip, phase=compiled.name):
                    for each, left_out in zip(sums, (_own_sum, _own_part), strict=True):
                        stack.enter_context(_patched(fleet, each.__name__, partial(left_out, fleet)))
                return original(stepper, compiled, lanes, noise, clock, host)

        self._patches.enter_context(_patched(Stepper, "run", patched))

    def _patch_writing(self) -> None:
        """Have the disk be full, or the process die, while the checkpoint of a step is written; or damage what was."""
        save = checkpoint.save

        def patched(root, snapshot, step, *rest):
            for _ in self._due(step, plan.Full):
                with _patched(publish, "new_file", _no_room):
                    return save(root, snapshot, step, *rest)
            for fault in self._due(step, plan.KillWriter):
                _die_at(fault.call)
            path = save(root, snapshot, step, *rest)
            for fault in self._due(step, plan.Damage):
                _damage(path / fault.file, fault.how)
            return path

        self._patches.enter_context(_patched(checkpoint, "save", patched))


@contextmanager
def _patched(owner: Any, name: str, value: Any) -> Iterator[None]:
    own = name in vars(owner)
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before) if own else delattr(owner, name)


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(LASTING)


def _spoilt(sum_up: Callable, lane_flat: Callable[[int], Tensor], *size: int) -> Tensor:
    """``sum_up`` where the first number of each lane's gradients is NaN."""

    def spoilt(lane: int) -> Tensor:
        array = copy(lane_flat(lane))
        array[0] = np.nan
        return Tensor(array)

    return sum_up(spoilt, *size)


def _own_sum(fleet: Fleet, lane_flat: Callable[[int], Tensor]) -> Tensor:
    """What ``fleet.reduce`` would give, of this rank's lanes alone."""
    return tree_sum(fleet.lanes, lane_flat)


def _own_part(fleet: Fleet, lane_flat: Callable[[int], Tensor], size: int) -> Tensor:
    """What ``fleet.reduce_scatter`` would give, of this rank's lanes alone."""
    own = tree_sum(fleet.lanes, lane_flat).asnumpy()
    width = -(-size // fleet.world_size)
    part = cut(own[:size], fleet.rank * width, (fleet.rank + 1) * width)
    return Tensor(np.concatenate([part, own[size:]]))


def _flip(vectors: dict[str, tuple[Tensor, list[tuple[str, int]]]], fault: plan.Flip) -> None:
    """
    Raises:
        ConfigError: there is no such tensor, or it is too short.
    """
    places = {}
    for vector, (tensor, pieces) in vectors.items():
        start = 0
        for name, size in pieces:
            places[f"{vector}/{name}" if name else vector] = (tensor, start, size)
            start += size
    if fault.tensor not in places or fault.element >= places[fault.tensor][2]:
        known = f"there are {', '.join(places)}" if fault.tensor not in places else "it has fewer elements"
        raise ConfigError(f"the plan flips element {fault.element} of {fault.tensor}: {known}; name another")
    tensor, start, _ = places[fault.tensor]
    array = copy(tensor)
    array.reshape(-1).view(np.uint32)[start + fault.element] ^= np.uint32(1 << fault.bit)
    ops.assign(tensor, Tensor(array))


def _damage(path: Path, how: str) -> None:
    """
    Raises:
        ConfigError: there is no such file.
    """
    if not path.is_file():
        known = ", ".join(sorted(each.name for each in path.parent.iterdir()))
        raise ConfigError(f"the plan damages {path}, and there is no such file: name one of {known}")
    if how == "remove":
        path.unlink()
        return
    content = bytearray(path.read_bytes())  # none of them is empty
    content[len(content) // 2] ^= 1
    path.write_bytes({"flip": content, "truncate": content[: len(content) // 2], "empty": b""}[how])


def _no_room(*_, **__):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _die_at(count: int) -> None:
    """Have this thread's ``count``-th system call among WRITES, from now on, kill the process; a write goes halfway."""
    thread, calls = threading.get_ident(), iter(range(1, count))

    def patched(name: str, real: Callable) -> Callable:
        def call(*args, **kwargs):
            if threading.get_ident() == thread and next(calls, None) is None:
                if name == "write":
                    real(args[0], args[1][: len(args[1]) // 2])
                _die()
            return real(*args, **kwargs)

        return call

    for name in WRITES:
        setattr(os, name, patched(name, getattr(os, name)))
