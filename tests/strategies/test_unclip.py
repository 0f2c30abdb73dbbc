"""DALL·E 2's towers, prior and decoder against float64 JAX; two embeddings are drawn, and the better one is kept.

That any ranks train them to the same bits is in tests/promises/test_text_to_image.py.
"""

import jax
import jax.numpy as jnp
import mindspore as ms
import numpy as np
import pytest
import unet_float64 as float64
import yaml
from fake_captions import FEATURES, TEXT, TOKENS
from in_memory import one_lane
from mindspore import nn as ms_nn
from nn.reference import assert_close, assert_gradients, normal
from scipy.ndimage import gaussian_filter

from ganfleet import recipes, rng
from ganfleet.clock import Clock
from ganfleet.engine.program import Program
from ganfleet.engine.sampler import Sampler
from ganfleet.errors import ConfigError
from ganfleet.plugins import STRATEGIES
from ganfleet.store import weights
from ganfleet.strategies.base import ImageSpec
from ganfleet.strategies.diffusion.schedule import Schedule
from ganfleet.strategies.unclip.decoder import Unclip
from ganfleet.strategies.unclip.figures import Difference
from ganfleet.strategies.unclip.prior import UnclipPrior, drawn_embeddings
from ganfleet.strategies.unclip.towers import Towers
from ganfleet.strategies.unclip.upsampler import UnclipSR, blurred

CLOCK, D, SIDE = Clock(1), 5, 4
TOWERS = {"resolution": SIDE, "tower": (4,), "text_width": 4, "text_heads": 2, "embedding": D}
PRIOR = TOWERS | {"prior_width": 8, "prior_depth": 1, "prior_heads": 2}
DECODER = PRIOR | {"width": 4, "multipliers": (1,), "blocks": 1, "attention": (), "head_width": 4, "timesteps": 20}
UPSAMPLER = {"resolution": SIDE, "width": 4, "multipliers": (1,), "blocks": 1, "timesteps": 20, "steps": 2}
DECODER |= {"steps": 2, "prior_steps": 2, "prior_timesteps": 20, "learned_variance": False}


def built(strategy, options, lane=4):
    made = strategy(strategy.Options(**options), ImageSpec(1, 0, TEXT), batch_size=lane)
    program, draw = Program(made, made.schedule()[0], 3), np.random.default_rng(1)
    [player] = program.players
    changed = {}
    for name, array in program.tensors()[f"{player}.weights"].items():
        changed[name] = (array + 0.2 * draw.standard_normal(array.shape)).astype(np.float32)
    program.inherit({f"{player}.weights": changed, f"{player}.ema": changed})
    return program


@pytest.fixture(scope="module")
def programs(tmp_path_factory):
    """Towers, a prior that was made with them, and a decoder with both, all with random weights."""
    folder = tmp_path_factory.mktemp("unclip")
    made = {"towers": built(Towers, TOWERS)}
    weights.write(folder / "towers.safetensors", made["towers"].tensors()["towers.weights"])
    files = {"encoder": str(folder / "towers.safetensors")}
    made["prior"] = built(UnclipPrior, PRIOR | files | {"timesteps": 20, "steps": 2})
    weights.write(folder / "prior.safetensors", made["prior"].tensors()["unet.weights"])
    made["decoder"] = built(Unclip, DECODER | files | {"prior": str(folder / "prior.safetensors")})
    return made


def arrays_of(program):
    [player] = program.players
    return {n: jnp.asarray(a, jnp.float64) for n, a in program.tensors()[f"{player}.weights"].items()}


def real(side=4):
    mask = np.float32([[1, 1, 0], [1, 0, 0], [1, 1, 1], [1, 1, 1]])
    return {
        "image": np.tanh(normal(4, 1, side, side, seed=1)),
        "text": normal(4, TOKENS, FEATURES, seed=2) * mask[:, :, None],
        "text_mask": mask,
    }


def double(arrays):
    return {name: np.asarray(array, np.float64) for name, array in arrays.items()}


# ── The reference


def unit(x):
    return x / jnp.sqrt((x**2).sum(-1, keepdims=True))


def image_tower(w, x):
    x = float64.convolution(w.of("first"), x)
    x = float64.residual_block(w.of("blocks.0"), x)
    x = float64.residual_block(w.of("blocks.1"), x, resample="down")
    return unit(float64.dense(w.of("last"), float64.silu(float64.group_norm(w.of("norm"), x)).mean((2, 3))))


def text_tower(w, text, mask):
    query = jnp.broadcast_to(w["query.weight"][None], (len(text), 1, 4))
    text = float64.layer_norm(w.of("norm"), text)
    x = float64.attention(w.of("attention"), query, 2, text, mask)[:, 0]
    return unit(float64.dense(w.of("last"), float64.silu(float64.dense(w.of("first"), x))))


