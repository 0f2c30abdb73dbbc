"""Checkpoints: everything that changes during training, written so that a kill at any moment loses at most the newest.

What goes into a snapshot, and when one is taken, is the trainer's business; so is fitting it to a config.
"""

import itertools
import json
import os
import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import safetensors.numpy

from ganfleet.errors import CheckpointDamaged, CheckpointMismatch, ConfigError, StorageError
from ganfleet.store import manifest, migrate, publish
from ganfleet.store.compare import Difference, diff, digest
from ganfleet.store.snapshot import DTYPES, Snapshot, nonfinite

__all__ = [
    "DTYPES",
    "FORMAT",
    "Difference",
    "Snapshot",
    "checkpoints",
    "diff",
    "digest",
    "load",
    "newest_valid",
    "nonfinite",
    "resolve",
    "save",
    "within",
    "write",
]

FORMAT = 4
STATE = "state.json"
SUFFIX = ".safetensors"

# A second write of one step gets a generation (``step-00000030.1``) until the first write is gone.
_NAME = re.compile(r"step-(\d{8,})(?:\.(\d+))?")
# Those that this process has written or read whole, with what their files looked like then.
_valid: dict[Path, list[tuple]] = {}


def save(
    root: Path,
    snapshot: Snapshot,
    step: int,
    keep: int,
    keep_every_nimg: int | None = None,
    best: int | None = None,
    tell: Callable[[str], None] = lambda problem: None,
) -> Path:
    """Write ``snapshot`` to ``root/step-<8 digits>`` and prune to the newest ``keep`` checkpoints; return its path.

    At every moment either the checkpoints of before or the new one are complete under a name that `newest_valid`
    reads. A checkpoint of the same step is replaced. One process may write to ``root`` at a time.

    What is older than ``keep`` valid checkpoints goes. Damaged ones do not count. Neither do those of later steps, from
    which the run did not go on: they stay until the run has passed them.

    Args:
        keep_every_nimg: the first checkpoint at or past each multiple of so many images is never pruned; its images
            are the ``nimg`` of the fact ``clock``. None prunes by ``keep`` alone.
        best: the step of a checkpoint that is not pruned either.
        tell: called with what to tell the user where a checkpoint cannot be pruned.

    Raises:
        StorageError: no space, no permission, or another I/O error. Nothing half-written remains.
    """
    try:
        root.mkdir(parents=True, exist_ok=True)
        publish.sweep(root, every=True)
        older = [path for path in checkpoints(root) if _order(path)[0] == step]
        final = path = root / f"step-{step:08d}"
        generations = itertools.count(_order(older[-1])[1] + 1 if older else 1)
        while os.path.lexists(path):  # an older one, or somebody's file
            path = root / f"{final.name}.{next(generations)}"
        with publish.directory(path) as made:
            _write(made, snapshot)
        for each in older:  # they go only now that the new one is durable
            _remove(each, keep, tell)
        if not os.path.lexists(final):
            publish.rename(path, final)
            path = final
        _valid[path] = _files(path)
        _prune(root, keep, keep_every_nimg, step, best, tell)
    except OSError as error:
        raise StorageError(
            f"Writing the checkpoint of step {step} in {root} failed: {error}. Still there: {_left(root)}. "
            "Free space or correct the permissions, then resume."
        ) from error
    return path


def write(path: Path, snapshot: Snapshot) -> None:
    """Write ``snapshot`` as the new checkpoint ``path``, outside of any run.

    Raises:
        StorageError: it cannot be written, or something is there already. Nothing half-written remains.
    """
    try:
        with publish.directory(path) as made:
            _write(made, snapshot)
    except OSError as error:
        raise StorageError(
            f"writing the checkpoint {path} failed: {error}. Free space, correct the permissions or choose another name"
        ) from error


def load(path: Path, as_written: bool = False) -> Snapshot:
    """Read a checkpoint, every byte of it checked against its manifest.

    Names of an older release are those of today, unless it is wanted ``as_written``, for its digest.

    Raises:
        CheckpointDamaged: a file is missing, unreadable, unexpected or altered; the message names it.
        CheckpointMismatch: it was written in a format that this version does not read.
    """
    files = manifest.read(path)
    state = json.loads(manifest.read_verified(path / STATE, files[STATE]))
    written = state["format"]
    if not migrate.OLDEST <= written <= FORMAT:
        raise CheckpointMismatch(
            f"{path} has checkpoint format {written}, but this ganfleet reads the formats {migrate.OLDEST} to "
            f"{FORMAT}: load it with the version that wrote it" + (", or a newer one." if written > FORMAT else ".")
        )
    tensors = {
        name.removesuffix(SUFFIX): safetensors.numpy.load(manifest.read_verified(path / name, entry))
        for name, entry in files.items()
        if name != STATE
    }
    if as_written:
        return Snapshot(tensors, state["facts"], state["config"])
    facts = migrate.facts(state["facts"], written)
    return Snapshot(migrate.tensors(tensors, written), facts, migrate.config(state["config"]))


