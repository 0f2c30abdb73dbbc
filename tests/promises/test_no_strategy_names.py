"""The law that engine, commands, data and observers know no strategy by name; imports are the linter's business."""

import re
from pathlib import Path

import pytest

import ganfleet
from ganfleet import strategies

WORDS = {"gan"}  # names that are ordinary words too
ROOT = Path(ganfleet.__file__).parent


@pytest.mark.parametrize("layer", ["engine", "cli", "data", "observe"])
def test_a_layer_names_no_strategy(layer):
    names = "|".join(re.escape(name) for name in sorted({*strategies.BUILTIN, "progan"} - WORDS))
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in sorted((ROOT / layer).rglob("*.py"))
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
        if re.search(names, line, re.IGNORECASE)
    ]
    assert not found