def prior(w, z, t, text, caption):
    parts = [float64.dense(w.of("caption"), caption), float64.time_embedding(w.of("time"), t, 8)]
    parts += [float64.dense(w.of("noised"), z), jnp.broadcast_to(w["query.weight"], (len(z), 8))]
    x = jnp.concatenate([float64.dense(w.of("words"), text), jnp.stack(parts, 1)], 1) + w["positions"]
    x = float64.transformer_block(w.of("blocks.0"), x, 2, causal=True)
    return float64.dense(w.of("last"), float64.layer_norm(w.of("norm"), x[:, -1]))


def decoder(w, x_t, t, text, mask, z):
    z = z * np.sqrt(D)
    condition = float64.dense(w.of("embedded.condition"), z)
    tokens = float64.dense(w.of("embedded.tokens"), z).reshape(len(z), 4, FEATURES)
    text, mask = jnp.concatenate([text, tokens], 1), jnp.concatenate([mask, jnp.ones((len(z), 4))], 1)
    heads = lambda channels: max(1, channels // 4)  # noqa: E731
    return float64.unet(w.of("unet"), x_t, t, 4, (1,), 1, heads, condition, text, mask)


# ── Losses


def assert_learns(program, given, noise, loss):
    """Loss and gradients of the program's phase are those of ``loss(w, given, noise)``.

    Images are arguments: convolutions of constants are folded by XLA, and then wrong.
    """
    [compiled] = program.phases
    flat, stats = one_lane(compiled, given, noise)
    wide, drawn = double(given), double(noise)
    reference = jax.jit(jax.value_and_grad(lambda w, x: loss(float64.Weights(w), wide | {"image": x}, drawn)))
    value, gradients = reference(arrays_of(program), wide["image"])
    assert_close(stats[f"Loss/{compiled.name}"], value, 1e-5)
    trained = program.players[compiled.phase.player].weights
    assert {p.name for p in trained} == set(gradients)
    assert_gradients(flat, trained, gradients, 2e-4)


def test_towers_tell_each_caption_from_the_others_of_the_lane(programs):
    given = real()

    def loss(w, d, n):
        images = image_tower(w.of("image_tower"), d["image"])
        captions = text_tower(w.of("text_tower"), d["text"], d["text_mask"])
        logits = jnp.exp(w["scale.log"]) * images @ captions.T
        both = [jax.nn.log_softmax(logits, axis) for axis in (0, 1)]
        return -sum(jnp.diag(each).mean() for each in both) / 2

    assert_learns(programs["towers"], given, {}, loss)


def test_a_tower_of_one_sample_is_refused():
    strategy = Towers(Towers.Options(**TOWERS), ImageSpec(1, 0, TEXT), batch_size=2)
    with pytest.raises(ConfigError, match="nothing to tell it from"):
        strategy.check(strategy.schedule()[0], 1)


def test_the_prior_predicts_the_embedding_itself(programs):
    program, towers = programs["prior"], float64.Weights(arrays_of(programs["towers"]))
    noise = program.strategy.draw(np.random.default_rng(2), 4, CLOCK)
    noise["keep"] = np.int32([1, 0, 1, 1])
    given = real()

    def loss(w, d, n):
        z = image_tower(towers.of("image_tower"), d["image"]) * 0.54 * D**0.5
        z_t = n["alpha"][:, :, 0, 0] * z + n["sigma"][:, :, 0, 0] * n["epsilon"][:, :, 0, 0]
        caption = text_tower(towers.of("text_tower"), d["text"], d["text_mask"]) * n["keep"][:, None]
        return ((prior(w.of("prior"), z_t, n["time"], d["text"] * n["keep"][:, None, None], caption) - z) ** 2).mean()

    assert_learns(program, given, noise, loss)


@pytest.mark.slow
def test_the_decoder_is_told_the_embedding_as_a_condition_and_as_tokens(programs):
    program, towers = programs["decoder"], float64.Weights(arrays_of(programs["towers"]))
    noise = program.strategy.draw(np.random.default_rng(2), 4, CLOCK)
    noise |= {"keep": np.int32([1, 0, 1, 1]), "keep_embedding": np.int32([1, 1, 0, 1])}
    given = real()

    def loss(w, d, n):
        x_t = n["alpha"] * d["image"] + n["sigma"] * n["epsilon"]
        z = image_tower(towers.of("image_tower"), d["image"]) * n["keep_embedding"][:, None]
        text, mask = d["text"] * n["keep"][:, None, None], d["text_mask"] * n["keep"][:, None]
        return ((decoder(w, x_t, n["time"], text, mask, z) - n["epsilon"]) ** 2).mean()

    assert_learns(program, given, noise, loss)


# ── Drawing


def test_of_two_embeddings_the_one_nearer_to_the_captions_is_kept():
    """A perfect prior for embeddings that are one of two directions, by which way the noise points."""

    def predict(inputs):
        first = np.where(inputs["x_t"][:, :1] > 0, 1.0, -1.0)
        return np.concatenate([first, np.zeros_like(inputs["x_t"][:, 1:])], 1).astype(np.float32)

    noise = np.zeros((3, 2, 4), np.float32)
    noise[:, 0, 0], noise[:, 1, 0] = (1, 1, -1), (-1, 1, 1)
    caption = np.tile(np.float32([0.6, 0.8, 0, 0]), (3, 1))
    inputs = {"text": caption, "caption": caption, "prior_noise": noise, "seed": np.arange(3)}
    found = drawn_embeddings(predict, inputs, 5, 2.0, Schedule("cosine", 20))
    np.testing.assert_allclose(found, [[1, 0, 0, 0]] * 3, atol=1e-6)


@pytest.mark.slow
def test_a_prompt_goes_through_towers_prior_and_decoder(programs):
    program = programs["decoder"]
    strategy = program.strategy
    inputs = strategy.sample_inputs(rng.stream(5, "sample"), CLOCK)
    told = inputs | {"text": normal(1, TOKENS, FEATURES, seed=4), "text_mask": np.float32([[1, 1, 0]])}
    asked = strategy.SampleOptions(steps=1, method="ddim", guidance=2.0)
    image = Sampler(program).draw([strategy.with_options(told, asked)])

    towers, of_prior = (float64.Weights(arrays_of(programs[name])) for name in ("towers", "prior"))
    text, mask = (np.asarray(told[name], np.float64) for name in ("text", "text_mask"))
    caption, tries = text_tower(towers.of("text_tower"), text, mask), []
    schedule = Schedule("cosine", 20)
    for z in np.asarray(told["prior_noise"][0], np.float64)[:, None]:
        for t, step in schedule.way(2):
            z0 = np.asarray(prior(of_prior.of("prior"), z, np.array([1000 * t]), text, caption))
            z = step.ddim(z, z0)
        tries.append(np.asarray(unit(z)))
    z = max(tries, key=lambda each: float((each * caption).sum()))
    w, x, alpha_sigma = (
        float64.Weights(arrays_of(program)),
        np.float64(told["noise"]),
        strategy.noise_schedule.alpha_sigma(1),
    )
    time, (alpha, sigma) = np.array([1000.0]), alpha_sigma
    epsilon = 2 * decoder(w, x, time, text, mask, z) - decoder(w, x, time, 0 * text, 0 * mask, 0 * z)
    x0 = np.asarray((x - sigma * epsilon) / alpha)
    assert_close(image, np.clip(x0, -1, 1), 1e-3)


def told_of(strategy, seed=5):
    inputs = strategy.sample_inputs(rng.stream(seed, "sample"), CLOCK)
    return inputs | {"text": normal(1, TOKENS, FEATURES, seed=4), "text_mask": np.float32([[1, 1, 0]])}


def test_an_interpolation_goes_from_one_texts_embedding_to_the_others(programs):
    strategy, sampler = programs["decoder"].strategy, Sampler(programs["decoder"])
    first = told_of(strategy)
    other = {"text": normal(1, TOKENS, FEATURES, seed=9), "text_mask": np.float32([[1, 0, 0]])}

    def along(start, end, share, **more):
        to = {"to_text": end["text"], "to_mask": end["text_mask"], "share": np.float32([share])}
        return sampler.draw([start | to | {name: np.ones(1, np.float32) for name in more}])

    there, back = first, first | other
    np.testing.assert_allclose(along(there, back, 1.0), along(back, there, 0.0), atol=2e-3)
    np.testing.assert_allclose(along(there, back, 0.3), along(back, there, 0.7), atol=2e-3)
    assert np.abs(along(there, back, 0.3) - along(there, back, 0.0)).max() > 1e-3
    np.testing.assert_allclose(along(there, back, 0.0, difference=True), along(there, back, 0.0), atol=2e-3)
    assert np.abs(along(there, back, 0.3, difference=True) - along(there, back, 0.3)).max() > 1e-4


def test_a_difference_between_texts_that_are_the_same_to_the_encoder_is_refused(programs, monkeypatch):
    """There is none to follow: images would not be finite, as if training had failed."""
    strategy = programs["decoder"].strategy
    told = {name: told_of(strategy)[name] for name in ("text", "text_mask")}
    monkeypatch.setattr(strategy, "encoded", lambda text: told)
    figure = Difference(strategy)
    with pytest.raises(ConfigError, match="prompt= and to= are the same to the text encoder"):
        figure.draw(lambda seed: told_of(strategy, seed), None, figure.Options(to="A  Car", seeds=(0,)))


def test_variations_differ_by_the_noise_that_is_drawn_on_the_way_alone(programs):
    pixels = np.random.default_rng(3).uniform(-0.5, 0.5, (1, SIDE, SIDE)).astype(np.float32)
    program = programs["decoder"]
    strategy, sampler = program.strategy, Sampler(program)
    options = strategy.SampleOptions(steps=5)
    figure = strategy.figures()["variations"]
    drawn = figure.draw(
        lambda seed: strategy.with_options(told_of(strategy, seed), options),
        sampler.draw,
        figure.Options(image="read by the engine", seeds="1,2").model_copy(update={"image": pixels}),
    )
    image, same, _, other = drawn.images.reshape(2, 4, SIDE, SIDE).transpose(1, 0, 2, 3)
    np.testing.assert_array_equal(image, np.tile(pixels, (2, 1, 1)))
    np.testing.assert_array_equal(same[0], same[1])  # of two seeds
    assert np.abs(other[0] - other[1]).max() > 0.01


# ── Enlarging


class Blurred(ms_nn.Cell):
    @ms.jit
    def construct(self, x):
        return blurred(x, 0.6)


def test_a_blurred_pixel_is_the_gaussian_mean_of_its_neighbours():
    x = normal(2, 3, 5, 6, seed=1)
    found = Blurred()(ms.Tensor(x)).asnumpy()
    expected = gaussian_filter(x.astype(np.float64), (0, 0, 0.6, 0.6), mode="mirror", radius=(0, 0, 1, 1))
    assert_close(found, expected, 1e-5)


@pytest.mark.slow
def test_the_upsampler_is_told_the_small_image_blurred_for_half_of_the_samples():
    program = built(UnclipSR, UPSAMPLER)
    strategy, given = program.strategy, {"image": real()["image"]}
    assert strategy.draw(np.random.default_rng(2), 2000, CLOCK)["blurred"].mean() == pytest.approx(0.5, abs=0.04)
    noise = strategy.draw(np.random.default_rng(2), 4, CLOCK)
    noise["blurred"] = np.float32([1, 0, 1, 0]).reshape(4, 1, 1, 1)

    def loss(w, *_):
        d, n = double(given), double(noise)
        small = float64.down(d["image"])
        soft = gaussian_filter(small, (0, 0, 0.6, 0.6), mode="mirror", radius=(0, 0, 1, 1))
        small = np.where(n["blurred"] == 1, soft, small)
        x_t = n["alpha"] * d["image"] + n["sigma"] * n["epsilon"]
        x = jnp.concatenate([x_t, float64.up(small)], 1)
        said = float64.unet(w.of("unet"), x, n["time"], 4, (1,), 1, None)
        return ((said - n["epsilon"]) ** 2).mean()

    assert_learns(program, given, noise, loss)
    inputs = strategy.from_images(given["image"][:1, :, :2, :2], rng.stream(5, "then"), CLOCK)
    assert not inputs["blurred"].any()
    assert Sampler(program).draw([inputs]).shape == (1, 1, 4, 4)


# ── The paper's sizes


def parameters(strategy, options, text=TEXT):
    made = strategy(strategy.Options(**options), ImageSpec(3, 0, text), batch_size=8)
    return sum(p.size for net in made.networks().values() for p in net.get_parameters())


def at_width(count, width, small=(8, 16, 24)):
    """Parameters are quadratic in the width: those at a large one from those at three small ones, in exact numbers."""
    return np.polyval(np.polyfit(small, [count(each) for each in small], 2), width)


@pytest.mark.parametrize(
    ("recipe", "expected", "published"),
    [
        ("unclip_prior1b", 1_225_876_480, 24 * 12 * 2048**2),
        ("unclip_base64", 2_174_218_246, 3.5e9 - 24 * 12 * 2048**2),
        ("unclip_sr256", 729_702_083, 700e6),
        ("unclip_sr1024", 282_059_139, 300e6),
    ],
)
def test_models_at_the_papers_sizes_have_its_parameters_or_those_of_its_table(recipe, expected, published):
    options = yaml.safe_load(recipes.find(recipe).read_text())["strategy"]
    strategy = STRATEGIES.find(options.pop("name"))
    name = "prior_width" if strategy is UnclipPrior else "width"

    def count(width):
        small = {name: width} | ({"prior_heads": 1} if strategy is UnclipPrior else {"head_width": 8})
        return parameters(strategy, options | small, None)

    assert at_width(count, options[name]) == pytest.approx(expected, rel=1e-6)
    assert expected == pytest.approx(published, rel=0.065)