def checkpoints(root: Path) -> list[Path]:
    """The checkpoints in ``root``, valid or not, oldest step first; none where there is no such directory.

    Raises:
        StorageError: the directory is there and cannot be read. To take it for an empty one would start a run anew.
    """
    try:
        entries = [entry for entry in os.scandir(root) if _NAME.fullmatch(entry.name) and not entry.is_file()]
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise StorageError(
            f"cannot read the checkpoints in {root}: {error.strerror or error}. Correct its permissions, or mount it "
            "again."
        ) from error
    return sorted((root / entry.name for entry in entries), key=_order)


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


def config_of_newest(root: Path) -> dict | None:
    """What the newest checkpoint in ``root`` says of its config, as far as that can be told without reading all."""
    newest = checkpoints(root)[-1:]
    config = _state(newest[0]).get("config") if newest else None
    return config if isinstance(config, dict) else None


def within(path: Path) -> list[Path]:
    """The checkpoints that ``path`` means, oldest first: itself, or all of a run directory or of its ``checkpoints``.

    Raises:
        ConfigError: there is none.
        StorageError: the directory cannot be read.
    """
    if path.is_dir() and (_NAME.fullmatch(path.name) or (path / manifest.NAME).exists()):
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


def _write(path: Path, snapshot: Snapshot) -> None:
    """All files of a checkpoint into the new directory ``path``, durable, their manifest last."""
    state = {"format": FORMAT, "facts": snapshot.facts, "config": snapshot.config}
    files = {}

    def add(name: str, content: bytes) -> None:
        publish.new_file(path / name, content)
        files[name] = manifest.entry(content)  # of what was meant to be written: it is not read back

    add(STATE, json.dumps(state, indent=1).encode())
    for component, tensors in snapshot.tensors.items():
        add(component + SUFFIX, safetensors.numpy.save(tensors))
    publish.new_file(path / manifest.NAME, manifest.render(files))


def _prune(root: Path, keep: int, keep_every_nimg: int | None, step: int, best: int | None, tell) -> None:
    found = checkpoints(root)
    milestones = _milestones(found, keep_every_nimg) if keep_every_nimg else set()
    valid = 0
    for path in reversed([path for path in found if _order(path)[0] <= step]):
        if valid < keep:
            valid += _is_valid(path)
        elif path not in milestones and _order(path)[0] != best:
            _valid.pop(path, None)
            _remove(path, keep, tell)


def _remove(path: Path, keep: int, tell: Callable[[str], None]) -> None:
    """Remove an old checkpoint, or tell why it stays: the new one is there, whatever becomes of this one."""
    try:
        publish.remove(path)
    except OSError as error:
        reason = error.strerror or error
        tell(f"{path} cannot be removed ({reason}): it takes room beside the {keep} that checkpoint.keep says")


def _is_valid(path: Path) -> bool:
    """Whether a checkpoint has every byte that was written; each is read once, or again when its files change."""
    try:
        files = _files(path)
        if _valid.get(path) != files:
            manifest.verify(path)
            _valid[path] = files
    except (OSError, CheckpointDamaged):
        return False
    return True


def _files(path: Path) -> list[tuple]:
    return sorted((each.name, each.stat().st_size, each.stat().st_mtime_ns) for each in os.scandir(path))


def _milestones(oldest_first: list[Path], every: int) -> set[Path]:
    """The checkpoints that are the first at or past a multiple of ``every`` images.

    These are never pruned, so that the first of those still there is the first that there ever was.
    """
    milestones, passed = set(), 0
    for path in {_order(path)[0]: path for path in oldest_first}.values():  # the last write of each step
        multiples = _nimg(path) // every
        if multiples > passed:
            milestones.add(path)
            passed = multiples
    return milestones


def _nimg(path: Path) -> int:
    """The images that a checkpoint's run had seen; 0 where it does not say so, or is damaged."""
    try:
        return int(_state(path)["facts"]["clock"]["nimg"])
    except (ValueError, KeyError, TypeError):
        return 0


def _state(path: Path) -> dict:
    """What a checkpoint says beside tensors, not verified; empty where it cannot be read: whoever loads it says so."""
    try:
        state = json.loads((path / STATE).read_bytes())
    except (OSError, ValueError):
        return {}
    return state if isinstance(state, dict) else {}


def _left(root: Path) -> str:
    with suppress(StorageError):
        return ", ".join(path.name for path in checkpoints(root)) or "no checkpoint"
    return "unknown"


def _order(path: Path) -> tuple[int, int]:
    step, generation = _NAME.fullmatch(path.name).groups()
    return int(step), int(generation or 0)
