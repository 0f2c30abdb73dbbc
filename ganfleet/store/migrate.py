"""What older releases called things, as one table: a new rename is one more line here, and old checkpoints still load.

Formats: 2 is that of the first edition (commit a1bd39e), 3 added ``<player>.buffers``, 4 the fact ``form``.
"""

import re
from copy import deepcopy
from typing import Any, NamedTuple

import numpy as np

OLDEST = 2


class Moved(NamedTuple):
    """Tensors that got another name after ``format``. Patterns match in full; ``to_*`` may use their groups.

    Tensors of another ``shape`` (None stands for any size of a dimension) are not meant, whatever their name.
    """

    format: int
    component: str
    tensor: str
    to_component: str
    to_tensor: str
    shape: tuple[int | None, ...]


MOVED = (
    Moved(2, r"strategy", r"w_avg", r"G.buffers", r"G.w_avg.value", shape=(None,)),
    Moved(2, r"(.+)\.weights", r"(.+)\.running", r"\1.buffers", r"\1.moments.value", shape=(2, None)),
)

# Every player has these components since the format after; where nothing moved there, they are empty.
ADDED = ((2, r"(.+)\.weights", r"\1.buffers"),)

# Components that went with that format: they stay only where something in them did not move.
GONE = ((2, "strategy"),)

# Facts that checkpoints up to this format do not have, with what they stand for there.
FACTS: tuple[tuple[int, str, Any], ...] = (
    (2, "scaler", {}),
    (2, "frozen", {}),
    (2, "accepted", []),
    (3, "form", "stock"),
)

# Dotted config key of an older release → its name of today, or None where it has gone.
CONFIG: dict[str, str | None] = {}


def tensors(old: dict[str, dict[str, np.ndarray]], format: int) -> dict[str, dict[str, np.ndarray]]:
    """The tensors of a checkpoint of ``format``, by component and name, under the names of today.

    A component that has gone, with other tensors than the table knows (those of a strategy from elsewhere), stays as
    it is.
    """
    new: dict[str, dict[str, np.ndarray]] = {}
    for component, group in old.items():
        places = {name: _place(component, name, array, format) for name, array in group.items()}
        gone = any(format <= since and component == name for since, name in GONE)
        if gone and any(place == (component, name) for name, place in places.items()):
            places = {name: (component, name) for name in group}
        elif not gone:
            new.setdefault(component, {})
        for name, (to_component, to_name) in places.items():
            new.setdefault(to_component, {})[to_name] = group[name]
    for since, pattern, added in ADDED:
        for component in [*new] if format <= since else []:
            if match := re.fullmatch(pattern, component):
                new.setdefault(match.expand(added), {})
    return new


def facts(old: dict[str, Any], format: int) -> dict[str, Any]:
    """The facts of a checkpoint of ``format``, those that were not yet known then with their defaults."""
    return {name: deepcopy(value) for since, name, value in FACTS if format <= since} | old


def config(resolved: dict[str, Any]) -> dict[str, Any]:
    """A resolved config of an older release, with the keys of today. Keys that it lacks take defaults elsewhere.

    A key that has both its old and its new name keeps the value of the new one.
    """
    new = deepcopy(resolved)
    for old_key, new_key in CONFIG.items():
        found, value = _pop(new, old_key.split("."))
        if found and new_key is not None:
            *sections, last = new_key.split(".")
            section = new
            for name in sections:
                section = section.setdefault(name, {})
            section.setdefault(last, value)
    return new


def _place(component: str, name: str, array: np.ndarray, format: int) -> tuple[str, str]:
    """Component and name of today."""
    for moved in MOVED:
        of_component, of_tensor = re.fullmatch(moved.component, component), re.fullmatch(moved.tensor, name)
        if format <= moved.format and of_component and of_tensor and _fits(array.shape, moved.shape):
            return of_component.expand(moved.to_component), of_tensor.expand(moved.to_tensor)
    return component, name


def _fits(shape: tuple[int, ...], wanted: tuple[int | None, ...]) -> bool:
    return len(shape) == len(wanted) and all(size in (None, s) for s, size in zip(shape, wanted, strict=True))


def _pop(section: Any, keys: list[str]) -> tuple[bool, Any]:
    """Take the value at ``keys`` out of ``section``: whether it was there, and the value."""
    for key in keys[:-1]:
        section = section.get(key) if isinstance(section, dict) else None
    if not isinstance(section, dict) or keys[-1] not in section:
        return False, None
    return True, section.pop(keys[-1])
