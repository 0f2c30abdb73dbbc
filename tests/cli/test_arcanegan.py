"""The chain of docs/arcanegan.md from its recipes, at 8x8: base, tuned, blended, pairs, student, translation."""

import numpy as np
import pytest
from commands import ganfleet
from PIL import Image

TINY = "strategy.resolution=8 strategy.latent=4 strategy.mapping_layers=1 strategy.fmap_base=32 strategy.fmap_max=8"
SHORT = "train.steps=2 train.batch_size=4 train.lanes=2 log.samples=2 strategy.lrs={}"
STUDENT = (
    "strategy.resolution=8 strategy.ngf=2 strategy.ndf=2 strategy.blocks=1 strategy.perceptual=null train.steps=2 "
    "train.batch_size=4"
)


@pytest.mark.slow
def test_every_link_takes_what_the_one_before_made(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    for folder in ("trainA", "trainB", "testA", "testB"):
        (tmp_path / "data/emoji/pairs" / folder).mkdir(parents=True)
        for i in range(8):
            pixels = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "data/emoji/pairs" / folder / f"{i}.png")

    def done(line):
        ended = ganfleet(*line.split())
        assert ended.code == 0, ended.output
        return ended.output

    styles = f"{TINY} {SHORT} strategy.start_resolution=8 strategy.mbstd_group=2"
    done(f"train --config arcanegan_base run.name=arcane-base {styles}")
    done(f"train --config arcanegan_tuned run.name=arcane-tuned {styles}")
    done("blend runs/arcane-base runs/arcane-tuned --out arcane-blended --share 4:0,8:0.7")
    drawn = done("pairs --a runs/arcane-base --b arcane-blended --count 8 --psi 0.7 --out data/arcane-pairs")
    assert "drew 8 pairs" in drawn
    done(f"train --config arcanegan_student run.name=arcane-student {STUDENT} log.samples=2")
    given = "--direction A2B --input data/emoji/pairs/testB"
    done(f"translate --checkpoint runs/arcane-student {given} --output out --panel")
    assert Image.open("out/0.png").size == (8, 8) and Image.open("out/panels/7.png").size == (8 + 2 + 8, 8)
    told = done(f"evaluate --checkpoint runs/arcane-student {given} --data data/emoji/pairs/testA --metrics l1")
    assert 0 < float(told.split("l1")[1].split()[0]) < 1
