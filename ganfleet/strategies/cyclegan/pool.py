"""The image pool (arXiv:1612.07828, section 2.3): discriminators are also shown what generators made earlier."""

import numpy as np
from mindspore import Tensor, ops


def exchange(fakes: Tensor, memory: dict[str, Tensor | np.ndarray], name: str, size: int, rng) -> Tensor:
    """What to show instead of ``fakes`` (n, …), the pool ``name`` in ``memory`` having ``size`` places.

    Until the pool is full, every fake is shown and stored. Then each is, with probability ½, exchanged for one drawn
    from the pool by ``rng``, a NumPy generator. An image is a tensor of its own, ``NAME/PLACE``, and never changed in
    place; after a resume it is an array.
    """
    shown, exchanged = [], False
    for i in range(len(fakes)):
        fake = fakes[i]
        full = f"{name}/{size - 1}" in memory
        if not full:
            stored = sum(key.startswith(f"{name}/") for key in memory)
            memory[f"{name}/{stored}"] = fake
        elif rng.random() < 0.5:
            place = f"{name}/{rng.integers(size)}"
            memory[place], fake = fake, memory[place]
            exchanged = True
        shown.append(fake if isinstance(fake, Tensor) else Tensor(fake))
    return ops.stack(shown) if exchanged else fakes
