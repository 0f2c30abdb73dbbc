"""GAN losses and gradient penalties against float64 JAX."""

import jax
import jax.numpy as jnp
import mindspore as ms
import numpy as np
import pytest
from mindspore import nn as ms_nn
from mindspore import ops
from reference import FIRST, SECOND, Function, assert_close, assert_exact_to_second_order, channels, conv, normal

from ganfleet import nn

D = jax.nn.sigmoid


def discriminator_on_halves(x):
    return nn.discriminator_loss(x[:4], x[4:])


def hinge_on_halves(x):
    return nn.hinge_discriminator_loss(x[:4], x[4:])


@pytest.mark.parametrize(
    "loss, reference",
    [
        (discriminator_on_halves, lambda x: -jnp.log(D(x[:4])).mean() - jnp.log(1 - D(x[4:])).mean()),
        (nn.minimax_generator_loss, lambda x: jnp.log(1 - D(x)).mean()),
        (nn.nonsaturating_generator_loss, lambda x: -jnp.log(D(x)).mean()),
        (hinge_on_halves, lambda x: -jnp.minimum(0, x[:4] - 1).mean() - jnp.minimum(0, -x[4:] - 1).mean()),
        (nn.hinge_generator_loss, lambda x: -x.mean()),
    ],
    ids=["discriminator", "minimax generator", "non-saturating generator", "hinge discriminator", "hinge generator"],
)
def test_losses_are_their_definitions_to_second_order(loss, reference):
    assert_exact_to_second_order(Function(loss), lambda params, x: reference(x), 3 * normal(8, 1))


@ms.jit
def slopes(logits):
    return ms.grad(discriminator_on_halves)(logits)


def test_losses_of_sure_logits_stay_finite_and_keep_their_slope():
    wrong, right = np.repeat(np.float32([-100, 100]), 4), np.repeat(np.float32([100, -100]), 4)
    wrong, right = ms.Tensor(wrong.reshape(8, 1)), ms.Tensor(right.reshape(8, 1))
    assert discriminator_on_halves(wrong).asnumpy() == 200
    assert discriminator_on_halves(right).asnumpy() == 0
    assert np.array_equal(slopes(wrong).asnumpy().ravel(), np.repeat([-0.25, 0.25], 4))
    assert np.all(np.abs(slopes(right).asnumpy()) < 1e-30)


class Critic(ms_nn.Cell):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(2, 3, 4, stride=2, padding=1)
        self.fc = nn.Dense(12, 1)

    def construct(self, x):
        x = nn.leaky_relu(self.conv(x))
        return self.fc(nn.tanh(x).reshape(x.shape[0], -1))


def reference_critic(params, x):
    weight, bias, out, out_bias = params
    x = conv(x, weight, 2, 1) + channels(bias)
    x = jnp.where(x > 0, x, 0.2 * x)
    return jnp.tanh(x).reshape(x.shape[0], -1) @ out.T + out_bias


class Penalised(ms_nn.Cell):
    """A critic's loss with both penalties: the scalar and its gradients to the critic's parameters, flat."""

    def __init__(self, critic):
        super().__init__()
        self.critic = critic
        self.weights = ms.ParameterTuple(critic.trainable_params())

    @ms.jit
    def construct(self, real, fake, u):
        def loss(real, fake, u):
            scores = self.critic(fake).mean() - self.critic(real).mean()
            return scores + 5 * nn.r1(self.critic, real) + 10 * nn.gradient_penalty(self.critic, real, fake, u)

        value, gradients = ms.value_and_grad(loss, None, self.weights)(real, fake, u)
        return ops.concat([value.reshape(1)] + [g.reshape(-1) for g in gradients])


def test_penalties_in_a_loss_have_exact_gradients_for_the_critic():
    critic = Critic()
    for i, p in enumerate(critic.trainable_params()):
        p.set_data(ms.Tensor(0.5 * normal(*p.shape, seed=i)))
    real, fake, u = normal(5, 2, 4, 4, seed=7), normal(5, 2, 4, 4, seed=8), np.abs(normal(5, 1, 1, 1, seed=9)) % 1

    def slope_norms(params, x):
        slopes = jax.grad(lambda x: reference_critic(params, x).sum())(x)
        return jnp.sqrt((slopes**2).sum((1, 2, 3)))

    def loss(params):
        between = (1 - u) * real + u * fake
        scores = reference_critic(params, fake).mean() - reference_critic(params, real).mean()
        r1 = (slope_norms(params, real) ** 2).mean()
        return scores + 5 * r1 + 10 * ((slope_norms(params, between) - 1) ** 2).mean()

    flat = Penalised(critic)(ms.Tensor(real), ms.Tensor(fake), ms.Tensor(u)).asnumpy()
    params = [jnp.asarray(p.asnumpy(), jnp.float64) for p in critic.trainable_params()]
    real, fake, u = (a.astype(np.float64) for a in (real, fake, u))
    value, gradients = jax.value_and_grad(loss)(params)
    assert_close(flat[0], value, FIRST)
    parts = np.split(flat[1:], np.cumsum([g.size for g in gradients])[:-1])
    for p, part, gradient in zip(critic.trainable_params()[:3], parts, gradients, strict=False):
        assert_close(part.reshape(gradient.shape), gradient, SECOND, p.name)
    assert np.abs(parts[3]).max() < 1e-5 and np.abs(gradients[3]).max() < 1e-12, "the last bias has no slope"


def test_gradient_penalty_of_a_flat_critic_has_finite_gradients():
    critic = Critic()
    for p in critic.trainable_params():
        p.set_data(ms.Tensor(np.zeros(p.shape, np.float32)))
    x, u = ms.Tensor(normal(5, 2, 4, 4)), ms.Tensor(np.full((5, 1, 1, 1), 0.5, np.float32))
    assert np.isfinite(Penalised(critic)(x, x, u).asnumpy()).all()
