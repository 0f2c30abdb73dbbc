"""Install the packages of tests/plugins into a folder, as a user would with pip."""

import shutil
import subprocess
import sys
from pathlib import Path

PLUGINS = Path(__file__).parent / "plugins"
OFFLINE = ["--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check", "--quiet"]


def install(name: str, scratch: Path) -> Path:
    """Where pip has installed the package ``name``; ``scratch`` is an empty folder."""
    source = shutil.copytree(PLUGINS / name, scratch / "source")  # setuptools leaves its own folders behind
    command = [sys.executable, "-m", "pip", "install", *OFFLINE, "--target", scratch / "site", source]
    subprocess.run(command, check=True)
    return scratch / "site"


def forget(package: str) -> None:
    """Have ``package`` imported anew the next time."""
    for name in [name for name in sys.modules if name == package or name.startswith(f"{package}.")]:
        del sys.modules[name]
