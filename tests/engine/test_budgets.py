"""Updates that are not finite are skipped by all alike, up to a budget."""

import json
from pathlib import Path

import numpy as np
import pytest
from commands import ganfleet, tiny
from fleets import digest, run, workers

from ganfleet.store import checkpoint

NAN = ["strategy.name=faulty_gan:FaultyGAN", "strategy.fault=nan", "run.name=nan", "log.every_steps=3"]


@pytest.fixture(autouse=True)
def directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1]))
    return tmp_path


# ── Not finite


FLEETS = ["simulated", pytest.param("workers", marks=pytest.mark.slow)]


@pytest.mark.parametrize("fleet", FLEETS)
def test_a_nan_in_one_lane_costs_one_update_of_one_player_on_every_fleet_alike(fleet, directory):
    path = tiny(directory)
    alone = ganfleet("train", "--config", path, *NAN, "run.name=alone")
    if fleet == "simulated":
        other = ganfleet("train", "--config", path, *NAN, "fleet.world_size=2")
    else:
        other = run(workers(2, "--config", path, *NAN), directory)
    told = "step 4: the gradients or stats of phase D are not finite, every rank skips the update (1 of 10 allowed)"
    for name, ended in {"alone": alone, "nan": other}.items():
        assert ended.code == 0, ended.output
        assert ended.output.count(told) == 1
        lines = [json.loads(line) for line in Path(f"runs/{name}/log.jsonl").read_text().splitlines()]
        # No line is due at step 4, so it is read a step late.
        assert [(line["step"], line["Progress/nonfinite"]) for line in lines] == [(3, 0), (6, 1), (9, 1), (12, 1)]
        # What followed the schedule in a line's last step, at whose begin one step less was done.
        assert [line["Schedule/fade_in"] for line in lines] == [0.5, 1.25, 2.0, 2.75]
        assert {(line["Schedule/lr/D"], line["Schedule/lr/G"]) for line in lines} == {(2e-4, 2e-4)}
        assert all(line[f"Memory/{phase}"] > 100 for line in lines for phase in "DG")  # MiB; MindSpore alone takes more
    tensors = checkpoint.load(Path("runs/nan/checkpoints/step-00000012")).tensors
    assert (tensors["D.optimizer"]["updates"], tensors["G.optimizer"]["updates"]) == (11, 12)
    assert all(np.isfinite(array).all() for component in tensors.values() for array in component.values())
    assert digest(Path("runs/nan")) == digest(Path("runs/alone"))
