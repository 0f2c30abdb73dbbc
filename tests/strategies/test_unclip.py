"""DALL·E 2's towers, prior and decoder against float64 JAX; two embeddings are drawn, and the better one is kept."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import unet_float64 as float64
from fake_captions import FEATURES, TEXT, TOKENS, Captioned
from in_memory import one_lane
from nn.reference import assert_close, normal

from ganfleet import rng, testing
from ganfleet.clock import Clock
from ganfleet.engine.program import Program
from ganfleet.engine.sampler import Sampler
from ganfleet.errors import ConfigError
from ganfleet.store import weights
from ganfleet.strategies.base import ImageSpec
from ganfleet.strategies.diffusion.schedule import Schedule
from ganfleet.strategies.unclip.decoder import Unclip
from ganfleet.strategies.unclip.prior import UnclipPrior, drawn_embeddings
from ganfleet.strategies.unclip.towers import Towers

CLOCK, D = Clock(1), 5
TOWERS = {"resolution": 4, "tower": (4,), "text_width": 4, "text_heads": 2, "embedding": D}
PRIOR = TOWERS | {"prior_width": 8, "prior_depth": 1, "prior_heads": 2}
DECODER = PRIOR | {"width": 4, "multipliers": (1,), "blocks": 1, "attention": (), "head_width": 4, "timesteps": 20}
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
    text, mask = jnp.concatenate([text, tokens], 1), np.concatenate([mask, np.ones((len(z), 4))], 1)
    heads = lambda channels: max(1, channels // 4)  # noqa: E731
    return float64.unet(w.of("unet"), x_t, t, 4, (1,), 1, heads, condition, text, mask)


# ── Losses


def assert_gradients(program, given, noise, loss):
    [compiled] = program.phases
    flat, stats = one_lane(compiled, given, noise)
    value, gradients = jax.jit(jax.value_and_grad(lambda w: loss(float64.Weights(w))))(arrays_of(program))
    assert_close(stats[f"Loss/{compiled.name}"], value, 1e-5)
    trained = program.players[compiled.phase.player].weights
    assert {p.name for p in trained} == set(gradients)
    for p, part in zip(trained, np.split(flat, np.cumsum([p.size for p in trained])), strict=False):
        assert_close(part.reshape(p.shape), gradients[p.name], 2e-4, p.name)


def test_towers_tell_each_caption_from_the_others_of_the_lane(programs):
    given = real()

    def loss(w):
        images = image_tower(w.of("image_tower"), double(given)["image"])
        captions = text_tower(w.of("text_tower"), *(double(given)[name] for name in ("text", "text_mask")))
        logits = jnp.exp(w["scale.log"]) * images @ captions.T
        both = [jax.nn.log_softmax(logits, axis) for axis in (0, 1)]
        return -sum(jnp.diag(each).mean() for each in both) / 2

    assert_gradients(programs["towers"], given, {}, loss)


def test_a_tower_of_one_sample_is_refused():
    strategy = Towers(Towers.Options(**TOWERS), ImageSpec(1, 0, TEXT), batch_size=2)
    with pytest.raises(ConfigError, match="nothing to tell it from"):
        strategy.check(strategy.schedule()[0], 1)


def test_the_prior_predicts_the_embedding_itself(programs):
    program, towers = programs["prior"], float64.Weights(arrays_of(programs["towers"]))
    noise = program.strategy.draw(np.random.default_rng(2), 4, CLOCK)
    noise["keep"] = np.int32([1, 0, 1, 1])
    given = real()

    def loss(w):
        d, n = double(given), double(noise)
        z = image_tower(towers.of("image_tower"), d["image"]) * 0.54 * D**0.5
        z_t = n["alpha"][:, :, 0, 0] * z + n["sigma"][:, :, 0, 0] * n["epsilon"][:, :, 0, 0]
        caption = text_tower(towers.of("text_tower"), d["text"], d["text_mask"]) * n["keep"][:, None]
        return ((prior(w.of("prior"), z_t, n["time"], d["text"] * n["keep"][:, None, None], caption) - z) ** 2).mean()

    assert_gradients(program, given, noise, loss)


def test_the_decoder_is_told_the_embedding_as_a_condition_and_as_tokens(programs):
    program, towers = programs["decoder"], float64.Weights(arrays_of(programs["towers"]))
    noise = program.strategy.draw(np.random.default_rng(2), 4, CLOCK)
    noise |= {"keep": np.int32([1, 0, 1, 1]), "keep_embedding": np.int32([1, 1, 0, 1])}
    given = real()

    def loss(w):
        d, n = double(given), double(noise)
        x_t = n["alpha"] * d["image"] + n["sigma"] * n["epsilon"]
        z = image_tower(towers.of("image_tower"), d["image"]) * n["keep_embedding"][:, None]
        text, mask = d["text"] * n["keep"][:, None, None], d["text_mask"] * n["keep"][:, None]
        return ((decoder(w, x_t, n["time"], text, mask, z) - n["epsilon"]) ** 2).mean()

    assert_gradients(program, given, noise, loss)


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


# ── What a fleet promises


def test_any_fleet_trains_the_towers_to_the_same_bits():
    testing.assert_fleet_invisible(Towers, steps=2, options=TOWERS, source=Captioned(1, 0))


@pytest.mark.slow
@pytest.mark.parametrize("strategy", [UnclipPrior, Unclip])
def test_any_fleet_trains_prior_and_decoder_to_the_same_bits_and_they_resume(strategy, programs):
    options = programs["prior" if strategy is UnclipPrior else "decoder"].strategy.options
    given = {name: getattr(options, name) for name in strategy.Options.model_fields}
    testing.assert_fleet_invisible(strategy, steps=2, options=given, source=Captioned(1, 0))
    testing.assert_resumes(strategy, steps=2, options=given, source=Captioned(1, 0))
