"""Run a Dockerfile's steps without Docker and root, in a virtual environment and folders of their own.

    python docker/steps.py docker/cpu.Dockerfile FOLDER [--packages SITE]

FOLDER becomes the image's root: /src and /work are FOLDER/src and FOLDER/work. Each command is shown, then run, or said
to be left out because it needs root. At the end what the container would run is run. Ends with the first exit code that
is not 0. --packages lets the environment find what is installed in the folder SITE (site-packages), so that pip
need not fetch MindSpore again.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT_ONLY = ("apt-get", "useradd", "install -d -o", "rm -rf /var")


def instructions(text: str) -> list[tuple[str, str]]:
    """The instructions of a Dockerfile, each a word and its arguments, with lines joined and comments left out."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", " ", "\n".join(lines))
    return [(word, rest.strip()) for word, _, rest in (line.partition(" ") for line in joined.splitlines()) if word]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dockerfile", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--packages", type=Path)
    options = parser.parse_args()
    root = options.folder.resolve()
    root.mkdir(parents=True)
    path = f"{root / 'venv' / 'bin'}:/usr/local/bin:/usr/bin:/bin"
    environ = {**os.environ, "HOME": str(root / "home"), "PATH": path, "PWD": str(root)}
    environ.pop("PYTHONPATH", None)
    if options.packages:  # some have programs and libraries, an MPI for instance
        prefix = options.packages.parents[2]
        environ |= {"PATH": f"{path}:{prefix / 'bin'}", "LD_LIBRARY_PATH": str(prefix / "lib")}
    last: dict[str, list[str]] = {}
    for word, rest in instructions(options.dockerfile.read_text()):
        print(f"── {word} {rest}", flush=True)
        match word:
            case "FROM":
                environment(rest, root, options.packages)
            case "COPY":
                copy(*rest.split(), options.dockerfile.parent.parent, root)
            case "ENV":
                name, _, value = rest.partition("=")
                environ[name] = inside(value, root)
            case "WORKDIR":
                environ["PWD"] = inside(rest, root)
                Path(environ["PWD"]).mkdir(parents=True, exist_ok=True)
            case "RUN":
                for command in rest.split(" && "):
                    if command.startswith(ROOT_ONLY):
                        print(f"left out, it needs root: {command}", flush=True)
                    elif code := run(["bash", "-c", inside(command, root)], environ):
                        return code
            case "ENTRYPOINT" | "CMD":
                last[word] = json.loads(rest)
    return run([*last["ENTRYPOINT"], *last["CMD"]], environ)


def environment(image: str, root: Path, packages: Path | None) -> None:
    """The virtual environment in the place of the image ``python:3.11-…``."""
    version = re.fullmatch(r"python:(\d+\.\d+)-.*", image)[1]
    python = sys.executable if sys.version.startswith(f"{version}.") else shutil.which(f"python{version}")
    subprocess.run([python, "-m", "venv", root / "venv"], check=True)
    if packages:
        [site] = (root / "venv" / "lib").glob("python*/site-packages")
        (site / "packages.pth").write_text(f"{packages}\n")


def copy(source: str, target: str, context: Path, root: Path) -> None:
    """What COPY takes: ``source`` of the build's context without what .dockerignore names."""
    ignored = [line.removeprefix("**/") for line in (context / ".dockerignore").read_text().split()]
    destination = inside(target, root)
    shutil.copytree(context / source, destination, symlinks=True, ignore=shutil.ignore_patterns(*ignored))


def inside(text: str, root: Path) -> str:
    """``text`` with the image's folders as those below ``root``."""
    return re.sub(r"(?<![\w.])/(src|work)\b", rf"{root}/\1", text)


def run(command: list[str], environ: dict[str, str]) -> int:
    return subprocess.run(command, env=environ, cwd=environ["PWD"]).returncode


if __name__ == "__main__":
    sys.exit(main())
