"""ganfleet's CycleGAN in PyTorch."""

import random

import torch
from torch import nn
from torch.nn import functional as F

from peers.layers import instance_norm, leaky_relu


def normed(x):
    return instance_norm(x, 1e-5)


def mirrored(x, border):
    return F.pad(x, [border] * 4, "reflect")


class Generator(nn.Module):
    def __init__(self, channels, width, blocks):
        super().__init__()
        self.first = nn.Conv2d(channels, width, 7)
        self.down = nn.ModuleList([nn.Conv2d(width * i, width * i * 2, 3, 2, 1) for i in (1, 2)])
        self.blocks = nn.ModuleList([ResidualBlock(4 * width) for _ in range(blocks)])
        up = [nn.ConvTranspose2d(width * i * 2, width * i, 3, 2, padding=1, output_padding=1) for i in (2, 1)]
        self.up = nn.ModuleList(up)
        self.last = nn.Conv2d(width, channels, 7)

    def forward(self, image):
        x = F.relu(normed(self.first(mirrored(image, 3))), inplace=True)
        for conv in self.down:
            x = F.relu(normed(conv(x)), inplace=True)
        for block in self.blocks:
            x = block(x)
        for conv in self.up:
            x = F.relu(normed(conv(x)), inplace=True)
        return torch.tanh(self.last(mirrored(x, 3)))


class ResidualBlock(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3)
        self.conv2 = nn.Conv2d(width, width, 3)

    def forward(self, x):
        y = F.relu(normed(self.conv1(mirrored(x, 1))), inplace=True)
        return x + normed(self.conv2(mirrored(y, 1)))


class Discriminator(nn.Module):
    def __init__(self, channels, width):
        super().__init__()
        widths = [channels, width, 2 * width, 4 * width, 8 * width]
        convs = [nn.Conv2d(widths[i], widths[i + 1], 4, (2, 2, 2, 1)[i], padding=1) for i in range(4)]
        self.convs = nn.ModuleList(convs)
        self.last = nn.Conv2d(widths[-1], 1, 4, padding=1)

    def forward(self, image):
        x = leaky_relu(self.convs[0](image))
        for conv in self.convs[1:]:
            x = leaky_relu(normed(conv(x)))
        return self.last(x)


class Peer:
    averaged = None

    def __init__(self, options, channels):
        self.options = options
        blocks = options["blocks"] or (9 if options["resolution"] >= 256 else 6)
        generators = {name: Generator(channels, options["ngf"], blocks) for name in ("G_AB", "G_BA")}
        discriminators = {name: Discriminator(channels, options["ndf"]) for name in ("D_A", "D_B")}
        lr, betas = options["lr"], options["betas"]
        self.players = {"G": (generators, lr, betas), "D": (discriminators, lr, betas)}
        self.phases = [("G", "G", 1), ("D", "D", 1)]
        self.pools = {"fake_a": [], "fake_b": []}
        self.fakes = {}

    def draw(self, n):
        return {name: self.exchange(name, fakes) for name, fakes in self.fakes.items()}

    def exchange(self, name, fakes):
        pool, shown = self.pools[name], []
        for fake in fakes:
            if len(pool) < self.options["pool"]:
                pool.append(fake)
            elif random.random() < 0.5:
                place = random.randrange(len(pool))
                pool[place], fake = fake, pool[place]
            shown.append(fake)
        return torch.stack(shown)

    def loss(self, phase, nets, real, noise):
        options, a, b = self.options, real["image_a"], real["image_b"]
        if phase == "D":
            return domain_loss(nets.D_A, a, noise["fake_a"]) + domain_loss(nets.D_B, b, noise["fake_b"])
        n = len(a)
        (fake_b, same_b), (fake_a, same_a) = (
            nets.G_AB(torch.cat((a, b))).split(n),
            nets.G_BA(torch.cat((b, a))).split(n),
        )
        self.fakes = {"fake_a": fake_a.detach(), "fake_b": fake_b.detach()}
        cycles = options["cycle_a"] * (
            F.l1_loss(nets.G_BA(fake_b), a) + options["identity"] * F.l1_loss(same_a, a)
        ) + options["cycle_b"] * (F.l1_loss(nets.G_AB(fake_a), b) + options["identity"] * F.l1_loss(same_b, b))
        return (nets.D_B(fake_b) - 1).square().mean() + (nets.D_A(fake_a) - 1).square().mean() + cycles


def domain_loss(discriminator, real, fake):
    real_scores, fake_scores = discriminator(torch.cat((real, fake))).chunk(2)
    return 0.5 * ((real_scores - 1).square().mean() + fake_scores.square().mean())
