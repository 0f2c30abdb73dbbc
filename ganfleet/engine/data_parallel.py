"""The engine's step for a training loop of one's own: networks and optimizers in, ``step(real)`` out, on any fleet."""

from collections.abc import Callable, Sequence

import numpy as np

from ganfleet import fleet as fleets
from ganfleet.clock import Clock
from ganfleet.config import FleetConfig
from ganfleet.data.loader import to_network
from ganfleet.engine.audit import audit
from ganfleet.engine.loss_scale import loss_scales
from ganfleet.engine.program import Program
from ganfleet.engine.step import Memory, Stepper
from ganfleet.errors import ConfigError
from ganfleet.fleet import Fleet
from ganfleet.strategies.base import ImageSpec, Inputs, Phase, Player, Stage, Strategy, StrategyOptions

UNLIMITED = 2**63 - 1  # images: the loop is the user's, and so is its end


class DataParallel:
    """Trains ``players`` over a fleet, phase by phase, without a config, a run directory or a loop.

    Every rank makes one, with the same arguments, and calls ``step`` with the same global batch. Each rank computes its
    lanes only. Gradients are summed once per phase, and every player is updated by its own optimizer, with equal bits
    on any number of ranks.

    Args:
        players: by name; see ``Player``. Layers of ``ganfleet.nn`` are drawn from ``seed``. Other layers must have
            equal weights on every rank.
        phases: of one step, in order; see ``Phase``.
        draw: ``draw(rng, n, clock)`` gives what the losses need beside real samples, for a lane of n samples.
        batch_size: of the whole fleet.
        lanes: into how many parts a batch is cut; results depend on it, and not on the number of ranks.
        fleet: from ``ganfleet.connect``, which comes before the first network is made: MindSpore cannot connect after
            that. A process that no launcher has started needs none.
        hyper: ``hyper(player, clock)`` gives what follows a schedule, such as {"lr": 1e-4}.

    Attributes:
        networks: every network by name.
        clock: steps and images so far.

    Raises:
        ConfigError: something in these does not fit; the message says what.
        ReplicasDiverged: networks have other weights on another rank.
    """

    def __init__(
        self,
        players: dict[str, Player],
        phases: Sequence[Phase],
        draw: Callable[[np.random.Generator, int, Clock], Inputs] = lambda rng, n, clock: {},
        *,
        batch_size: int,
        lanes: int = 8,
        seed: int = 0,
        fleet: Fleet | None = None,
        precision: str = "float32",
        hyper: Callable[[str, Clock], dict[str, float]] = lambda player, clock: {},
    ):
        if batch_size % lanes:
            raise ConfigError(f"a batch of {batch_size} samples does not divide among {lanes} lanes: give a multiple")
        if fleet is None and fleets.launcher.detect().kind != "none":
            raise ConfigError(
                f"this process is a rank of a fleet, which must connect before networks are made: begin with fleet = "
                f"ganfleet.connect(lanes={lanes}), and give fleet=fleet here"
            )
        self.fleet = fleet or fleets.connect(FleetConfig(), lanes)
        if self.fleet.total_lanes != lanes:
            raise ConfigError(f"the fleet was connected for {self.fleet.total_lanes} lanes, and lanes is {lanes}")
        self.clock = Clock(total_nimg=UNLIMITED)
        self._strategy = _Given(players, list(phases), draw, hyper, batch_size)
        self._program = Program(self._strategy, self._strategy.stage(self.clock), seed, precision, fleet=self.fleet)
        self.networks = dict(vars(self._program.nets))
        self._memory: Memory = {lane: {} for lane in self.fleet.lanes}
        self._scales = loss_scales((phase.name for phase in phases), precision, lanes)
        self._stepper = Stepper(self._program, self.fleet, seed, self._memory, self._scales)
        audit(self.fleet, self._program)

    def step(self, real: Inputs) -> dict[str, np.ndarray]:
        """Every due phase on one global batch; the losses and stats by name, means over the whole batch.

        ``real`` has arrays (batch_size, …), the same on every rank; uint8 images are brought to [-1, 1]. An update that
        is not finite is left out on every rank, and its phase is named in the stats under ``skipped``.
        """
        size = self._strategy.batch_size
        for name, array in real.items():
            if len(array) != size:
                raise ConfigError(f"real[{name!r}] has {len(array)} samples, and batch_size is {size}")
        share = size // self.fleet.total_lanes
        lanes = [
            {name: to_network(np.asarray(array[lane * share : (lane + 1) * share])) for name, array in real.items()}
            for lane in self.fleet.lanes
        ]
        outcome = self._stepper.step(lanes, self.clock, np.zeros(0, np.float32))
        self.clock.tick(size)
        return dict(outcome.stats) | ({"skipped": np.array(outcome.skipped)} if outcome.skipped else {})

    def averaged(self):
        """``with parallel.averaged():`` networks hold the EMA of their weights, where a player has one.

        With ``shard_optimizer``, all ranks must enter it together, and call ``state`` together.
        """
        return self._program.averaged()

    def state(self) -> dict[str, dict[str, np.ndarray]]:
        """Weights, buffers, averages and optimizers by component; the clock is the caller's to keep."""
        return self._program.tensors()

    def load_state(self, state: dict[str, dict[str, np.ndarray]]) -> None:
        """Take back what ``state`` gave.

        Raises:
            CheckpointMismatch: it is not of these networks.
        """
        self._program.load(state)

    def close(self) -> None:
        """Leave the fleet."""
        self._stepper.close()
        self.fleet.close()


class _Given(Strategy):
    """Parts that are there already, as a strategy of one stage."""

    def __init__(self, players, phases, draw, hyper, batch_size):
        super().__init__(StrategyOptions(), ImageSpec(channels=1), batch_size)
        self._players, self._phases, self._draw, self._hyper = players, phases, draw, hyper

    def schedule(self):
        return [Stage(self.options.resolution, self.batch_size)]

    def players(self, stage):
        return self._players

    def phases(self, stage):
        return self._phases

    def draw(self, rng, n, clock):
        return self._draw(rng, n, clock)

    def hyper(self, player, clock):
        return self._hyper(player, clock)
