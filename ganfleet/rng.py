"""The only source of randomness: numpy Philox, keyed by what the numbers are for, never by who draws them."""

import hashlib

import numpy as np


def stream(seed: int, name: str, *keys: int) -> np.random.Generator:
    """A generator that depends on (seed, name, keys) alone.

    Args:
        seed: the run's seed, any non-negative integer below 2**64.
        name: what the numbers are for, such as ``"init/G.fc.weight"`` or ``"draw/D"``.
        keys: up to three non-negative integers: step, lane, sample, epoch.

    The name goes into Philox's 128-bit key with the seed; the keys go into the upper words of its 256-bit counter,
    so two streams never overlap (the lowest word alone counts 2**64 blocks of numbers).

    Raises:
        ValueError: more than three keys.
    """
    if len(keys) > 3:
        raise ValueError(f"rng.stream takes at most three keys, got {len(keys)} for {name!r}")
    digest = hashlib.blake2b(name.encode(), digest_size=8).digest()
    key = np.array([seed, int.from_bytes(digest, "little")], dtype=np.uint64)
    counter = np.zeros(4, dtype=np.uint64)
    counter[1 : 1 + len(keys)] = keys
    return np.random.Generator(np.random.Philox(key=key, counter=counter))
