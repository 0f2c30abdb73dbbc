"""For authors of strategies: train on simulated fleets, on fake images, and check what ganfleet promises of every GAN.

All of it runs in this process and leaves no file. Checks raise AssertionError, which says what differs and why.
"""

import json
import random
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Any

import mindspore as ms
import numpy as np
from mindspore import nn, ops

from ganfleet import config as configs
from ganfleet import rng, strategies
from ganfleet.data import as_source
from ganfleet.document import Document
from ganfleet.engine import contract
from ganfleet.engine.callbacks import Callback
from ganfleet.engine.schedule import check_schedule
from ganfleet.engine.trainer import Trainer
from ganfleet.errors import GanfleetError
from ganfleet.fleet import SimulatedFleet, check_lanes, cpu, subnormals
from ganfleet.size import Size
from ganfleet.store import checkpoint
from ganfleet.store.checkpoint import Difference, Snapshot
from ganfleet.strategies.base import ImageSpec, Strategy

TRAIN = {"batch_size": 8, "lanes": 4, "seed": 0, "audit_every": 0, "nonfinite_budget": 0}
SHOWN = 3  # of a list of differences
IMAGES = 4  # drawn after a simulation


class FakeImages:
    """A source of ``count`` images of noise at any resolution, with the labels 0 to ``classes`` − 1 in turn.

    ``names`` are those of the images in a sample: ("image_a", "image_b") are two domains. ``classes=0``: no labels.
    """

    def __init__(self, channels: int = 1, classes: int = 10, count: int = 64, names: Sequence[str] = ("image",)):
        self.channels, self.classes, self.names = channels, classes, tuple(names)
        self._count, self._size = count, Size(0, 0)

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        """uint8 images (channels, height, width), and ``label`` int32 ()."""
        shape = (self.channels, *self._size)
        sample = {
            name: rng.stream(0, f"fake/{name}", index).integers(0, 256, shape, dtype=np.uint8) for name in self.names
        }
        return sample | {"label": np.int32(index % self.classes)} if self.classes else sample

    def at(self, resolution: int | Size) -> "FakeImages":
        view = FakeImages(self.channels, self.classes, self._count, self.names)
        view._size = Size.of(resolution)
        return view


@dataclass
class Simulation:
    """A run that has ended.

    Attributes:
        snapshot: all that training changed, as a checkpoint holds it.
        stats: of each step, what the log would say, such as ``Loss/D``.
        draws: for each (step, lane), what ``Strategy.draw`` gave, phase after phase: name → the array's bytes.
        changed: the names of the strategy's attributes that training changed.
    """

    snapshot: Snapshot
    stats: list[dict[str, np.ndarray]]
    draws: dict[tuple[int, int], list[dict[str, bytes]]]
    changed: list[str]
    _trainer: Trainer = field(repr=False)

    @property
    def digest(self) -> str:
        """A SHA-256 of all that training changed."""
        return checkpoint.digest(self.snapshot)["total"]

    @cached_property
    def images(self) -> np.ndarray:
        """Float32 images (4, channels, height, width) in [-1, 1] of the averaged weights."""
        return self._trainer.sample(list(range(IMAGES)))


