"""What one GAN is: networks, losses, schedule. A Strategy knows nothing of ranks, collectives or checkpoints."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np
from mindspore import nn as ms_nn
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PositiveInt

from ganfleet import rng
from ganfleet.clock import Clock
from ganfleet.errors import ConfigError
from ganfleet.nn.optim import refuse_hyper
from ganfleet.size import Size, read
from ganfleet.store.foreign import Foreign
from ganfleet.strategies.export import Export
from ganfleet.strategies.figure import Figure
from ganfleet.strategies.imported import Imported
from ganfleet.strategies.options import Options as SampleOptions
from ganfleet.strategies.path import LatentPath, along_circle
from ganfleet.strategies.translation import Translation
from ganfleet.text import Text

Inputs = dict[str, np.ndarray]
Decay = Annotated[float, Field(ge=0, lt=1)]
"""The weight of what was before in a moving average, as an option."""
Betas = tuple[Decay, Decay]
"""Adam's, as an option."""


def _square(value: Any) -> Any:
    """
    Raises:
        ValueError: ``value`` is the size of images that are not square.
    """
    if not isinstance(value, list | tuple | dict):
        return value
    resolution = read(value)
    if isinstance(resolution, Size):
        raise ValueError("must be one number: this strategy makes square images only")
    return resolution


class StrategyOptions(BaseModel):
    """Base of every strategy's own schema: what may stand under ``strategy:`` beside ``name``.

    ``optimizers`` replaces optimizers by player: ``{D: {name: adamw, lr: 1e-4, weight_decay: 0.01, clip_norm: 1.0}}``.
    The name is one of ganfleet's, of an installed package, or ``module:Class``. ``lr`` is by default the strategy's; a
    schedule of its learning rate is scaled accordingly. ``clip_norm`` clips gradients by their global norm.

    Images are square, unless a strategy says by ``resolution: ganfleet.Resolution = 32`` that it can make others.
    """

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    resolution: Annotated[PositiveInt, BeforeValidator(_square)] = 32
    optimizers: dict[str, dict[str, Any]] = Field(default_factory=dict)

    def without_effect(self) -> set[str]:
        """The options that nothing reads because of what others say; a run's ``config.yaml`` leaves them out."""
        return set()


@dataclass(frozen=True)
class ImageSpec:
    """What the data hold: ``channels`` (1, 3 or 4), ``classes`` (0 where there are no labels), and how captions are
    encoded (None where there are none)."""

    channels: int
    classes: int = 0
    text: Text | None = None

    @classmethod
    def of(cls, facts: dict) -> "ImageSpec":
        """What a checkpoint keeps of it, ``facts`` of its data, read back."""
        text = facts.get("text")
        return cls(facts["channels"], facts["classes"], None if text is None else Text(**text))


@dataclass(frozen=True)
class Stage:
    """What stays fixed between two changes of the schedule. ``starts_at`` is in images.

    ``resolution`` is an int, and where images are not square a :class:`ganfleet.size.Size`.
    """

    resolution: int | Size
    batch_size: int
    starts_at: int = 0
    name: str = "main"


@dataclass(frozen=True)
class Ema:
    """Exponential moving average of a player's weights: a fixed ``decay`` per step, or a half-life in kimg.

    It moves once per step, whatever the number of updates in it. ``Strategy.hyper`` may schedule either, as
    ``ema_decay`` or ``ema_half_life_kimg``.
    """

    decay: float | None = None
    half_life_kimg: float | None = None

    def __post_init__(self):
        if (self.decay is None) == (self.half_life_kimg is None):
            raise ValueError("Ema takes exactly one of decay and half_life_kimg")
        given = {"ema_decay": self.decay, "ema_half_life_kimg": self.half_life_kimg}
        refuse_hyper(**{name: value for name, value in given.items() if value is not None})

    def beta(self, nimg: float, hyper: Mapping[str, float] | None = None) -> float:
        """The weight of the old average after a step of ``nimg`` images."""
        hyper = hyper or {}
        if self.decay is not None:
            return hyper.get("ema_decay", self.decay)
        half_life = 1000 * hyper.get("ema_half_life_kimg", self.half_life_kimg)
        return 0.5 ** (nimg / half_life) if half_life > 0 else 0.0


