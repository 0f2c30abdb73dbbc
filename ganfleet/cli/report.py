"""``ganfleet report``: one HTML page on a run, and a model card."""

import hashlib
import re
from pathlib import Path

import click

from ganfleet.cli import check_writable, example
from ganfleet.errors import ConfigError

CARD = "MODEL_CARD.md"
SEAL = re.compile(r"<!-- ganfleet report, SHA-256 of all above: ([0-9a-f]{64}) -->\n")


@click.command(
    "report",
    epilog=example("ganfleet report runs/first", "ganfleet report runs/first --out shown/first.html"),
)
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), help="The page.  [default: report.html in RUN]")
def command(run: Path, out: Path | None):
    """Show all of a run in one HTML file, and write MODEL_CARD.md beside it.

    The page has the config, losses, metrics, sample grids over time, pictures in RUN and RUN/figures, timings, faults
    and the environment. It needs no network and no other file. A run that still trains, or that was killed, has a
    report too. Only a report of before is overwritten: a model card that somebody has changed stays as it is.
    """
    from ganfleet.data.licence import licence_of
    from ganfleet.observe.report import card, page, read

    remains = read(run)
    out = out or run / "report.html"
    check_writable(out)
    if out.suffix.lower() not in (".html", ".htm"):
        raise ConfigError(f"--out {out}: the report is a page, name a file that ends in .html")
    if out.exists() and not is_sealed(out):
        raise ConfigError(
            f"{out} is there, and is no report as ganfleet wrote it: move it, or name another file with --out"
        )
    write(out, page(remains))
    click.echo(out)
    beside = out.parent / CARD
    if beside.exists() and not is_sealed(beside):
        click.echo(
            f"{beside} has been changed since ganfleet wrote it, or is not ganfleet's: it stays as it is", err=True
        )
    else:
        write(beside, card(remains, licence_of(remains.config.get("data", {}))))
        click.echo(beside)


def write(path: Path, content: str) -> None:
    """Write ``content`` with a last line by which it is known again.

    Raises:
        StorageError: it cannot be written.
    """
    from ganfleet.store import publish

    publish.file(
        path, f"{content}<!-- ganfleet report, SHA-256 of all above: {_sha256(content.encode())} -->\n", durable=False
    )


def is_sealed(path: Path) -> bool:
    """Whether ``path`` is as ``write`` left it."""
    content = path.read_bytes() if path.is_file() else b""
    above, newline, last = content.removesuffix(b"\n").rpartition(b"\n")
    found = SEAL.fullmatch(last.decode("utf-8", "replace") + "\n")
    return found is not None and found[1] == _sha256(above + newline)


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
