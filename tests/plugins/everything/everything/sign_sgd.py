"""An optimizer without a base class."""

from dataclasses import dataclass

from mindspore import ops


@dataclass(frozen=True)
class SignSGD:
    """Steps of one length, in the direction of the gradient's sign (arXiv:1802.04434)."""

    lr: float = 0.01

    def slots(self):
        return ()

    def update(self, gradient, weights, slots, t, hyper):
        return weights - hyper["lr"] * ops.sign(gradient), ()