@dataclass
class Player:
    """The networks that one optimizer trains.

    ``nets`` is one Cell, which takes the player's name, or a dict of Cells by name. ``after_update`` maps the flat
    weights, a float32 tensor (P,), to what they become after each update (WGAN's clipping); it runs in a graph.
    ``lr_scale`` multiplies a scheduled learning rate; a config that chooses another ``lr`` for the player sets it.
    """

    nets: ms_nn.Cell | dict[str, ms_nn.Cell]
    optimizer: Any
    ema: Ema | None = None
    after_update: Callable | None = None
    lr_scale: float = 1.0


@dataclass
class Frozen:
    """A network that nobody trains: it is never drawn anew, never updated and never stored.

    ``weights`` is a ``.safetensors`` or ``.npz`` file, a checkpoint or a run whose tensors have the network's names;
    None where the network holds its weights already. A checkpoint keeps the SHA-256 of the weights, and a run goes on
    only with the same. Of the file's tensors, those are taken whose names begin with ``prefix``, by the rest of their
    names.

    ``option`` is the strategy's option that says where the weights are, for messages. ``same`` has options, and what
    they are called in the run that made the weights: both must have the same values. ``computes`` tells, in any words,
    what the network computes beside its weights' shapes, such as which activation: it is a part of the SHA-256.
    """

    net: ms_nn.Cell
    weights: str | Path | None = None
    prefix: str = ""
    option: str = ""
    same: dict[str, str] = field(default_factory=dict)
    computes: str = ""


@dataclass(frozen=True)
class Phase:
    """One loss that updates one player, on the last of every ``every`` steps or whenever ``due(clock)`` says so.

    ``loss(nets, real, noise)`` runs inside ms.jit and returns a scalar and a dict of named stats; ``nets`` has every
    network by name as an attribute, ``real`` and ``noise`` are dicts of what the source and ``Strategy.draw`` give.
    A third result, a dict of tensors, is kept on the lane for the step's later phases. The loss is logged as
    ``Loss/NAME``, the phase's name; stats keep the names they are given.

    ``prepare(rng, kept, memory)`` runs on the host before the loss, lane by lane, and returns arrays that join
    ``noise``. ``kept`` has the arrays that the step's earlier phases kept on this lane; ``memory`` is the lane's own
    dict of arrays, which it may change and which is part of a checkpoint: CycleGAN's pool of earlier fakes. Where the
    phase is ``on_device``, ``kept`` has tensors instead, and ``prepare`` may return and remember tensors too (in
    ``memory`` they are arrays again after a resume): arrays have to be fetched from a card, and training waits for it.

    ``due`` is called with the clock before the step is counted; it must depend on the clock alone.
    """

    player: str
    loss: Callable
    every: int = 1
    name: str = field(default="")
    prepare: Callable | None = None
    due: Callable[[Clock], bool] | None = None
    on_device: bool = False

    def __post_init__(self):
        if not self.name:
            object.__setattr__(self, "name", self.player)

    def is_due(self, clock: Clock) -> bool:
        """Whether the step at ``clock`` has this phase."""
        return bool(self.due(clock)) if self.due else (clock.step + 1) % self.every == 0


