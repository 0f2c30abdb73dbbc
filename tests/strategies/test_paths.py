"""The ways between latents along which ``ppl`` goes: they begin at the one image and end at the other's latents."""

import numpy as np
import pytest
from stored import save_start_of

from ganfleet import load
from ganfleet.engine.pictures import FromSeeds, OnPaths
from ganfleet.engine.sampler import CHUNK, graphs, joined

STYLEGAN = """\
strategy: {name: stylegan, resolution: 8, start_resolution: 8, latent: 8, fmap_base: 64, fmap_max: 8, mbstd_group: 1}
data: {source: embedded}
train: {steps: 1, batch_size: 1, lanes: 1}
"""


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
    with load(save_start_of(STYLEGAN, tmp_path_factory.mktemp("paths"), scale=3)) as loaded:
        yield loaded


def test_the_path_in_w_begins_at_one_image_ends_at_the_others_style_and_has_its_mean_w_half_way(loaded):
    of = FromSeeds(loaded._program, loaded._sampler, loaded.clock, lambda: loaded._holding(None), ())
    path = of.strategy.paths()["w"]
    first, second = of.inputs(1), of.inputs(2)
    styled = first | {"z": second["z"], "z_mixed": second["z"]}  # the first's noise, the second's w
    halves = first | {"z_mixed": second["z"], "mixed": np.full_like(first["mixed"], 0.5)}
    plain = [loaded._sampler.draw([each])[0] for each in (first, styled, halves)]
    points = [path.inputs(first, second, t) for t in (0.0, 1.0, 0.5)]
    made = graphs(of.program)(path.sample)(joined([*points, *points[:1] * (CHUNK - 3)]))[:3]
    assert np.abs(plain[0] - plain[1]).max() > 0.01
    np.testing.assert_allclose(made, plain, atol=1e-5)


def test_pairs_on_the_path_are_as_far_apart_as_was_asked_for(loaded):
    of = FromSeeds(loaded._program, loaded._sampler, loaded.clock, lambda: loaded._holding(None), ())
    ends = OnPaths(of, 3, 1, "w", True, 0.5).images(range(6))
    np.testing.assert_allclose(ends[::2], loaded.sample([1, 2, 3]), atol=1e-5)
    assert np.abs(ends[::2] - ends[1::2]).max((1, 2, 3)).min() > 0.01
