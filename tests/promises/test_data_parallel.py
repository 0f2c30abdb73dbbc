"""The data-parallel step alone: a loop of one's own around it has the same bits on any fleet."""

import numpy as np
import pytest
from fleets import BIN, REPOSITORY, free_port, run
from parallel_gan import digest, players, train

import ganfleet
from ganfleet import nn
from ganfleet.errors import CheckpointMismatch, ConfigError
from ganfleet.fleet import SimulatedFleet


@pytest.fixture(scope="module")
def alone():
    trained, stats = train(10)
    yield trained, stats
    trained.close()


@pytest.mark.slow
def test_a_loop_of_ones_own_has_the_same_bits_on_two_ranks_of_msrun(alone, tmp_path):
    script, told = str(REPOSITORY / "tests" / "parallel_gan.py"), tmp_path / "told"
    fleet = ["--worker_num=2", "--local_worker_num=2", f"--master_port={free_port()}", f"--log_dir={tmp_path}/logs"]
    ended = run([str(BIN / "msrun"), *fleet, "--join=True", script, str(told)], tmp_path)
    assert ended.code == 0, ended.output
    assert told.read_text() == f"2 {digest(alone[0])}"


def test_simulated_ranks_have_the_same_bits(alone):
    trained, _ = train(10, SimulatedFleet(4, "auto", 4))
    assert digest(trained) == digest(alone[0])


def test_ranks_that_share_out_the_optimizer_have_the_same_bits(alone):
    fleet = ganfleet.connect(lanes=4, backend="simulated", world_size=4, shard_optimizer=True)
    trained, _ = train(10, fleet)
    assert fleet.shards_optimizer and digest(trained) == digest(alone[0])
    trained.close()


def test_g_is_updated_when_its_phase_is_due_and_d_at_every_step(alone):
    trained, stats = alone
    assert ["Loss/G" in each for each in stats] == [False, True] * 5
    assert all("Loss/D" in each and "scores/real" in each for each in stats)
    state = trained.state()
    assert state["D.optimizer"]["updates"] == 10 and state["G.optimizer"]["updates"] == 5
    assert trained.clock.nimg == 80


def test_averages_are_there_while_they_are_asked_for(alone):
    trained, _ = alone
    weight = trained.networks["G"][0].weight
    before = weight.asnumpy().copy()
    with trained.averaged():
        np.testing.assert_array_equal(weight.asnumpy(), trained.state()["G.ema"]["G.0.weight"])
        assert not np.array_equal(weight.asnumpy(), before)
    np.testing.assert_array_equal(weight.asnumpy(), before)


def test_a_rank_that_has_not_connected_before_its_networks_is_told_to(monkeypatch):
    """MindSpore would end with a segmentation fault."""
    for name, value in {"MS_ROLE": "MS_WORKER", "MS_WORKER_NUM": "2", "RANK_ID": "1"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match=r"begin with fleet = ganfleet\.connect\(lanes=4\)"):
        train(0)


def test_what_does_not_fit_is_refused(alone):
    with pytest.raises(ConfigError, match="does not divide among 3 lanes"):
        ganfleet.DataParallel(players(), [], batch_size=8, lanes=3)
    with pytest.raises(ConfigError, match=r"real\['x'\] has 6 samples, and batch_size is 8"):
        alone[0].step({"x": np.zeros((6, 4), np.float32)})
    with pytest.raises(CheckpointMismatch, match="does not fit"):
        alone[0].load_state({"D.weights": {}})
    with pytest.raises(ConfigError, match="updates player 'E'"):
        phase = ganfleet.Phase("E", lambda nets, real, noise: None)
        ganfleet.DataParallel({"D": ganfleet.Player(nn.Dense(4, 1), nn.SGD(0.1))}, [phase], batch_size=8, lanes=4)