class Strategy:
    """Base of every GAN. Subclasses give ``Options``, ``players``, ``phases`` and ``draw``; the rest has defaults."""

    Options: ClassVar[type[StrategyOptions]] = StrategyOptions
    SampleOptions: ClassVar[type[SampleOptions]] = SampleOptions
    """What may be asked of every image that is sampled, see ``with_options``; by default nothing."""
    reads: ClassVar[tuple[str, ...]] = ("image",)
    """What of a sample the losses cannot do without."""
    reads_pairs: ClassVar[bool] = False
    """Whether the images of a sample must show the same thing."""
    samples_data: ClassVar[bool] = False
    """Whether the images of a run's grids are made of samples of the data, instead of what ``sample_inputs`` gives."""
    trains: bool = True
    """Whether losses will be asked for, for ``players`` and ``frozen`` to look at. A checkpoint that is loaded to make
    images does without networks that only losses use; the engine sets it.
    """
    begins_trained: bool = False
    """Whether the run begins with the weights of another (``train.init_from``); the engine sets it."""

    def __init__(self, options: StrategyOptions, image: ImageSpec, batch_size: int):
        self.options = options
        self.image = image
        self.batch_size = batch_size

    # ── What is trained

    def players(self, stage: Stage) -> dict[str, Player]:
        """The players of ``stage`` by name, in the order checkpoints and logs show them.

        Called once when a stage begins. A weight that the stage before had under the same name keeps its value and its
        average; optimizers start afresh. Parameters that the stage does not train but should keep have
        ``requires_grad=False``: no gradient, collective or optimizer covers them.
        """
        raise NotImplementedError

    def completed(self, players: dict[str, Player], stage: Stage) -> dict[str, Player]:
        """What ``players`` of this or of a subclass gave, with what every GAN of a family has beside; see ImageGAN."""
        return players

    def frozen(self, stage: Stage) -> dict[str, Frozen]:
        """Networks by name that losses use and nobody trains."""
        return {}

    def phases(self, stage: Stage) -> list[Phase]:
        """The phases of one step, in order. Called once when a stage begins."""
        raise NotImplementedError

    def carry_over(self, name: str, old: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        """What the weight or buffer ``name`` becomes in a stage where it has another ``shape``: an array of that.

        Raises:
            ConfigError: the strategy does not say, which is the default.
        """
        raise ConfigError(
            f"{name} has shape {old.shape} in one stage and {tuple(shape)} in the next: give it another name there, or "
            f"write carry_over() in {type(self).__name__}"
        )

    def works_at(self, name: str, stage: Stage) -> int | None:
        """The height in pixels of what the weight ``name`` makes in ``stage``, for `ganfleet blend`; None for a weight
        that makes none, such as one of a mapping, and for networks that are not blended.
        """
        return None

    @classmethod
    def imported(cls, files: list[Foreign]) -> Imported | None:
        """What ``files`` of another program hold for this strategy's networks, for `ganfleet import`; None, which is
        the default, where they are of other networks.

        Raises:
            ConfigError: they are of networks like these, with something that these do not have.
        """
        return None

    # ── What a step needs

    def draw(self, rng: np.random.Generator, n: int, clock: Clock) -> Inputs:
        """What a phase needs beside real samples, for one lane of ``n`` samples: latents, labels, fade-in weight.

        Called on the host, once per phase and lane, with a stream of its own, and ahead of time in another thread: it
        must depend on its arguments alone. Python numbers freeze in a graph, so what changes over time (a fade-in
        weight) comes from here too, as a numpy scalar.
        """
        raise NotImplementedError

    def draw_beside(self, rng: np.random.Generator, n: int, clock: Clock) -> Inputs:
        """What joins ``draw``'s arrays in every phase, from the same stream and after them, but no sample's."""
        return {}

    def hyper(self, player: str, clock: Clock) -> dict[str, float]:
        """The hyper-parameters of ``player`` that follow a schedule, at ``clock``: ``lr``, ``beta2`` and whatever else
        its optimizer reads, ``ema_decay`` or ``ema_half_life_kimg``. The names must be the same at every clock of a
        stage. What is left out stays as the optimizer and the EMA have it.
        """
        return {}

    def schedule_values(self, clock: Clock) -> dict[str, float]:
        """What else follows a schedule at ``clock``, by name, such as a fade-in weight; for the log and TensorBoard."""
        return {}

    # ── When

    def schedule(self) -> list[Stage]:
        """Every stage in order; the first starts at 0 images."""
        return [Stage(self.options.resolution, self.batch_size)]

    def stage(self, clock: Clock) -> Stage:
        """The stage in force at ``clock``."""
        return [stage for stage in self.schedule() if stage.starts_at <= clock.nimg][-1]

    def within(self, stage: Stage, clock: Clock) -> Clock:
        """``clock``, or the last image of ``stage`` where that is over: when networks of ``stage`` can be sampled."""
        ends_at = min((each.starts_at for each in self.schedule() if each.starts_at > stage.starts_at), default=None)
        return clock if ends_at is None else replace(clock, nimg=min(clock.nimg, ends_at - 1))

    def check(self, stage: Stage, lane_size: int) -> None:
        """Called for every stage before anything starts: refuse lanes of ``lane_size`` samples that cannot work.

        Raises:
            ConfigError: naming the stage and what to change.
        """

    # ── What it can draw

    def sample_inputs(self, rng: np.random.Generator, clock: Clock, label: int | None = None) -> Inputs:
        """What one image is made of, by default what ``draw`` gives: the arrays of one sample, (1, …), and scalars.

        ``label`` is the class that is asked for, None for any.

        Raises:
            ConfigError: a class is asked for, and the strategy has none.
        """
        if label is not None:
            raise ConfigError("this strategy has no classes: leave classes out")
        return self.draw(rng, 1, clock)

    def sample(self, nets, inputs):
        """Images (n, channels, height, width) in [-1, 1] for what ``sample_inputs`` gave; in ms.jit, nets in eval."""
        return nets.G(inputs["z"])

    def sampler(self, graph: Callable) -> Callable[[dict[str, np.ndarray]], np.ndarray]:
        """How images are drawn: ``draw(inputs)`` gives images (n, channels, height, width) in [-1, 1], on the host.

        ``inputs`` are those of n images, joined. ``graph(function)`` compiles ``function(nets, inputs)``, which returns
        a tensor or a dict of tensors; what it gives back takes a dict of arrays, and returns an array or a dict of
        arrays. By default that is ``sample``. A loop around a graph calls one graph many times, with what changes in
        its inputs. Random numbers that a loop needs come from ``ganfleet.rng`` and a seed per image among the inputs
        (an int64 array, which ``sample_inputs`` draws): so an image depends neither on its neighbours nor on ranks.
        """
        return graph(self.sample)

    def with_options(self, inputs: dict[str, np.ndarray], options: SampleOptions) -> dict[str, np.ndarray]:
        """``inputs`` of one image changed as ``options``, an instance of ``SampleOptions``, ask.

        Raises:
            ConfigError: this model cannot do it.
        """
        return inputs

    def from_images(
        self, images: np.ndarray, rng: np.random.Generator, clock: Clock, label: int | None = None
    ) -> dict[str, np.ndarray]:
        """What one image is made of where this model goes on from the image (1, channels, h, w) of another, in a chain.

        Raises:
            ConfigError: it cannot; that is the default.
        """
        raise ConfigError(
            f"{type(self).__name__} cannot go on from another model's images: give its class the method from_images("
            "images, rng, clock, label)"
        )

    def figures(self) -> dict[str, Figure]:
        """The figures this strategy offers, by name."""
        return {}

    def paths(self) -> dict[str, LatentPath]:
        """The spaces in which the metric ``ppl`` goes from one image to another, by name: by default that of ``z``.

        A strategy whose images have no ``z`` returns none, or spaces of its own.
        """
        return {"z": LatentPath(along_circle)}

    def translations(self) -> dict[str, Translation]:
        """The directions in which this strategy translates images, by name."""
        return {}

    def exports(self, clock: Clock) -> dict[str, Export]:
        """The graphs that `ganfleet export` can write, by name: by default a graph for each of ``translations``, or
        where there are none one called G, which is ``sample``.

        A strategy whose ``sampler`` is a loop on the host has none, unless it says which of its graphs to write.
        """
        offered = self.translations()
        if offered:
            shape = (1, self.image.channels, *Size.of(self.options.resolution))
            return {
                name: Export(each.function, {each.reads: np.zeros(shape, np.float32)}, each.multiple)
                for name, each in offered.items()
            }
        if type(self).sampler is not Strategy.sampler:
            return {}
        return {"G": Export(self.sample, self.sample_inputs(rng.stream(0, "export"), clock))}
