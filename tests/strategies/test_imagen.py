"""Imagen's networks, losses and drawing against float64 JAX; its sizes are those of the paper; fleets are invisible."""

import json
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import unet_float64 as float64
import yaml
from commands import ganfleet as command
from commands import one_error
from fake_captions import FEATURES, TEXT, TOKENS, Captioned, cars_in
from fleets import digest
from in_memory import one_lane
from nn.reference import assert_close, assert_gradients, normal
from PIL import Image

import ganfleet
from ganfleet import config as configs
from ganfleet import rng, testing
from ganfleet.clock import Clock
from ganfleet.data import open_section
from ganfleet.engine.pictures import Drawn, Read, captions_to_draw
from ganfleet.engine.program import Program
from ganfleet.engine.sampler import Sampler
from ganfleet.errors import ConfigError
from ganfleet.store import checkpoint
from ganfleet.strategies.base import ImageSpec
from ganfleet.strategies.imagen.strategy import Imagen, ImagenSR

CLOCK = Clock(1)
BASE = {"resolution": 4, "width": 8, "multipliers": (1,), "blocks": 1, "attention": (4,), "head_width": 4, "steps": 2}
SR = {"resolution": 8, "widths": (8, 12), "depths": (1, 1), "heads": 2, "steps": 2}
MODELS = {"imagen": (Imagen, BASE), "imagen_sr": (ImagenSR, SR)}


def model(name, **options):
    strategy, small = MODELS[name]
    return strategy(strategy.Options(**(small | options)), ImageSpec(1, 0, TEXT), batch_size=4)


# ── The reference


def base(w, x_t, time, text, mask):
    condition = float64.pooled_text(w.of("pooled"), text, mask, 2)
    heads = lambda channels: channels // 4  # noqa: E731
    return float64.unet(w.of("unet"), x_t, time, 8, (1,), 1, heads, condition, text, mask)


def enlarging(w, x_t, time, text, mask, small, level):
    condition = float64.pooled_text(w.of("pooled"), text, mask, 2) + float64.time_embedding(w.of("level"), level, 8)
    x = jnp.concatenate([x_t, float64.up(small)], 1)
    return float64.efficient_unet(w.of("unet"), x, time, (8, 12), (1, 1), 2, condition, text, mask)


def loss(w, name, real, noise):
    """MSE in ε, of texts that are zeros where they are left out."""
    w = float64.Weights(w)
    x_t = noise["alpha"] * real["image"] + noise["sigma"] * noise["epsilon"]
    keep = noise["keep"]
    text, mask = real["text"] * keep[:, None, None], real["text_mask"] * keep[:, None]
    if name == "imagen":
        predicted = base(w, x_t, noise["time"], text, mask)
    else:
        t = noise["level"] / 1000  # the SDE's linear schedule
        kept = np.exp(-0.1 * t - 19.9 * t**2 / 2)[:, None, None, None]
        small = np.sqrt(kept) * float64.down(real["image"]) + np.sqrt(1 - kept) * noise["small_epsilon"]
        predicted = enlarging(w, x_t, noise["time"], text, mask, small, noise["level"])
    return ((predicted - noise["epsilon"]) ** 2).mean()


# ── Networks and losses


@pytest.fixture(scope="module")
def programs():
    """Of a tiny model of each kind, its weights drawn anew: some start at zero."""

    def made(name):
        strategy = model(name)
        program, draw = Program(strategy, strategy.schedule()[0], 3), np.random.default_rng(1)
        weights = {}
        for key, array in program.tensors()["unet.weights"].items():
            weights[key] = (array + 0.2 * draw.standard_normal(array.shape)).astype(np.float32)
        program.inherit({"unet.weights": weights, "unet.ema": weights})
        return program

    return {name: made(name) for name in MODELS}


def double(arrays):
    return {name: np.asarray(array, np.float64) for name, array in arrays.items()}


def weights_of(program):
    return {n: jnp.asarray(a, jnp.float64) for n, a in program.tensors()["unet.weights"].items()}


