"""The process that takes the stubs for CANN: it compiles each graph of each stage of one config, and says where it is.

It runs as rank 0 of a fleet of ``world_size``. MindSpore's lines between two of its own say what became of the graphs.
"""

import functools
import json
import os
import signal
import sys
import traceback
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import replace

import numpy as np

from ganfleet.ascend.lines import mark
from ganfleet.errors import GanfleetError
from ganfleet.fleet import launcher

CLASSES = 10  # of labels, where there are no data to say how many


def main() -> None:
    wanted = json.load(sys.stdin)
    launcher.end_with(wanted["parent"], signal.SIGKILL)

    def tell(**what) -> None:
        # At once, and in one piece: MindSpore's own lines come between.
        os.write(2, mark(wanted["nonce"], what))

    try:
        _check(wanted, tell)
    except GanfleetError as error:
        tell(event="refused", message=str(error))
    except Exception as error:
        trace = "".join(traceback.format_exception(error))
        tell(event="failed", message=_reason(error), trace=trace)
    else:
        tell(event="done")


def _reason(error: Exception) -> str:
    """What MindSpore's errors say before they come to its C++ stack."""
    text = str(error).partition("\n----")[0].strip()
    return f"{type(error).__name__}: {text.splitlines()[0] if text else ''}"


def _check(wanted: dict, tell: Callable) -> None:
    from ganfleet.fleet import Launcher, connect, start_mindspore

    ms = start_mindspore()
    tell(event="device", name=ms.get_context("device_target"))
    if ms.get_context("device_target") != "Ascend":
        return
    from ganfleet import config as configs

    if wanted["controls"]:
        from ganfleet.ascend import controls

        controls.run(tell)
    config = configs.load(wanted["path"], wanted["overrides"]) if wanted["path"] else _of(wanted)
    size = wanted["world_size"]
    started = Launcher("msrun", size, 0, 0) if size > 1 else Launcher()
    connect(config.fleet, config.train.lanes, started).close()
    # Again, as a process does that trains and then draws samples.
    with connect(config.fleet, config.train.lanes, started) as fleet:
        tell(event="connected", backend=fleet.backend, lanes=len(fleet.lanes), shards=fleet.shards_optimizer)
        _compile(config, fleet, tell)


def _of(wanted: dict):
    """The config of a strategy that is named without one."""
    from ganfleet.config import Config

    lanes = max(2, wanted["world_size"])
    given = {
        "strategy": {"name": wanted["strategy"]},
        "data": {"source": "given"},
        "train": {"batch_size": 4 * lanes, "lanes": lanes},
    }
    return Config.from_dict(given, *wanted["overrides"])


def _compile(config, fleet, tell: Callable) -> None:
    """Run each stage of the config's schedule for two steps in which every phase is due, and draw samples."""
    from ganfleet.clock import Clock
    from ganfleet.engine.loss_scale import loss_scales
    from ganfleet.engine.program import Program
    from ganfleet.engine.run import new_strategy
    from ganfleet.engine.sampler import CHUNK, Sampler, seeded
    from ganfleet.engine.step import HOST_VALUES
    from ganfleet.fleet import Fleet

    image, source = _data(config)
    strategy = new_strategy(config, image)
    copies, sent = _Copies(), _Sent()
    for stage in strategy.schedule():
        tell(event="section", stage=stage.name, section="build")
        program = Program(strategy, stage, config.train.seed, config.train.precision, config.train.recompute, fleet)
        for compiled in program.phases:
            compiled.phase = replace(compiled.phase, every=1, due=None)
        names = (compiled.name for compiled in program.phases)
        scales = loss_scales(names, config.train.precision, fleet.total_lanes)
        memory = {lane: {} for lane in fleet.lanes}
        watching = _watching(tell, stage.name, copies, sent.calls)
        stepper = watching(program, fleet, config.train.seed, memory, scales, ahead=False)
        samples = [_samples(strategy, stage, image, source, config.train.lanes) for _ in fleet.lanes]
        clock = Clock(10**12, nimg=stage.starts_at)
        for step in ("compiled", "second step"):
            stepper.watches = step == "compiled"
            sent.calls.clear()
            if not stepper.watches:
                tell(event="section", stage=stage.name, section=step)
            with copies.counted() as counted:
                outcome = stepper.step(samples, clock, np.zeros(HOST_VALUES, np.float32))
                waits = counted.count  # of the second step, whose next could begin now
                outcome.read()
            if stepper.watches:
                strays = [name for name, _ in sent.calls]
        tell(
            event="step", stage=stage.name, waits=waits, copies=counted.count, prepared=counted.prepared, strays=strays
        )
        stepper.close()
        tell(event="section", stage=stage.name, section="resume")
        program.load(program.tensors())
        if not strategy.samples_data:
            tell(event="section", stage=stage.name, section="samples")
            # Alone: ranks share images as pickled objects, of which a dry run would give back zeros.
            Sampler(program).images([seeded(strategy, clock, seed) for seed in range(CHUNK)], clock, Fleet(1))
        tell(event="section", stage=stage.name, section="end")


