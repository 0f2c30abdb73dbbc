"""What ``--workers`` does: a whole fleet on this machine, whose ranks run the same command without it."""

import sys
from pathlib import Path

from ganfleet.errors import ConfigError

BYTES_PER_RANK = 2**30 // 4  # of a rank's own, before it has a network: Python and MindSpore


def start(workers: int, words: list[str], log_dir: Path | None = None) -> int:
    """Run ``ganfleet`` with ``words`` in ``workers`` processes, which say what is wrong with these; the exit code.

    Raises:
        ConfigError: a launcher has started this process as one rank already, or there is no memory for so many.
    """
    import psutil

    from ganfleet import __file__ as package
    from ganfleet.fleet import launcher, processes

    started = launcher.detect()
    if started.kind != "none":
        raise ConfigError(
            f"--workers starts ranks of its own, but {started.sign} says that a launcher has started this process as "
            f"one: leave out --workers, or unset {started.sign}"
        )
    room = psutil.virtual_memory().available // BYTES_PER_RANK
    if workers > max(room, 1):
        raise ConfigError(
            f"--workers {workers}: this machine has memory for {room} ranks, of which each takes "
            f"{BYTES_PER_RANK / 2**30:g} GiB or more: start so many at most"
        )
    script = str(Path(package).with_name("__main__.py"))
    return processes.launch(workers, [sys.executable, script, *words], log_dir)
