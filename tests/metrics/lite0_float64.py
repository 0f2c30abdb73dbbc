"""EfficientNet-Lite0 once more, straight from its description, in float64 numpy: what the network of features is
compared with. Batch norms are separate here, padding is explicit, and convolutions are sums of shifted products."""

import numpy as np


def padded(x, kernel, stride):
    """TensorFlow's SAME: as many outputs as inputs per stride, the odd pixel of padding after the image."""
    side = x.shape[-1]
    needed = max((-(-side // stride) - 1) * stride + kernel - side, 0)
    ends = (needed // 2, needed - needed // 2)
    return np.pad(x, [(0, 0), (0, 0), ends, ends])


def shifted(x, kernel, stride):
    """For each place in the kernel, the pixels under it."""
    side = -(-x.shape[-1] // stride)
    x = padded(x, kernel, stride)
    for i in range(kernel):
        for j in range(kernel):
            yield i, j, x[:, :, i : i + stride * (side - 1) + 1 : stride, j : j + stride * (side - 1) + 1 : stride]


def convolution(x, weight, stride=1):
    return sum(
        np.einsum("nchw,oc->nohw", part, weight[:, :, i, j], optimize=True)
        for i, j, part in shifted(x, weight.shape[-1], stride)
    )


def depthwise(x, weight, stride):
    return sum(part * weight[:, 0, i, j][:, None, None] for i, j, part in shifted(x, weight.shape[-1], stride))


def forward(tensors, x):
    """Features (n, 1280) and logits (n, 1000) of images (n, 3, 224, 224) that have been normalised."""

    def norm(x, name):
        scale, shift, mean, variance = (
            tensors[f"{name}.{part}"].astype(np.float64)[:, None, None]
            for part in ("weight", "bias", "running_mean", "running_var")
        )
        return scale * (x - mean) / np.sqrt(variance + 1e-3) + shift

    def relu6(x):
        return np.clip(x, 0, 6)

    strides = (1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1, 1, 1, 1)
    x = relu6(norm(convolution(x.astype(np.float64), tensors["_conv_stem.weight"], 2), "_bn0"))
    for i, stride in enumerate(strides):
        block, before = f"_blocks.{i}", x
        if f"{block}._expand_conv.weight" in tensors:
            x = relu6(norm(convolution(x, tensors[f"{block}._expand_conv.weight"]), f"{block}._bn0"))
        x = relu6(norm(depthwise(x, tensors[f"{block}._depthwise_conv.weight"], stride), f"{block}._bn1"))
        x = norm(convolution(x, tensors[f"{block}._project_conv.weight"]), f"{block}._bn2")
        if x.shape == before.shape:
            x = x + before
    features = relu6(norm(convolution(x, tensors["_conv_head.weight"]), "_bn1")).mean((2, 3))
    return features, features @ tensors["_fc.weight"].T.astype(np.float64) + tensors["_fc.bias"]
