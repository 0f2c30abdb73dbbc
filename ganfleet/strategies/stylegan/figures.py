"""The figures of arXiv:1812.04948 as lists of inputs for a sampler: truncation, style mixing, noise, interpolation.

They change the arrays that ``StyleGAN.sample_inputs`` gives, and know nothing of networks or files.
"""

import numpy as np

from ganfleet.errors import ConfigError

Inputs = dict[str, np.ndarray]

LAYER_GROUPS = {"coarse": (0, 3), "middle": (4, 7), "fine": (8, None)}  # 4²-8², 16²-32², 64² and up
NOISE = ("all", "none", "fine", "coarse")


def truncated(inputs: Inputs, psi: float, layers: int | None) -> Inputs:
    """w moved towards its mean, to ``psi`` of its distance, in the first ``layers`` layers (all where None)."""
    psis = _needed(inputs, "psi", "--truncation").copy()
    psis[:, :layers] = psi
    return inputs | {"psi": psis}


def layer_range(name: str, inputs: Inputs) -> slice:
    """The layers that ``coarse``, ``middle``, ``fine`` or ``a-b``, both included, means for this model.

    Raises:
        ConfigError: it means none, or layers that this model does not have.
    """
    layers = _needed(inputs, "mixed", "--mix").shape[1]
    if name in LAYER_GROUPS:
        first, last = LAYER_GROUPS[name]
    else:
        a, dash, b = name.partition("-")
        if not (a.isdigit() and (b.isdigit() or not dash)):
            raise ConfigError(f"--mix layers={name}: write {', '.join(LAYER_GROUPS)}, or layers such as 4-7")
        first, last = int(a), int(b or a)
    last = layers - 1 if last is None else last
    if not first <= last < layers:
        raise ConfigError(f"--mix layers={name}: this model has the layers 0-{layers - 1}")
    return slice(first, last + 1)


def mixed(source: Inputs, into: Inputs, layers: slice) -> Inputs:
    """The image of ``into`` with the styles of ``source`` in ``layers``."""
    chosen = into["mixed"].copy()
    chosen[:, layers] = 1
    return into | {"z_mixed": source["z"], "mixed": chosen}


def with_noise(inputs: Inputs, which: str) -> Inputs:
    """Noise in ``all`` layers, ``none``, the ``fine`` ones only or the ``coarse`` ones only.

    Coarse are four of nine resolutions: 4² to 32² of a model of 1024², 4² and 8² of one of 64².
    """
    _needed(inputs, "noise0", "--noise")
    names = sorted((name for name in inputs if name.startswith("noise")), key=lambda name: int(name[5:]))
    coarse = 2 * max(1, len(names) // 2 * 4 // 9)
    kept = {"all": names, "none": [], "coarse": names[:coarse], "fine": names[coarse:]}[which]
    return inputs | {name: np.zeros_like(inputs[name]) for name in names if name not in kept}


def with_noise_of(inputs: Inputs, other: Inputs) -> Inputs:
    """``inputs`` with the noise of ``other``."""
    return inputs | {name: array for name, array in other.items() if name.startswith("noise")}


def interpolated(stops: list[Inputs], frames: int) -> list[Inputs]:
    """``frames`` steps over the latents of ``stops`` and back to the first, evenly, along great circles.

    All else is that of the first stop.

    Raises:
        ConfigError: there are fewer than two stops, or not a frame for each.
    """
    if len(stops) < 2:
        raise ConfigError("--interpolate needs two seeds or more, such as 3,7,12")
    if frames < len(stops):
        raise ConfigError(f"--frames {frames} are fewer than the {len(stops)} seeds")
    ring = [_needed(stop, "z", "--interpolate") for stop in [*stops, stops[0]]]
    made = []
    for t in np.arange(frames) * len(stops) / frames:
        z = slerp(ring[int(t)], ring[int(t) + 1], t % 1)
        made.append(stops[0] | {"z": z} | ({"z_mixed": z} if "z_mixed" in stops[0] else {}))
    return made


def slerp(a: np.ndarray, b: np.ndarray, t: float) -> np.ndarray:
    """From ``a`` at t = 0 to ``b`` at 1, turning and changing its length evenly (Shoemake 1985)."""
    lengths = np.linalg.norm(a), np.linalg.norm(b)
    cosine = np.sum(a * b) / (lengths[0] * lengths[1])
    angle = np.arccos(np.clip(cosine, -1, 1))
    if np.sin(angle) < 1e-6:
        return ((1 - t) * a + t * b).astype(np.float32)
    direction = np.sin((1 - t) * angle) * a / lengths[0] + np.sin(t * angle) * b / lengths[1]
    return (direction * ((1 - t) * lengths[0] + t * lengths[1]) / np.sin(angle)).astype(np.float32)


def _needed(inputs: Inputs, name: str, option: str) -> np.ndarray:
    if name not in inputs:
        raise ConfigError(f"{option} is not for this model, whose images are made of {', '.join(inputs)}")
    return inputs[name]
