"""The networks of the authors' files: NVlabs' stylegan and progressive_growing_of_gans, in TensorFlow.

They keep weights before the equalised learning rate multiplies them, as ganfleet does. Dense weights are (in, out) and
convolutions (height, width, in, out). A convolution that enlarges is either one after nearest-neighbour enlarging, as
here, or "fused": the adjoint of a strided one. The fused one reads its kernel from the other end, and ProGAN's has its
last two axes exchanged.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ganfleet.errors import ConfigError
from ganfleet.store.foreign import Foreign
from ganfleet.store.tflib import Network
from ganfleet.strategies.doubling import doublings
from ganfleet.strategies.imported import Arrays, Imported, convolution

Change = Callable[[np.ndarray], np.ndarray]
Table = dict[str, tuple[str, Change]]
"""By the name in the file, the name here and what is done to the array."""

GENERATORS = {"G_style": "stylegan", "G_paper": "progan"}
DISCRIMINATORS = {"D_basic": "stylegan", "D_paper": "progan"}
FUSED_FROM = 128  # the output's height from which StyleGAN's networks are fused, where they choose
SIZES = {"fmap_base": 8192, "fmap_max": 512, "fmap_decay": 1.0, "label_size": 0}
DEFAULTS: dict[str, dict[str, Any]] = {
    "G_style": SIZES
    | {"num_channels": 3, "resolution": 1024, "latent_size": 512, "dlatent_size": 512, "mapping_fmaps": 512}
    | {"mapping_layers": 8, "mapping_lrmul": 0.01, "dlatent_avg_beta": 0.995, "fused_scale": "auto"},
    "G_paper": SIZES | {"num_channels": 1, "resolution": 32, "latent_size": None, "fused_scale": True},
    "D_basic": SIZES
    | {"num_channels": 1, "resolution": 32, "mbstd_group_size": 4, "mbstd_num_features": 1, "fused_scale": "auto"},
    "D_paper": SIZES | {"num_channels": 1, "resolution": 32, "mbstd_group_size": 4, "fused_scale": True},
}
MUST_BE: dict[str, dict[str, Any]] = {
    "G_style": {
        "use_styles": True,
        "const_input_layer": True,
        "use_noise": True,
        "nonlinearity": "lrelu",
        "mapping_nonlinearity": "lrelu",
        "use_pixel_norm": False,
        "use_instance_norm": True,
        "blur_filter": [1, 2, 1],
        "normalize_latents": True,
        "use_wscale": True,
        "fmap_decay": 1.0,
    },
    "G_paper": {
        "normalize_latents": True,
        "use_wscale": True,
        "use_pixelnorm": True,
        "pixelnorm_epsilon": 1e-8,
        "use_leakyrelu": True,
        "fmap_decay": 1.0,
    },
    "D_basic": {
        "nonlinearity": "lrelu",
        "use_wscale": True,
        "blur_filter": [1, 2, 1],
        "mbstd_num_features": 1,
        "fmap_decay": 1.0,
    },
    "D_paper": {"use_wscale": True, "fmap_decay": 1.0},
}
OF_THEIR_OWN = ("lod", "noise")  # variables that are no weights
SHARED = ("num_channels", "resolution", "label_size", "fmap_base", "fmap_max")  # of G and of D


@dataclass(frozen=True)
class Read:
    """One network of the file, ``where`` says of which."""

    where: str
    network: Network

    @property
    def arguments(self) -> dict[str, Any]:
        return DEFAULTS[self.network.function] | self.network.arguments

    def checked(self) -> "Read":
        """
        Raises:
            ConfigError: it was built in a way that ganfleet's networks are not, or was still growing.
        """
        for name, value in MUST_BE[self.network.function].items():
            found = self.network.arguments.get(name, value)
            if found != value and list(np.ravel(found)) != list(np.ravel(value)):
                raise ConfigError(f"{self.where} has {name}={found!r}, but it must be {value!r}")
        lod = float(self.network.variables.get("lod", np.zeros(())))
        if lod:
            raise ConfigError(
                f"{self.where} was saved while it grew (lod {lod:g}), so that its last layers are not in use: import a "
                "later file of the run"
            )
        return self

    def weights(self, table: Table) -> Arrays:
        """The variables under the names of ``table``.

        Raises:
            ConfigError: one is missing, or there is one more.
        """
        variables = self.network.variables
        weights = [name for name in variables if not name.rpartition("/")[2].startswith(OF_THEIR_OWN)]
        others = [name for name in weights if name not in table]
        missing = [name for name in table if name not in variables and "RGB_lod" not in name]
        if others or missing:
            told = f"has {others[0]}, which" if others else f"has no {missing[0]}, which"
            raise ConfigError(f"{self.where} {told} networks here {'have not' if others else 'need'}: another network")
        return {ours: change(variables[name]) for name, (ours, change) in table.items() if name in variables}


def imported(files: list[Foreign]) -> Imported | None:
    """What the one file of ``files`` holds, if it is of StyleGAN or ProGAN.

    Raises:
        ConfigError: it is, and its networks are not ganfleet's.
    """
    networks = [network for each in files for network in each.networks]
    generators = [each for each in networks if each.function in GENERATORS]
    if not generators:
        return None
    path = files[0].path
    if len(files) > 1:
        raise ConfigError(f"{path} holds all that there is to import: leave {files[1].path} out")
    if files[0].role:
        raise ConfigError(f"{path} says itself what its networks are: leave --as out")
    g, average = (Read(f"{path}: {each.function}", each).checked() for each in (generators[0], generators[-1]))
    variant = GENERATORS[g.network.function]
    table = TABLES[g.network.function](g)
    weights, averages, notes = g.weights(table), average.weights(table), []
    options = {"variant": variant, "latent": _latent(g)} | _sizes(g)
    if variant == "stylegan":
        weights["G.w_avg.value"] = averages.pop("G.w_avg.value")
        notes.append("the file's constant noise is not kept: noise is drawn with each image")
    if len(generators) == 1:
        notes.append("the file has one generator, which is taken for the averaged one too")
    judges = [each for each in networks if DISCRIMINATORS.get(each.function) == variant]
    try:
        group, own = _discriminator_of(g, Read(f"{path}: {judges[0].function}", judges[0])) if judges else (4, {})
    except ConfigError as error:
        group, own = 4, {}
        notes.append(f"its discriminator is left out: {error}")
    options["mbstd_group"] = group
    weights |= own
    if not own:
        notes.append("the discriminator is drawn anew")
    channels, classes = (int(g.arguments[name]) for name in ("num_channels", "label_size"))
    return Imported(options, channels, weights, classes, averages, 4 * group, tuple(notes))


def _sizes(g: Read) -> dict[str, Any]:
    """The options of the strategy for networks of the sizes of ``g``, at their final resolution.

    Raises:
        ConfigError: it has widths that networks here cannot have.
    """
    given = g.arguments
    sizes = {name: int(given[name]) for name in ("fmap_base", "fmap_max", "resolution")}
    sizes["start_resolution"] = sizes["resolution"]
    sizes["conditional"] = bool(given["label_size"])
    if g.network.function == "G_style":
        widths = {name: given[name] for name in ("latent_size", "dlatent_size", "mapping_fmaps")}
        if len(set(widths.values())) > 1:
            told = ", ".join(f"{name}={value}" for name, value in widths.items())
            raise ConfigError(f"{g.where} has {told}, but these must be equal")
        sizes["mapping_layers"] = int(given["mapping_layers"])
        sizes["mapping_lr"] = float(given["mapping_lrmul"])
        sizes["w_avg_beta"] = float(given["dlatent_avg_beta"] or 0.0)
    return sizes


def _latent(g: Read) -> int:
    given = g.arguments
    return int(given["latent_size"] or min(given["fmap_base"], given["fmap_max"]))


def _discriminator_of(g: Read, d: Read) -> tuple[int, Arrays]:
    """The size of its minibatch standard deviation's groups, and its weights.

    Raises:
        ConfigError: it cannot be one here that judges images of ``g``.
    """
    for name in SHARED:
        if d.arguments[name] != g.arguments[name]:
            raise ConfigError(f"its {name} is {d.arguments[name]}, but must be the generator's {g.arguments[name]}")
    if d.arguments["mbstd_group_size"] <= 1:
        raise ConfigError("it must have a minibatch standard deviation")
    if d.network.function == "D_paper" and d.arguments["label_size"]:
        raise ConfigError("it guesses labels, and it must be told them")
    return int(d.arguments["mbstd_group_size"]), d.checked().weights(TABLES[d.network.function](d))


# ── Tables


def _style_generator(g: Read) -> Table:
    given = g.arguments
    table: Table = {"dlatent_avg": ("G.w_avg.value", _as_it_is)}
    if given["label_size"]:
        table["mapping/LabelConcat/weight"] = ("G.mapping.embedding.weight", _as_it_is)
    for i in range(given["mapping_layers"]):
        table |= _layer(f"mapping/Dense{i}", f"G.mapping.dense.{i}", np.transpose)
    heights = _heights(g)
    for i, height in enumerate(heights):
        scope = f"synthesis/{height}x{height}"
        for second in (False, True):
            name = ("Conv1" if second else "Conv0_up") if i else ("Conv" if second else "Const")
            theirs, ours = f"{scope}/{name}", f"G.synthesis.layers.{2 * i + second}"
            if name == "Const":
                table[f"{theirs}/const"] = (f"{ours}.constant", _as_it_is)
            else:
                enlarging = _flipped if name == "Conv0_up" and _fused(g, height) else convolution
                table[f"{theirs}/weight"] = (f"{ours}.conv.weight", enlarging)
            table[f"{theirs}/Noise/weight"] = (f"{ours}.epilogue.strength", _as_it_is)
            table[f"{theirs}/bias"] = (f"{ours}.epilogue.bias", _as_it_is)
            table |= _layer(f"{theirs}/StyleMod", f"{ours}.epilogue.style", np.transpose)
        lod = len(heights) - 1 - i
        table |= _layer(f"synthesis/ToRGB_lod{lod}", f"G.synthesis.to_rgb.convs.{i}", convolution)
    return table


def _pro_generator(g: Read) -> Table:
    table: Table = {"4x4/Dense/weight": ("G.dense.weight", np.transpose), "4x4/Dense/bias": ("G.bias", _as_it_is)}
    heights = _heights(g)
    for i, height in enumerate(heights):
        scope = f"{height}x{height}"
        if not i:
            table |= _layer(f"{scope}/Conv", "G.convs.0.conv", convolution)
        else:
            name, change = ("Conv0_up", _flipped_of_progan) if _fused(g, height) else ("Conv0", convolution)
            table |= _layer(f"{scope}/{name}", f"G.convs.{2 * i - 1}.conv", change)
            table |= _layer(f"{scope}/Conv1", f"G.convs.{2 * i}.conv", convolution)
        table |= _layer(f"ToRGB_lod{len(heights) - 1 - i}", f"G.to_rgb.convs.{i}", convolution)
    return table


def _discriminator(d: Read) -> Table:
    table: Table = {}
    heights = _heights(d)
    for i, height in enumerate(heights):
        scope, ours = f"{height}x{height}", f"D.blocks.{i}"
        if not i:
            table |= _layer(f"{scope}/Conv", f"{ours}.conv", convolution)
            table |= _layer(f"{scope}/Dense0", f"{ours}.dense", np.transpose)
            table |= _layer(f"{scope}/Dense1", f"{ours}.last", np.transpose)
        else:
            # StyleGAN's is called Conv1_down either way.
            down = "Conv1_down" if d.network.function == "D_basic" or _fused(d, height) else "Conv1"
            table |= _layer(f"{scope}/Conv0", f"{ours}.conv", convolution)
            table |= _layer(f"{scope}/{down}", f"{ours}.down", convolution)
        table |= _layer(f"FromRGB_lod{len(heights) - 1 - i}", f"D.from_rgb.{i}", convolution)
    return table


TABLES: Mapping[str, Callable[[Read], Table]] = {
    "G_style": _style_generator,
    "G_paper": _pro_generator,
    "D_basic": _discriminator,
    "D_paper": _discriminator,
}


def _layer(theirs: str, ours: str, change: Change) -> Table:
    return {f"{theirs}/weight": (f"{ours}.weight", change), f"{theirs}/bias": (f"{ours}.bias", _as_it_is)}


def _heights(read: Read) -> list[int]:
    return doublings(int(read.arguments["resolution"]))


def _fused(read: Read, height: int) -> bool:
    """Whether the layer that enlarges to ``height``, or reduces from it, is fused."""
    chosen = read.arguments["fused_scale"]
    return height >= FUSED_FROM if chosen == "auto" else bool(chosen)


def _as_it_is(array: np.ndarray) -> np.ndarray:
    return array


def _flipped(weight: np.ndarray) -> np.ndarray:
    """A fused (height, width, in, out), as it is where it is not fused."""
    return convolution(weight[::-1, ::-1])


def _flipped_of_progan(weight: np.ndarray) -> np.ndarray:
    """A fused (height, width, out, in), as it is where it is not fused."""
    return weight[::-1, ::-1].transpose(2, 3, 0, 1)
