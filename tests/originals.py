"""Files as the authors' programs write them, and what their networks make of them, in NumPy and float64.

Everything here is in the layout of the original: TensorFlow's, of (height, width, in, out), or PyTorch's. Nothing of
ganfleet is used.
"""

import pickle
import sys
import types
from contextlib import contextmanager

import numpy as np

SQRT2 = np.sqrt(2)
RESOLUTION, CHANNELS, WIDTH, CLASSES = 8, 3, 8, 3
SIZES = {"resolution": RESOLUTION, "num_channels": CHANNELS, "fmap_base": 32, "fmap_max": WIDTH}


# ── NVlabs' files: stylegan and progressive_growing_of_gans


class Net:
    """What is pickled as a network of NVlabs."""

    def __init__(self, function, arguments, variables, components=None, version=3):
        self.function, self.arguments, self.variables = function, arguments, variables
        self.components, self.version = components or {}, version

    def __getstate__(self):
        state = {
            "version": self.version,
            "name": self.function.partition("_")[0],
            "static_kwargs": dict(self.arguments),
            "build_module_src": "raise SystemExit('this source was run')",
            "build_func_name": self.function,
            "variables": list(self.variables.items()),
        }
        return state | ({"components": self.components} if self.version == 3 else {})


@contextmanager
def named(found, path):
    """While it lasts, pickle finds the class ``found`` as ``path``, in modules that are there for that alone."""
    module, _, found.__qualname__ = path.rpartition(".")
    found.__module__, found.__name__ = module, found.__qualname__
    parts = module.split(".")
    names = [".".join(parts[: i + 1]) for i in range(len(parts))]
    before = {name: sys.modules.get(name) for name in names}
    sys.modules |= {name: types.ModuleType(name) for name in names}
    setattr(sys.modules[module], found.__name__, found)
    try:
        yield
    finally:
        for name, old in before.items():
            sys.modules.pop(name) if old is None else sys.modules.update({name: old})


def write_pkl(path, networks, module="dnnlib.tflib.network", protocol=4):
    """``networks``, one or a tuple of them, as a file of NVlabs."""
    with named(Net, f"{module}.Network"):
        path.write_bytes(pickle.dumps(networks, protocol))
    return path


class Drawn(dict):
    """Variables by name, each drawn when it is first asked for; ``std`` is that of biases and the like."""

    def __init__(self, seed, std=0.3):
        super().__init__()
        self.rng, self.std = np.random.default_rng(seed), std

    def get(self, name, *shape):
        if name not in self:
            scale = self.std if len(shape) < 2 else 1.0
            self[name] = (scale * self.rng.standard_normal(shape)).astype(np.float32)
        assert self[name].shape == shape, name
        return self[name].astype(np.float64)


def style_mapping(v, z, label, *, layers=8, lrmul=0.01, width=512):
    if label is not None:
        z = np.concatenate([z, label @ v.get("LabelConcat/weight", label.shape[1], z.shape[1])], 1)
    x = pixel_norm(z)
    for i in range(layers):
        weight = v.get(f"Dense{i}/weight", x.shape[1], width) * (SQRT2 / np.sqrt(x.shape[1]) * lrmul)
        x = leaky_relu(x @ weight + v.get(f"Dense{i}/bias", width) * lrmul)
    return x


def style_synthesis(v, w, noise, *, resolution, channels, base, maximum, fused):
    """``w`` (n, layers, width); ``noise`` a list of (n, 1, h, w)."""

    def finish(scope, x, i):
        width = x.shape[1]
        x = x + noise[i] * v.get(f"{scope}/Noise/weight", width)[:, None, None]
        x = leaky_relu(x + v.get(f"{scope}/bias", width)[:, None, None])
        x = x - x.mean((2, 3), keepdims=True)
        x = x / np.sqrt((x**2).mean((2, 3), keepdims=True) + 1e-8)
        style = linear(v, f"{scope}/StyleMod", w[:, i], 2 * width, 1.0).reshape(-1, 2, width, 1, 1)
        return x * (style[:, 0] + 1) + style[:, 1]

    widths = widths_of(base, maximum)
    x = v.get("4x4/Const/const", 1, widths(4), 4, 4)
    x = finish("4x4/Const", np.repeat(x, len(w), 0), 0)
    x = finish("4x4/Conv", conv(v, "4x4/Conv", x, widths(4)), 1)
    images, height, i = [to_rgb(v, x, resolution, channels)], 8, 2
    while height <= resolution:
        scope = f"{height}x{height}"
        x = enlarging(v, f"{scope}/Conv0_up", x, widths(height), fused(height), "hwio")
        x = finish(f"{scope}/Conv0_up", blur(x), i)
        x = finish(f"{scope}/Conv1", conv(v, f"{scope}/Conv1", x, widths(height)), i + 1)
        images.append(to_rgb(v, x, resolution, channels))
        height, i = 2 * height, i + 2
    return images[-1]


