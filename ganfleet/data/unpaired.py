"""Two folders of images that are no pairs, for translation from one domain to the other.

What is left to chance (which B goes with an A, crops, flips) is drawn from the stream that the loader gives.
"""

from pathlib import Path

import numpy as np

from ganfleet.data.images import area_mean
from ganfleet.data.sources import BadImage, RandomSource, Source, open_source
from ganfleet.errors import ConfigError, GanfleetError


class UnpairedSource(RandomSource):
    """As many samples as the larger domain has images: ``image_a`` is A's in order, ``image_b`` any of B's.

    Both are uint8 (channels, resolution, resolution), cut out of the domains' larger images at a random place, and
    mirrored left to right half of the time with ``flip``.
    """

    names = ("image_a", "image_b")

    def __init__(self, a: Source, b: Source, resolution: int, flip: bool):
        """``a`` and ``b`` have images of one size, no smaller than ``resolution``."""
        super().__init__(resolution, a.channels, labels=None)
        self._a, self._b, self._flip = a, b, flip

    def __len__(self) -> int:
        return max(len(self._a), len(self._b))

    def describe(self, index: int) -> str:
        return self._a.describe(index % len(self._a))

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        """Both domains in order, cut out of the middle and not mirrored: what figures are made of."""
        middle = (self._a.resolution - self._full_resolution) // 2
        return {
            "image_a": self._cut(self._image_a(index), middle, middle, mirrored=False),
            "image_b": self._cut(self._image_b(index % len(self._b)), middle, middle, mirrored=False),
        }

    def sample(self, index, rng):
        partner = int(rng.integers(len(self._b)))
        return {
            "image_a": self._augmented(self._image_a(index), rng),
            "image_b": self._augmented(self._image_b(partner), rng),
        }

    def _image_a(self, index: int) -> np.ndarray:
        return self._image(self._a, index % len(self._a), 0)

    def _image_b(self, index: int) -> np.ndarray:
        return self._image(self._b, index, len(self._a))

    def _image(self, domain: Source, index: int, offset: int) -> np.ndarray:
        try:
            return domain[index]["image"]
        except GanfleetError as error:
            raise BadImage(str(error), offset + index) from error

    def _augmented(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        top, left = rng.integers(image.shape[1] - self._full_resolution + 1, size=2)
        return self._cut(image, top, left, mirrored=self._flip and rng.random() < 0.5)

    def _cut(self, image: np.ndarray, top: int, left: int, mirrored: bool) -> np.ndarray:
        side = self._full_resolution
        square = image[:, top : top + side, left : left + side]
        return area_mean(square[:, :, ::-1] if mirrored else square, side // self.resolution)


def open_unpaired(
    path: str | Path,
    *,
    path_b: str | Path | None = None,
    split: str | None = None,
    resolution: int,
    load_size: int | None = None,
    flip: bool = False,
    channels: int | None = None,
    resize: str = "crop",
    upscale: bool = False,
) -> Source:
    """Open the domains A and B.

    Args:
        path: a folder with the folders trainA and trainB; or with ``path_b``, the folder of A itself.
        path_b: the folder of B.
        split: ``test`` for testA and testB instead.
        resolution: of the samples.
        load_size: what images are scaled to before a sample is cut out of them at random; None for ``resolution``.
        flip: whether half of the samples are mirrored.
        channels, resize, upscale: as for ``open_source``; images are resized to ``load_size``.

    Raises:
        ConfigError: a folder is missing or has no images; images too small; ``load_size`` below ``resolution``.
    """
    load_size = load_size or resolution
    if load_size < resolution:
        raise ConfigError(f"data.load_size is {load_size}, too small for samples of {resolution}x{resolution} pixels.")
    path = Path(path).expanduser()
    if path_b is None:
        split = split or "train"
        folders = {path / f"{split}A": "data.path", path / f"{split}B": "data.path"}
        if not any(folder.exists() for folder in folders):
            raise ConfigError(
                f"data.path: {path} has no folders {split}A and {split}B. For folders of other names, set data.path to "
                "that of A and data.path_b to that of B."
            )
    elif split is not None:
        raise ConfigError("data.split chooses among folders in data.path: leave it out where data.path_b is set.")
    else:
        folders = {path: "data.path", Path(path_b).expanduser(): "data.path_b"}
    options = {"resolution": load_size, "channels": channels, "resize": resize, "upscale": upscale}
    a, b = [_open_domain(folder, key, options) for folder, key in folders.items()]
    return UnpairedSource(a, b, resolution, flip)


def _open_domain(folder: Path, key: str, options: dict) -> Source:
    try:
        return open_source("folder", path=folder, **options)
    except ConfigError as error:
        raise ConfigError(str(error).replace("data.path:", f"{key}:", 1)) from error
