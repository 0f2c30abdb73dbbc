"""Open the data that a config names, or take what the caller has in memory for a source."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from pydantic import BaseModel, ValidationError

from ganfleet.data.given import Given, Rows, kind_of
from ganfleet.data.sources import Source
from ganfleet.errors import ConfigError
from ganfleet.plugins import SOURCES
from ganfleet.size import Size


def open_source(source: str = "embedded", *, resolution: int | Size, **options: Any) -> Source:
    """Open the data that ``source`` names at ``resolution``, the largest that training will reach.

    Args:
        source: ``embedded``, ``folder``, ``zip``, ``idx``, ``unpaired``, ``paired``, one of an installed package, or
            ``package.module:Class``.
        options: the source's own, as in a config under ``data:``, such as ``path="photos"``.

    Raises:
        ConfigError: no such source or option; otherwise as :meth:`Source.open`.
        DataError: the data are damaged.
    """
    found = SOURCES.find(source)
    try:
        checked = found.Options(**options)
    except ValidationError as error:
        problems = [f"data.{'.'.join(map(str, p['loc']))}: {p['msg']}" for p in error.errors(include_url=False)]
        raise ConfigError(f"data.source {source}: {'; '.join(problems)}") from error
    return as_source(_opened(source, checked, resolution), resolution)


def open_section(data: BaseModel, resolution: int | Size) -> Source:
    """Open the data that ``data``, a checked config's section of that name, describes; raises as ``open_source``."""
    return as_source(_opened(data.source, data, resolution), resolution)


def _opened(name: str, options: BaseModel, resolution: int | Size) -> Any:
    """What the source called ``name`` opens.

    Raises:
        ConfigError: it knows no images but square ones, and these are others.
    """
    try:
        return SOURCES.find(name).open(options, resolution)
    except TypeError as error:
        if not isinstance(resolution, Size):
            raise
        raise ConfigError(
            f"data.source {name} makes square images only, and strategy.resolution is {resolution}: give one number "
            f"there, or see ganfleet.Size.of in that source ({error})"
        ) from error


def as_source(given: Any, resolution: int | Size) -> Source:
    """``given`` as a source of samples at ``resolution``.

    Args:
        given: one of

            - a Source;
            - an array of images, (n, channels, height, width);
            - a dict of arrays that have a row for each sample, the class of each as ``label``;
            - an object with ``len(given)``, whose ``given[i]`` is an image or a dict of arrays. It may have what a
              Source has: ``classes`` (otherwise all labels are read once), ``at``, ``prepare``, ``digest``,
              ``describe``.

            Images are uint8 (channels, height, width), or floats in [-1, 1].

    Raises:
        ConfigError: it is none of these, or empty; its images have another resolution.
        DataError: the first sample cannot be had, or has values that no image has.
    """
    if isinstance(given, Source):
        return given if given.resolution == resolution else given.at(resolution)
    if isinstance(given, np.ndarray):
        given = {"image": given}
    if isinstance(given, Mapping):
        given = Rows(given)
    _refuse_unindexed("the source given", given)
    if hasattr(given, "at"):
        given = given.at(resolution)
        _refuse_unindexed(f"what at({resolution}) of the source given returned", given)
    return Given(given, resolution)


def _refuse_unindexed(what: str, given: Any) -> None:
    """
    Raises:
        ConfigError: ``given`` cannot be asked for samples.
    """
    if isinstance(given, str | bytes) or not (hasattr(given, "__len__") and hasattr(given, "__getitem__")):
        raise ConfigError(
            f"{what} is {kind_of(given)}: give a Source, numpy arrays, or an object with __len__ and __getitem__"
        )
