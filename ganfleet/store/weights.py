"""Networks' weights from files and runs, into networks, and to safetensors. Python's own unpickling is never used.

Layouts are left as they are: a file of PyTorch's is read as it is, and its names are the user's to match.
"""

import io
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import safetensors
import safetensors.numpy

from ganfleet.document import expanded
from ganfleet.errors import ConfigError
from ganfleet.store import checkpoint, pth, publish
from ganfleet.store.compare import tensors_sha256
from ganfleet.store.snapshot import Snapshot, storable

SUFFIX = ".safetensors"
OF_PYTORCH = (".pth", ".pt")
DTYPES = {
    "BOOL": "bool",
    **{f"{kind[0].upper()}{bits}": f"{kind}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64)},
    **{f"F{bits}": f"float{bits}" for bits in (16, 32, 64)},
    "C64": "complex64",
}
SHOWN = 5  # names in a message


@dataclass
class Matched:
    """How tensors went into a network, by the names of its parameters; ``unexpected`` by those of the tensors."""

    loaded: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    misshaped: list[str] = field(default_factory=list)


def read(path: Path | str, prefix: str = "") -> dict[str, np.ndarray]:
    """The tensors at ``path`` whose names begin with ``prefix``, by the rest of their names.

    Args:
        path: a .safetensors file (bfloat16 becomes float32), an .npz file, a .pth or .pt file with a state_dict, or a
            ganfleet checkpoint or run, the newest valid checkpoint of which is taken. Of a checkpoint these are the
            `networks` of all players.

    Raises:
        ConfigError: there is nothing like that at ``path``, it is of another kind or damaged, or no name begins with
            ``prefix``.
        CheckpointDamaged: of the checkpoints, none is valid.
    """
    path = expanded(path, "the path of the weights")
    if path.is_dir():
        tensors = networks(checkpoint.load(checkpoint.resolve(path)[0]))
    elif path.suffix == SUFFIX:
        tensors = _safetensors(path)
    elif path.suffix == ".npz":
        tensors = _npz(path)
    elif path.suffix in OF_PYTORCH:
        tensors = pth.read(path)
    else:
        raise ConfigError(
            f"{path}: weights are read from a .safetensors, .npz or .pth file, or a ganfleet checkpoint or run. "
            'Convert a MindSpore .ckpt with mindspore.save_checkpoint(…, format="safetensors"), and other programs\' '
            "files by `ganfleet import`"
        )
    return beginning(prefix, tensors, path)


def beginning(prefix: str, tensors: Mapping[str, np.ndarray], path: Path) -> dict[str, np.ndarray]:
    """Those of the ``tensors`` at ``path`` whose names begin with ``prefix``, by the rest of their names.

    Raises:
        ConfigError: there are none.
    """
    found = {name.removeprefix(prefix): array for name, array in tensors.items() if name.startswith(prefix)}
    if not found:
        raise ConfigError(
            f"{path} has no tensor whose name begins with {prefix!r}, but {_some(sorted(tensors))}: name one that has"
        )
    return found


def networks(snapshot: Snapshot, player: str | None = None, ema: bool | None = None) -> dict[str, np.ndarray]:
    """The weights and buffers of a player's networks in ``snapshot``, or of all players' where ``player`` is None.

    Args:
        ema: whether the weights are their averages; where None, they are for players that have an EMA.

    Raises:
        ConfigError: there is no such player, or no EMA of it.
    """
    players = [name.removesuffix(".weights") for name in snapshot.tensors if name.endswith(".weights")]
    if player is not None and player not in players:
        raise ConfigError(f"the checkpoint has no player {player}: its players are {', '.join(players)}")
    tensors = {}
    for name in players if player is None else [player]:
        averages = snapshot.tensors.get(f"{name}.ema")
        if ema and averages is None:
            raise ConfigError(f"player {name} has no EMA in this checkpoint: use the last weights (--no-ema)")
        tensors |= snapshot.tensors[f"{name}.weights"] | snapshot.tensors.get(f"{name}.buffers", {})
        if ema is not False:
            tensors |= averages or {}
    return tensors


def write(path: Path | str, tensors: Mapping[str, np.ndarray]) -> None:
    """Write ``tensors`` as a .safetensors file.

    Raises:
        ConfigError: ``path`` has another ending.
        StorageError: it cannot be written; a file that was there before is as before.
        TypeError: an array has a dtype that cannot be read back.
    """
    path = expanded(path, "the path of the weights")
    if path.suffix != SUFFIX:
        raise ConfigError(f"{path}: weights are written to a {SUFFIX} file, name one")
    publish.file(path, safetensors.numpy.save({name: storable(array, name) for name, array in tensors.items()}))


def sha256(tensors: Mapping[str, np.ndarray]) -> str:
    """SHA-256 of ``tensors`` by name, dtype, shape and bytes, whatever their order."""
    return tensors_sha256({name: storable(array, name) for name, array in tensors.items()})


def into(
    net,
    tensors: Mapping[str, np.ndarray],
    prefix: str = "",
    strict: bool = True,
    rename: Mapping[str, str] | None = None,
) -> Matched:
    """Set the parameters of ``net``, a MindSpore Cell that is not compiled yet, by name, and say what did not match.

    Args:
        prefix: what the names of the network's parameters begin with and those of ``tensors`` do not.
        strict: refuse whatever does not match. Otherwise parameters without a tensor of their shape stay as they are.
        rename: names of ``tensors`` → names in the network, without ``prefix``. A name that ends with a dot stands for
            all that begin with it.

    Raises:
        ConfigError: with ``strict``, something does not match; then the network is as before. Or two tensors are
            renamed to one name.
    """
    from mindspore import Tensor

    parameters = {parameter.name.removeprefix(prefix): parameter for parameter in net.get_parameters()}
    given = _renamed(tensors, rename or {})
    matched = Matched(unexpected=[old for name, (old, _) in given.items() if name not in parameters])
    values, shapes = {}, []
    for name, parameter in parameters.items():
        array = given[name][1] if name in given else None
        if array is None:
            matched.missing.append(parameter.name)
        elif array.shape != tuple(parameter.shape):
            matched.misshaped.append(parameter.name)
            shapes.append(f"{parameter.name} has shape {tuple(parameter.shape)} and its tensor {array.shape}")
        else:
            matched.loaded.append(parameter.name)
            values[name] = array
    if strict and (matched.missing or matched.unexpected or matched.misshaped):
        raise ConfigError(_mismatch(matched, shapes))
    for name, array in values.items():
        parameters[name].set_data(Tensor(np.array(array)).astype(parameters[name].dtype))
    return matched


def _renamed(tensors: Mapping[str, np.ndarray], rename: Mapping[str, str]) -> dict[str, tuple[str, np.ndarray]]:
    """New name → (name, array)."""
    new: dict[str, tuple[str, np.ndarray]] = {}
    for name, array in tensors.items():
        leading = max((key for key in rename if key.endswith(".") and name.startswith(key)), key=len, default="")
        target = rename.get(name) or rename.get(leading, "") + name.removeprefix(leading)
        if target in new:
            raise ConfigError(f"the tensors {new[target][0]} and {name} are both renamed to {target}")
        new[target] = (name, array)
    return new


def _mismatch(matched: Matched, shapes: list[str]) -> str:
    parts = [f"no tensor for {_some(matched.missing)}"] if matched.missing else []
    parts += [f"no parameter for {_some(matched.unexpected)}"] if matched.unexpected else []
    parts += [_some(shapes)] if shapes else []
    return f"the weights do not fit the network: {'; '.join(parts)}. Rename them, or load what fits without strict"


def _some(names) -> str:
    """The first few of ``names``, and how many more there are."""
    names = list(names)
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more if names else "none"


def _safetensors(path: Path) -> dict[str, np.ndarray]:
    try:
        parts = safetensors.deserialize(_content(path))
    except safetensors.SafetensorError as error:
        raise ConfigError(f"{path} is no whole safetensors file: {error}") from error
    return {name: _array(f"{path}: {name}", part) for name, part in parts}


def _array(name: str, part: dict) -> np.ndarray:
    dtype, shape = part["dtype"], part["shape"]
    if dtype == "BF16":  # the upper half of a float32
        return (np.frombuffer(part["data"], "<u2").astype(np.uint32) << 16).view(np.float32).reshape(shape)
    if dtype not in DTYPES:
        raise ConfigError(f"{name} has dtype {dtype}, which numpy does not know: convert it to float32 first")
    return np.frombuffer(part["data"], DTYPES[dtype]).reshape(shape)


def _npz(path: Path) -> dict[str, np.ndarray]:
    try:
        with np.load(io.BytesIO(_content(path)), allow_pickle=False) as archive:
            return dict(archive)
    except (ValueError, EOFError, OSError, zipfile.BadZipFile) as error:
        raise ConfigError(f"{path} is no .npz file of plain arrays: {error}") from error


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror or error}") from error
