"""The figures of arXiv:1812.04948, style mixing and noise, and its sample options, truncation and noise.

They change the arrays that ``StyleGAN.sample_inputs`` gives, and know nothing of networks or files.
"""

from typing import Literal

import numpy as np
from pydantic import Field, model_validator

from ganfleet.errors import ConfigError
from ganfleet.strategies.figure import Figure, Inputs, Picture, needed
from ganfleet.strategies.options import Numbers, Options

LAYER_GROUPS = {"coarse": (0, 3), "middle": (4, 7), "fine": (8, None)}  # 4²-8², 16²-32², 64² and up
NOISE_PANELS = {"all": "all noise", "none": "none", "fine": "fine", "coarse": "coarse"}
NOISE_DRAWS = 32  # whose standard deviation a noise figure shows
OTHER_SEEDS = 1000  # the first of theirs


class StyleOptions(Options):
    truncation: float | None = Field(None, description="w moves to its mean, to this share of its distance: 0.7")
    truncation_layers: int | None = Field(None, ge=1, description="in the first layers only; by default in all")
    noise: Literal["all", "none", "fine", "coarse"] = Field("all", description="in which layers: none, fine, coarse")

    @model_validator(mode="after")
    def _layers_of_something(self):
        if self.truncation_layers and self.truncation is None:
            raise ValueError("truncation_layers= is for truncation=: give that too")
        return self

    def applied(self, inputs: Inputs) -> Inputs:
        """``inputs``, truncated and with noise as asked.

        Raises:
            ConfigError: the model has no styles or noise.
        """
        if self.truncation is not None:
            inputs = truncated(inputs, self.truncation, self.truncation_layers)
        return inputs if self.noise == "all" else with_noise(inputs, self.noise)


class Mix(Figure):
    """Sources down the left and along the top; inside, the column's image with the row's styles in some layers."""

    help = "the images of cols with the styles of rows in some layers"

    class Options(Options):
        rows: Numbers = Field(description="seeds, such as 0-3")
        cols: Numbers = Field(description="seeds, such as 4-8")
        layers: str = Field(description="coarse (4² and 8²), middle, fine (64² and up), or layers such as 4-7")

    def draw(self, inputs_of, draw, options):
        sources, targets = ([inputs_of(seed) for seed in seeds] for seeds in (options.rows, options.cols))
        chosen = layer_range(options.layers, targets[0])
        inputs = [*targets]
        for source in sources:
            inputs += [source, *(mixed(source, target, chosen) for target in targets)]
        images = draw(inputs)
        corner = np.ones_like(images[:1])
        return Picture(
            np.concatenate([corner, images]),
            columns=1 + len(targets),
            row_labels=[f"{options.layers} of:", *map(str, options.rows)],
            column_labels=["", *map(str, options.cols)],
        )


class Noise(Figure):
    """Each seed with noise in all layers, none, the fine ones and the coarse ones, and how much noise moves each pixel.

    The last column is the standard deviation over NOISE_DRAWS draws of the noise, the mean of the channels; white is
    the largest of each image.
    """

    help = "each seed with noise in all, no, fine and coarse layers, and the spread of its pixels"
    varies = ("noise",)

    class Options(Options):
        seeds: Numbers = Field((0, 1, 2, 3), description="a row each")

    def draw(self, inputs_of, draw, options):
        images, labels = [], []
        for seed in options.seeds:
            own = inputs_of(seed)
            others = [with_noise_of(own, inputs_of(OTHER_SEEDS + i)) for i in range(NOISE_DRAWS)]
            drawn = draw([with_noise(own, which) for which in NOISE_PANELS] + others)
            spread = drawn[len(NOISE_PANELS) :].std(0).mean(0, keepdims=True)
            shown = 2 * spread / max(spread.max(), 1e-9) - 1
            panel = np.broadcast_to(shown, drawn.shape[1:]).copy()
            panel[3:] = 1  # alpha, where there is one
            images += [*drawn[: len(NOISE_PANELS)], panel]
            labels.append(f"seed {seed}, std <= {spread.max() * 127.5:.1f}")
        columns = [*NOISE_PANELS.values(), "std"]
        return Picture(np.stack(images), len(columns), labels, columns)


def truncated(inputs: Inputs, psi: float, layers: int | None) -> Inputs:
    """w moved towards its mean, to ``psi`` of its distance, in the first ``layers`` layers (all where None)."""
    psis = needed(inputs, "psi", "truncation").copy()
    psis[:, :layers] = psi
    return inputs | {"psi": psis}


def layer_range(name: str, inputs: Inputs) -> slice:
    """The layers that ``coarse``, ``middle``, ``fine`` or ``a-b``, both included, means for this model.

    Raises:
        ConfigError: it means none, or layers that this model does not have.
    """
    layers = needed(inputs, "mixed", "style mixing").shape[1]
    if name in LAYER_GROUPS:
        first, last = LAYER_GROUPS[name]
    else:
        a, dash, b = name.partition("-")
        if not (a.isdecimal() and (b.isdecimal() or not dash)):
            raise ConfigError(f"layers={name}: write {', '.join(LAYER_GROUPS)}, or layers such as 4-7")
        first, last = int(a), int(b or a)
    last = layers - 1 if last is None else last
    if not first <= last < layers:
        raise ConfigError(f"layers={name}: this model has the layers 0-{layers - 1}")
    return slice(first, last + 1)


def mixed(source: Inputs, into: Inputs, layers: slice) -> Inputs:
    """The image of ``into`` with the styles of ``source`` in ``layers``."""
    chosen = into["mixed"].copy()
    chosen[:, layers] = 1
    return into | {"z_mixed": source["z"], "mixed": chosen}


def with_noise(inputs: Inputs, which: str) -> Inputs:
    """Noise in ``all`` layers, ``none``, the ``fine`` ones only or the ``coarse`` ones only.

    Coarse are four of nine resolutions: 4² to 32² of a model of 1024², 4² and 8² of one of 64².
    """
    needed(inputs, "noise0", "noise")
    names = sorted((name for name in inputs if name.startswith("noise")), key=lambda name: int(name[5:]))
    coarse = 2 * max(1, len(names) // 2 * 4 // 9)
    kept = {"all": names, "none": [], "coarse": names[:coarse], "fine": names[coarse:]}[which]
    return inputs | {name: np.zeros_like(inputs[name]) for name in names if name not in kept}


def with_noise_of(inputs: Inputs, other: Inputs) -> Inputs:
    """``inputs`` with the noise of ``other``."""
    return inputs | {name: array for name, array in other.items() if name.startswith("noise")}
