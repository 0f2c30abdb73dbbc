"""Checkpoints: everything that changes during training, written so that a kill at any moment loses at most the newest.

What goes into a snapshot, and when one is taken, is the trainer's business; so is fitting it to a config.
"""

import errno
import hashlib
import json
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy

from ganfleet.errors import CheckpointDamaged, CheckpointMismatch, ConfigError, StorageError

FORMAT = 2
MANIFEST = "MANIFEST.json"
STATE = "state.json"
SUFFIX = ".safetensors"
DTYPES = ("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
DTYPES += ("float16", "float32", "float64", "complex64")

# A second write of one step gets a generation (``step-00000030.1``) until the first write is gone.
_NAME = re.compile(r"step-(\d{8,})(?:\.(\d+))?")
_TEMP = ".tmp-"


@dataclass
class Snapshot:
    """The state of a run at one step.

    Attributes:
        tensors: component name → tensor name → array, with components such as ``G.weights`` or ``D.optimizer``.
        facts: component name → JSON value, with components such as ``clock`` or ``data``.
        config: the resolved config, as JSON. It is saved, but it is no part of the digest.

    Raises:
        TypeError: an array has a dtype that cannot be read back (bfloat16, strings), or a fact is not JSON.
        ValueError: a component name is used twice, is no file name, or is the reserved word ``total``.
    """

    tensors: dict[str, dict[str, np.ndarray]]
    facts: dict[str, Any]
    config: dict[str, Any]

    def __post_init__(self) -> None:
        names = [*self.tensors, *self.facts]
        for name in names:
            if names.count(name) > 1 or name == "total" or not re.fullmatch(r"\w[\w.-]*", name):
                raise ValueError(f"checkpoint component {name!r} must be unique, a plain file name, and not 'total'")
        self.tensors = {
            component: {name: _storable(array, f"{component}/{name}") for name, array in tensors.items()}
            for component, tensors in self.tensors.items()
        }
        self.facts = json.loads(json.dumps(self.facts))  # so that what is saved is what will be loaded
        self.config = json.loads(json.dumps(self.config))


@dataclass
class Difference:
    """One tensor (or fact) that differs: by how much, or ``note`` where that is no number (missing, shape, dtype)."""

    component: str
    name: str
    absolute: float = np.inf
    relative: float = np.inf
    note: str = ""


def save(root: Path, snapshot: Snapshot, step: int, keep: int) -> Path:
    """Write ``snapshot`` to ``root/step-<8 digits>`` and prune to the newest ``keep`` checkpoints; return its path.

    At every moment either the checkpoints of before or the new one are complete under a name that `newest_valid`
    reads. A checkpoint of the same step is replaced. One process may write to ``root`` at a time.

    Raises:
        StorageError: no space, no permission, or another I/O error. Nothing half-written remains.
    """
    temp = root / f"{_TEMP}{step:08d}"
    try:
        root.mkdir(parents=True, exist_ok=True)
        for stale in root.glob(f"{_TEMP}*"):
            shutil.rmtree(stale, ignore_errors=True)
        _write_checkpoint(temp, snapshot)
        path = _publish(temp, step)
        _prune(root, keep, path)
    except OSError as error:
        left = ", ".join(path.name for path in checkpoints(root)) or "no checkpoint"
        raise StorageError(
            f"Writing the checkpoint of step {step} in {root} failed: {error}. Still there: {left}. "
            "Free space or correct the permissions, then resume."
        ) from error
    finally:
        shutil.rmtree(temp, ignore_errors=True)
    return path


def load(path: Path) -> Snapshot:
    """Read a checkpoint, every byte of it checked against its manifest.

    Raises:
        CheckpointDamaged: a file is missing, unreadable, unexpected or altered; the message names it.
        CheckpointMismatch: it was written in another format version.
    """
    manifest = _read_manifest(path)
    state = json.loads(_read_verified(path / STATE, manifest[STATE]))
    if state["format"] != FORMAT:
        raise CheckpointMismatch(
            f"{path} has checkpoint format {state['format']}, but this ganfleet reads format {FORMAT}: "
            "load it with the version that wrote it."
        )
    tensors = {
        name.removesuffix(SUFFIX): safetensors.numpy.load(_read_verified(path / name, entry))
        for name, entry in manifest.items()
        if name != STATE
    }
    return Snapshot(tensors, state["facts"], state["config"])


def checkpoints(root: Path) -> list[Path]:
    """The checkpoints in ``root``, valid or not, oldest step first."""
    return sorted((path for path in root.glob("step-*") if _NAME.fullmatch(path.name)), key=_order)


def newest_valid(root: Path) -> tuple[Path | None, list[str]]:
    """The newest checkpoint in ``root`` that verifies (None if there is none at all), and a line per damaged newer one.

    Raises:
        CheckpointDamaged: there are checkpoints, and none verifies. Starting anew is left to the caller to decide.
    """
    damaged: list[str] = []
    for path in reversed(checkpoints(root)):
        try:
            load(path)
        except CheckpointDamaged as error:
            damaged.append(str(error))
        else:
            return path, damaged
    if damaged:
        raise CheckpointDamaged(
            f"None of the {len(damaged)} checkpoints in {root} is valid: restore one from a copy, or start "
            f"anew under another run.name. {' '.join(damaged)}"
        )
    return None, []


def within(path: Path) -> list[Path]:
    """The checkpoints that ``path`` means, oldest first: itself, or all of a run directory or of its ``checkpoints``.

    Raises:
        ConfigError: there is none.
    """
    if path.is_dir() and (_NAME.fullmatch(path.name) or (path / MANIFEST).exists()):
        return [path]
    found = checkpoints(path / "checkpoints") or checkpoints(path)
    if not found:
        raise ConfigError(f"{path} is no checkpoint and holds none: give a step-* directory or a run directory.")
    return found


def resolve(path: Path) -> tuple[Path, list[str]]:
    """The checkpoint that ``path`` means: itself, unverified, or the `newest_valid` of a run directory.

    Raises:
        ConfigError: there is no checkpoint at ``path``.
        CheckpointDamaged: a run directory has checkpoints, and none is valid.
    """
    found = within(path)
    return (path, []) if found == [path] else newest_valid(found[0].parent)


def digest(snapshot: Snapshot) -> dict[str, str]:
    """Component → SHA-256 of its content, in sorted order, then ``total``.

    Tensors count by name, dtype, shape and bytes; facts as canonical JSON. ``total`` is the SHA-256 of the lines
    ``<component> <sha256>`` before it. Config, file layout and the order of dicts have no part in it.
    """
    digests = {component: _tensors_sha256(tensors) for component, tensors in snapshot.tensors.items()}
    digests |= {component: _sha256(_canonical(fact)) for component, fact in snapshot.facts.items()}
    digests = dict(sorted(digests.items()))
    digests["total"] = _sha256("".join(f"{name} {sha256}\n" for name, sha256 in digests.items()).encode())
    return digests


def diff(a: Snapshot, b: Snapshot) -> list[Difference]:
    """What differs between two snapshots, the largest first: what is no number, then by absolute difference."""
    tensors_a, tensors_b = _flat(a), _flat(b)
    found = [
        _compare(*key, tensors_a.get(key), tensors_b.get(key)) for key in sorted(tensors_a.keys() | tensors_b.keys())
    ]
    for component in sorted(a.facts.keys() | b.facts.keys()):
        ours, theirs = (_canonical(s.facts[component]).decode() if component in s.facts else "missing" for s in (a, b))
        found.append(Difference(component, "", note=f"{ours} → {theirs}") if ours != theirs else None)
    return sorted((d for d in found if d), key=lambda d: -d.absolute)


def _storable(array: np.ndarray, name: str) -> np.ndarray:
    """A C-ordered array in native byte order: safetensors would silently store a strided one wrongly."""
    array = np.asarray(array, order="C")
    array = array.astype(array.dtype.newbyteorder("="), copy=False)
    if array.dtype.name not in DTYPES:
        raise TypeError(
            f"{name} has dtype {array.dtype}, which a checkpoint cannot hold: use one of {', '.join(DTYPES)}"
        )
    return array


def _write_checkpoint(path: Path, snapshot: Snapshot) -> None:
    """All files of a checkpoint in the new directory ``path``, durable."""
    path.mkdir()
    state = {"format": FORMAT, "facts": snapshot.facts, "config": snapshot.config}
    manifest = {STATE: _write_durably(path / STATE, json.dumps(state, indent=1).encode())}
    for component, tensors in snapshot.tensors.items():
        name = component + SUFFIX
        manifest[name] = _write_durably(path / name, safetensors.numpy.save(tensors))
    _write_durably(path / MANIFEST, _render_manifest(manifest))
    _fsync_directory(path)


def _write_durably(path: Path, data: bytes) -> dict[str, Any]:
    """Write and fsync one new file; return its manifest entry, taken from memory and not read back."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(handle, rest) :]
        os.fsync(handle)
    finally:
        os.close(handle)
    return {"sha256": _sha256(data), "size": len(data)}


def _publish(temp: Path, step: int) -> Path:
    """Give a finished checkpoint its name. An older write of the same step goes only once the new one is durable."""
    final = temp.with_name(f"step-{step:08d}")
    older = [path for path in checkpoints(temp.parent) if _order(path)[0] == step]
    if not older:
        _rename_durably(temp, final)
        return final
    beside = temp.with_name(f"{final.name}.{_order(older[-1])[1] + 1}")
    _rename_durably(temp, beside)
    for path in older:
        _remove(path)
    _rename_durably(beside, final)
    return final


def _prune(root: Path, keep: int, written: Path) -> None:
    newest_first = checkpoints(root)[::-1]
    for path in newest_first[keep:]:
        if path != written:
            _remove(path)


def _remove(path: Path) -> None:
    """Remove a checkpoint: out of sight in one step, so that a kill on the way leaves nothing that looks damaged."""
    trash = path.with_name(_TEMP + path.name)
    os.rename(path, trash)
    shutil.rmtree(trash, ignore_errors=True)


def _rename_durably(source: Path, target: Path) -> None:
    os.rename(source, target)
    _fsync_directory(target.parent)


def _fsync_directory(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _render_manifest(files: dict[str, dict[str, Any]]) -> bytes:
    """The manifest's only spelling, sealed by a hash of itself: any altered bit makes another spelling."""
    seal = _sha256(_canonical(files))
    return json.dumps({"files": files, "sha256": seal}, indent=1, sort_keys=True).encode()


def _read_manifest(path: Path) -> dict[str, dict[str, Any]]:
    raw = _read(path / MANIFEST)
    try:
        files = json.loads(raw)["files"]
        intact = _render_manifest(files) == raw
    except (ValueError, KeyError, TypeError):
        intact = False
    if not intact:
        raise CheckpointDamaged(f"{path / MANIFEST} is damaged: it does not match its own hash.")
    for name in sorted({entry.name for entry in path.iterdir()} - files.keys() - {MANIFEST}):
        raise CheckpointDamaged(
            f"{path / name} is not in the checkpoint's manifest; remove it if it was put there by hand."
        )
    return files


def _read_verified(path: Path, entry: dict[str, Any]) -> bytes:
    data = _read(path)
    if len(data) != entry["size"]:
        raise CheckpointDamaged(f"{path} is damaged: it has {len(data)} bytes, {entry['size']} were written.")
    if _sha256(data) != entry["sha256"]:
        raise CheckpointDamaged(f"{path} is damaged: its content is not what was written (SHA-256 differs).")
    return data


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        reason = "is missing" if error.errno == errno.ENOENT else f"cannot be read: {error.strerror}"
        raise CheckpointDamaged(f"{path} {reason}.") from error


def _order(path: Path) -> tuple[int, int]:
    step, generation = _NAME.fullmatch(path.name).groups()
    return int(step), int(generation or 0)


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _canonical(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def _tensors_sha256(tensors: dict[str, np.ndarray]) -> str:
    sha256 = hashlib.sha256()
    for name, array in sorted(tensors.items()):
        sha256.update(_canonical([name, array.dtype.name, array.shape]) + b"\n")
        sha256.update(array.tobytes())
    return sha256.hexdigest()


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