def pro_generator(v, z, label, *, resolution, channels, base, maximum, fused):
    widths = widths_of(base, maximum)
    x = pixel_norm(z if label is None else np.concatenate([z, label], 1))
    x = x @ v.get("4x4/Dense/weight", x.shape[1], 16 * widths(4)) * (SQRT2 / 4 / np.sqrt(x.shape[1]))
    x = x.reshape(-1, widths(4), 4, 4)
    x = pixel_norm(leaky_relu(x + v.get("4x4/Dense/bias", widths(4))[:, None, None]))
    x = pixel_norm(leaky_relu(biased(v, "4x4/Conv", conv(v, "4x4/Conv", x, widths(4)))))
    images, height = [to_rgb(v, x, resolution, channels)], 8
    while height <= resolution:
        name = f"{height}x{height}/Conv0" + ("_up" if fused else "")
        x = enlarging(v, name, x, widths(height), fused, "hwoi")
        x = pixel_norm(leaky_relu(biased(v, name, x)))
        x = conv(v, f"{height}x{height}/Conv1", x, widths(height))
        x = pixel_norm(leaky_relu(biased(v, f"{height}x{height}/Conv1", x)))
        images.append(to_rgb(v, x, resolution, channels))
        height *= 2
    return images[-1]


def discriminator(v, image, label, *, base, maximum, fused, down, blurred, group):
    """Scores (n, 1) of D_basic or D_paper; ``down`` is what the second layer of a resolution is called."""
    widths, resolution = widths_of(base, maximum), image.shape[2]

    def from_rgb(height):  # all of them have weights, and the last is used
        lod = int(np.log2(resolution // height))
        return leaky_relu(biased(v, f"FromRGB_lod{lod}", conv(v, f"FromRGB_lod{lod}", image, widths(height), 1)))

    height, x = resolution, from_rgb(resolution)
    while height > 4:
        scope = f"{height}x{height}"
        x = leaky_relu(biased(v, f"{scope}/Conv0", conv(v, f"{scope}/Conv0", x, widths(height))))
        x = reducing(v, f"{scope}/{down}", blur(x) if blurred else x, widths(height // 2), fused)
        x = leaky_relu(biased(v, f"{scope}/{down}", x))
        height //= 2
        from_rgb(height)
    n, group = len(x), min(group, len(x))
    y = x.reshape(group, -1, *x.shape[1:])
    y = np.sqrt(((y - y.mean(0)) ** 2).mean(0) + 1e-8).mean((1, 2, 3))
    x = np.concatenate([x, np.broadcast_to(np.tile(y, group)[:, None, None, None], (n, 1, 4, 4))], 1)
    x = leaky_relu(biased(v, "4x4/Conv", conv(v, "4x4/Conv", x, widths(4))))
    x = leaky_relu(linear(v, "4x4/Dense0", x.reshape(n, -1), widths(2), SQRT2))
    scores = linear(v, "4x4/Dense1", x, 1 if label is None else label.shape[1], 1.0)
    return scores if label is None else (scores * label).sum(1, keepdims=True)


def widths_of(base, maximum):
    return lambda height: min(2 * base // height, maximum)


def to_rgb(v, x, resolution, channels):
    name = f"ToRGB_lod{int(np.log2(resolution // x.shape[2]))}"
    return biased(v, name, conv(v, name, x, channels, 1, 1.0))


def linear(v, name, x, out, gain):
    weight = v.get(f"{name}/weight", x.shape[1], out) * (gain / np.sqrt(x.shape[1]))
    return x @ weight + v.get(f"{name}/bias", out)


def biased(v, name, x):
    return x + v.get(f"{name}/bias", x.shape[1])[:, None, None]


def conv(v, name, x, out, kernel=3, gain=SQRT2):
    weight = v.get(f"{name}/weight", kernel, kernel, x.shape[1], out) * (gain / np.sqrt(kernel**2 * x.shape[1]))
    return correlated(x, weight, (kernel // 2, kernel // 2))


def enlarging(v, name, x, out, fused, layout):
    """Fused, the adjoint of a strided convolution, by its definition: each pixel adds the kernel to the image."""
    inner, scale = x.shape[1], SQRT2 / np.sqrt(9 * x.shape[1])
    if not fused:
        return conv(v, name, x.repeat(2, 2).repeat(2, 3), out)
    shape = (3, 3, inner, out) if layout == "hwio" else (3, 3, out, inner)
    weight = v.get(f"{name}/weight", *shape) * scale
    if layout == "hwio":
        weight = weight.transpose(0, 1, 3, 2)
    weight = spread(weight)
    n, _, h, w = x.shape
    made = np.zeros((n, out, 2 * h + 2, 2 * w + 2))
    for i in range(4):
        for j in range(4):
            made[:, :, i : i + 2 * h : 2, j : j + 2 * w : 2] += np.einsum("nihw,oi->nohw", x, weight[i, j])
    return made[:, :, 1:-1, 1:-1]


def reducing(v, name, x, out, fused):
    if not fused:
        y = conv(v, name, x, out)
        return (y[:, :, ::2, ::2] + y[:, :, 1::2, ::2] + y[:, :, ::2, 1::2] + y[:, :, 1::2, 1::2]) / 4
    weight = v.get(f"{name}/weight", 3, 3, x.shape[1], out) * (SQRT2 / np.sqrt(9 * x.shape[1]))
    return correlated(x, spread(weight) / 4, (1, 1))[:, :, ::2, ::2]


def spread(weight):
    weight = np.pad(weight, ((1, 1), (1, 1), (0, 0), (0, 0)))
    return weight[1:, 1:] + weight[:-1, 1:] + weight[1:, :-1] + weight[:-1, :-1]


def correlated(x, weight, padding):
    """``weight`` (height, width, in, out), stride 1; zeros of ``padding`` before and behind, along both axes."""
    x = np.pad(x, ((0, 0), (0, 0), padding, padding))
    height, width = (side - kernel + 1 for side, kernel in zip(x.shape[2:], weight.shape[:2], strict=True))
    taps = [(i, j) for i in range(weight.shape[0]) for j in range(weight.shape[1])]
    return sum(np.einsum("nihw,io->nohw", x[:, :, i : i + height, j : j + width], weight[i, j]) for i, j in taps)


def pixel_norm(x):
    return x / np.sqrt((x**2).mean(1, keepdims=True) + 1e-8)


def leaky_relu(x):
    return np.maximum(x, 0.2 * x)


def blur(x):
    kernel = np.outer([1, 2, 1], [1, 2, 1]) / 16
    taps = [(i, j) for i in range(3) for j in range(3)]
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    return sum(kernel[i, j] * padded[:, :, i : i + x.shape[2], j : j + x.shape[3]] for i, j in taps)


# ── Whole networks, small ones


def one_hot(labels):
    return np.eye(CLASSES)[labels]


class Style:
    """A G_style: its parts' variables, and its images."""

    def __init__(self, seed, fused, classes):
        self.mapping, self.synthesis = Drawn(seed), Drawn(seed + 1)
        self.average = np.random.default_rng(seed + 2).standard_normal(WIDTH).astype(np.float32)
        self.fused, self.classes = fused, classes
        rng = np.random.default_rng(seed + 3)
        self.noise = [rng.standard_normal((1, 1, height, height)).astype(np.float32) for height in (4, 4, 8, 8)]
        self.images(np.ones((1, WIDTH)), self.noise, [0])  # which draws all variables

    def images(self, z, noise, labels, psi=1.0):
        label = one_hot(labels) if self.classes else None
        w = style_mapping(self.mapping, z, label, layers=2, width=WIDTH)
        w = self.average + psi * (w - self.average)
        w = np.repeat(w[:, None], 4, 1)
        fused = {True: lambda _: True, "auto": lambda height: height >= 128}[self.fused]
        return style_synthesis(
            self.synthesis, w, noise, resolution=RESOLUTION, channels=CHANNELS, base=32, maximum=WIDTH, fused=fused
        )

    def net(self):
        given = SIZES | {"latent_size": WIDTH, "dlatent_size": WIDTH, "mapping_fmaps": WIDTH, "mapping_layers": 2}
        given |= {"label_size": self.classes, "fused_scale": self.fused, "truncation_psi": 0.7, "structure": "auto"}
        noise = {f"noise{i}": array for i, array in enumerate(self.noise)}
        parts = {
            "synthesis": Net("G_synthesis", given, self.synthesis | noise | {"lod": np.float32(0)}),
            "mapping": Net("G_mapping", given | {"dlatent_broadcast": 4}, self.mapping),
        }
        own = {"lod": np.float32(0), "dlatent_avg": self.average}
        return Net("G_style", given, own, parts)


class Pro:
    """A G_paper: its variables, and its images."""

    def __init__(self, seed, fused, classes):
        self.variables, self.fused, self.classes = Drawn(seed), fused, classes
        self.images(np.ones((1, WIDTH)), None, [0])

    def images(self, z, noise, labels):
        label = one_hot(labels) if self.classes else None
        sizes = {"resolution": RESOLUTION, "channels": CHANNELS, "base": 32, "maximum": WIDTH}
        return pro_generator(self.variables, z, label, fused=self.fused, **sizes)

    def net(self):
        given = SIZES | {"label_size": self.classes, "fused_scale": self.fused, "latent_size": WIDTH}
        return Net("G_paper", given, self.variables | {"lod": np.float32(0)}, version=2)


class Judge:
    """A D_basic or D_paper: its variables, and its scores."""

    def __init__(self, seed, function, fused, classes):
        self.variables, self.function, self.fused, self.classes = Drawn(seed), function, fused, classes
        self.scores(np.ones((4, CHANNELS, RESOLUTION, RESOLUTION)), [0, 0, 0, 0])

    def scores(self, images, labels):
        label = one_hot(labels) if self.classes else None
        styled = self.function == "D_basic"
        down = "Conv1_down" if styled or self.fused else "Conv1"
        how = {"fused": self.fused is True, "down": down, "blurred": styled, "group": 2}
        return discriminator(self.variables, images, label, base=32, maximum=WIDTH, **how)[:, 0]

    def net(self):
        given = SIZES | {"label_size": self.classes, "fused_scale": self.fused, "mbstd_group_size": 2}
        version = 3 if self.function == "D_basic" else 2
        return Net(self.function, given, self.variables | {"lod": np.float32(0)}, version=version)


# ── Files of pytorch-CycleGAN-and-pix2pix


def residual_weights(seed, channels, width, blocks, dropout=False):
    """The state dict of a generator with instance norm."""
    rng, tensors = np.random.default_rng(seed), {}

    def layer(name, *shape, biases):
        scale = 1 / np.sqrt(np.prod(shape[1:]))
        tensors[f"{name}.weight"] = (scale * rng.standard_normal(shape)).astype(np.float32)
        tensors[f"{name}.bias"] = (0.1 * rng.standard_normal(biases)).astype(np.float32)

    layer("model.1", width, channels, 7, 7, biases=width)
    layer("model.4", 2 * width, width, 3, 3, biases=2 * width)
    layer("model.7", 4 * width, 2 * width, 3, 3, biases=4 * width)
    for i in range(blocks):
        for number in (1, 6 if dropout else 5):
            layer(f"model.{10 + i}.conv_block.{number}", 4 * width, 4 * width, 3, 3, biases=4 * width)
    layer(f"model.{10 + blocks}", 4 * width, 2 * width, 3, 3, biases=2 * width)
    layer(f"model.{13 + blocks}", 2 * width, width, 3, 3, biases=width)
    layer(f"model.{17 + blocks}", channels, width, 7, 7, biases=channels)
    return tensors


def residual_generator(tensors, image, blocks):
    """What the generator with these ``tensors`` makes of ``image`` (n, channels, h, w)."""
    tensors = {name: array.astype(np.float64) for name, array in tensors.items()}

    def layer(name, x, stride=1, border=0):
        x = correlated(x, tensors[f"{name}.weight"].transpose(2, 3, 1, 0), (border, border))[:, :, ::stride, ::stride]
        return x + tensors[f"{name}.bias"][:, None, None]

    def transposed(name, x):  # kernel 3, stride 2, padding 1, output_padding 1
        weight = tensors[f"{name}.weight"]
        n, _, h, w = x.shape
        made = np.zeros((n, weight.shape[1], 2 * h + 2, 2 * w + 2))
        for i in range(3):
            for j in range(3):
                made[:, :, i : i + 2 * h : 2, j : j + 2 * w : 2] += np.einsum("nihw,io->nohw", x, weight[:, :, i, j])
        return made[:, :, 1:-1, 1:-1] + tensors[f"{name}.bias"][:, None, None]

    def mirrored(x, border):
        return np.pad(x, ((0, 0), (0, 0), (border, border), (border, border)), "reflect")

    def norm(x):
        return (x - x.mean((2, 3), keepdims=True)) / np.sqrt(x.var((2, 3), keepdims=True) + 1e-5)

    def relu(x):
        return np.maximum(x, 0)

    x = relu(norm(layer("model.1", mirrored(image, 3))))
    x = relu(norm(layer("model.4", x, 2, 1)))
    x = relu(norm(layer("model.7", x, 2, 1)))
    for i in range(blocks):
        inner = f"model.{10 + i}.conv_block"
        second = 6 if f"{inner}.6.weight" in tensors else 5
        y = relu(norm(layer(f"{inner}.1", mirrored(x, 1))))
        x = x + norm(layer(f"{inner}.{second}", mirrored(y, 1)))
    x = relu(norm(transposed(f"model.{10 + blocks}", x)))
    x = relu(norm(transposed(f"model.{13 + blocks}", x)))
    return np.tanh(layer(f"model.{17 + blocks}", mirrored(x, 3)))
