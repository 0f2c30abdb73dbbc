"""One step of StyleGAN in a fade reaches every weight that is in use."""

import numpy as np
import pytest
from in_memory import one_lane

from ganfleet.clock import Clock
from ganfleet.engine.program import Program
from ganfleet.strategies.base import ImageSpec
from ganfleet.strategies.stylegan.strategy import StyleGAN


@pytest.mark.slow
def test_one_step_in_mid_fade_reaches_every_weight_in_use():
    resolution = 1024  # which has the layers of all below
    options = StyleGAN.Options(
        resolution=resolution, start_resolution=4, latent=8, mapping_layers=1, fmap_base=1024, fmap_max=8
    )
    strategy = StyleGAN(options, ImageSpec(channels=1), batch_size=4)
    stage = strategy.schedule()[-2]
    assert (stage.resolution, stage.fades) == (resolution, True)
    clock = Clock(10**9, nimg=stage.starts_at + 300_000)
    assert strategy.fade_in(clock) == pytest.approx(0.5, abs=1e-5)
    assert strategy.schedule_values(clock) == {"fade_in": strategy.fade_in(clock)}
    model, rng = Program(strategy, stage, 0), np.random.Generator(np.random.Philox(0))
    real = {"image": rng.standard_normal((4, 1, resolution, resolution), dtype=np.float32)}
    for compiled in model.phases:
        flat, _ = one_lane(compiled, real, strategy.draw(rng, 4, clock))
        gradients = np.split(flat, np.cumsum([p.size for p in compiled.player.weights]))
        for weight, gradient in zip(compiled.player.weights, gradients, strict=False):
            assert np.isfinite(gradient).all(), weight.name
            assert np.abs(gradient).max() > 0, weight.name
