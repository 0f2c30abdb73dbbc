"""Layers, losses, penalties and optimizers, each exact to second order under ms.jit and tested so."""

from ganfleet.nn.activation import LeakyReLU, Tanh, gelu, leaky_relu, tanh
from ganfleet.nn.attention import Attention, PixelAttention, attend, future, unseen
from ganfleet.nn.buffer import Buffer, buffers_of
from ganfleet.nn.conv import Conv2d, ConvTranspose2d
from ganfleet.nn.dense import Dense
from ganfleet.nn.embedding import Embedding, LearnedSinusoids, TimeEmbedding, one_hot, sinusoids
from ganfleet.nn.equalized import EqualizedConv2d, EqualizedDense
from ganfleet.nn.forms import mean
from ganfleet.nn.init import Constant, Normal, Uniform, initialize, parameter, reproducible
from ganfleet.nn.losses import (
    discriminator_loss,
    hinge_discriminator_loss,
    hinge_generator_loss,
    minimax_generator_loss,
    nonsaturating_generator_loss,
)
from ganfleet.nn.minibatch import joined, minibatch_stddev, parted
from ganfleet.nn.norm import BatchNorm, GroupNorm, InstanceNorm, LaneNorm, LayerNorm, RMSNorm, pixel_norm
from ganfleet.nn.optim import SGD, Adam, AdamW, ClipByGlobalNorm, Optimizer, RMSProp, Weight
from ganfleet.nn.pad import reflection_pad
from ganfleet.nn.penalties import gradient_penalty, r1, scored_r1
from ganfleet.nn.precision import set_compute_type, supported
from ganfleet.nn.recompute import recomputable, recompute
from ganfleet.nn.resample import blur, depth_to_space, downsample, space_to_depth, upsample
from ganfleet.nn.residual import ResidualBlock
from ganfleet.nn.spectral import SpectralConv2d, SpectralDense, SpectralEmbedding, SpectralNorm
from ganfleet.nn.steady import ELU, Mish, Softplus, elu, log, logsumexp, mish, power, softplus
from ganfleet.nn.transformer import TransformerBlock

__all__ = [
    "ELU",
    "SGD",
    "Adam",
    "AdamW",
    "Attention",
    "BatchNorm",
    "Buffer",
    "ClipByGlobalNorm",
    "Constant",
    "Conv2d",
    "ConvTranspose2d",
    "Dense",
    "Embedding",
    "EqualizedConv2d",
    "EqualizedDense",
    "GroupNorm",
    "InstanceNorm",
    "LaneNorm",
    "LayerNorm",
    "LeakyReLU",
    "LearnedSinusoids",
    "Mish",
    "Normal",
    "Optimizer",
    "PixelAttention",
    "RMSNorm",
    "RMSProp",
    "ResidualBlock",
    "Softplus",
    "SpectralConv2d",
    "SpectralDense",
    "SpectralEmbedding",
    "SpectralNorm",
    "Tanh",
    "TimeEmbedding",
    "TransformerBlock",
    "Uniform",
    "Weight",
    "attend",
    "blur",
    "buffers_of",
    "depth_to_space",
    "discriminator_loss",
    "downsample",
    "elu",
    "future",
    "gelu",
    "gradient_penalty",
    "hinge_discriminator_loss",
    "hinge_generator_loss",
    "initialize",
    "joined",
    "leaky_relu",
    "log",
    "logsumexp",
    "mean",
    "minibatch_stddev",
    "minimax_generator_loss",
    "mish",
    "nonsaturating_generator_loss",
    "one_hot",
    "parameter",
    "parted",
    "pixel_norm",
    "power",
    "r1",
    "recomputable",
    "recompute",
    "reflection_pad",
    "reproducible",
    "scored_r1",
    "set_compute_type",
    "sinusoids",
    "softplus",
    "space_to_depth",
    "supported",
    "tanh",
    "unseen",
    "upsample",
]
