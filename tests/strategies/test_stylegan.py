"""StyleGAN's schedule against the formula of the originals, growth, and what its samplers' inputs mean."""

import math
from itertools import pairwise
from pathlib import Path

import mindspore as ms
import numpy as np
import pytest
from pydantic import ValidationError

from ganfleet import config as configs
from ganfleet import fleet, testing
from ganfleet.clock import Clock
from ganfleet.engine.program import Program
from ganfleet.engine.sampler import Sampler, seeded
from ganfleet.errors import ConfigError
from ganfleet.strategies.base import ImageSpec
from ganfleet.strategies.figure import interpolated
from ganfleet.strategies.stylegan import figures
from ganfleet.strategies.stylegan.strategy import StyleGAN

CONFIGS = Path(__file__).parents[2] / "configs"
SMALL = {"latent": 16, "mapping_layers": 2, "fmap_base": 64, "fmap_max": 16}
GREY = ImageSpec(channels=1, classes=3)


def stylegan(image=GREY, batch_size=8, **options):
    return StyleGAN(StyleGAN.Options(**options), image, batch_size)


def at(kimg):
    return Clock(10**9, nimg=round(kimg * 1000))


# ── The schedule


def lod_of(kimg, resolution, start):
    """The originals' level of detail, as a formula (RECIPES: progressive_growing_of_gans)."""
    phase = math.floor(kimg / 1200)
    lod = math.log2(resolution) - math.log2(start) - phase - max(kimg - 1200 * phase - 600, 0) / 600
    return max(lod, 0.0)


@pytest.mark.parametrize("start", [4, 8])
def test_resolution_and_fade_in_follow_the_originals_level_of_detail(start):
    strategy = stylegan(resolution=1024, start_resolution=start)
    edges = [600 * k for k in range(20)]
    moments = sorted(
        {*np.arange(0, 11000, 13.7).round(3), *edges, *(e + 0.001 for e in edges), *(e - 0.001 for e in edges[1:])}
    )
    for kimg in moments:
        lod, stage = lod_of(kimg, 1024, start), strategy.stage(at(kimg))
        assert stage.resolution == 2 ** (10 - math.floor(lod)), kimg
        share_of_old = lod - math.floor(lod)
        assert strategy.fade_in(at(kimg)) == pytest.approx(1 - share_of_old, abs=1e-9), kimg
        assert stage.fades == (share_of_old > 0), kimg


def test_a_stage_begins_and_optimizers_are_reset_where_floor_or_ceiling_of_the_level_of_detail_change():
    strategy = stylegan(resolution=64, start_resolution=8)
    kimgs = np.arange(0, 5000, 0.5)
    lods = [lod_of(kimg, 64, 8) for kimg in kimgs]
    resets = [
        b
        for (a, la), (b, lb) in pairwise(zip(kimgs, lods, strict=True))
        if (math.floor(la), math.ceil(la)) != (math.floor(lb), math.ceil(lb))
    ]
    stages = [strategy.stage(at(kimg)) for kimg in kimgs]
    changes = [b for (_, sa), (b, sb) in pairwise(zip(kimgs, stages, strict=True)) if sa != sb]
    assert changes == resets
    assert len(changes) == 6


# RECIPES.md, StyleGAN: eight cards, where the batch of a card times eight is what the originals call the minibatch.
BATCH = {8: 256, 16: 128, 32: 64, 64: 32, 128: 32, 256: 32, 512: 32, 1024: 32}
LR = {8: 1e-3, 16: 1e-3, 32: 1e-3, 64: 1e-3, 128: 1.5e-3, 256: 2e-3, 512: 3e-3, 1024: 3e-3}


def test_the_ffhq_config_has_the_papers_batches_learning_rates_and_lanes_for_eight_cards():
    config = configs.load(CONFIGS / "stylegan_ffhq1024.yaml")
    strategy = StyleGAN(config.strategy, ImageSpec(channels=3), config.train.batch_size)
    assert config.train.kimg == 25000
    assert config.train.lanes % 8 == 0
    seen = set()
    for kimg in range(0, 25000, 50):
        stage = strategy.stage(at(kimg))
        assert stage.batch_size == BATCH[stage.resolution]
        assert strategy.hyper("G", at(kimg)) == {"lr": LR[stage.resolution]}
        seen.add(stage.resolution)
    assert seen == set(BATCH)


