"""The promise: the same config, seed and data give the same bits on any fleet, and after a stop on another one."""

import pytest
from commands import ganfleet
from fleets import alone, digest, mpiexec, msrun, one_at_a_time, run, workers

pytestmark = one_at_a_time
TINY = {
    "gan": "strategy: {name: gan, resolution: 8, latent: 8, hidden: [16], ema_kimg: 0.1}",
    "dcgan": "strategy: {name: dcgan, resolution: 16, latent: 8, ngf: 8, ndf: 8, ema_kimg: 0.1}",
}
# The fleets that train one run in turn, and the step after which each stops.
TURNS = {
    "gan": {"msrun 2": 10, "simulated 4": 20},
    "dcgan": {"workers 4": 10, "mpiexec 2": 15, "simulated 1": 20, "msrun 4": 25},
}


@pytest.fixture
def config(tmp_path):
    """Writes the config of a strategy's tiny run with 4 lanes; gives its path."""

    def write(strategy):
        path = tmp_path / f"{strategy}.yaml"
        path.write_text(
            f"{TINY[strategy]}\n"
            "data: {source: embedded}\n"
            "train: {batch_size: 16, lanes: 4, seed: 3, audit_every: 10}\n"
            "fleet: {reduction: exact}\n"
            "log: {every_steps: 10, samples_every_kimg: 100, samples: 4}\n"
        )
        return str(path)

    return write


@pytest.fixture
def train(tmp_path, monkeypatch):
    """Trains on the fleet of that name."""
    monkeypatch.chdir(tmp_path)

    def on(fleet, *arguments):
        kind, ranks = fleet.split()
        ranks = int(ranks)
        if kind == "simulated":  # in this process, which has MindSpore imported already
            ended = ganfleet("train", *arguments, f"fleet.world_size={ranks}")
        elif kind == "msrun":
            ended = run(msrun(ranks, tmp_path / "logs", *arguments), tmp_path, timeout=900)
        else:
            ended = run({"workers": workers, "mpiexec": mpiexec}[kind](ranks, *arguments), tmp_path, timeout=900)
        assert ended.code == 0, ended.output

    return on


@pytest.mark.parametrize("strategy", ["gan", pytest.param("dcgan", marks=pytest.mark.slow)])
def test_fleets_that_train_a_run_in_turn_end_with_the_bits_of_one_process(strategy, config, train, tmp_path):
    """A bit that any fleet gets wrong is in all steps after it. That a StyleGAN may stop in mid-fade is in
    test_strategies_invisible.py.
    """
    path, last = config(strategy), [*TURNS[strategy].values()][-1]
    # First, so that the ranks find its graphs compiled.
    train("simulated 1", "--config", path, "run.name=alone", f"train.steps={last}")
    for fleet, step in TURNS[strategy].items():
        train(fleet, "--config", path, "run.name=in-turn", f"train.steps={step}")
    components = digest(tmp_path / "runs" / "in-turn")
    assert components == digest(tmp_path / "runs" / "alone")
    assert {"G.weights", "G.ema", "G.optimizer", "D.weights", "D.optimizer", "clock", "data"} <= set(components)


@pytest.mark.slow
@pytest.mark.parametrize("kernels", ["auto", "stock"])
def test_a_process_that_may_use_all_cores_has_the_bits_of_one_that_has_one(kernels, config, train, tmp_path):
    """This one is pinned to a core."""
    arguments = ("--config", config("dcgan"), "train.steps=2", f"fleet.kernels={kernels}")
    ended = run(alone(*arguments, "run.name=all"), tmp_path)
    assert ended.code == 0, ended.output
    train("simulated 1", *arguments, "run.name=one")
    assert digest(tmp_path / "runs" / "all") == digest(tmp_path / "runs" / "one")


def test_another_seed_gives_other_bits(config, train, tmp_path):
    for seed in (3, 4):
        train("simulated 1", "--config", config("gan"), f"run.name=seed{seed}", "train.steps=2", f"train.seed={seed}")
    first, second = (digest(tmp_path / "runs" / name) for name in ("seed3", "seed4"))
    assert first["G.weights"] != second["G.weights"] and first["total"] != second["total"]