def simulate(
    strategy: type[Strategy] | str,
    world_size: int = 1,
    steps: int = 4,
    *,
    options: dict[str, Any] | None = None,
    source: Any = None,
    resumed_from: Snapshot | None = None,
    **train: Any,
) -> Simulation:
    """Train ``strategy`` for ``steps`` steps on ``world_size`` simulated ranks.

    As on a real fleet, each rank has a strategy object of its own, whose ``draw`` and ``prepare`` see its lanes alone.

    Args:
        strategy: the class, or the name a config would give.
        options: what a config would have under ``strategy:``. Choose them small; most of the time is compilation.
        source: see ``ganfleet.data.as_source``; by default ``FakeImages()``.
        resumed_from: where to go on, the snapshot of another simulation.
        train: keys of a config's ``train:`` section; 4 lanes with batches of 8, and no update may be skipped.

    Raises:
        ConfigError: a wrong option, or what the strategy gives is not what it should.
        NonFinite: a gradient is not finite.
        AssertionError: the strategy draws from a global random generator.
    """
    found = strategies.find(strategy) if isinstance(strategy, str) else strategy
    done = resumed_from.facts["clock"]["step"] if resumed_from else 0
    config = _config(strategy, found, options or {}, {**TRAIN, **train, "steps": done + steps})
    check_lanes(config.train.lanes, world_size, "auto")
    with cpu.pin(config.fleet.cpu_threads), subnormals.flushed():  # as a rank does, so that the bits are those of one
        source = as_source(FakeImages() if source is None else source, config.strategy.resolution)
        fleet = SimulatedFleet(config.train.lanes, "auto", world_size)
        image = ImageSpec(source.channels, source.classes, source.text)
        make = partial(found, config.strategy, image, config.train.batch_size)
        contract.current(make())
        ranks = _Ranks(config.train.lanes, world_size, make)
        check_schedule(ranks, config.train.lanes)
        contract.samples(ranks, source.names)
        stats = _Stats()
        trainer = Trainer(config, ranks, source, fleet, [stats])
        if resumed_from:
            trainer.restore(resumed_from)
        before = ranks.attributes()
        trainer.run()
        after = ranks.attributes()
        changed = sorted(name for name in after if after[name] != before.get(name))
        return Simulation(trainer.snapshot(), stats.steps, ranks.draws, changed, trainer)


def assert_fleet_invisible(
    strategy: type[Strategy] | str, *, world_sizes: Sequence[int] = (1, 2, 4), steps: int = 4, **how: Any
) -> None:
    """Check that fleets of all ``world_sizes`` train ``strategy`` to the same bits, and log the same; choose ``steps``
    so that every phase is due. ``how`` is as for ``simulate``.

    Raises:
        AssertionError: they do not. It names what differs, from which step on, and the usual mistake behind it.
    """
    first, *others = world_sizes
    expected = simulate(strategy, first, steps, **how)
    for world_size in others:
        actual = simulate(strategy, world_size, steps, **how)
        _assert_equal(
            expected,
            actual,
            f"{_name(strategy)} trains to other bits on {world_size} ranks than on {first}",
            "a rank's draw and prepare see its own lanes only, so what they put there depends on the fleet; what a "
            "lane must remember goes into the memory that Phase.prepare gets",
        )


def assert_resumes(strategy: type[Strategy] | str, *, steps: int = 4, **how: Any) -> None:
    """Check that 2·``steps`` steps on one rank end with the same bits as ``steps`` on two ranks, a snapshot, and
    ``steps`` more on four, in a new process so to speak. ``how`` is as for ``simulate``.

    Raises:
        AssertionError: they do not. It names what differs, from which step on, and the usual mistake behind it.
    """
    expected = simulate(strategy, 1, 2 * steps, **how)
    half = simulate(strategy, 2, steps, **how)
    resumed = simulate(strategy, 4, steps, resumed_from=half.snapshot, **how)
    whole = replace(
        resumed,
        stats=half.stats + resumed.stats,
        draws=half.draws | resumed.draws,
        changed=sorted({*half.changed, *resumed.changed}),
    )
    _assert_equal(
        expected,
        whole,
        f"{_name(strategy)} trains to other bits when it is resumed after {steps} of {2 * steps} steps",
        "what must outlast a resume belongs in a ganfleet.nn.Buffer, or in the memory that Phase.prepare gets, and "
        "what a loss reads must come from draw, because a compiled graph keeps the values of Python attributes that it "
        "was compiled with",
    )


def check_second_order(layer: nn.Cell | Callable, x: np.ndarray, seed: int = 0) -> None:
    """Check that a gradient penalty through ``layer`` has right gradients under ``ms.jit``.

    With s = Σ probe·layer(x)² and the penalty Σ (∂s/∂x)², ∂s is compared with differences of s, and then the gradient
    of the penalty with differences of the penalty that ∂s gives: along random directions, for ``x`` and for each
    trained parameter, all of which are drawn anew. Two step sizes must agree, or the difference has met a kink such as
    LeakyReLU's, and does not count.

    It sees a missing operator, and derivatives that are zero, partial or wrong by more than 5 %. It cannot see smaller
    errors, nor what happens at other points, on a kink, or in evaluation mode. A float64 reference can; see
    tests/nn/reference.py in ganfleet's repository for one in JAX.

    Args:
        layer: a Cell or a function of one tensor that gives one tensor.
        x: float32, its input; small, and not all zeros.

    Raises:
        AssertionError: naming the layer, the derivative, and what it is with respect to.
    """
    name = getattr(layer, "__name__", type(layer).__name__)
    ms.set_context(mode=ms.GRAPH_MODE)
    point = _Point(layer if isinstance(layer, nn.Cell) else _Function(layer), np.asarray(x, np.float32), seed)
    for order, value, gradients in ((1, point.score, point.first), (2, point.penalty, point.second)):
        try:
            claimed = gradients()
        except Exception as error:  # the compiler raises many kinds
            reason = str(error).strip().splitlines()[0].partition(".node:")[0]
            raise AssertionError(f"{name} has no derivative of order {order}; MindSpore says: {reason}") from error
        for variable, gradient in zip(point.variables, claimed, strict=True):
            _compare_with_differences(f"{name}: the derivative of order {order}", point, variable, gradient, value)


