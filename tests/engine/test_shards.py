"""Optimizer state and averages that the ranks share out: the bits of whole vectors, in parts of one rank's size."""

import sys
from contextlib import suppress

import mindspore as ms
import numpy as np
import pytest
from commands import ganfleet
from fleets import BIN, digest, mpiexec, msrun, newest, one_at_a_time, run
from mindspore import Tensor, ops
from mindspore import nn as ms_nn

from ganfleet import nn
from ganfleet.engine.player import FlatPlayer
from ganfleet.engine.shards import ShardedPlayer
from ganfleet.errors import ConfigError
from ganfleet.fleet import Fleet, SimulatedFleet
from ganfleet.nn import forms
from ganfleet.strategies.base import Ema, Player

SIZE = 23 * 11 + 11 + 2 * 11  # weights, 286: parts of 143 or 72 values, the last one of 70
LOGGED = np.float32([7, 9])
OPTIMIZERS = {
    "adam": nn.Adam(1e-2, (0.5, 0.9)),
    "adamw": nn.AdamW(1e-2, weight_decay=0.3),
    "rmsprop": nn.ClipByGlobalNorm(nn.RMSProp(1e-2), max_norm=0.5),
    "sgd": nn.SGD(1e-2, momentum=0.9, nesterov=True),
}


class Waits(Exception):
    """A rank has come to where it needs what the others have not given yet."""


class Ranks:
    """The ranks of one fleet in this process, each with its own player: they take turns until all have got on."""

    def __init__(self, count, scatters):
        self.given = []  # of each meeting, what the ranks bring
        self.fleets = [Turn(self, rank, count, scatters) for rank in range(count)]

    def all(self, action):
        """``action(fleet)`` of every rank. One that must wait begins it again, so it may not have changed anything."""
        self.given.clear()
        results = {}
        while len(results) < len(self.fleets):
            for fleet in self.fleets:
                fleet.met = 0
                if fleet not in results:
                    with suppress(Waits):
                        results[fleet] = action(fleet)
        return results.values()


