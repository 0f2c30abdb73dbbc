"""How large images are. Square ones have one number, as in ``resolution: 64``; others have a height and a width."""

from typing import Annotated, Any, NamedTuple

from pydantic import PlainSerializer, PlainValidator

SMALLEST = 4  # pixels of a side below which nothing is halved


class Size(NamedTuple):
    """Height and width of images, in pixels. As text it is ``32x48``, the height first.

    A resolution is an int where images are square, and a Size only where they are not, so ``resolution`` of a square
    Size is an int, and ``Size.of`` takes either.
    """

    height: int
    width: int

    def __str__(self) -> str:
        return f"{self.height}x{self.width}"

    @classmethod
    def of(cls, resolution: "int | Size") -> "Size":
        """Height and width at ``resolution``, or at what JSON made of it, a list."""
        return cls(*resolution) if isinstance(resolution, tuple | list) else cls(resolution, resolution)

    @property
    def resolution(self) -> "int | Size":
        """The number of pixels of a side where the two are equal, else this Size."""
        return self.height if self.height == self.width else self


def factor(full: int | Size, resolution: int | Size) -> int:
    """How many times the sides at ``resolution`` go into those at ``full``; 0 if there is no such number for both."""
    (full_height, full_width), (height, width) = Size.of(full), Size.of(resolution)
    if height < 1 or width < 1:
        return 0
    times = full_height // height
    return times if (full_height, full_width) == (times * height, times * width) else 0


def halves(resolution: int | Size) -> list[int | Size]:
    """``resolution`` halved once, twice and so on: as often as both sides are even, and stay 4 pixels or more."""
    found, (height, width) = [], Size.of(resolution)
    while height % 2 == width % 2 == 0 and min(height, width) >= 2 * SMALLEST:
        height, width = height // 2, width // 2
        found.append(Size(height, width).resolution)
    return found


def read(value: Any) -> int | Size:
    """What a config says: ``64``, ``[32, 48]`` or ``{height: 32, width: 48}``.

    Raises:
        ValueError: it says something else.
    """
    if isinstance(value, dict):
        if set(value) != {"height", "width"}:
            raise ValueError("must have a height and a width, and nothing else")
        value = value["height"], value["width"]
    sides = value if isinstance(value, list | tuple) else (value, value)
    if len(sides) != 2 or any(isinstance(side, bool) or not isinstance(side, int) for side in sides):
        raise ValueError("must be an integer, or [height, width]")
    if min(sides) < 1:
        raise ValueError("must be 1 or more")
    return Size(*sides).resolution


def read_text(text: str) -> int | Size:
    """What a command line says: ``64``, or ``32x48``, the height first.

    Raises:
        ValueError: it says something else.
    """
    sides = text.lower().split("x")
    if len(sides) > 2 or not all(side.isascii() and side.isdigit() and len(side) < 10 for side in sides):
        raise ValueError(f"{text!r} is no resolution: write 64, or 32x48 for a height of 32 and a width of 48")
    return read([int(side) for side in sides * (2 // len(sides))])


def plain(resolution: int | Size) -> int | list[int]:
    """``resolution`` as JSON and YAML have it."""
    return list(resolution) if isinstance(resolution, tuple) else resolution


Resolution = Annotated[int | Size, PlainValidator(read), PlainSerializer(plain)]
"""An option that is a resolution; without it, ``strategy.resolution`` is one integer."""
