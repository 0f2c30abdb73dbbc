"""What feature networks are made of: convolutions with their batch norms folded in, and pools. Forward only."""

from collections.abc import Mapping

import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor, nn, ops

from ganfleet.errors import ConfigError

EPSILON = 1e-3  # of batch norms, in both networks
Tensors = Mapping[str, np.ndarray]


def taken(tensors: Tensors, name: str, shape: tuple[int, ...]) -> np.ndarray:
    """The tensor ``name``, in float64.

    Raises:
        ConfigError: there is none of this name and shape.
    """
    if name not in tensors:
        raise ConfigError(f"the file of weights lacks {name}: it must be of another network, name the right one")
    if tensors[name].shape != shape:
        raise ConfigError(
            f"{name} has shape {tensors[name].shape} in the file of weights, not {shape}: name the file of this one"
        )
    return tensors[name].astype(np.float64)


class FoldedConv(nn.Cell):
    """A convolution, its batch norm in evaluation mode, and then ``activation``.

    Both together are one affine map, y = γ (w * x − μ) / √(σ² + ε) + β, computed as one convolution with a bias.
    These always are MindSpore's own operators, so that features do not depend on ``fleet.kernels``.

    Args:
        tensors: has the convolution's weight and the batch norm's four tensors.
        conv: what the name of the convolution's tensor begins with; and ``norm``, of the batch norm's.
        shape: of the weight, (out, in / groups, height, width).
        padding: (height, width) on both sides; None for TensorFlow's "same", where an odd pixel goes to the end.
    """

    def __init__(self, tensors: Tensors, conv, norm, shape, stride=1, padding=None, groups=1, activation="relu"):
        super().__init__()
        weight = taken(tensors, f"{conv}.weight", shape)
        scale, shift, mean, variance = (
            taken(tensors, f"{norm}.{part}", shape[:1]) for part in ("weight", "bias", "running_mean", "running_var")
        )
        scale = scale / np.sqrt(variance + EPSILON)
        self.weight = constant(f"{conv}.weight", weight * scale.reshape(-1, 1, 1, 1))
        self.bias = constant(f"{conv}.bias", shift - mean * scale)
        where = {"pad_mode": "same"}
        if padding is not None:
            where = {"pad_mode": "pad", "pad": (padding[0], padding[0], padding[1], padding[1])}
        self.conv = ops.Conv2D(shape[0], shape[2:], stride=stride, group=groups, **where)
        self.activation = activation

    def construct(self, x):
        y = ops.bias_add(self.conv(x, self.weight), self.bias)
        if self.activation == "relu":
            return ops.relu(y)
        return ops.relu6(y) if self.activation == "relu6" else y


class AveragePool3(nn.Cell):
    """Means over 3×3 pixels, stride 1, same size out; at the border over those pixels alone that there are."""

    def __init__(self, side: int):
        super().__init__()
        inside = np.pad(np.ones((side, side)), 1)
        counts = sum(inside[i : i + side, j : j + side] for i in range(3) for j in range(3))
        self.share = Tensor((9 / counts).astype(np.float32).reshape(1, 1, side, side))
        self.pool = ops.AvgPool(3, 1, "valid")
        self.pad = ops.Pad(((0, 0), (0, 0), (1, 1), (1, 1)))

    def construct(self, x):
        return self.pool(self.pad(x)) * self.share


def constant(name: str, value: np.ndarray) -> Parameter:
    """A weight that nobody trains."""
    return Parameter(Tensor(value.astype(np.float32)), name, requires_grad=False)


def mean_over_pixels(x):
    """(n, c, h, w) → (n, c)."""
    n, c, h, w = x.shape
    return x.reshape(n, c, h * w).mean(2)


def named_apart(net: nn.Cell, prefix: str) -> nn.Cell:
    """``net``, with ``prefix`` before the names of its parameters: no other network of the process may have them."""
    net.update_parameters_name(f"{prefix}.")
    return net


def on_pairs(maps):
    """How far apart the two images of each pair are, as LPIPS (arXiv:1801.03924, eq. 1) with all weights one.

    Args:
        maps: tensors (2 n, c, h, w), of images that are pairs two by two.

    Returns:
        (n,): the squared distance between the two vectors of unit length at each position, its mean over positions,
        summed over ``maps``.
    """
    total = ops.zeros((maps[0].shape[0] // 2,), ms.float32)
    for each in maps:
        two_n, c, h, w = each.shape
        unit = each / ops.sqrt(ops.square(each).sum(1, keepdims=True) + 1e-10)
        pairs = unit.reshape(two_n // 2, 2, c, h * w)
        total = total + ops.square(pairs[:, 0] - pairs[:, 1]).sum(1).mean(1)
    return total