def test_lazy_r1_corrects_adam_for_the_extra_update_as_stylegan2_does():
    strategy = stylegan(resolution=8, r1_every=16, **SMALL)
    players = strategy.players(strategy.schedule()[0])
    assert strategy.hyper("D", at(0)) == {"lr": pytest.approx(1e-3 * 16 / 17)}
    assert players["D"].optimizer.betas == (0.0, pytest.approx(0.99 ** (16 / 17)))
    assert strategy.hyper("G", at(0)) == {"lr": 1e-3}
    assert players["G"].optimizer.betas == (0.0, 0.99)
    phases = strategy.phases(strategy.schedule()[0])
    due = [[phase.name for phase in phases if phase.is_due(Clock(10**9, step=step))] for step in range(32)]
    assert due.count(["D", "D_r1", "G"]) == 2 and due.count(["D", "G"]) == 30


def test_mapping_learns_at_mapping_lr_of_the_other_layers_rate():
    """A weight that starts as N(0, 1) / rate, and is multiplied by the rate, moves by the rate's share of its size."""
    for options, rate in (({}, 0.01), ({"mapping_lr": 0.5}, 0.5)):
        strategy = stylegan(resolution=8, **SMALL, **options)
        weights = Program(strategy, strategy.schedule()[0], 0).tensors()["G.weights"]
        mapping = [array for name, array in weights.items() if "mapping.dense" in name and name.endswith("weight")]
        others = [array for name, array in weights.items() if "synthesis" in name and name.endswith("weight")]
        assert len(mapping) == 2 and others
        assert all(np.std(array) == pytest.approx(1 / rate, rel=0.2) for array in mapping)
        assert all(np.std(array) == pytest.approx(1, rel=0.2) for array in others)


def test_variants_have_the_settings_of_their_papers():
    style, pro = StyleGAN.Options(), StyleGAN.Options(variant="progan")
    assert (style.start_resolution, style.loss, style.ema_kimg, style.ema_decay) == (8, "logistic", 10.0, None)
    assert (pro.start_resolution, pro.loss, pro.ema_kimg, pro.ema_decay) == (4, "wgan_gp", None, 0.999)


# ── Growth


def test_growing_keeps_weights_and_averages_by_name_and_forgets_the_optimizers():
    strategy = stylegan(resolution=16, start_resolution=8, **SMALL)
    first, fade, _ = strategy.schedule()
    old = Program(strategy, first, 0)
    tensors = old.tensors()
    draw = np.random.Generator(np.random.Philox(1))
    for component in tensors.values():
        for name, array in component.items():
            component[name] = draw.random(array.shape).astype(array.dtype)
    tensors["G.optimizer"]["updates"] = tensors["D.optimizer"]["updates"] = np.array([7])
    old.load(tensors)
    grown = Program(strategy, fade, 0)
    fresh = grown.tensors()
    grown.inherit(old.tensors())
    after = grown.tensors()
    new = set()
    for component in ("G.weights", "G.ema", "D.weights"):
        for name, array in after[component].items():
            if name in tensors[component]:
                np.testing.assert_array_equal(array, tensors[component][name], err_msg=name)
            else:
                np.testing.assert_array_equal(array, fresh[component][name], err_msg=name)
                new.add(name)
    assert any("to_rgb" in name for name in new) and any("from_rgb" in name for name in new)
    for component in ("G.optimizer", "D.optimizer"):
        assert not any(array.any() for array in after[component].values())


def test_a_stage_holds_nothing_of_later_ones_and_trains_only_what_it_uses():
    strategy = stylegan(resolution=32, start_resolution=8, **SMALL)
    stages = {stage.name: stage for stage in strategy.schedule()}
    sizes = {}
    for name, stage in stages.items():
        player = Program(strategy, stage, 0).players["G"]
        heads = {p.name for p in player.weights if "to_rgb" in p.name and p.name.endswith("weight")}
        assert len(heads) == (2 if stage.fades else 1), name
        sizes[name] = player.size
    grey_head = {8: 16 + 1, 16: 8 + 1}  # 1x1 convolutions from 16 and 8 channels to one, and a bias
    assert sizes["16-fade"] == sizes["16"] + grey_head[8]
    assert sizes["32-fade"] == sizes["32"] + grey_head[16]
    assert sizes["8"] < sizes["16"] < sizes["32"]


# ── Sampling