# ── Fleets of strategies


def _config(
    named: type[Strategy] | str, strategy: type[Strategy], options: dict[str, Any], train: dict[str, Any]
) -> configs.Config:
    given = Document("simulate")
    # By the name that a config has: options are a part of a compiled graph's name, so a run's graphs are found again.
    name = named if isinstance(named, str) else strategy.__name__
    # Nothing is drawn ahead, so that what a strategy wrongly changes shows at the same step every time.
    own = {"strategy": {"name": name, **options}, "train": train, "data": {"prefetch": 0}}
    for section, values in own.items():
        for key, value in values.items():
            given.override(f"{section}.{key}={json.dumps(value)}")
    return configs.check(given, strategy.Options)


class _Ranks:
    """To a trainer that plays all ranks, what the strategy is to a rank's own; each rank has an object of its own.

    Networks, losses and schedule are the first rank's, as they are alike on all. The stream that ``draw`` and
    ``prepare`` get says which lane they are asked for.
    """

    def __init__(self, lanes: int, world_size: int, make: Callable[[], Strategy]):
        self._share = lanes // world_size
        self._own = [make() for _ in range(world_size)]
        self._phases: list[list] = []
        self.draws: dict[tuple[int, int], list[dict[str, bytes]]] = {}

    def __getattr__(self, name):
        return getattr(self._own[0], name)

    def attributes(self) -> dict[str, Any]:
        """What the first rank's strategy holds, in a form that can be compared later."""
        return {name: _plain(value) for name, value in vars(self._own[0]).items()}

    def players(self, stage):
        declared = [own.players(stage) for own in self._own]
        return declared[0]

    def phases(self, stage):
        self._phases = [own.phases(stage) for own in self._own]
        declared = self._phases[0]
        if not isinstance(declared, list):
            return declared  # for the engine to refuse
        return [
            replace(phase, prepare=partial(self._prepare, i)) if getattr(phase, "prepare", None) else phase
            for i, phase in enumerate(declared)
        ]

    def _prepare(self, phase: int, rng, kept, memory):
        with _no_global_randomness("prepare"):
            return self._phases[_lane_of(rng) // self._share][phase].prepare(rng, kept, memory)

    def draw(self, rng, n, clock):
        lane = _lane_of(rng)
        with _no_global_randomness("draw"):
            drawn = self._own[lane // self._share].draw(rng, n, clock)
        if isinstance(drawn, dict):
            draws = self.draws.setdefault((clock.step, lane), [])
            draws.append({name: np.asarray(array).tobytes() for name, array in drawn.items()})
        return drawn


def _lane_of(stream: np.random.Generator) -> int:
    """The last key of the ``rng.stream`` of a step and a lane."""
    return int(stream.bit_generator.state["state"]["counter"][2])


class Unsound(GanfleetError, AssertionError):
    """What a strategy's own method does wrong, found while the engine runs it."""


class _Stats(Callback):
    def __init__(self):
        self.steps = []

    def after_step(self, run, stats):
        self.steps.append({name: np.array(value) for name, value in stats.items()})


@contextmanager
def _no_global_randomness(method: str):
    before = random.getstate(), _plain(np.random.get_state())
    yield
    if before != (random.getstate(), _plain(np.random.get_state())):
        raise Unsound(
            f"the strategy's {method}() uses a global random generator (np.random or random), whose numbers depend on "
            "the fleet and on what ran before: use the rng it is given"
        )


def _plain(value: Any) -> Any:
    """``value`` as numbers, bytes and lists, to be compared; of other objects, networks for instance, only the type."""
    match value:
        case None | bool() | int() | float() | str() | bytes():
            return value
        case np.ndarray() | np.generic():
            return str(value.dtype), value.shape, value.tobytes()
        case np.random.Generator():
            return _plain(value.bit_generator.state)
        case list() | tuple():
            return [_plain(each) for each in value]
        case dict():
            return [(key, _plain(each)) for key, each in value.items()]
    return type(value).__name__


def _name(strategy: type[Strategy] | str) -> str:
    return strategy if isinstance(strategy, str) else strategy.__name__


def _assert_equal(expected: Simulation, actual: Simulation, problem: str, advice: str) -> None:
    """``advice`` is what to do about attributes that training changes."""
    differences = checkpoint.diff(expected.snapshot, actual.snapshot)
    pairs = zip(expected.stats, actual.stats, strict=True)
    steps = [step for step, (ours, theirs) in enumerate(pairs) if _plain(ours) != _plain(theirs)]
    if not differences and not steps:
        return
    where = _first_component(differences, expected.snapshot) if differences else "the model is the same, the log is not"
    told = [f"{problem}: {where}"]
    if steps:
        ours, theirs = expected.stats[steps[0]], actual.stats[steps[0]]
        names = [name for name in ours if _plain(ours[name]) != _plain(theirs.get(name))]
        told.append(f"The logged stats differ from step {steps[0]} on ({', '.join(names)})")
    for (step, lane), draws in expected.draws.items():
        if draws != actual.draws[step, lane]:
            told.append(
                f"draw gave other values from step {step}, lane {lane} on: they must depend on its rng and its clock "
                "alone"
            )
            break
    if expected.changed:
        names = ", ".join(f"self.{name}" for name in expected.changed)
        told.append(f"Training changes {names} of the strategy: {advice}")
    raise AssertionError(". ".join(told))


def _first_component(differences: list[Difference], snapshot: Snapshot) -> str:
    """The first component that differs, in the order of players, and its most different tensors."""
    order = [*snapshot.tensors, *snapshot.facts]
    first = min((d.component for d in differences), key=order.index)
    within = [d for d in differences if d.component == first]
    shown = [f"{d.name} {d.note or f'by up to {d.absolute:.2g}'}".strip() for d in within[:SHOWN]]
    more = f" and {len(within) - SHOWN} more" if len(within) > SHOWN else ""
    return f"in {first}, {', '.join(shown)}{more}"


# ── Derivatives


STEPS = [2.0**-k for k in range(5, 11)]  # of differences, relative to the size of the values; each half the one before
ROUNDING = 2e-6  # relative error of a float32 sum, amply
AGREE, WRONG = 0.02, 0.05  # relative: two differences that met no kink; a derivative that is not theirs
JUDGED, TRIED = 3, 12  # directions


class _Point:
    """The score, the penalty and their derivatives at one point, some of whose variables can be moved for a moment."""

    def __init__(self, layer: nn.Cell, x: np.ndarray, seed: int):
        self._draw = rng.stream(seed, "check_second_order")
        layer.set_train(True)
        self._weights = layer.trainable_params()
        self.values = [x, *(self._normal(p.shape) for p in self._weights)]
        self.variables = ["x", *(p.name for p in self._weights)]
        for parameter, value in zip(self._weights, self.values[1:], strict=True):
            ops.assign(parameter, ms.Tensor(value))
        self._probe = self._normal(_Function(layer)(ms.Tensor(x)).shape)
        score = _Score(layer, self._probe)
        self._first, self._second = _First(score), _Second(score)

    def direction(self, variable: str) -> np.ndarray:
        """±1 for each of the variable's values, at random."""
        return self._draw.choice(np.float32([-1, 1]), self.values[self.variables.index(variable)].shape)

    def moved(self, function: Callable[[], float], variable: str, by: np.ndarray) -> float:
        """``function()`` where ``variable`` is moved ``by`` so much."""
        index = self.variables.index(variable)
        before = self.values[index]
        self._set(index, before + by)
        try:
            return function()
        finally:
            self._set(index, before)

    def score(self) -> float:
        """s = Σ probe·layer(x)², summed in float64."""
        return float((self._probe * self._run(self._first)[0].astype(np.float64) ** 2).sum())

    def penalty(self) -> float:
        """Σ (∂s/∂x)², summed in float64."""
        return float((self._run(self._first)[1].astype(np.float64) ** 2).sum())

    def first(self) -> list[np.ndarray]:
        """∂s with respect to each variable."""
        return self._run(self._first)[1:]

    def second(self) -> list[np.ndarray]:
        """∂penalty with respect to each variable."""
        return self._run(self._second)

    def _run(self, graph) -> list[np.ndarray]:
        return [part.asnumpy().copy() for part in graph(ms.Tensor(self.values[0]))]  # the next run may write there

    def _set(self, index: int, value: np.ndarray) -> None:
        self.values[index] = value
        if index:
            ops.assign(self._weights[index - 1], ms.Tensor(value))

    def _normal(self, shape) -> np.ndarray:
        return 0.5 * self._draw.standard_normal(shape, dtype=np.float32)


def _compare_with_differences(
    what: str, point: _Point, variable: str, gradient: np.ndarray, function: Callable[[], float]
) -> None:
    """Compare ``gradient`` along random directions with differences of ``function``."""
    judged = 0
    for _ in range(TRIED):
        direction = point.direction(variable)
        claimed = float((gradient.astype(np.float64) * direction).sum())
        difference, noise = _difference(point, variable, direction, function)
        if difference is None:
            continue
        if abs(claimed - difference) > WRONG * max(abs(claimed), abs(difference)) + noise:
            raise AssertionError(
                f"{what} with respect to {variable} is wrong under ms.jit: along a random direction it is "
                f"{claimed:.4g}, and differences give {difference:.4g}"
            )
        judged += 1
        if judged == JUDGED:
            return
    if not judged:
        raise AssertionError(
            f"{what} with respect to {variable} cannot be judged: every difference meets a kink. Give x fewer values"
        )


def _difference(point, variable, direction, function) -> tuple[float | None, float]:
    """The slope of ``function`` along ``direction`` and its rounding error; None where each difference meets a kink."""
    size = float(np.sqrt(np.square(point.values[point.variables.index(variable)]).mean()))
    at_point = abs(function())
    before = None
    for relative in STEPS:
        step = np.float32(relative * size)
        above, below = (point.moved(function, variable, sign * step * direction) for sign in (1, -1))
        slope, noise = (above - below) / (2 * step), ROUNDING * at_point / step
        if before is not None and abs(slope - before) <= AGREE * max(abs(slope), abs(before)) + noise:
            return (4 * slope - before) / 3, 2 * noise  # Richardson: the error of order step² cancels
        before = slope
    return None, 0.0


class _Function(nn.Cell):
    """A function, or a Cell, as a Cell."""

    def __init__(self, function):
        super().__init__(auto_prefix=False)
        self.function = function

    @ms.jit
    def construct(self, x):
        return self.function(x)


class _Score(nn.Cell):
    """Σ probe·layer(scale·x)². ``scale`` is there so that every layer has a parameter."""

    def __init__(self, layer, probe):
        super().__init__(auto_prefix=False)
        self.layer = layer
        self.scale = ms.Parameter(ms.Tensor(1.0, ms.float32), name="scale")
        self.probe = ms.Tensor(probe)

    def construct(self, x):
        y = self.layer(x * self.scale)
        return (y * y * self.probe).sum()


class _First(nn.Cell):
    """The layer's output, and the derivatives of the score with respect to x and each weight."""

    def __init__(self, score):
        super().__init__(auto_prefix=False)
        self.score = score
        self.weights = ms.ParameterTuple((score.scale, *score.layer.trainable_params()))

    @ms.jit
    def construct(self, x):
        to_x, to_weights = ms.grad(self.score, 0, self.weights)(x)
        return (self.score.layer(x * self.score.scale), to_x, *to_weights[1:])


class _Second(nn.Cell):
    """The derivatives of the penalty with respect to x and each weight."""

    def __init__(self, score):
        super().__init__(auto_prefix=False)
        self.score = score
        self.weights = ms.ParameterTuple((score.scale, *score.layer.trainable_params()))

    @ms.jit
    def construct(self, x):
        def penalty(x):
            slope = ms.grad(self.score)(x)
            return (slope * slope).sum()

        to_x, to_weights = ms.grad(penalty, 0, self.weights)(x)
        return (to_x, *to_weights[1:])
