"""Find a strategy by the name a config gives it. Nothing is imported before it is asked for."""

import importlib
import inspect
import os
import sys
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points

from ganfleet.document import closest
from ganfleet.errors import ConfigError

GROUP = "ganfleet.strategies"
BUILTIN = {
    "gan": "ganfleet.strategies.gan:GAN",
    "dcgan": "ganfleet.strategies.dcgan:DCGAN",
    "stylegan": "ganfleet.strategies.stylegan.strategy:StyleGAN",
    "wgan": "ganfleet.strategies.wgan:WGAN",
    "wgan_gp": "ganfleet.strategies.wgan:WGANGP",
    "cgan": "ganfleet.strategies.cgan:CGAN",
    "cyclegan": "ganfleet.strategies.cyclegan:CycleGAN",
}


@dataclass(frozen=True)
class Listed:
    """A strategy's short name, where it comes from, the first line of its docstring, and why it cannot be used."""

    name: str
    origin: str
    summary: str = ""
    problem: str | None = None


def names() -> list[str]:
    """The short names there are: those of the built-in strategies and of installed packages."""
    return sorted({*BUILTIN, *_installed()})


def listed() -> list[Listed]:
    """Every strategy that has a short name, the built-in ones first. All are imported; those that fail say why."""
    installed = [_listed(name, _origin(entry)) for name, entry in sorted(_installed().items())]
    return [_listed(name, "ganfleet") for name in BUILTIN] + installed


def find(name: str) -> type:
    """The Strategy subclass called ``name``: a built-in, an entry point, or ``package.module:Class``.

    Raises:
        ConfigError: no such name, module or class, a class of another kind, or an import that fails.
    """
    if ":" in name:
        # As with `python -m`, modules in the working directory can be named, whatever script is running.
        if os.getcwd() not in sys.path:
            sys.path.append(os.getcwd())
        return _load(name)
    if name in BUILTIN:
        return _load(BUILTIN[name])
    installed = _installed()
    if name not in installed:
        guess = closest(name, names())
        hint = f", did you mean {guess}?" if guess else ""
        raise ConfigError(f"unknown strategy {name!r}{hint} (known: {', '.join(names())}, or package.module:Class)")
    try:
        return _load(installed[name].value)
    except ConfigError as error:
        raise ConfigError(f"strategy {name!r} of {_origin(installed[name])} is broken: {error}") from error


def _installed() -> dict[str, EntryPoint]:
    """The entry points by name; of two with one name, the one that comes first on the path, or ganfleet's own."""
    found = {entry.name: entry for entry in reversed(tuple(entry_points(group=GROUP)))}
    return {name: entry for name, entry in found.items() if name not in BUILTIN}


def _origin(entry: EntryPoint) -> str:
    return f"{entry.dist.name} {entry.dist.version}"


def _listed(name: str, origin: str) -> Listed:
    try:
        doc = inspect.cleandoc(find(name).__doc__ or "")
    except ConfigError as error:
        return Listed(name, origin, problem=str(error))
    return Listed(name, origin, doc.partition("\n")[0])


def _load(target: str) -> type:
    module_name, _, class_name = target.partition(":")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if f"{module_name}.".startswith(f"{error.name}."):
            raise ConfigError(f"no module {error.name!r} for strategy {target!r}: is it installed?") from error
        raise ConfigError(f"importing {module_name!r} failed: {error}") from error
    except Exception as error:
        raise ConfigError(f"importing {module_name!r} failed: {type(error).__name__}: {error}") from error
    found = getattr(module, class_name, None)
    if found is None:
        raise ConfigError(f"module {module_name!r} has no class {class_name!r}")

    from ganfleet.strategies.base import Strategy

    if not (isinstance(found, type) and issubclass(found, Strategy)):
        raise ConfigError(f"{target!r} is not a subclass of ganfleet.strategies.base.Strategy")
    return found
