"""PyTorch's side of a race: a plain training loop, and the proof that it computes what ganfleet does."""

import importlib
import json
from types import SimpleNamespace

import numpy as np
import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

# Tolerances, of the largest value. Where a leaky ReLU's input is zero but for rounding, both sides take other slopes:
# in a deep D, ganfleet's gradients differ from those of float64 by up to 1.5e-3.
LOSS, GRADIENT, WEIGHT = 1e-4, 5e-3, 2e-6


class Loop:
    """Training of the networks that ``reference``, recorded by ganfleet, has the weights of.

    ``ranks`` above 1: this is one of so many processes that each take a part of the batch; gradients are averaged by
    DistributedDataParallel.
    """

    def __init__(self, reference, ranks=1):
        facts = json.loads(str(reference["facts"]))
        self.reference, self.facts = reference, facts
        self.batch_size = facts["batch_size"] // ranks
        self.images = {name: torch.from_numpy(reference[f"images/{name}"]) for name in facts["images"]}
        channels = next(iter(self.images.values())).shape[1]
        self.peer = importlib.import_module(f"peers.{facts['peer']}").Peer(facts["options"], channels)
        self.nets = {name: net for nets, _, _ in self.peer.players.values() for name, net in nets.items()}
        self.load()
        weights = {name: self.weights(name) for name in self.peer.players}
        self.optimizers = {
            name: torch.optim.Adam(weights[name].values(), lr, betas, fused=True)
            for name, (_, lr, betas) in self.peer.players.items()
        }
        self.shown = dict.fromkeys(self.peer.players, SimpleNamespace(**self.nets))
        if ranks > 1:
            for name, (nets, _, _) in self.peer.players.items():
                wrapped = {each: DistributedDataParallel(net, broadcast_buffers=False) for each, net in nets.items()}
                self.shown[name] = SimpleNamespace(**self.nets | wrapped)
        averaged = weights.get(self.peer.averaged, {}).values()
        self.averaged, self.averages = list(averaged), [weight.detach().clone() for weight in averaged]
        self.steps, self.order = 0, torch.empty(0, dtype=torch.long)

    def weights(self, player):
        """The trained weights of ``player`` by ganfleet's names, in its order."""
        return {
            f"{name}.{key}": weight
            for name, net in self.peer.players[player][0].items()
            for key, weight in net.named_parameters()
            if weight.requires_grad
        }

    def load(self):
        """Copy ganfleet's weights."""
        with torch.no_grad():
            for name, net in self.nets.items():
                for key, weight in net.named_parameters():
                    weight.copy_(self.recorded("weights", f"{name}.{key}"))

    def recorded(self, what, name):
        """A tensor of ganfleet's, whose norms call a weight a gain."""
        key = f"{what}/{name}"
        return torch.from_numpy(self.reference[key if key in self.reference else key.replace(".weight", ".gain")])

    # ── Training

    def run(self, steps):
        for _ in range(steps):
            real = self.real()
            for phase, player, every in self.peer.phases:
                if (self.steps + 1) % every == 0:
                    self.loss(phase, player, real, self.peer.draw(self.batch_size))
                    self.optimizers[player].step()
            if self.averages:
                torch._foreach_lerp_(self.averages, self.averaged, 1 - self.facts["ema_beta"])
            self.steps += 1

    def loss(self, phase, player, real, noise):
        """The loss, after its gradients are where optimizers look for them."""
        for name in self.peer.players:
            for weight in self.optimizers[name].param_groups[0]["params"]:
                weight.requires_grad_(name == player)
        self.optimizers[player].zero_grad()
        loss = self.peer.loss(phase, self.shown[player], real, noise)
        loss.backward()
        return loss.item()

    def real(self):
        count = len(next(iter(self.images.values())))
        if len(self.order) < self.batch_size:
            self.order = torch.randperm(count)
        chosen, self.order = self.order.split([self.batch_size, len(self.order) - self.batch_size])
        return {name: images[chosen].float() / 127.5 - 1 for name, images in self.images.items()}

    # ── Agreement

    def assert_agrees(self):
        """Check each phase of the step that ganfleet recorded: the loss, every gradient, and, from ganfleet's
        gradients, every weight after the update. Returns the largest errors, relative to the largest value.

        Raises:
            AssertionError: one of them differs by more than float32 explains.
        """
        worst = {"loss": 0.0, "gradient": 0.0, "weight": 0.0}
        for phase, player, _ in self.peer.phases:
            real, noise = self.inputs(phase, "real"), self.inputs(phase, "noise")
            loss, expected = self.loss(phase, player, real, noise), float(self.reference[f"{phase}/loss"])
            self.compare(worst, "loss", phase, torch.tensor(loss), torch.tensor(expected), LOSS)
            weights = self.weights(player)
            largest = max(self.recorded(f"{phase}/gradient", name).abs().max() for name in weights)
            for name, weight in weights.items():
                gradient = self.recorded(f"{phase}/gradient", name)
                mine = torch.zeros_like(weight) if weight.grad is None else weight.grad
                # Where a gradient is zero but for rounding, as a bias's before a norm, it counts by the others' size.
                self.compare(worst, "gradient", f"{phase} {name}", mine, gradient, GRADIENT, 1e-2 * largest)
                weight.grad = gradient.clone()
            self.optimizers[player].step()
            for name, weight in weights.items():
                after = self.recorded(f"{phase}/after", name)
                self.compare(worst, "weight", f"{phase} {name}", weight.detach(), after, WEIGHT)
        return worst

    def inputs(self, phase, kind):
        prefix = f"{phase}/{kind}/"
        return {
            key.removeprefix(prefix): torch.from_numpy(np.asarray(self.reference[key]))
            for key in self.reference
            if key.startswith(prefix)
        }

    @staticmethod
    def compare(worst, what, where, actual, expected, tolerance, least=1e-30):
        assert actual.shape == expected.shape, f"{where}: {what} has shape {actual.shape}, not {expected.shape}"
        error = float((actual - expected).abs().max() / max(expected.abs().max(), least))
        worst[what] = max(worst[what], error)
        assert error <= tolerance, f"{where}: the {what} differs by {error:.1e} of the largest value"


def join(rank, ranks, rendezvous):
    """Connect the processes of a DistributedDataParallel race."""
    dist.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=ranks)