def test_what_an_image_is_made_of_fits_the_networks_in_force_after_the_last_step_of_their_stage():
    strategy = stylegan(resolution=32, start_resolution=8, stable_kimg=1, fade_kimg=1, **SMALL)
    for stage in strategy.schedule()[:-1]:
        over = at((stage.starts_at + 5000) / 1000)
        assert strategy.stage(over) != stage
        inputs = seeded(strategy, strategy.within(stage, over), 0)
        assert [f"noise{i}" in inputs for i in range(10)] == [4 << i // 2 <= stage.resolution for i in range(10)]
        assert inputs["alpha"] == pytest.approx(1.0, abs=2e-3)
        still = at((stage.starts_at + 500) / 1000)
        assert strategy.within(stage, still) == still


@pytest.fixture(scope="module")
def sampler():
    """A 16² model with w and noise that matter: (draw, inputs of a seed)."""
    strategy = stylegan(resolution=16, start_resolution=16, conditional=True, **SMALL)
    model = Program(strategy, strategy.schedule()[0], 0)
    tensors = model.tensors()
    draw = np.random.Generator(np.random.Philox(1))
    for name, array in tensors["G.weights"].items():
        if name.endswith("strength"):
            tensors["G.weights"][name] = draw.normal(0, 0.5, array.shape).astype(np.float32)
    tensors["G.buffers"]["G.w_avg.value"] = draw.standard_normal(16, dtype=np.float32)
    model.load(tensors)
    sampler, alone = Sampler(model), fleet.Fleet(lanes=1)
    return lambda inputs: sampler.images(inputs, at(0), alone, ema=False), lambda *a: seeded(strategy, at(0), *a)


def test_figures_show_what_they_say(sampler):
    draw, inputs = sampler
    a, b = inputs(1, 0), inputs(2, 0)
    b_by_a = figures.with_noise_of(b, a)
    every, first = figures.layer_range("0-5", a), figures.layer_range("coarse", a)
    silent = [figures.with_noise(each, "none") for each in (a, b)]
    coarse, fine = figures.with_noise(a, "coarse"), figures.with_noise(a, "fine")
    mean_a, mean_b = figures.truncated(a, 0, None), figures.truncated(b_by_a, 0, None)
    half = figures.truncated(a, 1, 2)
    asked = [a, b_by_a, figures.mixed(b, a, every), figures.mixed(b, a, first), *silent]
    asked += [figures.with_noise_of(silent[0], silent[1]), coarse, fine, mean_a, mean_b, half, inputs(1, 2)]
    images = draw(asked)
    own, other, all_styles, some_styles, silent_a, silent_b, silent_again, coarse, fine, mean_a, mean_b, half, label = (
        images
    )
    np.testing.assert_array_equal(all_styles, other)  # every style of b, the noise of a: b's image with that noise
    for image in (own, other):
        assert np.abs(some_styles - image).max() > 1e-3
    np.testing.assert_array_equal(silent_a, silent_again)
    assert np.abs(silent_a - silent_b).max() > 1e-3
    assert len({image.tobytes() for image in (own, silent_a, coarse, fine)}) == 4
    np.testing.assert_allclose(mean_a, mean_b, atol=1e-5)  # the mean w, whatever the seed
    np.testing.assert_allclose(half, own, atol=1e-5)  # truncation by 1 changes nothing
    assert np.abs(label - own).max() > 1e-3


@pytest.mark.parametrize(
    "layers, told",
    [("middling", "write coarse, middle, fine"), ("4-9", "has the layers 0-5"), ("fine", "has the layers 0-5")],
)
def test_layers_that_the_model_does_not_have_are_refused(layers, told):
    strategy = stylegan(resolution=16, start_resolution=16, **SMALL)
    with pytest.raises(ConfigError, match=told):
        figures.layer_range(layers, seeded(strategy, at(0), 0))


def test_an_interpolation_starts_at_each_seed_in_turn_and_comes_back():
    strategy = stylegan(resolution=16, start_resolution=16, **SMALL)
    stops = [seeded(strategy, at(0), seed) for seed in (1, 2, 3)]
    frames = interpolated(stops, 12, ("z", "z_mixed"))
    for i, stop in enumerate(stops):
        np.testing.assert_allclose(frames[4 * i]["z"], stop["z"], atol=1e-6)
        np.testing.assert_array_equal(frames[4 * i]["noise0"], stops[0]["noise0"])
    unit = [frame["z"][0] / np.linalg.norm(frame["z"]) for frame in frames[:5]]
    turns = [math.acos(np.clip(a @ b, -1, 1)) for a, b in pairwise(unit)]
    assert max(turns) - min(turns) < 1e-3


@pytest.mark.slow
def test_the_mean_w_moves_by_its_decay_once_per_step():
    """w̄ ← E w + (w̄ − E w)·0.995 over both lanes of G's phase; at a learning rate of 1e-30 the mapping stands still."""
    run = testing.simulate(
        StyleGAN, 1, 3, options=dict(resolution=8, start_resolution=8, lr=1e-30, mbstd_group=1, **SMALL), lanes=2
    )
    expected = np.zeros(16)
    for step in range(3):
        z = [np.frombuffer(run.draws[step, lane][1]["z"], np.float32).reshape(-1, 16) for lane in (0, 1)]
        mean = run._trainer.program.nets.G.mapping(ms.Tensor(np.concatenate(z))).asnumpy().mean(0)
        expected = mean + (expected - mean) * 0.995
    np.testing.assert_allclose(run.snapshot.tensors["G.buffers"]["G.w_avg.value"], expected, rtol=1e-4, atol=1e-7)


def test_nine_of_ten_lanes_mix_styles_at_any_cutoff_but_the_first_layer():
    strategy = stylegan(resolution=16, start_resolution=16, **SMALL)
    draws = [strategy.draw(np.random.default_rng(i), 1, at(0))["cutoff"] for i in range(2000)]
    counts = np.bincount(draws, minlength=7)
    assert counts[0] == 0 and counts[6] == pytest.approx(200, abs=60)
    assert counts[1:6] == pytest.approx([360] * 5, abs=80)


def test_weaker_noise_is_the_same_noise_scaled():
    draws = [
        stylegan(resolution=16, start_resolution=16, noise=noise, **SMALL).draw(np.random.default_rng(3), 2, at(0))
        for noise in (1.0, 0.25)
    ]
    for i in range(6):
        np.testing.assert_array_equal(draws[1][f"noise{i}"], draws[0][f"noise{i}"] / 4)
        assert draws[0][f"noise{i}"].shape == (2, 1, 4 << i // 2, 4 << i // 2)
    assert np.std(draws[0]["noise5"]) == pytest.approx(1, abs=0.2)
    np.testing.assert_array_equal(draws[1]["z"], draws[0]["z"])


def test_images_that_are_not_square_grow_on_both_sides_and_are_looked_up_by_height():
    strategy = StyleGAN(
        StyleGAN.Options(resolution=[32, 48], batch_sizes={16: 24}, lrs={32: 5e-3}, latent=4),
        ImageSpec(channels=3),
        batch_size=8,
    )
    stages = strategy.schedule()
    assert [stage.name for stage in stages] == ["8x12", "16x24-fade", "16x24", "32x48-fade", "32x48"]
    assert [stage.resolution for stage in stages] == [(8, 12), (16, 24), (16, 24), (32, 48), (32, 48)]
    assert [stage.batch_size for stage in stages] == [8, 24, 24, 8, 8]
    square = StyleGAN(StyleGAN.Options(resolution=32), ImageSpec(channels=3), batch_size=8).schedule()
    assert [stage.starts_at for stage in stages] == [stage.starts_at for stage in square]
    first, last = Clock(10**9), Clock(10**9, nimg=stages[-1].starts_at)
    assert [strategy.hyper("G", clock) for clock in (first, last)] == [{"lr": 1e-3}, {"lr": 5e-3}]
    drawn = strategy.draw(np.random.default_rng(0), 2, first)
    sizes = [array.shape[2:] for name, array in drawn.items() if name.startswith("noise")]
    assert sizes == [(4, 6), (4, 6), (8, 12), (8, 12)]


# ── Bad input


@pytest.mark.parametrize(
    "options, told",
    [
        ({"resolution": 48}, "resolution is 48, but it must be a power of two"),
        ({"resolution": 2048}, "from 4 to 1024"),
        ({"resolution": [16, 2048]}, "resolution is 16x2048, but it must be no more than 1024 pixels high and wide"),
        ({"resolution": [36, 64], "start_resolution": 8}, "is 8, but it must be one of 9, 18, 36"),
        ({"resolution": 16, "start_resolution": 32}, "start_resolution 32 is above resolution 16"),
        ({"ema_kimg": 1, "ema_decay": 0.9}, "ema_kimg and ema_decay are both set"),
    ],
)
def test_options_that_cannot_be_are_refused(options, told):
    with pytest.raises(ValidationError, match=told):
        StyleGAN.Options(**options)


def test_a_conditional_model_needs_classes():
    with pytest.raises(ConfigError, match="the data have no classes"):
        stylegan(ImageSpec(channels=3), conditional=True)
    strategy = stylegan(resolution=8, **SMALL)
    with pytest.raises(ConfigError, match="trained without classes"):
        seeded(strategy, at(0), 0, 1)


def test_lanes_too_small_for_the_minibatch_deviation_are_refused():
    strategy = stylegan(resolution=16, batch_sizes={16: 4})
    stages = {stage.name: stage for stage in strategy.schedule()}
    strategy.check(stages["8"], 4)
    with pytest.raises(ConfigError, match=r"stage .16. leaves 2 samples to a lane, which strategy.mbstd_group 4"):
        strategy.check(stages["16"], 2)