class Turn(Fleet):
    def __init__(self, ranks, rank, count, scatters):
        super().__init__(count, rank=rank, world_size=count)
        self.ranks_of_all, self.scatters, self.total = ranks, scatters, None

    def reduce(self, lane_value):
        return Tensor(self.total)

    def reduce_scatter(self, lane_value, size):
        width = -(-size // self.world_size)
        rows = np.zeros(self.world_size * width, np.float32)
        rows[:size] = self.total[:size]
        return Tensor(np.concatenate((rows.reshape(-1, width)[self.rank], self.total[size:])))

    def _join(self, part):
        given, self.met = self.ranks_of_all.given, self.met + 1
        if len(given) < self.met:
            given.append({})
        given[self.met - 1][self.rank] = part.asnumpy().copy()
        if len(given[self.met - 1]) < self.world_size:
            raise Waits
        return Tensor(np.concatenate([given[self.met - 1][rank] for rank in range(self.world_size)]))


def without_mean(weights):
    """A change that no part of the weights can make."""
    return weights - 0.1 * weights.mean()


def player(optimizer, fleet=None):
    ms.set_context(mode=ms.GRAPH_MODE)
    nets = ms_nn.SequentialCell(nn.Dense(23, 11), nn.BatchNorm(11))
    rng = np.random.default_rng(1)
    for parameter in nets.get_parameters():
        parameter.set_data(Tensor(rng.standard_normal(parameter.shape).astype(np.float32)))
    nets.update_parameters_name("N.")
    made = Player(nets, optimizer, Ema(decay=0.5), without_mean)
    return FlatPlayer("N", made) if fleet is None else ShardedPlayer("N", made, fleet)


def totals(seen_size):
    """Sums of the fleet: the second one is not finite, in one weight alone."""
    rng = np.random.default_rng(0)
    for step in range(4):
        gradient = rng.standard_normal(SIZE, dtype=np.float32)
        gradient[SIZE - 3] = np.nan if step == 1 else gradient[SIZE - 3]
        yield np.concatenate((gradient, rng.random(seen_size, dtype=np.float32) + 1, LOGGED))


def values(components):
    return {f"{part}/{name}": array for part, named in components.items() for name, array in named.items()}


def averaged(player):
    with player.averaged():
        # What is asked for meanwhile are the weights that are trained.
        return [p.asnumpy().copy() for p in player.weights], values(player.tensors())


def same(found, expected):
    assert found.keys() == expected.keys()
    for name in expected:
        assert np.array_equal(found[name], expected[name]), name


@ops.constexpr
def has_none():
    return False


@pytest.mark.parametrize("optimizer, count, scatters", [("adam", 4, True), ("adamw", 2, True), ("sgd", 2, False)])
def test_every_rank_has_the_bits_of_whole_vectors_and_keeps_one_part(optimizer, count, scatters, monkeypatch):
    if optimizer == "sgd":  # as Ascend compiles it
        monkeypatch.setattr(forms, "branches", has_none)
    optimizer, ranks = OPTIMIZERS[optimizer], Ranks(count, scatters)
    whole = player(optimizer)
    sharded = {fleet: player(optimizer, fleet) for fleet in ranks.fleets}
    for total in totals(whole.seen_size):
        expected = whole.update(Tensor(total), Tensor(np.float32(0.5)), {"lr": 0.03}).asnumpy().copy()
        whole.average(0.5)

        def update(fleet, total=total):
            fleet.total = total
            own = sharded[fleet]
            return own.update(own.sum(fleet, None), Tensor(np.float32(0.5)), {"lr": 0.03}).asnumpy().copy()

        for summary in ranks.all(update):
            assert np.array_equal(summary, expected) and summary[0] == np.isfinite(total).all()
        for each in sharded.values():
            each.average(0.5)
        for found in ranks.all(lambda fleet: sharded[fleet].tensors()):
            same(values(found), values(whole.tensors()))
    weights, trained = averaged(whole)
    for own_weights, own_trained in ranks.all(lambda fleet: averaged(sharded[fleet])):
        assert all(map(np.array_equal, own_weights, weights))
        same(own_trained, trained)
    width = -(-SIZE // count)
    vectors = len(optimizer.slots()) + 1
    for each in sharded.values():
        held = [p for p in each._state.get_parameters() if p.name.startswith("flat.")]
        assert sum(p.size for p in held) == vectors * width + 1  # slots, the average, and the number of updates
        replicated = {name: tensor.asnumpy() for name, (tensor, _) in each.replicated().items()}
        same(replicated, {name: whole.replicated()[name][0].asnumpy() for name in replicated})


def test_an_optimizer_that_does_not_say_that_it_takes_parts_is_refused():
    class Lamb(nn.Adam):
        def update(self, gradient, weights, slots, t, hyper):
            raise AssertionError

    for optimizer in (Lamb(1e-3), nn.ClipByGlobalNorm(Lamb(1e-3), 1.0)):
        with pytest.raises(ConfigError, match=r"shard_optimizer .* player 'N', \w+, .* part\(start, stop\)"):
            player(optimizer, SimulatedFleet(4, "exact", 2))


CONFIG = """\
strategy:
  {name: gan, resolution: 8, latent: 8, hidden: [16], ema_kimg: 0.1, optimizers: {D: {name: adamw, clip_norm: 1}}}
data: {source: embedded}
train: {batch_size: 16, lanes: 4, seed: 3, audit_every: 3}
fleet: {reduction: exact}
log: {every_steps: 10, samples_every_kimg: 0.048, samples: 4}
"""


@pytest.fixture
def train(tmp_path, monkeypatch):
    """Trains the run of that name for so many steps on a fleet, with parts or without."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.yaml").write_text(CONFIG)

    def on(fleet, name, steps, parts):
        kind, ranks = fleet.split()
        words = [
            "--config",
            "config.yaml",
            f"run.name={name}",
            f"train.steps={steps}",
            f"fleet.shard_optimizer={parts}",
        ]
        if kind == "simulated":
            ended = ganfleet("train", *words, f"fleet.world_size={ranks}")
        else:
            command = msrun(int(ranks), tmp_path / "logs", *words) if kind == "msrun" else mpiexec(int(ranks), *words)
            ended = run(command, tmp_path, timeout=900)
        assert ended.code == 0, ended.output

    return on


def images(run_dir):
    return {path.name: path.read_bytes() for path in run_dir.rglob("*.png")}


def in_turn(train, folder, turns):
    """A run that goes on from fleet to fleet ends with the checkpoint and the grids of one that has no parts."""
    train("simulated 1", "alone", max(turns), False)  # first, so that the ranks find its graphs compiled
    for step, (fleet, parts) in turns.items():
        train(fleet, "in-turn", step, parts)
    assert digest(folder / "runs" / "in-turn") == digest(folder / "runs" / "alone")
    grids = images(folder / "runs" / "alone")
    assert grids and grids.items() <= images(folder / "runs" / "in-turn").items()  # which has one at each end, too
    assert "D.optimizer" in newest(folder / "runs" / "alone").tensors


SCATTERING = """\
import os
import sys
import numpy as np
from mindspore import Tensor
from ganfleet.fleet.mpi_fleet import MpiFleet

def refuse(name):
    raise OSError

for create in os.memfd_create, refuse:  # with memory that ranks share, and by messages
    os.memfd_create = create
    fleet = MpiFleet(12, sys.argv[1])
    vectors = np.random.default_rng(0).standard_normal((12, 13 + 2)).astype(np.float32)
    total = fleet.reduce(lambda lane: Tensor(vectors[lane])).asnumpy()
    found = fleet.reduce_scatter(lambda lane: Tensor(vectors[lane]), 13).asnumpy()
    ranks = fleet.world_size
    parts = np.split(np.append(total[:13], np.zeros(-13 % ranks, np.float32)), ranks)
    expected = np.append(parts[fleet.rank], total[13:])
    joined = fleet.join(Tensor(parts[fleet.rank])).asnumpy()
    same = np.array_equal if fleet.reduction == "exact" else np.allclose
    assert found.dtype == np.float32 and same(found, expected) and np.array_equal(joined, np.concatenate(parts))
"""


@one_at_a_time
@pytest.mark.parametrize("ranks, reduction", [(3, "fast"), (4, "exact")])
def test_a_part_of_the_sum_is_that_of_the_whole_sum(ranks, reduction, tmp_path):
    (tmp_path / "scatter.py").write_text(SCATTERING)
    command = [str(BIN / "mpiexec"), "-n", str(ranks), sys.executable, "-m", "mpi4py", "scatter.py", reduction]
    ended = run(command, tmp_path)
    assert ended.code == 0, ended.output


@pytest.mark.slow
@one_at_a_time
def test_real_fleets_with_parts_and_without_have_the_bits_of_one_process(train, tmp_path):
    in_turn(train, tmp_path, {3: ("msrun 4", True), 5: ("simulated 1", False), 8: ("mpiexec 2", True)})
