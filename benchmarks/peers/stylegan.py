"""ganfleet's StyleGAN in PyTorch, at the last resolution of its growth and after the fade."""

from itertools import pairwise

import torch
from torch import nn
from torch.nn import functional as F

from peers.layers import (
    EqualizedConv2d,
    EqualizedDense,
    blur,
    downsample,
    instance_norm,
    leaky_relu,
    minibatch_stddev,
    pixel_norm,
    upsample,
)

LEARNING_RATES = {128: 1.5e-3, 256: 2e-3, 512: 3e-3, 1024: 3e-3}


class Mapping(nn.Module):
    def __init__(self, latent, layers, lr):
        super().__init__()
        self.dense = nn.ModuleList([EqualizedDense(latent, latent, lr_multiplier=lr) for _ in range(layers)])

    def forward(self, z):
        x = pixel_norm(z)
        for dense in self.dense:
            x = leaky_relu(dense(x))
        return x


class Epilogue(nn.Module):
    def __init__(self, channels, latent):
        super().__init__()
        self.strength = nn.Parameter(torch.zeros(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.style = EqualizedDense(latent, 2 * channels, gain=1)

    def forward(self, x, w, noise):
        x = leaky_relu(x + torch.addcmul(column(self.bias), noise, column(self.strength)))
        gain, bias = self.style(w).chunk(2, 1)
        return instance_norm(x, 1e-8, gain + 1, bias)


class ConstantLayer(nn.Module):
    def __init__(self, channels, latent):
        super().__init__()
        self.constant = nn.Parameter(torch.zeros(1, channels, 4, 4))
        self.epilogue = Epilogue(channels, latent)

    def forward(self, x, w, noise):
        return self.epilogue(self.constant, w, noise)


class StyledConv(nn.Module):
    def __init__(self, inputs, outputs, latent, resample=None):
        super().__init__()
        self.conv = EqualizedConv2d(inputs, outputs, 3, resample=resample, bias=False)
        self.blurred = resample == "up"
        self.epilogue = Epilogue(outputs, latent)

    def forward(self, x, w, noise):
        x = self.conv(x)
        return self.epilogue(blur(x) if self.blurred else x, w, noise)


class Synthesis(nn.Module):
    def __init__(self, maps, channels, latent):
        super().__init__()
        layers = [ConstantLayer(maps[0], latent), StyledConv(maps[0], maps[0], latent)]
        for below, here in pairwise(maps):
            layers += [StyledConv(below, here, latent, "up"), StyledConv(here, here, latent)]
        self.layers = nn.ModuleList(layers)
        self.to_rgb = nn.Module()
        self.to_rgb.convs = nn.ModuleList([EqualizedConv2d(here, channels, 1, gain=1) for here in maps])
        for conv in self.to_rgb.convs[:-1]:
            conv.requires_grad_(False)

    def forward(self, styles, noise):
        x = None
        for i, layer in enumerate(self.layers):
            x = layer(x, styles[i], noise[f"noise{i}"])
        return self.to_rgb.convs[-1](x)


class Generator(nn.Module):
    """Also keeps ``w_avg``, the running mean of w, where the pass is one that trains it."""

    def __init__(self, maps, channels, options):
        super().__init__()
        self.mapping = Mapping(options["latent"], options["mapping_layers"], options["mapping_lr"])
        self.synthesis = Synthesis(maps, channels, options["latent"])
        self.mixing, self.beta = options["style_mixing"], options["w_avg_beta"]
        self.register_buffer("w_avg", torch.zeros(options["latent"]))

    def forward(self, noise, record=False):
        w = self.mapping(noise["z"])
        if record:
            self.w_avg.lerp_(w.detach().mean(0), 1 - self.beta)
        layers, cutoff = len(self.synthesis.layers), len(self.synthesis.layers)
        if self.mixing:
            other, cutoff = self.mapping(noise["z_mixed"]), int(noise["cutoff"])
        return self.synthesis([w if i < cutoff else other for i in range(layers)], noise)


class Judge(nn.Module):
    def __init__(self, inputs, features, group):
        super().__init__()
        self.group = group
        self.conv = EqualizedConv2d(inputs + 1, inputs, 3)
        self.dense = EqualizedDense(16 * inputs, features)
        self.last = EqualizedDense(features, 1, gain=1)

    def forward(self, x):
        x = leaky_relu(self.conv(minibatch_stddev(x, self.group)))
        return self.last(leaky_relu(self.dense(x.flatten(1)))).flatten()


class Reduction(nn.Module):
    def __init__(self, inputs, outputs):
        super().__init__()
        self.conv = EqualizedConv2d(inputs, inputs, 3)
        self.down = EqualizedConv2d(inputs, outputs, 3, resample="down")

    def forward(self, x):
        return leaky_relu(self.down(blur(leaky_relu(self.conv(x)))))


class Discriminator(nn.Module):
    def __init__(self, maps, features, channels, group):
        super().__init__()
        self.from_rgb = nn.ModuleList([EqualizedConv2d(channels, here, 1) for here in maps])
        judge = Judge(maps[0], features, group)
        self.blocks = nn.ModuleList([judge, *(Reduction(here, below) for below, here in pairwise(maps))])
        for conv in self.from_rgb[:-1]:
            conv.requires_grad_(False)

    def forward(self, image):
        x = leaky_relu(self.from_rgb[-1](image))
        for block in reversed(self.blocks):
            x = block(x)
        return x


def column(vector):
    return vector.reshape(-1, 1, 1)


class Peer:
    averaged = "G"

    def __init__(self, options, channels):
        self.options = options
        size, base = options["resolution"], options["fmap_base"]
        maps = [max(1, min(2 * base // 2**i, options["fmap_max"])) for i in range(1, size.bit_length())]
        lr = options["lrs"].get(str(size), options["lr"])
        every = options["r1_every"]
        share = every / (every + 1) if every > 1 else 1.0
        d = Discriminator(maps[1:], maps[0], channels, options["mbstd_group"])
        self.players = {
            "D": ({"D": d}, lr * share, (0.0, 0.99**share)),
            "G": ({"G": Generator(maps[1:], channels, options)}, lr, (0.0, 0.99)),
        }
        self.phases = [("D", "D", 1), ("D_r1", "D", every), ("G", "G", 1)]
        if every == 1:
            del self.phases[1]
        self.sides = [side for i in range(2, size.bit_length()) for side in (2**i, 2**i)]

    def draw(self, n):
        options, layers = self.options, len(self.sides)
        drawn = {"z": torch.randn(n, options["latent"])}
        if options["style_mixing"]:
            drawn["z_mixed"] = torch.randn(n, options["latent"])
            mixed = torch.rand(()) < options["style_mixing"]
            drawn["cutoff"] = torch.randint(1, layers, ()) if mixed else layers
        for i, side in enumerate(self.sides):
            drawn[f"noise{i}"] = torch.randn(n, 1, side, side).mul_(options["noise"])
        return drawn

    def loss(self, phase, nets, real, noise):
        options = self.options
        if phase == "G":
            return F.softplus(-nets.D(nets.G(noise, record=True))).mean()
        image = shown(real["image"])
        if phase == "D_r1":
            scores, penalty = r1(nets.D, image)
            # Adds nothing, but gives every weight a gradient, for which DistributedDataParallel waits.
            return options["r1_gamma"] / 2 * options["r1_every"] * penalty + 0 * scores.sum()
        with torch.no_grad():
            fake = nets.G(noise)
        loss = F.softplus(nets.D(fake)).mean()
        if options["r1_every"] > 1:
            return loss + F.softplus(-nets.D(image)).mean()
        scores, penalty = r1(nets.D, image)
        return loss + F.softplus(-scores).mean() + options["r1_gamma"] / 2 * penalty


def shown(image):
    """As the ganfleet strategy has it, which blends even where nothing fades."""
    coarse = upsample(downsample(image))
    return coarse + (image - coarse)


def r1(d, image):
    image.requires_grad_()
    scores = d(image)
    (slopes,) = torch.autograd.grad(scores.sum(), image, create_graph=True)
    return scores, slopes.square().sum((1, 2, 3)).mean()
