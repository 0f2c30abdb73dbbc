"""Files in which other programs keep their weights, as data. What they mean is the business of strategies."""

import hashlib
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ganfleet.document import expanded
from ganfleet.errors import ConfigError
from ganfleet.store import tflib, weights
from ganfleet.store.tflib import Network

OF_NVLABS = ".pkl"
SUFFIXES = (OF_NVLABS, *weights.OF_PYTORCH, weights.SUFFIX, ".npz")


@dataclass(frozen=True)
class Foreign:
    """What one file holds.

    Attributes:
        path: of the file.
        role: what the user calls it, such as a network's name; None where nothing was said.
        tensors: named arrays, of all files but those of NVlabs.
        networks: the networks of a file of NVlabs, in its order.
    """

    path: Path
    role: str | None = None
    tensors: dict[str, np.ndarray] = field(default_factory=dict)
    networks: list[Network] = field(default_factory=list)

    @property
    def sha256(self) -> str:
        """Of the file."""
        found = hashlib.sha256()
        with self.path.open("rb") as file:
            while block := file.read(1 << 20):
                found.update(block)
        return found.hexdigest()


def read(path: Path | str, role: str | None = None) -> Foreign:
    """What the file at ``path`` holds.

    Raises:
        ConfigError: there is no such file, or it is of another kind, damaged, or asks for what no weights need.
    """
    path = expanded(path, "the path of the weights")
    if path.suffix not in SUFFIXES or path.is_dir():
        raise ConfigError(
            f"{path}: weights of other programs are read from files that end in {', '.join(SUFFIXES)}: rename it, or "
            "save its tensors with safetensors"
        )
    if path.suffix == OF_NVLABS:
        return Foreign(path, role, networks=tflib.read(path))
    return Foreign(path, role, tensors=weights.read(path))