def _data(config):
    """What an image is, and where samples come from; None where the data are not there."""
    from ganfleet.document import expanded
    from ganfleet.engine.run import data_of
    from ganfleet.strategies.base import ImageSpec

    path = getattr(config.data, "path", None)
    if config.data.source == "given":
        return ImageSpec(3, CLASSES), None
    if path and not expanded(path, "data.path").exists():
        return ImageSpec(getattr(config.data, "channels", None) or 3), None
    source = data_of(config)
    return ImageSpec(source.channels, source.classes, source.text), source


def _samples(strategy, stage, image, source, lanes: int) -> dict[str, np.ndarray]:
    """A lane's real samples, all zeros."""
    from ganfleet.data.loader import to_network
    from ganfleet.size import Size
    from ganfleet.strategies.captions import CaptionOptions, text_of

    n = stage.batch_size // lanes
    if source is not None:
        sample = {name: to_network(array) for name, array in source.at(stage.resolution)[0].items()}
    else:
        sample = {name: np.zeros((image.channels, *Size.of(stage.resolution)), np.float32) for name in strategy.reads}
        if image.classes:
            sample["label"] = np.zeros((), np.int32)
        if isinstance(strategy.options, CaptionOptions):
            text = text_of(strategy.options, image)
            sample["text"] = np.zeros((text.tokens, text.features), np.float32)
            sample["text_mask"] = np.zeros(text.tokens, np.float32)
    return {name: np.zeros((n, *array.shape), array.dtype) for name, array in sample.items()}


def _watching(tell: Callable, stage: str, copies, calls: list):
    """A Stepper that tells which phase it runs, what that took of memory, and what of ``calls`` it sent."""
    from ganfleet.engine.step import Stepper

    class Watching(Stepper):
        watches = True

        def step(self, *arguments):
            if self.watches:
                tell(event="section", stage=stage, section="step")
            return super().step(*arguments)

        def run(self, compiled, *arguments):
            if not self.watches:
                if compiled.phase.prepare is not None and not compiled.phase.on_device:
                    copies.prepared += sum(len(lane.kept) for lane in arguments[0].values())
                return super().run(compiled, *arguments)
            tell(event="section", stage=stage, section=compiled.name)
            before = len(calls)
            summary = super().run(compiled, *arguments)
            sent = calls[before:]
            del calls[before:]
            tell(event="section", stage=stage, section="step")  # where uploads for the next phase belong
            size = self.peaks.get(compiled.name, 0)
            planned = compiled.player.collectives
            tell(event="phase", stage=stage, section=compiled.name, sent=sent, planned=planned, bytes=size)
            return summary

    return Watching


class _Hook:
    """Hears of calls, but not of those that one of them makes in turn."""

    _is_inside = False

    def _outermost(self, own: Callable, note: Callable) -> Callable:
        """``own``, which first tells ``note`` its arguments."""

        @functools.wraps(own)
        def noted(*arguments, **keywords):
            if self._is_inside:
                return own(*arguments, **keywords)
            note(arguments)
            self._is_inside = True
            try:
                return own(*arguments, **keywords)
            finally:
                self._is_inside = False

        return noted


class _Sent(_Hook):
    """Notes each collective that is called outside a graph: the operator's name, and its bytes.

    MindSpore's log does not: it names a kernel only when the first call for a shape chooses it.
    """

    def __init__(self):
        from mindspore import mint, ops
        from mindspore.communication import comm_func
        from mindspore.ops.operations import comm_ops

        self.calls: list[list] = []
        for operator in vars(comm_ops).values():
            if isinstance(operator, type) and issubclass(operator, ops.Primitive) and operator is not ops.Primitive:
                operator.__call__ = self._noting(operator.__name__, operator.__call__)
        for module in (comm_func, mint.distributed):
            for name in module.__all__:
                if any(word in name for word in ("reduce", "gather", "scatter", "all_to_all", "broadcast", "barrier")):
                    setattr(module, name, self._noting(name, getattr(module, name)))

    def _noting(self, name, own):
        def note(arguments):
            size = sum(int(each.size) * each.itemsize for each in arguments if hasattr(each, "itemsize"))
            self.calls.append([name, size])

        return self._outermost(own, note)


class _Copies(_Hook):
    """Counts how often the host asks for a tensor's values or for the device's end, both of which it waits for.

    ``prepared`` is how many of these the engine makes to give phases' ``prepare`` what earlier phases kept, where
    these are not ``on_device``.
    """

    ASKS = ("asnumpy", "item", "tolist", "data_sync", "get_bytes", "move_to", "numpy", "__bool__", "__float__")
    ASKS += ("__int__", "__index__", "__array__", "__repr__", "__str__", "__format__", "__reduce_ex__")

    def __init__(self):
        import mindspore as ms
        from mindspore import runtime

        self.count = self.prepared = 0
        asks = [(ms.Tensor, name) for name in self.ASKS]
        asks += [(each, "synchronize") for each in (runtime, ms.hal, runtime.Stream, runtime.Event)]
        for owner, name in asks:
            if hasattr(owner, name):
                setattr(owner, name, self._counting(getattr(owner, name)))

    @contextmanager
    def counted(self):
        self.count = self.prepared = 0
        yield self

    def _counting(self, own):
        def count(_):
            self.count += 1

        return self._outermost(own, count)


if __name__ == "__main__":
    main()
    sys.stdout.flush()
    os._exit(0)  # MindSpore's own exit may take seconds, and would release a device that there is not
