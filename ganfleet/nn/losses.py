"""The GAN losses of arXiv:1406.2661, on logits, and the hinge loss of arXiv:1705.02894, on scores.

D = sigmoid(logit), so −log D = softplus(−logit) and −log(1 − D) = softplus(logit), finite for any logit. Each takes
logits or scores of any shape and returns their scalar mean, to be minimised.
"""

from mindspore import ops

from ganfleet.nn import forms


def discriminator_loss(real_logits, fake_logits):
    """−E log D(x) − E log(1 − D(G(z))): −V(G, D), for both games."""
    return forms.mean(forms.softplus(-real_logits)) + forms.mean(forms.softplus(fake_logits))


def minimax_generator_loss(fake_logits):
    """E log(1 − D(G(z))), what G minimises in the minimax game."""
    return -forms.mean(forms.softplus(fake_logits))


def nonsaturating_generator_loss(fake_logits):
    """−E log D(G(z)), whose gradient does not vanish where D is sure."""
    return forms.mean(forms.softplus(-fake_logits))


def hinge_discriminator_loss(real_scores, fake_scores):
    """E max(0, 1 − D(x)) + E max(0, 1 + D(G(z))): scores beyond ±1 on the right side no longer count."""
    return forms.mean(ops.relu(1 - real_scores)) + forms.mean(ops.relu(1 + fake_scores))


def hinge_generator_loss(fake_scores):
    """−E D(G(z)), what G minimises against a D with the hinge loss."""
    return -forms.mean(fake_scores)
