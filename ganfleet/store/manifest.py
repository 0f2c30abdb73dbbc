"""The manifest of a checkpoint: size and SHA-256 of each of its files, so that no altered byte is ever loaded."""

import errno
import hashlib
import json
import re
import stat
from pathlib import Path
from typing import Any

from ganfleet.errors import CheckpointDamaged

NAME = "MANIFEST.json"
# What desktops, network file systems and storage appliances leave in any folder that somebody looked at.
STRAY = re.compile(r"\.DS_Store|\._.+|Thumbs\.db|desktop\.ini|\.directory|@eaDir|\.nfs[0-9a-f]+|\.fuse_hidden[0-9a-f]+")


def entry(content: bytes) -> dict[str, Any]:
    """What the manifest says of a file with this content."""
    return {"sha256": sha256(content), "size": len(content)}


def render(files: dict[str, dict[str, Any]]) -> bytes:
    """The manifest's only spelling, sealed by a hash of itself: any altered bit makes another spelling."""
    seal = sha256(canonical(files))
    return json.dumps({"files": files, "sha256": seal}, indent=1, sort_keys=True).encode()


def read(path: Path) -> dict[str, dict[str, Any]]:
    """The entries, by file name, of the checkpoint in ``path``, which has no files but these and stray ones.

    Raises:
        CheckpointDamaged: the manifest is missing or altered, or there are files that it does not list.
    """
    raw = _read(path / NAME)
    try:
        files = json.loads(raw)["files"]
        intact = render(files) == raw
    except (ValueError, KeyError, TypeError):
        intact = False
    if not intact:
        raise CheckpointDamaged(f"{path / NAME} is damaged: it does not match its own hash.")
    for name in sorted({entry.name for entry in path.iterdir()} - files.keys() - {NAME}):
        if not STRAY.fullmatch(name):
            raise CheckpointDamaged(
                f"{path / name} is not in the checkpoint's manifest; remove it if it was put there by hand."
            )
    return files


def read_verified(path: Path, entry: dict[str, Any]) -> bytes:
    """The content of the file ``path``, which is what its manifest entry says.

    Raises:
        CheckpointDamaged: it is missing, unreadable or altered.
    """
    data = _read(path)
    if len(data) != entry["size"]:
        raise CheckpointDamaged(f"{path} is damaged: it has {len(data)} bytes, {entry['size']} were written.")
    if sha256(data) != entry["sha256"]:
        raise CheckpointDamaged(f"{path} is damaged: its content is not what was written (SHA-256 differs).")
    return data


def verify(path: Path) -> None:
    """Read every file of the checkpoint in ``path``.

    Raises:
        CheckpointDamaged: one is missing, unreadable, unexpected or altered; the message names it.
    """
    for name, entry in read(path).items():
        read_verified(path / name, entry)


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def canonical(value: Any) -> bytes:
    """JSON with sorted keys and no spaces: equal values have equal bytes."""
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def _read(path: Path) -> bytes:
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # a pipe would be waited for
            raise CheckpointDamaged(f"{path} is no regular file: put the file back that was written.")
        return path.read_bytes()
    except OSError as error:
        reason = "is missing" if error.errno == errno.ENOENT else f"cannot be read: {error.strerror}"
        raise CheckpointDamaged(f"{path} {reason}.") from error
