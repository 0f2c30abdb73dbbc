"""The image pool (arXiv:1612.07828, section 2.3): discriminators are also shown what generators made earlier."""

import numpy as np


def exchange(
    fakes: np.ndarray, memory: dict[str, np.ndarray], name: str, size: int, rng: np.random.Generator
) -> np.ndarray:
    """What to show instead of ``fakes`` (n, …), the pool ``name`` in ``memory`` having ``size`` places.

    Until the pool is full, every fake is shown and stored. Then each is, with probability ½, exchanged for one drawn
    from the pool. An image is an array of its own, ``NAME/PLACE``, and never changed in place.
    """
    shown = []
    for fake in fakes:
        full = f"{name}/{size - 1}" in memory
        if not full:
            stored = sum(key.startswith(f"{name}/") for key in memory)
            memory[f"{name}/{stored}"] = fake
        elif rng.random() < 0.5:
            place = f"{name}/{rng.integers(size)}"
            memory[place], fake = fake, memory[place]
        shown.append(fake)
    return np.stack(shown)
