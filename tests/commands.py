"""Run ``ganfleet`` in this process, and the tiny config that tests of its behaviour share."""

import io
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path

import pytest
from fleets import Ended

from ganfleet import cli

TINY = """\
strategy: {name: gan, resolution: 8, latent: 8, hidden: [16], ema_kimg: 0.1}
data: {source: embedded}
train: {steps: 12, batch_size: 16, lanes: 4, seed: 3}
checkpoint: {every_kimg: 0.064}
log: {every_steps: 4, samples_every_kimg: 100, samples: 4}
"""


def ganfleet(*arguments: str) -> Ended:
    """The command, to its exit, without the seconds that a process of its own would take to import MindSpore."""
    output = io.StringIO()
    with redirect_stdout(output), redirect_stderr(output), pytest.raises(SystemExit) as exit:
        cli.main(list(arguments))
    return Ended(exit.value.code or 0, output.getvalue())


def tiny(directory: Path) -> str:
    """Write the tiny config into ``directory``; its path."""
    path = directory / "tiny.yaml"
    path.write_text(TINY)
    return str(path)


@contextmanager
def small_disk(place: Path, size: str) -> Iterator[Path]:
    """A disk of ``size``, such as 2m, at the new folder ``place``."""
    place.mkdir()
    if os.geteuid() or subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", place]).returncode:
        pytest.skip("only root can mount a small disk")
    try:
        yield place
    finally:
        subprocess.run(["umount", place], check=True)


def one_error(ended: Ended, code: int) -> str:
    """The message of a command that had to end with ``code`` and one message, and no traceback."""
    assert ended.code == code, ended.output
    assert "Traceback" not in ended.output
    [line] = [line for line in ended.output.splitlines() if "error:" in line.lower()]
    return line
