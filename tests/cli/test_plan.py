import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from commands import tiny

from ganfleet import cli
from ganfleet import config as configs
from ganfleet.cli.plan import plan
from ganfleet.errors import ConfigError

HERE = Path(__file__).parents[1]
TINY = """\
strategy: {name: "tiny_gan:TinyGAN", resolution: 8, batch_sizes: {4: 24}}
train: {kimg: 1, batch_size: 12, lanes: 6}
"""

# TinyGAN on 8x8 grey images, counted by hand.
D_WEIGHTS = 64 + 1  # Dense(64, 1)
NORM_WEIGHTS = 5 + 5  # BatchNorm(5): gain and bias
G_WEIGHTS = (2 * 3 + 3) + (3 * 64 + 64)  # Dense(2, 3), Dense(3, 64)
RUNNING = 5 + 5  # mean and variance
SEEN = 5 + 5 + 1  # their sums over a step's calls, and the number of calls


@pytest.fixture(autouse=True)
def tiny_gan_can_be_imported(monkeypatch):
    monkeypatch.syspath_prepend(HERE)


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "tiny.yaml"
    path.write_text(TINY)
    return path


@pytest.fixture
def planned(path):
    return plan(configs.load(path))


def test_stages_say_when_they_start_and_how_long_they_last(planned):
    small, full = planned["stages"]
    # The small stage is due to end at 500 images, and does at the first multiple of 24 that is not below.
    assert (small["resolution"], small["batch_size"], small["lane_batch_size"]) == (4, 24, 4)
    assert (small["first_step"], small["steps"], small["starts_at_kimg"]) == (0, 21, 0.0)
    # 496 images are left of 1000, in batches of 12.
    assert (full["resolution"], full["batch_size"], full["lane_batch_size"]) == (8, 12, 2)
    assert (full["first_step"], full["steps"], full["starts_at_kimg"]) == (21, 42, 0.504)
    assert (planned["steps"], planned["kimg"]) == (63, 1.008)


@pytest.mark.parametrize("limit, steps, last", [(5, [5], 0.12), (30, [21, 9], 0.612), (999, [21, 42], 1.008)])
def test_steps_end_the_run_where_they_come_first(path, limit, steps, last):
    planned = plan(configs.load(path, [f"train.steps={limit}"]))
    assert [stage["steps"] for stage in planned["stages"]] == steps
    assert planned["kimg"] == last


def test_every_possible_fleet_gets_its_lanes(planned):
    assert [{key: each[key] for key in ("world_size", "exact", "lanes")} for each in planned["world_sizes"]] == [
        {"world_size": 1, "exact": True, "lanes": [[0, 1, 2, 3, 4, 5]]},
        {"world_size": 2, "exact": True, "lanes": [[0, 1, 2], [3, 4, 5]]},
        {"world_size": 3, "exact": False, "lanes": [[0, 1], [2, 3], [4, 5]]},
        {"world_size": 6, "exact": False, "lanes": [[0], [1], [2], [3], [4], [5]]},
    ]


def test_parameters_are_counted_by_network(planned):
    assert planned["stages"][1]["networks"] == [
        {"name": "D", "player": "D", "parameters": D_WEIGHTS, "recomputable": 0},
        {"name": "Norm", "player": "D", "parameters": NORM_WEIGHTS, "recomputable": 0},
        {"name": "G", "player": "G", "parameters": G_WEIGHTS, "recomputable": 0},
    ]


def test_each_phase_has_one_collective_of_its_players_gradients_and_statistics(planned):
    d = {"player": "D", "gradient_bytes": 4 * (D_WEIGHTS + NORM_WEIGHTS), "buffer_bytes": 4 * SEEN}
    g = {"player": "G", "gradient_bytes": 4 * G_WEIGHTS, "buffer_bytes": 0}
    assert planned["stages"][0]["phases"] == [
        {"name": "D", "every": 1} | d,
        {"name": "G", "every": 1} | g,
        {"name": "path", "every": 4} | g,
    ]


def test_memory_and_checkpoint_add_up(planned):
    d, g = 4 * (D_WEIGHTS + NORM_WEIGHTS), 4 * G_WEIGHTS
    weights = d + g + 4 * RUNNING
    optimizer = 2 * d + g  # Adam keeps two moments for D, RMSProp one for G
    memory = dict(planned["stages"][1]["memory"])
    assert memory.pop("covers").startswith("weights, optimizer slots, EMA")
    assert memory == {
        "weights": weights,
        "optimizer": optimizer,
        "ema": g,
        "flat": 2 * (d + g) + 4 * SEEN,
        "batch": 2 * 8 * 8 * 4,
        "total": weights + optimizer + g + 2 * (d + g) + 4 * SEEN + 2 * 8 * 8 * 4,
    }
    assert planned["checkpoint_bytes"] == weights + optimizer + g


