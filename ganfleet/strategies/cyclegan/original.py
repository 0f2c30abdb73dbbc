"""Generators of the authors' files: pytorch-CycleGAN-and-pix2pix, in PyTorch.

A generator there is one row of layers, and a weight's name has its layer's number. Layers without weights count too:
mirrored borders, norms, ReLUs.
"""

import re

import numpy as np

from ganfleet.errors import ConfigError
from ganfleet.store.foreign import Foreign
from ganfleet.strategies.imported import Arrays, Imported

GENERATORS = ("G_AB", "G_BA")
MOMENTS = ("running_mean", "running_var", "num_batches_tracked")  # of norms in files from before PyTorch 0.4; not used
RESOLUTION = 256  # on which the authors' models were trained


def imported(files: list[Foreign]) -> Imported | None:
    """What ``files``, one for each generator, hold, if they are residual generators.

    Raises:
        ConfigError: they are, and ganfleet's are not like them; or they do not fit together.
    """
    named = [_plain(each.tensors) for each in files]
    if not all(_is_residual(tensors) for tensors in named):
        return None
    roles = _roles(files)
    read = {role: _generator(f"{each.path}", tensors) for role, each, tensors in zip(roles, files, named, strict=True)}
    sizes = {role: found[0] for role, found in read.items()}
    first = sizes[roles[0]]
    if any(each != first for each in sizes.values()):
        told = " and ".join(f"{role} {size}" for role, size in sizes.items())
        raise ConfigError(
            f"generators of different sizes (channels, width, blocks) do not go together: {told}. Import each alone, "
            "and name it with --as"
        )
    channels, width, blocks = first
    weights = {f"{role}.{name}": array for role, (_, arrays) in read.items() for name, array in arrays.items()}
    notes = [f"{name} is in no file: it is drawn anew" for name in GENERATORS if name not in roles]
    options = {"resolution": RESOLUTION, "ngf": width, "blocks": blocks}
    return Imported(options, channels, weights, batch_size=1, notes=(*notes, "discriminators are drawn anew"))


def _plain(tensors: Arrays) -> Arrays:
    """Without what DataParallel puts before each name, however often."""
    while tensors and all(name.startswith("module.") for name in tensors):
        tensors = {name.removeprefix("module."): array for name, array in tensors.items()}
    return tensors


def _is_residual(tensors: Arrays) -> bool:
    return "model.1.weight" in tensors and any(".conv_block." in name for name in tensors)


def _roles(files: list[Foreign]) -> list[str]:
    """Which generator each file is, as told or in their order.

    Raises:
        ConfigError: there is no such generator, or two files are the same.
    """
    roles = [each.role or name for each, name in zip(files, GENERATORS, strict=False)]
    if len(files) > len(roles) or len(set(roles)) < len(files) or not set(roles) <= set(GENERATORS):
        raise ConfigError(
            f"{files[-1].path} would be one generator too many: name one file for {' and one for '.join(GENERATORS)}, "
            "in this order or with --as"
        )
    return roles


def _generator(where: str, tensors: Arrays) -> tuple[tuple[int, int, int], Arrays]:
    """Channels, width and blocks of a generator, and its weights by the names of the one here.

    Raises:
        ConfigError: it has other layers.
    """
    blocks = len({found[1] for name in tensors if (found := re.match(r"model\.(\d+)\.conv_block\.", name))})
    layers = {"model.1": "first", "model.4": "down.0", "model.7": "down.1"}
    for i in range(blocks):
        inner = f"model.{10 + i}.conv_block"
        layers[f"{inner}.1"] = f"blocks.{i}.conv1"
        second = 6 if f"{inner}.6.weight" in tensors else 5  # one further where it was trained with dropout
        layers[f"{inner}.{second}"] = f"blocks.{i}.conv2"
    end = 10 + blocks
    layers |= {f"model.{end}": "up.0", f"model.{end + 3}": "up.1", f"model.{end + 7}": "last"}
    table = {f"{theirs}.{kind}": f"{ours}.{kind}" for theirs, ours in layers.items() for kind in ("weight", "bias")}
    others = [name for name in tensors if name not in table and name.rpartition(".")[2] not in MOMENTS]
    missing = [name for name in table if name not in tensors]
    if others or missing:
        told = f"has {others[0]}, which a generator here has not" if others else f"has no {missing[0]}"
        raise ConfigError(
            f"{where} {told}: use generators of resnet_6blocks or resnet_9blocks whose instance norm has no weights, "
            "as those of CycleGAN are"
        )
    width, channels = tensors["model.1.weight"].shape[:2]
    return (channels, width, blocks), {ours: np.asarray(tensors[name]) for name, ours in table.items()}
