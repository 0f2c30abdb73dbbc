"""``ganfleet.load``: samples by loops on the host, chains of models, and what a checkpoint may not do."""

import os
import shutil
from pathlib import Path

import loops
import numpy as np
import pytest
from fleets import REPOSITORY, msrun, run
from PIL import Image
from stored import save_start_of

import ganfleet
from ganfleet import rng
from ganfleet.engine import compile_cache
from ganfleet.engine.sampler import Sampler, seeded
from ganfleet.errors import CheckpointDamaged, ConfigError
from ganfleet.fleet import SimulatedFleet
from ganfleet.store import checkpoint

LOOPED, ENLARGED = "loops:Looped", "loops:Enlarged"
SEEDS = [5, 0, 2**40]


def yaml(name, resolution):
    return (
        f"strategy: {{name: '{name}', resolution: {resolution}}}\n"
        "train: {batch_size: 1, lanes: 1}\nfleet: {reduction: exact}\n"
    )


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    """Holds the runs low (4²) and high (8²). The averages in low are half of its weights."""
    directory = tmp_path_factory.mktemp("loaded")
    save_start_of(yaml(ENLARGED, 8), directory / "high")
    low = save_start_of(yaml(LOOPED, 4), directory / "low")
    [path] = checkpoint.within(low)
    snapshot = checkpoint.load(path)
    snapshot.tensors["G.ema"] = {name: array / 2 for name, array in snapshot.tensors["G.weights"].items()}
    checkpoint.save(low / "checkpoints", snapshot, 0, keep=1)
    return directory


@pytest.fixture(autouse=True)
def there(directory, monkeypatch):
    monkeypatch.chdir(directory)


@pytest.fixture(scope="module")
def low(directory):
    with ganfleet.load(directory / "low", strategy=LOOPED) as loaded:
        yield loaded


@pytest.fixture(scope="module")
def high(directory):
    with ganfleet.load(directory / "high", strategy=ENLARGED) as loaded:
        yield loaded


def weights_of(run_dir, component):
    [path] = checkpoint.within(Path(run_dir))
    named = checkpoint.load(path).tensors[component]
    return next(w for w in named.values() if w.ndim == 2), next(w for w in named.values() if w.ndim == 1)


def looped(seed, component, brightness=0.0):
    """The image of ``seed``, (1, 4, 4), computed by numpy in float64."""
    w, b = (array.astype(np.float64) for array in weights_of("low", component))
    stream = rng.stream(seed, "sample")
    own = stream.integers(2**63, size=1)[0]
    x = stream.standard_normal((1, 16), dtype=np.float32) + brightness
    for t in range(loops.STEPS):
        x = np.tanh(x @ w.T + b + t / loops.STEPS * loops.noise_of(own, t, 16))
    return x.reshape(1, 4, 4)


def test_a_loop_on_the_host_draws_what_its_steps_say(low):
    images = low.sample(SEEDS)
    assert images.dtype == np.float32 and images.shape == (3, 1, 4, 4)
    np.testing.assert_allclose(images, [looped(seed, "G.ema") for seed in SEEDS], atol=1e-5)
    np.testing.assert_allclose(low.sample([5], ema=False), [looped(5, "G.weights")], atol=1e-5)
    np.testing.assert_allclose(low.sample([5], brightness=1.0), [looped(5, "G.ema", 1.0)], atol=1e-5)


def test_averages_that_are_not_there_are_not_replaced_silently(tmp_path):
    plain = save_start_of(yaml("gan", 4), tmp_path / "plain")
    with pytest.raises(ConfigError, match=r"plain has no averaged weights: leave ema \(--ema\) out"):
        ganfleet.load(plain, ema=True)
    with ganfleet.load(plain) as loaded, pytest.raises(ConfigError, match="no averaged weights"):
        loaded.sample([1], ema=True)


def test_a_loop_compiles_its_graph_once(low):
    low.sample(SEEDS)
    loops.Looped.compiled_after_step.clear()
    with compile_cache.unused(), ganfleet.load("low", strategy=LOOPED) as anew:
        before = len(loops.compilations)
        anew.sample(range(40))  # three chunks
        assert len(loops.Looped.compiled_after_step) == 3 * loops.STEPS
        assert set(loops.Looped.compiled_after_step) == {len(loops.compilations)}
        assert len(loops.compilations) > before


def test_an_image_has_the_same_bits_in_any_company_and_on_any_fleet(low):
    done = []
    images = low.sample(range(40), progress=done.append)
    assert done == [16, 32, 40]
    np.testing.assert_array_equal(low.sample([17])[0], images[17])
    np.testing.assert_array_equal(dict(low.each(range(40)))[39], images[39])
    inputs = [seeded(low.strategy, low.clock, seed) for seed in range(40)]
    simulated = Sampler(low._program).images(inputs, low.clock, SimulatedFleet(2, "exact", 2), ema=False)
    np.testing.assert_array_equal(simulated, images)


