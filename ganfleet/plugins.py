"""What can be added to ganfleet without touching it, found by name: built in, installed, or ``package.module:Class``.

The tables are names only; nothing is imported before it is asked for. What each class must do is its base's business.
"""

import importlib
import inspect
import os
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import reduce
from importlib.metadata import Distribution, EntryPoint, distributions

from ganfleet.document import closest
from ganfleet.errors import ConfigError


@dataclass(frozen=True)
class Listed:
    """A class's short name, where it comes from, the first line of its docstring, and why it cannot be used."""

    name: str
    origin: str
    summary: str = ""
    problem: str | None = None


@dataclass(frozen=True)
class Registry:
    """The classes of one kind.

    Attributes:
        group: the entry points' group, in which installed packages offer theirs.
        kind: what messages call one of them.
        builtin: ganfleet's own, as ``module:Class`` by name. An installed one of the same name is not seen.
        base: the class that all are subclasses of, as ``module:Class``; None where none is asked for.
        methods: what a class must have, where no base gives it.
        option: of the commands that read a checkpoint: with it, a user names a class that is not installed.
    """

    group: str
    kind: str
    builtin: dict[str, str]
    base: str | None = None
    methods: tuple[str, ...] = ()
    option: str | None = None

    def names(self) -> list[str]:
        """The short names there are."""
        return sorted({*self.builtin, *self._installed()})

    def listed(self) -> list[Listed]:
        """Every class that has a short name, the built-in ones first. All are imported; what is broken says why."""
        installed = [self._listed(name, origin_of(entry.dist)) for name, entry in sorted(self._installed().items())]
        return [self._listed(name, "ganfleet") for name in self.builtin] + installed + list(self._unreadable())

    def find(self, name: str, trusted: bool = True) -> type:
        """The class called ``name``: a built-in, an entry point, or ``package.module:Class``.

        ``trusted``: whether the user named it, in a config or a command. Otherwise, a checkpoint did, and it may
        choose among what is installed but not have other modules imported.

        Raises:
            ConfigError: no such name, module or class; a class of another kind; an import that fails; code that only
                a checkpoint names.
        """
        if ":" in name:
            if not trusted:
                raise ConfigError(self._refusal(name))
            look_in_working_directory()
            return self._load(name)
        if name in self.builtin:
            return self._load(self.builtin[name])
        installed = self._installed()
        if name not in installed:
            names = self.names()
            guess = closest(name, names)
            hint = f", did you mean {guess}?" if guess else ""
            known = ", ".join([*names, "or package.module:Class"]) if names else "name one as package.module:Class"
            raise ConfigError(f"unknown {self.kind} {name!r}{hint} ({'known: ' if names else ''}{known})")
        entry = installed[name]
        try:
            return self._load(entry.value)
        except ConfigError as error:
            raise ConfigError(f"{self.kind} {name!r} of {origin_of(entry.dist)} is broken: {error}") from error

    def _refusal(self, name: str) -> str:
        allowed = f"add {self.option} {name} (in Python, strategy={name!r})" if self.option else "name it in a config"
        return (
            f"the checkpoint names the {self.kind} {name!r}, which is of no installed package, and a checkpoint cannot "
            f"have code imported: if you trust it, {allowed}"
        )

    def _installed(self) -> dict[str, EntryPoint]:
        """The entry points by name; of two with one name, the one that comes first on the path, or ganfleet's own."""
        found: dict[str, EntryPoint] = {}
        for dist in _packages():
            with suppress(ConfigError):  # one broken package must not hide the others; ``listed`` tells of it
                for entry in _entry_points(dist):
                    if entry.group == self.group and entry.name not in self.builtin:
                        found.setdefault(entry.name, entry)
        return found

    def _unreadable(self) -> Iterator[Listed]:
        for dist in _packages():
            try:
                _entry_points(dist)
            except ConfigError as error:
                yield Listed("?", origin_of(dist), problem=str(error))

    def _listed(self, name: str, origin: str) -> Listed:
        try:
            doc = inspect.cleandoc(self.find(name).__doc__ or "")
        except ConfigError as error:
            return Listed(name, origin, problem=str(error))
        return Listed(name, origin, doc.partition("\n")[0])

    def _load(self, target: str) -> type:
        found = _import(target, self.kind)
        if self.base and not (isinstance(found, type) and issubclass(found, _import(self.base, self.kind))):
            raise ConfigError(f"{target!r} is not a subclass of {self.base.replace(':', '.')}")
        if not isinstance(found, type):
            raise ConfigError(f"{target!r} is no class, and must be one")
        lacking = [method for method in self.methods if not hasattr(found, method)]
        if lacking:
            raise ConfigError(f"{target!r} is no {self.kind}: it has no {' and no '.join(lacking)}")
        return found


