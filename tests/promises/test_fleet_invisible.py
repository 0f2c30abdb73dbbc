"""The promise: the same config, seed and data give the same bits on any fleet, and after a stop on another one."""

import pytest
from commands import ganfleet
from fleets import alone, digest, mpiexec, msrun, newest, run, workers

TINY = {
    "gan": "strategy: {name: gan, resolution: 8, latent: 8, hidden: [16, 16], ema_kimg: 0.1}",
    "dcgan": "strategy: {name: dcgan, resolution: 16, latent: 8, ngf: 8, ndf: 8, ema_kimg: 0.1}",
    # Stages: 4 for three steps, 8-fade for two, 8 for three, 16-fade for two, then 16.
    "stylegan": "strategy: {name: stylegan, resolution: 16, start_resolution: 4, stable_kimg: 0.032, fade_kimg: 0.048, "
    "latent: 8, mapping_layers: 1, fmap_base: 32, fmap_max: 8}",
}


@pytest.fixture
def config(tmp_path):
    """Writes the config of a strategy's tiny run of 30 steps with 4 lanes; gives its path."""

    def write(strategy):
        path = tmp_path / f"{strategy}.yaml"
        path.write_text(
            f"{TINY[strategy]}\n"
            "data: {source: embedded}\n"
            "train: {steps: 30, batch_size: 16, lanes: 4, seed: 3, audit_every: 10}\n"
            "fleet: {reduction: exact}\n"
            "log: {every_steps: 10, samples_every_kimg: 100, samples: 4}\n"
        )
        return path

    return write


def in_process(*arguments):
    """One process, simulated ranks or none: this one, which has MindSpore imported already."""
    ended = ganfleet("train", *arguments)
    assert ended.code == 0, ended.output


def as_a_fleet(command, cwd):
    ended = run(command, cwd)
    assert ended.code == 0, ended.output


@pytest.fixture
def digest_of(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return lambda name: digest(tmp_path / "runs" / name)


@pytest.mark.parametrize("strategy", ["gan", pytest.param("dcgan", marks=pytest.mark.slow)])
def test_every_fleet_gives_the_same_bits(strategy, config, tmp_path, digest_of):
    path = str(config(strategy))
    fleets = {
        "alone": lambda *a: in_process(*a),
        "simulated4": lambda *a: in_process(*a, "fleet.world_size=4"),
        "msrun2": lambda *a: as_a_fleet(msrun(2, tmp_path / "logs2", *a), tmp_path),
        "workers4": lambda *a: as_a_fleet(workers(4, *a), tmp_path),
        "seed4": lambda *a: in_process(*a, "train.seed=4"),
    }
    if strategy == "dcgan":
        fleets["mpiexec2"] = lambda *a: as_a_fleet(mpiexec(2, *a), tmp_path)
    for name, train in fleets.items():
        train("--config", path, f"run.name={name}")
    digests = {name: digest_of(name) for name in fleets}
    other_seed = digests.pop("seed4")
    for name, components in digests.items():
        assert components == digests["alone"], name
    assert other_seed["G.weights"] != digests["alone"]["G.weights"]
    assert other_seed["total"] != digests["alone"]["total"]
    components = {"G.weights", "G.ema", "G.optimizer", "D.weights", "D.optimizer", "clock", "data"}
    assert components <= set(other_seed)


@pytest.mark.parametrize("strategy", ["gan", pytest.param("dcgan", marks=pytest.mark.slow)])
def test_a_run_resumed_by_another_fleet_ends_with_the_bits_of_one_straight_through(
    strategy, config, tmp_path, digest_of
):
    path = str(config(strategy))
    in_process("--config", path, "run.name=straight", "train.steps=20")
    in_process("--config", path, "run.name=resumed", "train.steps=10", "fleet.world_size=2")
    as_a_fleet(workers(2, "--config", path, "run.name=resumed", "train.steps=15"), tmp_path)
    in_process("--config", path, "run.name=resumed", "train.steps=20")
    assert digest_of("resumed") == digest_of("straight")


@pytest.mark.slow
def test_two_growths_give_the_same_bits_on_every_fleet_and_after_a_stop_in_mid_fade(config, tmp_path):
    path = str(config("stylegan"))
    fleets = {
        "alone": [alone()],
        "simulated2": [alone("fleet.world_size=2")],
        "simulated4": [alone("fleet.world_size=4")],
        "msrun2": [msrun(2, tmp_path / "logs2")],
        "msrun4-then-simulated2": [msrun(4, tmp_path / "logs4", "train.steps=9"), alone("fleet.world_size=2")],
    }
    digests = {}
    for name, commands in fleets.items():
        for command in commands:
            steps = [] if "train.steps=9" in command else ["train.steps=12"]
            ended = run([*command, *steps, "--config", path, f"run.name={name}"], tmp_path, timeout=900)
            assert ended.code == 0, ended.output
            stopped_in = "16-fade" if "train.steps=9" in command else "16"
            assert newest(tmp_path / "runs" / name).facts["stage"] == stopped_in
        digests[name] = digest(tmp_path / "runs" / name)
    for name, components in digests.items():
        assert components == digests["alone"], name
