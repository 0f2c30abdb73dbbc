"""ganfleet installed from a wheel, in a folder with no repository near: what README says works there too."""

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
from fleets import BIN, REPOSITORY, free_port
from installed import OFFLINE
from PIL import Image

pytestmark = pytest.mark.slow
SMALL = ["train.steps=2", "strategy.ngf=4", "log.samples=4"]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Where pip has installed the wheel of this repository."""
    scratch = tmp_path_factory.mktemp("wheel")
    source = scratch / "source"
    shutil.copytree(REPOSITORY / "ganfleet", source / "ganfleet", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("setup.py", "setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(REPOSITORY / name, source)
    pip = [sys.executable, "-m", "pip"]
    subprocess.run([*pip, "wheel", *OFFLINE, "--wheel-dir", scratch, source], check=True)
    [wheel] = scratch.glob("*.whl")
    subprocess.run([*pip, "install", *OFFLINE, "--target", scratch / "site", wheel], check=True)
    return scratch / "site"


def test_a_wheel_trains_samples_translates_and_plans_by_the_names_of_recipes(site, tmp_path):
    environ = {
        **os.environ,
        "PYTHONPATH": str(site),
        "PATH": f"{site / 'bin'}{os.pathsep}{BIN}{os.pathsep}/usr/bin:/bin",
    }

    def done(*command):
        ended = subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=300)
        assert ended.returncode == 0, ended.stdout + ended.stderr
        return ended.stdout

    def ganfleet(*arguments):
        return done(str(site / "bin" / "ganfleet"), *arguments)

    where = done(sys.executable, "-c", "import ganfleet; print(ganfleet.__file__)")
    assert where.startswith(str(site))
    assert "dcgan_fashion " in ganfleet("configs")
    assert json.loads(done(sys.executable, "-m", "ganfleet", "plan", "--json", "--config", "gan_fashion"))["steps"] > 0

    dcgan = ["train", "--config", "dcgan_fashion", *SMALL, "strategy.ndf=4", "strategy.resolution=8"]
    ganfleet(*dcgan, "run.name=fleet", "--workers", "2")
    script = str(site / "bin" / "ganfleet")
    fleet = ["--worker_num=2", "--local_worker_num=2", f"--master_port={free_port()}", "--join=True", "--log_dir=logs"]
    done(str(BIN / "msrun"), *fleet, script, *dcgan, "run.name=msrun")
    digests = {ganfleet("ckpt", "digest", f"runs/{name}").splitlines()[-1] for name in ("fleet", "msrun")}
    assert len(digests) == 1
    ganfleet("sample", "--checkpoint", "runs/fleet", "--out", "grid.png", "--seeds", "0-3")
    assert Image.open(tmp_path / "grid.png").size > (64, 64)

    for domain in ("trainA", "trainB"):
        (tmp_path / "pair" / domain).mkdir(parents=True)
        for i, pixels in enumerate(np.random.default_rng(0).integers(0, 256, (4, 24, 24, 3), np.uint8)):
            Image.fromarray(pixels).save(tmp_path / "pair" / domain / f"{i}.png")
    cyclegan = ["--config", "cyclegan_emoji64", "data.path=pair", "strategy.blocks=1", "strategy.resolution=24"]
    ganfleet("train", *cyclegan, *SMALL, "strategy.ndf=4", "run.name=cycle")
    ganfleet(
        "translate", "--checkpoint", "runs/cycle", "--direction", "A2B", "--input", "pair/trainA", "--output", "out"
    )
    assert len(list((tmp_path / "out").glob("*.png"))) == 4
