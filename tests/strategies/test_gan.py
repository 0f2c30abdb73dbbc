"""The two losses of the original GAN's generator, as the engine differentiates them."""

import numpy as np
from in_memory import ArraySource, one_lane, trainer
from nn.reference import assert_close, normal

CONFIG = """
strategy: {{name: gan, loss: {loss}, resolution: 4, latent: 6, hidden: [8]}}
train: {{batch_size: 1, lanes: 1}}
"""


def g_gradient(loss, directory):
    """Loss and gradient of G for one latent, whose image D is sure not to believe."""
    source = ArraySource("image", normal(4, 1, 4, 4))
    train = trainer(CONFIG.format(loss=loss), source, directory)
    train.loader.close()
    components = train.program.tensors()
    components["D.weights"]["D.last.bias"] = np.float32([-4])
    train.program.load(components)
    compiled = next(compiled for compiled in train.program.phases if compiled.name == "G")
    flat, _ = one_lane(compiled, {"image": source.samples[:1]}, {"z": normal(1, 6, seed=1)})
    flat = flat.astype(np.float64)
    return flat[compiled.player.size], flat[: compiled.player.size]


def test_the_non_saturating_loss_has_the_minimax_gradient_times_what_d_lacks_over_d(tmp_path):
    """∇ log(1 − D) = −D·∇logit and ∇ −log D = −(1 − D)·∇logit: with D near 0 only the second moves G."""
    minimax, minimax_gradient = g_gradient("minimax", tmp_path)
    non_saturating, gradient = g_gradient("non_saturating", tmp_path)
    d = 1 - np.exp(minimax)
    assert 0.001 < d < 0.1
    assert_close(non_saturating, -np.log(d), 1e-5)
    assert_close(gradient, minimax_gradient * (1 - d) / d, 1e-5)
