"""The configs that come with ganfleet, found by their names wherever it is installed."""

from pathlib import Path

from ganfleet.document import closest
from ganfleet.errors import ConfigError

FOLDER = Path(__file__).with_name("configs")


def names() -> list[str]:
    """What ``--config`` takes instead of a path."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def summary(name: str) -> str:
    """The first sentence of a recipe's header: what it trains, on what."""
    header = (line.removeprefix("#").strip() for line in path(name).read_text(encoding="utf-8").splitlines())
    return next(header)


def path(name: str) -> Path:
    """The file of the recipe ``name``; ``.yaml`` may stand after it.

    Raises:
        ConfigError: there is none; it names those there are.
    """
    known = names()
    stem = name.removesuffix(".yaml")
    if stem in known:
        return FOLDER / f"{stem}.yaml"
    meant = closest(stem, known)
    raise ConfigError(
        f"there is no recipe {name!r}{f', did you mean {meant}?' if meant else ''} (known: {', '.join(known)})"
    )


def find(config: str | Path) -> Path:
    """The file that ``config`` means: the one at that path, or else the recipe of that name.

    Raises:
        ConfigError: it is neither.
    """
    given = Path(config)
    if given.exists() or given.parent != Path("."):
        return given  # where it is missing, whoever reads it tells
    try:
        return path(str(config))
    except ConfigError as error:
        raise ConfigError(f"{config}: no such file, and {error}") from None
