"""ganfleet's DCGAN in PyTorch."""

from itertools import pairwise

import torch
from torch import nn
from torch.nn import functional as F

from peers.layers import leaky_relu


class Generator(nn.Module):
    def __init__(self, latent, ngf, channels, resolution):
        super().__init__()
        widths = layer_widths(ngf, resolution)[::-1]
        convs = [nn.ConvTranspose2d(latent, widths[0], 4, 1, 0, bias=False)]
        convs += [nn.ConvTranspose2d(a, b, 4, 2, 1, bias=False) for a, b in pairwise(widths)]
        self.convs = nn.ModuleList(convs)
        self.norms = nn.ModuleList([nn.BatchNorm2d(width) for width in widths])
        self.last = nn.ConvTranspose2d(widths[-1], channels, 4, 2, 1, bias=False)

    def forward(self, z):
        x = z.reshape(len(z), -1, 1, 1)
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = F.relu(norm(conv(x)), inplace=True)
        return torch.tanh(self.last(x))


class Discriminator(nn.Module):
    def __init__(self, ndf, channels, resolution):
        super().__init__()
        widths = layer_widths(ndf, resolution)
        self.first = nn.Conv2d(channels, ndf, 4, 2, 1, bias=False)
        self.convs = nn.ModuleList([nn.Conv2d(a, b, 4, 2, 1, bias=False) for a, b in pairwise(widths)])
        self.norms = nn.ModuleList([nn.BatchNorm2d(width) for width in widths[1:]])
        self.last = nn.Conv2d(widths[-1], 1, 4, 1, 0, bias=False)

    def forward(self, image):
        x = leaky_relu(self.first(image))
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = leaky_relu(norm(conv(x)))
        return self.last(x).reshape(len(image), 1)


def layer_widths(base, resolution):
    return [base * 2**i for i in range(resolution.bit_length() - 3)]


class Peer:
    """Players, phases and losses of a training step. ``players`` are networks, learning rate and betas by name;
    ``phases`` are (name, player, every how many steps); ``averaged`` says whose weights are averaged, if anyone's."""

    averaged = None

    def __init__(self, options, channels):
        self.options = options
        size = options["resolution"]
        nets = {
            "D": Discriminator(options["ndf"], channels, size),
            "G": Generator(options["latent"], options["ngf"], channels, size),
        }
        self.players = {name: ({name: net}, options["lr"], options["betas"]) for name, net in nets.items()}
        self.phases = [("D", "D", 1), ("G", "G", 1)]

    def draw(self, n):
        return {"z": torch.randn(n, self.options["latent"])}

    def loss(self, phase, nets, real, noise):
        if phase == "D":
            with torch.no_grad():
                fake = nets.G(noise["z"])
            return F.softplus(-nets.D(real["image"])).mean() + F.softplus(nets.D(fake)).mean()
        return F.softplus(-nets.D(nets.G(noise["z"]))).mean()
