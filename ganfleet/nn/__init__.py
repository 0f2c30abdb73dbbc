"""Layers, losses, penalties and optimizers, each exact to second order under ms.jit and tested so."""

from ganfleet.nn.activation import LeakyReLU, Tanh, leaky_relu, tanh
from ganfleet.nn.conv import Conv2d, ConvTranspose2d
from ganfleet.nn.dense import Dense
from ganfleet.nn.init import Constant, Normal, Uniform, initialize, parameter
from ganfleet.nn.losses import discriminator_loss, minimax_generator_loss, nonsaturating_generator_loss
from ganfleet.nn.norm import BatchNorm, RunningStats
from ganfleet.nn.optim import SGD, Adam, RMSProp
from ganfleet.nn.penalties import gradient_penalty, r1
from ganfleet.nn.resample import downsample, upsample

__all__ = [
    "SGD",
    "Adam",
    "BatchNorm",
    "Constant",
    "Conv2d",
    "ConvTranspose2d",
    "Dense",
    "LeakyReLU",
    "Normal",
    "RMSProp",
    "RunningStats",
    "Tanh",
    "Uniform",
    "discriminator_loss",
    "downsample",
    "gradient_penalty",
    "initialize",
    "leaky_relu",
    "minimax_generator_loss",
    "nonsaturating_generator_loss",
    "parameter",
    "r1",
    "tanh",
    "upsample",
]
