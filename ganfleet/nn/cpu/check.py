"""What kernels.cc computes, written anew in float64 numpy: a library that differs is not used."""

import ctypes
import itertools

import numpy as np

TOLERANCE = 1e-5  # of the largest value; sums of a few hundred float32 products are within 1e-6
# x and weight, stride, padding: blocks and plain layouts, and a last row that the stride leaves out
CONVOLUTIONS = [
    ((2, 16, 6, 6), (8, 16, 3, 3), 1, 1),
    ((2, 3, 9, 9), (8, 3, 4, 4), 2, 1),
    ((2, 5, 4, 4), (3, 5, 1, 1), 1, 0),
]


def wrong_kernel(path: str) -> str | None:
    """The name of the first kernel of the library at ``path`` that is missing or wrong, or None."""
    try:
        library = ctypes.CDLL(path)
    except OSError:
        return "everything"
    draw = np.random.Generator(np.random.Philox(0))

    def normal(*shape):
        return draw.standard_normal(shape).astype(np.float32)

    x, dy = normal(2, 3, 5, 5), normal(2, 3, 5, 5)
    gain, bias, vector, epsilon = normal(3), normal(3), normal(19), np.full(1, 1e-5, np.float32)
    y, mean, variance = norm(x, gain, bias, epsilon)
    moments = mean.astype(np.float32), variance.astype(np.float32)
    scalars = [np.full(1, value, np.float32) for value in (0.5, 0.5, 0.75, 0.25, 0.125, 1e-3)]
    vectors = (vector, normal(19), normal(19), normal(19) ** 2)
    cases = [
        ("gate", (x, dy, np.full(1, 0.2, np.float32)), [np.where(x > 0, dy, 0.2 * dy.astype(float))]),
        ("blur", (x,), [blur(x)]),
        ("norm", (x, gain, bias, epsilon), [y, mean, variance]),
        ("norm_gradient", (dy, x, gain, *moments, epsilon), norm_gradient(dy, x, gain, epsilon)),
        ("adam", (*vectors, *scalars), adam(*vectors, *scalars)),
        ("all_finite", (vector,), [np.ones(1)]),
        ("all_finite", (np.where(np.arange(19) == 17, np.float32(np.nan), vector),), [np.zeros(1)]),
    ]
    # In place, what is expected is what the first arguments become.
    gradient, weights, m, v = vectors
    two, kept, own = np.full(1, 2, np.float32), scalars[2], (normal(2, 3), normal(13))
    moved = adam(2 * gradient, weights, m, v, *scalars)
    inputs = gradient, two, *scalars
    cases += [
        ("adam_in_place", (weights, m, v, *inputs, *own), [*moved, *inputs, moved[0][:6].reshape(2, 3), moved[0][6:]]),
        ("average_in_place", (weights, m, kept), [m + kept * (weights.astype(float) - m)]),
        ("spread_in_place", (vector, *own), [vector, vector[:6].reshape(2, 3), vector[6:]]),
    ]
    for x_shape, w_shape, stride, padding in CONVOLUTIONS:
        x, w = normal(*x_shape), normal(*w_shape)
        y = convolution(x, w, stride, padding)
        dy = normal(*y.shape)
        dx, dw = adjoints(x, w, dy, stride, padding)
        suffix = f"_{stride}_{padding}"
        cases += [
            ("convolution" + suffix, (x, w), [y]),
            ("to_input" + suffix, (dy, w), [dx]),
            ("to_weight" + suffix, (x, dy), [dw]),
        ]
    for name, inputs, expected in cases:
        try:
            function = getattr(library, name)
            if name.endswith("_in_place"):
                inputs = [each.copy() for each in inputs]
                actual = inputs if call(function, inputs, (1,)) else None
            else:
                actual = call(function, inputs, *(each.shape for each in expected))
        except AttributeError:
            return name
        if actual is None or not all(map(near, actual, expected)):
            return name
    return None


def near(actual, expected) -> bool:
    return bool(np.abs(actual - expected).max() <= TOLERANCE * np.abs(expected).max())


