"""Whether two snapshots are the same, by digest, and where they differ."""

import hashlib
from dataclasses import dataclass

import numpy as np

from ganfleet.store.manifest import canonical, sha256
from ganfleet.store.snapshot import Snapshot


@dataclass
class Difference:
    """One tensor (or fact) that differs: by how much, or ``note`` where that is no number (missing, shape, dtype)."""

    component: str
    name: str
    absolute: float = np.inf
    relative: float = np.inf
    note: str = ""


def digest(snapshot: Snapshot) -> dict[str, str]:
    """Component → SHA-256 of its content, in sorted order, then ``total``.

    Tensors count by name, dtype, shape and bytes; facts as canonical JSON. ``total`` is the SHA-256 of the lines
    ``<component> <sha256>`` before it. Config, file layout and the order of dicts have no part in it.
    """
    digests = {component: tensors_sha256(tensors) for component, tensors in snapshot.tensors.items()}
    digests |= {component: sha256(canonical(fact)) for component, fact in snapshot.facts.items()}
    digests = dict(sorted(digests.items()))
    digests["total"] = sha256("".join(f"{name} {each}\n" for name, each in digests.items()).encode())
    return digests


def tensors_sha256(tensors: dict[str, np.ndarray]) -> str:
    """SHA-256 of ``tensors`` by name, dtype, shape and bytes, in the order of their names."""
    hashed = hashlib.sha256()
    for name, array in sorted(tensors.items()):
        hashed.update(canonical([name, array.dtype.name, array.shape]) + b"\n")
        hashed.update(array.tobytes())
    return hashed.hexdigest()


def diff(a: Snapshot, b: Snapshot) -> list[Difference]:
    """What differs between two snapshots, the largest first: what is no number, then by absolute difference."""
    tensors_a, tensors_b = _flat(a), _flat(b)
    found = [
        _compare(*key, tensors_a.get(key), tensors_b.get(key)) for key in sorted(tensors_a.keys() | tensors_b.keys())
    ]
    for component in sorted(a.facts.keys() | b.facts.keys()):
        ours, theirs = (canonical(s.facts[component]).decode() if component in s.facts else "missing" for s in (a, b))
        found.append(Difference(component, "", note=f"{ours} → {theirs}") if ours != theirs else None)
    return sorted((d for d in found if d), key=lambda d: -d.absolute)


def _flat(snapshot: Snapshot) -> dict[tuple[str, str], np.ndarray]:
    return {(component, name): array for component, t in snapshot.tensors.items() for name, array in t.items()}


def _compare(component: str, name: str, a: np.ndarray | None, b: np.ndarray | None) -> Difference | None:
    if a is None or b is None:
        return Difference(component, name, note=f"only in {'A' if b is None else 'B'}")
    if (a.shape, a.dtype) != (b.shape, b.dtype):
        return Difference(component, name, note=f"{a.dtype}{list(a.shape)} → {b.dtype}{list(b.shape)}")
    if a.tobytes() == b.tobytes():
        return None
    a, b = (x.astype(np.promote_types(x.dtype, np.float64)) for x in (a, b))
    with np.errstate(invalid="ignore", divide="ignore"):
        absolute = np.where((a == b) | (np.isnan(a) & np.isnan(b)), 0.0, np.abs(a - b))
        relative = np.where(absolute == 0, 0.0, absolute / np.maximum(np.abs(a), np.abs(b)))
    largest = (float(np.nan_to_num(x, nan=np.inf, posinf=np.inf).max()) for x in (absolute, relative))
    return Difference(component, name, *largest)