def test_ranks_that_share_out_hold_a_part_of_each_vector_and_no_flat_weights(path, planned):
    d, g = D_WEIGHTS + NORM_WEIGHTS, G_WEIGHTS
    alone, fleet = planned["world_sizes"][0], planned["world_sizes"][2]
    assert alone["sharded_bytes"] == max(stage["memory"]["total"] for stage in planned["stages"])
    stages = plan(configs.load(path, ["fleet.shard_optimizer=true", f"fleet.world_size={fleet['world_size']}"]))[
        "stages"
    ]
    assert fleet["sharded_bytes"] == max(stage["memory"]["total"] for stage in stages)
    parts = -(-d // 3), -(-g // 3)
    for whole, own in zip(planned["stages"], stages, strict=True):
        whole, own = whole["memory"], own["memory"]
        assert own["optimizer"] == 4 * (2 * parts[0] + parts[1]) and own["ema"] == 4 * parts[1]
        assert own["flat"] == whole["flat"] - 4 * (d + g)
        assert (own["weights"], own["batch"]) == (whole["weights"], whole["batch"])


def test_a_stage_that_the_lanes_cannot_share_is_refused(path):
    with pytest.raises(ConfigError, match=r"stage 'small' has batches of 20, which do not divide among train.lanes=6"):
        plan(configs.load(path, ["strategy.batch_sizes={4: 20}"]))


def test_the_command_prints_tables_or_json(path):
    text = CliRunner().invoke(cli.main, ["plan", "--config", str(path)], env={"COLUMNS": "100"})
    assert text.exit_code == 0
    for shown in ("63 steps", "0-2 | 3-5", "trained parameters", "265", "path", "checkpoint takes about"):
        assert shown in text.output
    printed = CliRunner().invoke(cli.main, ["plan", "--config", str(path), "train.lanes=3", "--json"])
    assert json.loads(printed.output)["lanes"] == 3


def test_data_still_to_come_are_taken_for_rgb(path):
    planned = plan(configs.load(path, ["data.source=folder", "data.path=nowhere"]))
    assert planned["images"] == {"count": None, "channels": 3, "classes": 0, "class_names": [], "notes": []}
    assert planned["stages"][1]["networks"][0]["parameters"] == 3 * 64 + 1


def test_weights_still_to_come_are_noted(path):
    [note] = plan(configs.load(path, ["train.init_from=nowhere"]))["images"]["notes"][-1:]
    assert note.startswith("train.init_from: nowhere is no checkpoint")


def test_missing_labels_are_reported_with_their_own_exit_code(path):
    found = CliRunner().invoke(cli.main, ["plan", "--config", str(path), "data.source=idx", f"data.path={path}"])
    assert found.exit_code == 65
    assert "ganfleet: error:" in found.output and str(path) in found.output


def test_what_a_step_takes_here_is_measured_on_request(tmp_path):
    [stage] = plan(configs.load(tiny(tmp_path)), measured=True)["stages"]
    assert [phase["name"] for phase in stage["phases"]] == ["D", "G"]
    for phase in stage["phases"]:
        assert phase["seconds"] > 0 and phase["compile_seconds"] > phase["seconds"]
        assert phase["peak_bytes"] > 100 << 20  # Python and MindSpore alone take more
    lane = sum(phase["seconds"] for phase in stage["phases"])
    assert stage["seconds_per_kimg"] == pytest.approx(lane * 4 / 16 * 1000)  # four lanes, one after the other


def test_data_that_are_to_be_measured_with_must_be_there(path):
    with pytest.raises(ConfigError, match=r"data\.path: there is nothing at nowhere"):
        plan(configs.load(path, ["data.source=folder", "data.path=nowhere"]), measured=True)


def test_growth_is_planned_stage_by_stage():
    """26,219,627 is the published count of G at 1024²: all of it in use, but for the 1x1 convolutions of 4² to 512²."""
    planned = plan(configs.load(HERE.parent / "configs" / "stylegan_ffhq1024.yaml"))
    stages = {stage["name"]: stage for stage in planned["stages"]}
    assert list(stages)[:3] == ["8", "16-fade", "16"] and list(stages)[-1] == "1024"
    idle = sum(3 * maps + 3 for maps in (512, 512, 512, 512, 256, 128, 64, 32))
    g = {network["name"]: network for network in stages["1024"]["networks"]}["G"]
    assert g["parameters"] == 26_219_627 - idle
    sent = [stage["phases"][-1]["gradient_bytes"] for stage in planned["stages"]]
    assert sent[-1] == 4 * g["parameters"]
    assert sent[0] < sent[1] and sent[0] == min(sent)
    memory = [stage["memory"]["total"] for stage in planned["stages"]]
    assert memory[0] == min(memory) < 0.9 * memory[-1]


# ── A model of fleets that are not here

MODEL = ["--link", "1ms,1MB/s", "--lane-seconds", "0.01", "--json"]


def modelled(path, *words):
    ended = CliRunner().invoke(cli.main, ["plan", "--config", str(path), *words])
    assert ended.exit_code == 0, ended.output
    return json.loads(ended.output)["model"]


def test_a_step_on_more_cards_is_lanes_one_after_the_other_and_a_ring_per_phase(path):
    """TinyGAN sends d bytes for D, and g for G, and again every fourth step; one card waits for nobody."""
    d, g = 4 * (D_WEIGHTS + NORM_WEIGHTS) + 4 * SEEN, 4 * G_WEIGHTS
    rows = modelled(path, *MODEL, "--cards", "1,2,3,12", "--cards-per-node", "12")["rows"]
    for row, cards, lanes in zip(rows, [1, 2, 3, 12], [6, 3, 2, 1], strict=True):
        hops = 2 * (cards - 1)
        ring = hops * 1e-3 * 2.25 + hops / cards * (d + 1.25 * g) / 1e6
        assert (row["stage"], row["cards"], row["lanes_per_card"]) == ("full", cards, lanes)
        assert row["compute_seconds"] == pytest.approx(lanes * 0.01)
        assert row["exchange_seconds"] == {"ring": pytest.approx(ring), "hierarchical": pytest.approx(ring)}
        assert row["step_seconds"] == pytest.approx(lanes * 0.01 + ring)
        assert row["efficiency"] == pytest.approx(lanes * 0.01 / (lanes * 0.01 + ring))
        batch = 12 if cards < 12 else 24  # twice as many cards as lanes: twice as many lanes, each of two images
        assert row["images_per_second"] == pytest.approx(batch / row["step_seconds"])


def test_several_nodes_are_modelled_in_both_ways_and_the_faster_one_counts(path):
    words = [*MODEL, "--node-link", "1us,1GB/s", "--cards", "12", "--cards-per-node", "6"]
    [row] = modelled(path, *words)["rows"]
    d, g = 4 * (D_WEIGHTS + NORM_WEIGHTS) + 4 * SEEN, 4 * G_WEIGHTS
    size = d + 1.25 * g
    ring = 2.25 * 22 * 1e-3 + 22 / 12 * size / 1e6
    inside = 2.25 * 10 * 1e-6 + 10 / 6 * size / 1e9
    outside = 2.25 * 2 * 1e-3 + size / 6 / 1e6
    assert row["exchange_seconds"] == {"ring": pytest.approx(ring), "hierarchical": pytest.approx(inside + outside)}
    assert row["fastest"] == "hierarchical" and row["step_seconds"] == pytest.approx(0.01 + inside + outside)


def test_an_exact_fleet_gathers_whole_vectors(path):
    [row] = modelled(path, *MODEL, "--cards", "2", "fleet.reduction=exact")["rows"]
    size = 4 * (D_WEIGHTS + NORM_WEIGHTS) + 4 * SEEN + 1.25 * 4 * G_WEIGHTS
    assert row["exchange_seconds"] == {"gather": pytest.approx(2.25e-3 + size / 1e6)}


def test_where_the_optimizer_is_shared_out_weights_travel_too(path):
    """In two halves of an all-reduce, beside another for what no rank has a part of; gathered sums need one more."""
    words = [*MODEL, "--cards", "3", "--cards-per-node", "12", "fleet.shard_optimizer=true"]
    d, g = 4 * (D_WEIGHTS + NORM_WEIGHTS), 4 * G_WEIGHTS
    [row] = modelled(path, *words)["rows"]
    scattered = 2 * (2.25 * 4e-3) + 4 / 3 * (d + 4 * SEEN + 1.25 * g) / 1e6
    assert row["exchange_seconds"]["ring"] == pytest.approx(scattered)
    [row] = modelled(path, *words, "fleet.reduction=exact", "--cards", "2")["rows"]
    gathered = 2 * 2.25e-3 + (1.5 * d + 4 * SEEN + 1.5 * 1.25 * g) / 1e6
    assert row["exchange_seconds"] == {"gather": pytest.approx(gathered)}


def test_the_model_is_called_one_wherever_it_is_shown(path):
    words = ["plan", "--config", str(path), "--cards", "6,48", "--link", "1ms,1MB/s", "--lane-seconds", "0.01"]
    ended = CliRunner().invoke(cli.main, words, env={"COLUMNS": "160"})
    assert ended.exit_code == 0, ended.output
    assert ended.output.count("a model, not a measurement") == 2
    assert modelled(path, *words[3:], "--json")["is"].startswith("a model, not a measurement")


@pytest.mark.parametrize(
    "words, what",
    [
        (["--cards", "8"], "--cards needs to know what joins them: add --link"),
        (["--link", "1us,1GB/s"], "add --cards, such as 8,64,1024"),
        (["--cards", "8", "--link", "1us,1GB/s"], "give either --lane-seconds, or --measure"),
        (["--cards", "12", *MODEL], "use multiples of --cards-per-node 8"),
        (["--cards", "4", *MODEL], "--cards 4 cannot share train.lanes=6 equally: use a divisor, or more cards"),
        (["--cards", "8,x", *MODEL], "expected numbers of cards from 1 to 9,999,999, such as 8,64,1024, not '8,x'"),
        (["--cards", "8", "--link", "fast"], "expected a latency and a bandwidth, such as 20us,25GB/s, not 'fast'"),
    ],
)
def test_what_cannot_be_modelled_is_refused(path, words, what):
    ended = CliRunner().invoke(cli.main, ["plan", "--config", str(path), *words])
    assert ended.exit_code == 2 and what in " ".join(ended.output.split())
