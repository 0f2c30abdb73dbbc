"""What networks can make that begin with a few pixels and double both sides, again and again."""

from ganfleet.size import SMALLEST, Size, halves

LARGEST_START = 32  # pixels of a side; with more, the layers at the start have more weights than all others


def doublings(resolution: int | Size) -> list[int | Size]:
    """The resolutions from the start to ``resolution``, each twice the one before.

    A power of two starts at 4x4. Other sizes start with what is left when they are halved as long as both sides are
    even and have 4 pixels or more: 32x48 at 4x6.
    """
    return [*reversed(halves(resolution)), resolution]


def needed(resolution: int | Size, times: int, most: int | None = None) -> str | None:
    """What a resolution must be that is doubled ``times`` or more, and has sides of ``most`` at most; None if it is."""
    least = SMALLEST << times
    if isinstance(resolution, int):
        if least <= resolution <= (most or resolution) and resolution & (resolution - 1) == 0:
            return None
        return f"a power of two from {least} to {most}" if most else f"a power of two, {least} or more"
    if most and max(resolution) > most:
        return f"no more than {most} pixels high and wide"
    reached = doublings(resolution)
    start = Size.of(reached[0])
    if len(reached) > times and min(start) >= SMALLEST and max(start) <= LARGEST_START:
        return None
    powers = ", ".join(str(2**i) for i in range(times, times + 3))
    largest = Size(LARGEST_START, LARGEST_START)
    return f"{powers} … times a size from 4x4 to {largest}, such as {_nearest(resolution, times)}"


def _nearest(resolution: Size, times: int) -> int | Size:
    """A resolution near this one that can be made."""
    while min(resolution) >> (times + 1) >= SMALLEST:
        times += 1
    enlarge = max(1.0, SMALLEST * 2**times / min(resolution))
    starts = [min(round(side * enlarge / 2**times), LARGEST_START) for side in resolution]
    return Size(*(start << times for start in starts)).resolution