@pytest.mark.parametrize("name", ["imagen", pytest.param("imagen_sr", marks=pytest.mark.slow)])
def test_loss_and_gradients_equal_float64_for_every_weight(name, programs):
    program = programs[name]
    [compiled], strategy = program.phases, program.strategy
    side = strategy.options.resolution
    real = {"image": np.tanh(normal(4, 1, side, side, seed=1)), "text": normal(4, TOKENS, FEATURES, seed=2)}
    real["text_mask"] = np.float32([[1, 1, 0], [1, 0, 0], [1, 1, 1], [1, 1, 1]])
    noise = strategy.draw(np.random.default_rng(2), 4, CLOCK)
    noise["keep"] = np.int32([1, 1, 0, 1])
    flat, stats = one_lane(compiled, real, noise)
    w = weights_of(program)
    value, gradients = jax.jit(jax.value_and_grad(lambda w: loss(w, name, double(real), double(noise))))(w)
    assert_close(stats["Loss/unet"], value, 1e-5)
    weights = program.players["unet"].weights
    assert {p.name for p in weights} == set(w)
    assert_gradients(flat, weights, gradients, 2e-4)


def test_noise_of_the_small_image_is_of_every_level():
    drawn = model("imagen_sr").draw(rng.stream(0, "test"), 2000, CLOCK)
    level = drawn["level"] / 1000
    assert 0 <= level.min() < 0.01 and 0.99 < level.max() < 1 and level.mean() == pytest.approx(0.5, abs=0.03)
    np.testing.assert_allclose(drawn["small_alpha"] ** 2 + drawn["small_sigma"] ** 2, 1, rtol=1e-5)


@pytest.mark.parametrize("name", MODELS)
def test_a_tenth_of_the_texts_is_left_out(name):
    assert model(name).draw(rng.stream(0, "test"), 8000, CLOCK)["keep"].mean() == pytest.approx(0.9, abs=0.015)


# ── Drawing


@pytest.mark.slow
def test_a_step_of_drawing_is_what_the_networks_say_of_prompt_and_small_image(programs):
    program = programs["imagen_sr"]
    strategy, w = program.strategy, float64.Weights(weights_of(program))
    small = np.tanh(normal(1, 1, 4, 4, seed=3))
    inputs = strategy.from_images(small, rng.stream(5, "then"), CLOCK)
    inputs |= {"text": normal(1, TOKENS, FEATURES, seed=4), "text_mask": np.float32([[1, 1, 0]])}
    asked = strategy.SampleOptions(steps=1, guidance=2.5, noise=0.3, percentile=80)
    image = Sampler(program).draw([strategy.with_options(inputs, asked)])

    kept, x = np.exp(-0.1 * 0.3 - 19.9 * 0.3**2 / 2), double(inputs)["noise"]
    noisy = np.sqrt(kept) * small + np.sqrt(1 - kept) * double(inputs)["small_epsilon"]
    alpha, sigma = strategy.noise_schedule.alpha_sigma(1.0)
    say = partial(enlarging, w, x, np.array([1000.0]), small=noisy, level=np.array([300.0]))
    told, untold = say(inputs["text"], inputs["text_mask"]), say(0 * inputs["text"], 0 * inputs["text_mask"])
    epsilon = np.asarray(2.5 * told - 1.5 * untold)
    x0 = (x - sigma * epsilon) / alpha
    reach = max(1, np.percentile(np.abs(x0), 80))
    assert_close(image, np.clip(x0, -reach, reach) / reach, 1e-3)


def test_grids_of_a_run_enlarge_its_data_and_alone_it_draws_nothing(programs):
    strategy = programs["imagen_sr"].strategy
    sample = Captioned(1, 0).at(8)[1]
    data = {name: array[None] for name, array in sample.items()} | {"image": sample["image"][None] / 127.5 - 1}
    image = Sampler(programs["imagen_sr"]).draw([{n: a.astype(np.float32) for n, a in data.items()}])
    assert image.shape == (1, 1, 8, 8) and np.abs(image).max() <= 1
    with pytest.raises(ConfigError, match="enlarges images of another one"):
        strategy.sample_inputs(rng.stream(0, "sample"), CLOCK)
    with pytest.raises(ConfigError, match="enlarges images of 4x4 pixels, and was given some of 8x8"):
        strategy.from_images(np.zeros((1, 1, 8, 8)), rng.stream(0, "sample"), CLOCK)


