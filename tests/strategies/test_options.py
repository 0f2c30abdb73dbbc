"""Every number that a config can hold has its limits: what cannot be meant is refused, and never a traceback."""

from typing import get_args

import numpy as np
import pytest
from pydantic import BaseModel

from ganfleet import Config
from ganfleet.data import as_source
from ganfleet.engine import run
from ganfleet.engine.program import Program
from ganfleet.errors import ConfigError
from ganfleet.plugins import SOURCES, STRATEGIES
from ganfleet.strategies.base import ImageSpec

TOWERS = {"tower": [4], "text_width": 4, "text_heads": 1, "embedding": 4, "features": 4}
SMALL = {
    "gan": {"latent": 2, "hidden": [2]},
    "dcgan": {"latent": 2, "ngf": 1, "ndf": 1},
    "wgan": {"latent": 2, "ngf": 1, "ndf": 1},
    "wgan_gp": {"latent": 2, "ngf": 1, "ndf": 1},
    "sngan": {"latent": 2, "ngf": 1, "ndf": 1},
    "cgan": {"latent": 2, "ngf": 1, "ndf": 1},
    "stylegan": {"latent": 2, "fmap_base": 16},
    "cyclegan": {"ngf": 1, "ndf": 1, "blocks": 1, "resolution": 24},
    "diffusion": {"width": 4, "multipliers": [1], "blocks": 1, "attention": [8]},
    "imagen": {"width": 4, "multipliers": [1], "blocks": 1, "attention": [8], "features": 4},
    "imagen_sr": {"widths": [4], "depths": [1], "heads": 1, "features": 4},
    "unclip_towers": TOWERS,
    "unclip_prior": TOWERS | {"encoder": "towers.npz", "prior_width": 4, "prior_depth": 1, "prior_heads": 1},
    "unclip": TOWERS | {"encoder": "towers.npz", "width": 4, "multipliers": [1], "blocks": 1, "attention": []},
    "unclip_sr": {"width": 4, "multipliers": [1], "blocks": 1},
    "pix2pix": {"ngf": 1, "ndf": 1},
    "pix2pix_hd": {"ngf": 1, "ndf": 1, "blocks": 1, "resolution": 32},
}


@pytest.fixture(scope="module", autouse=True)
def towers(tmp_path_factory):
    """The folder of the tests has the weights that frozen networks are read from."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("towers"))
        nets = run.new_strategy(config("unclip_towers"), ImageSpec(3)).players(None)["towers"].nets
        named = {f"{name}.{p.name}": p.shape for name, net in nets.items() for p in net.get_parameters()}
        np.savez("towers.npz", **{name: np.ones(shape, np.float32) for name, shape in named.items()})
        yield


def numeric(schema: type[BaseModel], prefix: str) -> list[str]:
    """The keys of ``schema`` that take a number, or a list or a dict of them."""
    keys = []
    for name, field in schema.model_fields.items():
        words = str(field.annotation)
        if any(word in words for word in ("int", "float")):
            keys.append(f"{prefix}.{name}")
    return keys


def shaped(schema: type[BaseModel], name: str, number: float):
    """``number`` as the key ``name`` of ``schema`` takes it: alone, in a list, or by a resolution."""
    annotation = schema.model_fields[name].annotation
    kinds = [annotation, *get_args(annotation)]
    if any(getattr(kind, "__origin__", None) is dict for kind in kinds):
        return {"8": number}
    if any(getattr(kind, "__origin__", None) is tuple for kind in kinds):
        return [number] * (2 if name == "betas" else 1)
    return number


STRATEGY_KEYS = [
    (name, key.partition(".")[2]) for name in SMALL for key in numeric(STRATEGIES.find(name).Options, "strategy")
]


def config(name: str, **options) -> Config:
    resolution = {"resolution": 16} if name == "sngan" else {"resolution": 8}
    section = {"name": name} | resolution | SMALL[name] | options
    return Config.from_dict({"strategy": section, "train": {"batch_size": 4, "lanes": 1, "steps": 1}})


def test_every_strategy_of_ganfleet_is_among_these():
    assert set(SMALL) == set(STRATEGIES.builtin)


@pytest.mark.parametrize("name, key", STRATEGY_KEYS)
def test_a_negative_number_is_refused_by_its_key(name, key):
    value = shaped(STRATEGIES.find(name).Options, key, -1)
    with pytest.raises(ConfigError, match=rf"strategy\.{key}"):
        config(name, **{key: value})


@pytest.mark.parametrize("name", SMALL)
def test_a_zero_is_refused_or_makes_networks(name):
    options = STRATEGIES.find(name).Options
    built = []
    for key in [key for each, key in STRATEGY_KEYS if each == name]:
        try:
            checked = config(name, **{key: shaped(options, key, 0)})
        except ConfigError as error:
            assert f"strategy.{key}" in str(error)
            continue
        built.append(key)
        size = checked.strategy.resolution
        images = np.zeros((4, 3, size, size), np.uint8)
        names = ("image_a", "image_b") if name in ("cyclegan", "pix2pix", "pix2pix_hd") else ("image",)
        source = as_source(dict.fromkeys(names, images) | {"label": np.arange(4)}, size)
        strategy = run.strategy_of(checked, source)
        Program(strategy, strategy.schedule()[0], seed=0)
    assert "lr" in built


MODELS = {name: field.annotation for name, field in Config.model_fields.items() if name != "strategy"}
SECTIONS = [key.split(".") for section, model in MODELS.items() for key in numeric(model, section)]


@pytest.mark.parametrize("section, key", SECTIONS)
def test_a_negative_number_outside_of_a_strategy_is_refused_too(section, key):
    with pytest.raises(ConfigError, match=rf"{section}\.{key}"):
        Config.from_dict({"strategy": {"name": "gan"}, section: {key: -1}})


@pytest.mark.parametrize("source", list(SOURCES.builtin))
def test_no_source_of_ganfleet_takes_a_negative_number(source):
    options = SOURCES.find(source).Options
    for key in numeric(options, "data"):
        key = key.partition(".")[2]
        with pytest.raises(ConfigError, match=rf"data\.{key}"):
            Config.from_dict({"strategy": {"name": "gan"}, "data": {"source": source, key: -1}})
