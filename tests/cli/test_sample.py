"""Samples: the same picture from a checkpoint as from the run itself, and no trace of them in the training."""

from pathlib import Path

import numpy as np
import pytest
from commands import ganfleet, one_error
from fleets import digest
from PIL import Image

# Batch norm, so that sampling has running statistics to disturb; eight steps are too few for an EMA to catch up.
DCGAN = """\
strategy: {name: dcgan, resolution: 16, latent: 8, ngf: 8, ndf: 8, ema_kimg: 1}
data: {source: embedded}
train: {steps: 8, batch_size: 16, lanes: 2, seed: 3}
log: {every_steps: 4, samples_every_kimg: 100, samples: 16}
"""


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    """Holds runs/often, which drew samples every other step, and runs/seldom."""
    directory = tmp_path_factory.mktemp("samples")
    (directory / "dcgan.yaml").write_text(DCGAN)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(directory)
        for name, *overrides in [("seldom",), ("often", "log.samples_every_kimg=0.032")]:
            ended = ganfleet("train", "--config", "dcgan.yaml", f"run.name={name}", *overrides)
            assert ended.code == 0, ended.output
    return directory


@pytest.fixture(autouse=True)
def there(directory, monkeypatch):
    monkeypatch.chdir(directory)


def pixels(path):
    return np.asarray(Image.open(path)).astype(int)


def test_sampling_in_between_leaves_no_trace_in_the_training():
    assert (len(list(Path("runs/often/samples").iterdir())), len(list(Path("runs/seldom/samples").iterdir()))) == (5, 2)
    assert digest(Path("runs/often")) == digest(Path("runs/seldom"))


def test_a_checkpoint_gives_the_grid_that_its_run_drew_and_other_weights_another():
    assert ganfleet("sample", "--checkpoint", "runs/seldom", "--out", "ema.png", "--seeds", "0-15").code == 0
    own = pixels(sorted(Path("runs/seldom/samples").iterdir())[-1])
    np.testing.assert_array_equal(pixels("ema.png"), own)
    ended = ganfleet("sample", "--checkpoint", "runs/seldom", "--out", "raw.png", "--seeds", "0-15", "--no-ema")
    assert ended.code == 0
    assert pixels("raw.png").shape == own.shape
    assert np.abs(pixels("raw.png") - own).max() > 0


@pytest.mark.parametrize("seeds", ["", "a", "3-", "1,,2", "-1", "5-3", "0-15x"])
def test_what_is_no_list_of_seeds_is_refused(seeds):
    message = one_error(ganfleet("sample", "--checkpoint", "runs/seldom", "--out", "no.png", "--seeds", seeds), 2)
    assert "--seeds" in message and repr(seeds) in message
    assert not Path("no.png").exists()


def test_what_holds_no_checkpoint_is_refused():
    message = one_error(ganfleet("sample", "--checkpoint", "runs", "--out", "no.png"), 2)
    assert "runs is no checkpoint and holds none" in message


def test_a_picture_that_cannot_be_written_ends_with_74():
    message = one_error(ganfleet("sample", "--checkpoint", "runs/seldom", "--out", "no/dir.png", "--seeds", "0"), 74)
    assert "cannot write no/dir.png" in message