def test_data_without_captions_are_one_error(tmp_path):
    (tmp_path / "config.yaml").write_text("strategy: {name: imagen, resolution: 8}\n")
    message = one_error(command("plan", "--config", str(tmp_path / "config.yaml")), 2)
    assert "needs captions" in message and "set data.source to captioned" in message


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("depths: [1, 2]", "there are 2 depths for 3 widths"),
        ("factor: 3", "factor is 3, and must be a power of two"),
        ("resolution: 36", "resolution is 36, and must be one that 8 divides, with 3 widths"),
        ("heads: 3", "the last of widths is 128, which 3 heads cannot share evenly"),
    ],
)
def test_sizes_that_cannot_be_are_one_error(words, message, tmp_path):
    (tmp_path / "config.yaml").write_text(f"strategy: {{name: imagen_sr, features: 4, {words}}}\n")
    assert message in one_error(command("plan", "--config", str(tmp_path / "config.yaml")), 2)


# ── From captions to pictures of a prompt


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A base and what enlarges it, trained for a step each on images with captions."""
    folder = tmp_path_factory.mktemp("imagen")
    data = cars_in(folder, 8)
    for name, (_, options) in MODELS.items():
        given = json.dumps(
            {"name": name} | options | {"lr": 1e-2} | ({"prompts": ["a cat"]} if name == "imagen" else {})
        )
        (folder / f"{name}.yaml").write_text(
            f"strategy: {given}\ndata: {data}\ntrain: {{batch_size: 8, lanes: 4, steps: 2}}\n"
            f"log: {{samples: 2, every_steps: 1}}\nrun: {{dir: {folder}, name: {name}}}\n"
        )
        ended = command("train", "--config", str(folder / f"{name}.yaml"))
        assert ended.code == 0, ended.output
    return folder


@pytest.mark.slow
def test_two_ranks_and_then_four_train_the_base_to_the_bits_of_one_process(runs):
    """Each with a strategy object of its own. The second model is in tests/promises/test_text_to_image.py."""
    config = configs.load(runs / "imagen.yaml")
    options = yaml.safe_load((runs / "imagen.yaml").read_text())["strategy"]
    source = open_section(config.data, config.strategy.resolution)
    how = {"options": {**options, "lr": 0.01}, "source": source}
    half = testing.simulate(how["options"].pop("name"), 2, 1, **how)
    whole = testing.simulate("imagen", 4, 1, resumed_from=half.snapshot, **how)
    found, expected = checkpoint.digest(whole.snapshot), digest(runs / "imagen")
    for component in ("unet.weights", "unet.ema", "unet.optimizer", "clock"):
        assert found[component] == expected[component], component


@pytest.mark.slow
def test_a_chain_draws_a_prompt_and_another_prompt_is_another_picture(runs):
    with ganfleet.load(runs / "imagen") as first, ganfleet.load(runs / "imagen_sr") as second:
        said = {word: first.sample([1, 2], prompt=f"a {word} car", guidance=3) for word in ("red", "blue")}
        assert said["red"].shape == (2, 3, 4, 4)
        assert not np.array_equal(said["red"], said["blue"])
        assert np.array_equal(first.sample([2], prompt="a red car", guidance=3)[0], said["red"][1])
        unguided = {word: first.sample([1], prompt=f"a {word} car", guidance=0) for word in ("red", "blue")}
        assert np.array_equal(unguided["red"], unguided["blue"])
        enlarged = first.then(second, prompt="a red car").sample([1, 2], prompt="a red car", guidance=3)
        assert enlarged.shape == (2, 3, 8, 8)


@pytest.mark.slow
def test_what_is_measured_is_drawn_with_the_captions_of_real_images_in_turn(runs):
    with ganfleet.load(runs / "imagen") as loaded:
        source = open_section(loaded.config.data, 4)
        options = loaded.strategy.SampleOptions(guidance=3)
        captions = captions_to_draw(options, Read(source, 2, seed=1))
        assert len(captions) == 2 and set(captions) <= {"a red car", "a blue car"}
        assert captions_to_draw(loaded.strategy.SampleOptions(prompt="a cat"), Read(source, 2)) == []
        pictures = Drawn(loaded.from_seeds(options), 3, 5, captions)
        with pictures.ready():
            drawn = pictures.images(range(3))
        for i, prompt in enumerate([*captions, captions[0]]):
            np.testing.assert_array_equal(drawn[i], loaded.sample([5 + i], prompt=prompt, guidance=3)[0])


@pytest.mark.slow
def test_the_command_draws_prompts(runs, tmp_path):
    base, sr, out = (str(path) for path in (runs / "imagen", runs / "imagen_sr", tmp_path / "out.png"))
    prompts = ("--prompt", "a red car", "--prompt", "a blue car")
    ended = command(
        "sample", "--checkpoint", base, "--then", sr, "--out", out, "--seeds", "0-2", *prompts, "guidance=2"
    )
    assert ended.code == 0, ended.output
    with ganfleet.load(runs / "imagen") as first, ganfleet.load(runs / "imagen_sr") as second:
        expected = first.then(second, prompt="a blue car").sample([0, 1, 2], prompt="a blue car", guidance=2)
    (tmp_path / "prompts.txt").write_text("a red car\n\n a blue car \n", encoding="utf-8")
    files = ("--out-dir", str(tmp_path), "--seeds", "0-2", "--prompts", str(tmp_path / "prompts.txt"))
    ended = command("sample", "--checkpoint", base, "--then", sr, *files, "guidance=2")
    assert ended.code == 0, ended.output
    drawn = np.asarray(Image.open(tmp_path / "prompt-001-seed-000002.png")).transpose(2, 0, 1)
    np.testing.assert_allclose(drawn, (expected[2] + 1) * 127.5, atol=1)
    refused = command("sample", "--checkpoint", base, "--out", out, "promt=a red car")
    assert "did you mean prompt?" in one_error(refused, 2)


# ── The paper's sizes


def parameters(strategy, channels=3, **options):
    made = strategy(strategy.Options(**options), ImageSpec(channels), batch_size=8)
    nets = made.networks().values()
    return sum(p.size for net in nets for p in net.get_parameters())


def at_width(count, width, small=(8, 16, 24)):
    """Parameters are quadratic in the width: those at a large one from those at three small ones, in exact numbers."""
    coefficients = np.polyfit(small, [count(each) for each in small], 2)
    return np.polyval(coefficients, width)


def test_the_papers_base_model_has_as_many_parameters_as_glides_of_the_same_table():
    def count(width):
        sizes = {"width": width, "multipliers": (1, 2, 3, 4), "blocks": 3, "attention": (32, 16, 8), "head_width": 8}
        return parameters(Imagen, resolution=64, features=4096, **sizes)

    assert at_width(count, 512) == pytest.approx(2_388_781_571, rel=1e-6)  # GLIDE's U-Net has 2.3 billion


@pytest.mark.parametrize(("pixels", "expected"), [(True, 481_267_715), (False, 477_069_315)])
def test_the_papers_enlarging_models_have_their_convolutions_and_what_joins_them(pixels, expected):
    def count(width):
        sizes = {"widths": tuple(width * each for each in (1, 2, 4, 8)), "depths": (2, 4, 8, 8), "heads": 8}
        return parameters(ImagenSR, resolution=256, factor=4, features=4096, pixels=pixels, **sizes)

    table = 2 * sum(deep * 2 * 9 * wide**2 for wide, deep in zip((128, 256, 512, 1024), (2, 4, 8, 8), strict=True))
    assert table < expected < 1.25 * table
    assert at_width(count, 128) == pytest.approx(expected, rel=1e-6)