STRATEGIES = Registry(
    "ganfleet.strategies",
    "strategy",
    {
        "gan": "ganfleet.strategies.gan:GAN",
        "dcgan": "ganfleet.strategies.dcgan:DCGAN",
        "stylegan": "ganfleet.strategies.stylegan.strategy:StyleGAN",
        "wgan": "ganfleet.strategies.wgan:WGAN",
        "wgan_gp": "ganfleet.strategies.wgan:WGANGP",
        "sngan": "ganfleet.strategies.sngan:SNGAN",
        "cgan": "ganfleet.strategies.cgan:CGAN",
        "cyclegan": "ganfleet.strategies.cyclegan:CycleGAN",
        "diffusion": "ganfleet.strategies.diffusion.strategy:Diffusion",
        "imagen": "ganfleet.strategies.imagen.strategy:Imagen",
        "imagen_sr": "ganfleet.strategies.imagen.strategy:ImagenSR",
        "unclip": "ganfleet.strategies.unclip.decoder:Unclip",
        "unclip_prior": "ganfleet.strategies.unclip.prior:UnclipPrior",
        "unclip_sr": "ganfleet.strategies.unclip.upsampler:UnclipSR",
        "unclip_towers": "ganfleet.strategies.unclip.towers:Towers",
        "pix2pix": "ganfleet.strategies.pix2pix:Pix2Pix",
        "pix2pix_hd": "ganfleet.strategies.pix2pix:Pix2PixHD",
    },
    base="ganfleet.strategies.base:Strategy",
    option="--strategy",
)
SOURCES = Registry(
    "ganfleet.sources",
    "source",
    {
        "embedded": "ganfleet.data.arrays:Embedded",
        "folder": "ganfleet.data.files:Folder",
        "zip": "ganfleet.data.files:Zip",
        "idx": "ganfleet.data.arrays:Idx",
        "unpaired": "ganfleet.data.unpaired:Unpaired",
        "captioned": "ganfleet.data.captioned:Captioned",
        "paired": "ganfleet.data.paired:Paired",
        "given": "ganfleet.data.given:Named",
    },
    methods=("Options", "open"),
)
METRICS = Registry(
    "ganfleet.metrics",
    "metric",
    {
        "fid": "ganfleet.metrics.builtin:FID",
        "kid": "ganfleet.metrics.builtin:KID",
        "pr": "ganfleet.metrics.builtin:PR",
        "dc": "ganfleet.metrics.builtin:DC",
        "is": "ganfleet.metrics.builtin:IS",
        "ppl": "ganfleet.metrics.builtin:PPL",
        "diversity": "ganfleet.metrics.builtin:Diversity",
        "ms_ssim": "ganfleet.metrics.builtin:MSSSIM",
        "r_precision": "ganfleet.metrics.builtin:RPrecision",
        "l1": "ganfleet.metrics.builtin:L1",
        "psnr": "ganfleet.metrics.builtin:PSNR",
        "ssim": "ganfleet.metrics.builtin:SSIM",
    },
    base="ganfleet.metrics:Metric",
)
CALLBACKS = Registry(
    "ganfleet.callbacks",
    "callback",
    {"wandb": "ganfleet.engine.loggers:WandB", "swanlab": "ganfleet.engine.loggers:SwanLab"},
    base="ganfleet.engine.callbacks:Callback",
)
OPTIMIZERS = Registry(
    "ganfleet.optimizers",
    "optimizer",
    {
        "adam": "ganfleet.nn.optim:Adam",
        "adamw": "ganfleet.nn.optim:AdamW",
        "rmsprop": "ganfleet.nn.optim:RMSProp",
        "sgd": "ganfleet.nn.optim:SGD",
    },
    methods=("slots", "update"),
)


def look_in_working_directory() -> None:
    """Let modules in the working directory be imported, whatever script is running.

    They come last: a ``queue.py`` of the user's must not be taken for the standard library's.
    """
    here = os.getcwd()
    if here not in sys.path:
        sys.path.append(here)


def origin_of(dist: Distribution) -> str:
    """The name and version of an installed package."""
    return f"{dist.name} {dist.version}"


def _import(target: str, kind: str) -> object:
    """What ``target``, ``module:Name`` or ``module:Outer.Inner``, names.

    Raises:
        ConfigError: it cannot be imported, or there is no such thing in it.
    """
    module_name, _, path = target.partition(":")
    path = path.partition("[")[0].strip()  # an entry point may name extras after the class
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if f"{module_name}.".startswith(f"{error.name}."):
            raise ConfigError(
                f"no module {error.name!r} for {kind} {target!r}: install it, or correct the name"
            ) from error
        raise ConfigError(f"importing {module_name!r} failed: {error}") from error
    except (Exception, SystemExit) as error:  # whatever a stranger's module does
        raise ConfigError(f"importing {module_name!r} failed: {type(error).__name__}: {error}") from error
    try:
        return reduce(getattr, path.split("."), module)
    except AttributeError:
        where = getattr(module, "__file__", None) or "built into Python"
        raise ConfigError(f"module {module_name!r} has no class {path!r} ({where})") from None


def _packages() -> Iterator[Distribution]:
    """The installed packages that offer something to ganfleet; of two of one name, the first on the path."""
    seen = set()
    for dist in distributions():
        with suppress(UnicodeDecodeError):
            if "[ganfleet." in (dist.read_text("entry_points.txt") or "") and dist.name not in seen:
                seen.add(dist.name)
                yield dist


def _entry_points(dist: Distribution) -> tuple[EntryPoint, ...]:
    """What ``dist`` offers.

    Raises:
        ConfigError: this cannot be read.
    """
    try:
        return tuple(dist.entry_points)
    except Exception as error:  # importlib.metadata raises whatever its parsing meets
        raise ConfigError(f"the entry points of {origin_of(dist)} cannot be read: {error}") from error