def call(function, inputs, *shapes):
    """What MindSpore does with a kernel: the outputs, or None where it fails."""
    outputs = [np.full(shape, np.nan, np.float32) for shape in shapes]
    arrays = [*inputs, *outputs]
    sizes = [(ctypes.c_int64 * a.ndim)(*a.shape) for a in arrays]
    data = (ctypes.c_void_p * len(arrays))(*(a.ctypes.data for a in arrays))
    ranks = (ctypes.c_int * len(arrays))(*(a.ndim for a in arrays))
    shapes = (ctypes.c_void_p * len(arrays))(*map(ctypes.addressof, sizes))
    return None if function(len(arrays), data, ranks, shapes, None, None, None) else outputs


def taps(x, w, stride, height, width):
    """For each tap of the kernel: its place, and the pixels of the padded ``x`` that it meets."""
    for i, j in itertools.product(range(w.shape[2]), range(w.shape[3])):
        yield i, j, (..., slice(i, i + height * stride, stride), slice(j, j + width * stride, stride))


def convolution(x, w, stride, padding):
    x = np.pad(x.astype(float), ((0, 0), (0, 0), (padding, padding), (padding, padding)))
    height, width = ((x.shape[i] - w.shape[i]) // stride + 1 for i in (2, 3))
    return sum(
        np.einsum("nchw,oc->nohw", x[met], w[:, :, i, j].astype(float))
        for i, j, met in taps(x, w, stride, height, width)
    )


def adjoints(x, w, dy, stride, padding):
    """The gradients of Σ dy · convolution(x, w) with respect to x and w."""
    x = np.pad(x.astype(float), ((0, 0), (0, 0), (padding, padding), (padding, padding)))
    dx, dw = np.zeros_like(x), np.zeros(w.shape)
    height, width = dy.shape[2:]
    for i, j, met in taps(x, w, stride, height, width):
        dx[met] += np.einsum("nohw,oc->nchw", dy.astype(float), w[:, :, i, j])
        dw[:, :, i, j] = np.einsum("nohw,nchw->oc", dy.astype(float), x[met])
    return dx[..., padding : x.shape[2] - padding, padding : x.shape[3] - padding], dw


def blur(x):
    padded = np.pad(x.astype(float), ((0, 0), (0, 0), (1, 1), (1, 1)))
    rows = padded[:, :, :-2] + 2 * padded[:, :, 1:-1] + padded[:, :, 2:]
    return (rows[..., :-2] + 2 * rows[..., 1:-1] + rows[..., 2:]) / 16


def norm(x, gain, bias, epsilon):
    """y, mean and variance of batch norm over all but axis 1."""
    x = x.astype(float)
    mean, variance = x.mean((0, 2, 3)), x.var((0, 2, 3))
    y = (x - channels(mean)) / np.sqrt(channels(variance) + epsilon) * channels(gain) + channels(bias)
    return y, mean, variance


def norm_gradient(dy, x, gain, epsilon):
    """The gradients of Σ dy · y with respect to x, gain and bias."""
    x, dy = x.astype(float), dy.astype(float)
    deviation = np.sqrt(x.var((0, 2, 3)) + epsilon)
    normed = (x - channels(x.mean((0, 2, 3)))) / channels(deviation)
    dgain, dbias, count = (dy * normed).sum((0, 2, 3)), dy.sum((0, 2, 3)), x.size / x.shape[1]
    dx = channels(gain / deviation) * (dy - channels(dbias) / count - normed * channels(dgain) / count)
    return [dx, dgain, dbias]


def channels(vector):
    return vector.astype(float).reshape(-1, 1, 1)


def adam(gradient, weights, m, v, keep1, take1, keep2, take2, step, epsilon):
    """The weights, m and v after an update."""
    gradient = gradient.astype(float)
    m, v = keep1 * m + take1 * gradient, keep2 * v + take2 * gradient**2
    return [weights - step * (m / (np.sqrt(v) + epsilon)), m, v]