@pytest.mark.slow
def test_three_ranks_draw_what_one_process_draws(low, high, tmp_path, monkeypatch):
    """The runs were trained with fleet.reduction exact, which three ranks could not have."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(REPOSITORY), str(REPOSITORY / "tests")]))
    arguments = ["--checkpoint", "low", "--strategy", LOOPED, "--seeds", "0-3", "--out-dir", str(tmp_path / "images")]
    arguments += ["--then", "high", "--strategy", ENLARGED]
    script = str(REPOSITORY / "launch" / "sample.py")
    ended = run([*msrun(3, tmp_path)[:-1], script, *arguments], Path.cwd())
    assert ended.code == 0, ended.output
    for seed, image in enumerate(low.then(high).sample(range(4))):
        written = np.asarray(Image.open(tmp_path / "images" / f"seed-{seed:06d}.png"))
        np.testing.assert_array_equal(written, np.rint((image[0] + 1) * 127.5))


def test_networks_hold_averaged_weights_or_where_asked_the_training_ones(low):
    low.sample([0], ema=False)
    for loaded, component in [(low, "G.ema"), (ganfleet.load("low", LOOPED, ema=False), "G.weights")]:
        [net] = loaded.networks.values()
        [w] = [p.asnumpy() for p in net.get_parameters() if p.ndim == 2]
        np.testing.assert_array_equal(w, weights_of("low", component)[0])


# ── Chains


def test_a_chain_goes_on_from_the_images_before(low, high):
    w, b = weights_of("high", "G.ema")
    images = low.then(high).sample(SEEDS)
    before = low.sample(SEEDS)
    for seed, small, image in zip(SEEDS, before, images, strict=True):
        grain = rng.stream(seed, "sample/then", 1).standard_normal((1, 1, 8, 8), dtype=np.float32).reshape(1, -1)
        expected = np.tanh(small.repeat(2, axis=1).repeat(2, axis=2) + 0.1 * (grain @ w.T + b).reshape(1, 8, 8))
        np.testing.assert_allclose(image, expected, atol=1e-5)
    np.testing.assert_array_equal(low.then(high).sample([2**40])[0], images[2])


def test_a_model_that_cannot_go_on_says_which_method_to_write(low):
    with pytest.raises(
        ConfigError, match=r"Looped cannot .* give its class the method from_images\(images, rng, clock"
    ):
        low.then(low).sample([0])


# ── What is refused


def test_a_chain_of_something_else_is_refused(low):
    with pytest.raises(ConfigError, match=r"'runs/high' cannot go on in a chain: give what ganfleet.load returned"):
        low.then("runs/high")


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"seeds": []}, "there are no seeds"),
        ({"seeds": [0, 1], "classes": [1, 2, 3]}, "there are 3 classes for 2 seeds"),
        ({"seeds": 5}, r"seeds is 5: give a list of them"),
        ({"seeds": "0-3"}, "seeds is '0-3': give a list"),
        ({"seeds": [2**70]}, "1180591620717411303424 is no seed: give whole numbers from 0 to"),
        ({"seeds": [1.5]}, "1.5 is no seed"),
        ({"seeds": [-1]}, "-1 is no seed"),
        ({"seeds": [0], "classes": "1"}, "'1' is no class"),
        ({"seeds": [0], "classes": [True]}, "True is no class"),
        ({"seeds": [0], "brightnes": 1.0}, "unknown option brightnes: did you mean brightness"),
        ({"seeds": [0], "brightness": "much"}, "brightness=much: it must be a valid number"),
    ],
)
def test_what_cannot_be_sampled_is_refused(given, told, low):
    with pytest.raises(ConfigError, match=told):
        low.sample(**given)


def test_a_checkpoint_does_not_get_code_imported(tmp_path, monkeypatch):
    (tmp_path / "planted.py").write_text("open('planted', 'w')\nfrom loops import Looped\n")
    shutil.copytree("low", tmp_path / "low")
    monkeypatch.chdir(tmp_path)
    [path] = checkpoint.within(Path("low"))
    snapshot = checkpoint.load(path)
    snapshot.config["strategy"]["name"] = "planted:Looped"
    checkpoint.save(Path("low/checkpoints"), snapshot, 0, keep=1)
    with pytest.raises(ConfigError, match="if you trust it, add --strategy planted:Looped"):
        ganfleet.load("low")
    assert not Path("planted").exists()
    ganfleet.load("low", strategy="planted:Looped").close()
    assert Path("planted").exists()


def test_a_damaged_checkpoint_is_refused(tmp_path):
    shutil.copytree("low", tmp_path / "low")
    [path] = checkpoint.within(tmp_path / "low")
    with open(path / "G.weights.safetensors", "r+b") as file:
        file.truncate(50)
    with pytest.raises(CheckpointDamaged, match=r"G\.weights"):
        ganfleet.load(path, LOOPED)


def test_sampling_writes_nothing_into_the_run(tmp_path):
    shutil.copytree("low", tmp_path / "low")

    def state():
        return {path: (path.stat().st_mtime_ns, path.is_file() and path.read_bytes()) for path in paths()}

    def paths():
        return [tmp_path / "low", *(tmp_path / "low").rglob("*")]

    before = state()
    with ganfleet.load(tmp_path / "low", LOOPED) as loaded:
        loaded.sample([0])
    assert state() == before
