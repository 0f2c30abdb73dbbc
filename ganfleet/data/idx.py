"""The idx format of the MNIST family (http://yann.lecun.com/exdb/mnist): big-endian header, then unsigned bytes."""

import gzip
import zlib
from pathlib import Path

import numpy as np

from ganfleet.errors import DataError

UNSIGNED_BYTE = 8


def read_idx(path: Path, ndim: int) -> np.ndarray:
    """The uint8 array of ``ndim`` dimensions in the idx file ``path``, gzipped or not.

    Raises:
        DataError: not such a file, or truncated, or damaged.
    """
    try:
        data = path.read_bytes()
        if data.startswith(b"\x1f\x8b"):
            data = gzip.decompress(data)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} cannot be read: {error}. Fetch the file again.") from error
    magic, header = bytes([0, 0, UNSIGNED_BYTE, ndim]), 4 + 4 * ndim
    if data[:4] != magic:
        raise DataError(
            f"{path} is no idx file of unsigned bytes in {ndim} dimensions: "
            f"it starts with {data[:4].hex() or 'nothing'}, which must be {magic.hex()}"
        )
    shape = np.frombuffer(data[4:header].ljust(4 * ndim, b"\0"), ">u4").tolist()
    size = int(np.prod(shape, dtype=object))
    if len(data) != header + size:
        raise DataError(
            f"{path} is damaged: {len(data)} bytes long where its header says {header + size}. Fetch the file again."
        )
    return np.frombuffer(data, np.uint8, offset=header).reshape(shape)


def labels_beside(images: Path) -> Path | None:
    """The labels file that goes with ``images`` by the usual name, gzipped or not; None where there is none."""
    name = images.name.removesuffix(".gz").replace("images", "labels").replace("idx3", "idx1")
    candidates = [images.with_name(name + suffix) for suffix in ("", ".gz")]
    return next((path for path in candidates if path != images and path.is_file()), None)
