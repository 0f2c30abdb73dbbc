"""Find a strategy by the name a config gives it. Nothing is imported before it is asked for."""

import importlib
import os
import sys
from importlib.metadata import entry_points

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


def names() -> list[str]:
    """The short names that can be used: the built-in strategies and those of installed packages."""
    return sorted({*BUILTIN, *(entry.name for entry in entry_points(group=GROUP))})


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
    installed = {entry.name: entry.value for entry in entry_points(group=GROUP)}
    target = {**installed, **BUILTIN}.get(name)
    if target is None:
        guess = closest(name, names())
        hint = f", did you mean {guess}?" if guess else ""
        raise ConfigError(f"unknown strategy {name!r}{hint} (known: {', '.join(names())}, or package.module:Class)")
    return _load(target)


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
