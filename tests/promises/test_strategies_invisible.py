"""The fleet is invisible to WGAN, WGAN-GP and CGAN: simulated fleets and a resume leave every bit as it is.

That real fleets equal simulated ones is tested in test_fleet_invisible.py.
"""

import pytest

from ganfleet import config as configs
from ganfleet.data import open_source
from ganfleet.engine import run
from ganfleet.engine.trainer import Trainer
from ganfleet.fleet import SimulatedFleet
from ganfleet.store import checkpoint

STEPS, LANES = 6, 4
STRATEGIES = {
    "wgan": "architecture: mlp, hidden: [8], critic_steps: 1, long_critic_steps: 2, lr: 1e-3",
    "wgan_gp": "ngf: 4, ndf: 4, critic_steps: 2",
    "cgan": "architecture: mlp, hidden: [8], ema_kimg: 0.1",
}


def trained(strategy, world_size, steps, directory, resumed_from=None):
    """A snapshot after ``steps`` steps on a simulated fleet, from the start or from another snapshot."""
    path = directory / "config.yaml"
    path.write_text(
        f"strategy: {{name: {strategy}, resolution: 8, latent: 6, {STRATEGIES[strategy]}}}\n"
        f"train: {{batch_size: 16, lanes: {LANES}, steps: {steps}, seed: 4}}\n"
    )
    config, source = configs.load(path), open_source(resolution=8)
    fleet = SimulatedFleet(LANES, "exact", world_size)
    trainer = Trainer(config, run.strategy_of(config, source), source, fleet)
    if resumed_from:
        trainer.restore(resumed_from)
    trainer.run()
    return trainer.snapshot()


@pytest.mark.slow
@pytest.mark.parametrize(
    "strategy", [pytest.param("wgan_gp", marks=pytest.mark.slow), "wgan", pytest.param("cgan", marks=pytest.mark.slow)]
)
def test_four_ranks_that_go_on_where_two_stopped_end_with_the_bits_of_one(strategy, tmp_path):
    alone = trained(strategy, 1, STEPS, tmp_path)
    half = trained(strategy, 2, STEPS // 2, tmp_path)
    resumed = trained(strategy, 4, STEPS, tmp_path, resumed_from=half)
    assert checkpoint.digest(resumed) == checkpoint.digest(alone)
    for player in "DG":
        before, after = (checkpoint.digest(each)[f"{player}.weights"] for each in (half, alone))
        assert before != after, f"{player} has trained in the second half"
