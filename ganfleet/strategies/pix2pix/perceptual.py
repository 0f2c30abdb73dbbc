"""Frozen networks whose features tell how alike two images look, for the perceptual loss of pix2pixHD."""

from collections.abc import Mapping

import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor, nn, ops

from ganfleet.document import expanded
from ganfleet.errors import ConfigError
from ganfleet.metrics.efficientnet import EfficientNetLite0
from ganfleet.metrics.networks import lite0
from ganfleet.nn import forms
from ganfleet.store import pth, weights

LITE0 = "lite0"
WEIGHTS = (1 / 32, 1 / 16, 1 / 8, 1 / 4, 1.0)  # of the five maps, the finest first
CONVS = {"VGG19": (2, 2, 4, 4, 4), "VGG16": (2, 2, 3, 3, 3)}  # in each of the five blocks (arXiv:1409.1556)
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet's colours from 0 to 1


def network(named: str) -> nn.Cell:
    """What ``named`` stands for: ``lite0``, or a file with the weights of VGG19 or VGG16. It has its weights already.

    Its ``maps`` takes images (n, 1, 3 or 4, h, w) in [-1, 1] and gives five maps of features, the finest first.

    Raises:
        ConfigError: the file or the package of EfficientNet-Lite0 is missing, or the file is of another network.
    """
    if named == LITE0:
        return Lite0(lite0("strategy.perceptual: lite0 needs", "a file of VGG's weights as strategy.perceptual"))
    path = expanded(named, "strategy.perceptual")
    tensors = weights.read(path) if path.suffix in (weights.SUFFIX, ".npz") else pth.read(path)
    try:
        return VGG(tensors)
    except ConfigError as error:
        raise ConfigError(f"strategy.perceptual: {path}: {error}") from error


def distance(maps, others):
    """Σ wᵢ E |φᵢ(x) − φᵢ(y)| over the five maps (arXiv:1711.11585, the authors' code), a scalar."""
    total = ops.zeros((), ms.float32)
    for i, weight in enumerate(WEIGHTS):
        total = total + weight * forms.mean(ops.abs(maps[i] - others[i]))
    return total


class Lite0(nn.Cell):
    """EfficientNet-Lite0's maps at a half to a thirty-second of the image's size."""

    def __init__(self, tensors: Mapping[str, np.ndarray]):
        super().__init__()
        self.net = EfficientNetLite0(tensors)

    def maps(self, image):
        return self.net.maps(((three_channels(image) + 1) * 127.5 - 127) / 128)


class VGG(nn.Cell):
    """The first map of each of VGG19's or VGG16's five blocks, behind its ReLU.

    ``tensors`` have torchvision's names. Channels are those of the tensors.
    """

    def __init__(self, tensors: Mapping[str, np.ndarray]):
        super().__init__()
        found = next((convs for convs in CONVS.values() if _missing(tensors, convs) is None), None)
        if found is None:
            raise ConfigError(
                f"it lacks {_missing(tensors, CONVS['VGG19'])}: name the weights of torchvision's vgg19 or vgg16, "
                "without batch norm"
            )
        self.blocks = (*found[:-1], 1)
        names = [name for block in _names(found) for name in block]
        self.weights = ms.ParameterTuple([_constant(tensors, f"{name}.weight") for name in names])
        self.biases = ms.ParameterTuple([_constant(tensors, f"{name}.bias") for name in names])
        self.mean, self.deviation = (Tensor(np.float32(each).reshape(1, 3, 1, 1)) for each in (MEAN, DEVIATION))
        self.pool = ops.MaxPool(2, 2)

    def maps(self, image):
        x = ((three_channels(image) + 1) / 2 - self.mean) / self.deviation
        found, conv = (), 0
        for block in range(len(self.blocks)):
            x = self.pool(x) if block else x
            for layer in range(self.blocks[block]):
                x = ops.relu(forms.bias_add(forms.conv2d(x, self.weights[conv], 1, 1), self.biases[conv]))
                conv = conv + 1
                if layer == 0:
                    found = (*found, x)
        return found


def three_channels(image):
    """(n, 1, 3 or 4, h, w) → (n, 3, h, w): grey three times over, and colours on white."""
    if image.shape[1] == 1:
        return ops.concat((image, image, image), 1)
    if image.shape[1] == 4:
        alpha = (image[:, 3:] + 1) / 2
        return image[:, :3] * alpha + (1 - alpha)
    return image


def _names(convs: tuple[int, ...]) -> list[list[str]]:
    """What the convolutions up to the first one of the last block are called, by block.

    Each convolution and its ReLU have a number, and so has the pool behind a block.
    """
    found, number = [], 0
    for block, count in enumerate(convs):
        wanted = 1 if block == len(convs) - 1 else count
        found.append([f"features.{number + 2 * i}" for i in range(wanted)])
        number += 2 * count + 1
    return found


def _missing(tensors: Mapping[str, np.ndarray], convs: tuple[int, ...]) -> str | None:
    """The first tensor that such a network needs and ``tensors`` do not have."""
    wanted = [f"{name}.{part}" for block in _names(convs) for name in block for part in ("weight", "bias")]
    return next((name for name in wanted if name not in tensors), None)


def _constant(tensors: Mapping[str, np.ndarray], name: str) -> Parameter:
    """A weight that nobody trains."""
    return Parameter(Tensor(np.ascontiguousarray(tensors[name], np.float32)), name, requires_grad=False)
