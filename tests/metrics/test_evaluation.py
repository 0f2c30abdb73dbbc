"""A measurement over a fleet: the same bits on any number of ranks, what was done before a kill is not done again."""

import json
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pytest
import yaml
from commands import TINY
from PIL import Image
from tiny_network import distances, features, tiny_network

import ganfleet
from ganfleet import rng
from ganfleet.clock import Clock
from ganfleet.config import KeepBest
from ganfleet.data import open_source
from ganfleet.engine import evaluate, measuring
from ganfleet.engine.best import Best
from ganfleet.engine.evaluation import Evaluation
from ganfleet.engine.pictures import OnPaths, Pictures, Read
from ganfleet.errors import ConfigError, DataError
from ganfleet.fleet import Fleet
from ganfleet.metrics import Metric, builtin, rows
from ganfleet.metrics.distances import frechet, kid, moments
from ganfleet.size import Size
from ganfleet.store import checkpoint


class Rank(Fleet):
    """One of several ranks that are threads."""

    backend = "threads"

    def __init__(self, rank, board, barrier):
        super().__init__(len(board), "fast", rank, len(board))
        self._board, self._barrier = board, barrier

    def gather(self, value):
        self._board[self.rank] = pickle.dumps(value)
        self._barrier.wait()
        values = [pickle.loads(each) for each in self._board]
        self._barrier.wait()
        return values


def on_ranks(count, action):
    """What ``action(fleet)`` returns on each of ``count`` ranks."""
    board, barrier = [None] * count, threading.Barrier(count)
    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(lambda rank: action(Rank(rank, board, barrier)), range(count)))


class Numbered(Pictures):
    """Image i is full of the number i."""

    title, facts = "numbers", ("numbers",)

    def __init__(self, count):
        self.count = count

    def __len__(self):
        return self.count

    def images(self, indices):
        return np.array(indices, np.float32)[:, None, None, None] / 1000


def evaluation(fleet, generated):
    names = ("strategy", "stage", "clock", "config", "sample")
    return Evaluation(SimpleNamespace(fleet=fleet, **dict.fromkeys(names)), generated, None, None)


def cube(images):
    return images.reshape(-1, 1) ** 3


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "ganfleet" / "features"


@pytest.mark.parametrize("ranks", [1, 2, 3])
@pytest.mark.parametrize("count", [7, 32, 150])
def test_every_rank_gets_every_row_in_order_whatever_their_number(ranks, count):
    def measure(fleet):
        found = evaluation(fleet, Numbered(count)).rows("cubes", cube, Numbered(count))
        return found.all(), len(found)

    for found, length in on_ranks(ranks, measure):
        assert length == count
        np.testing.assert_array_equal(found.ravel(), (np.arange(count, dtype=np.float32) / 1000) ** 3)


@pytest.mark.parametrize("before, after", [(1, 1), (1, 3), (3, 2)])
def test_a_measurement_that_was_killed_computes_only_what_is_missing(before, after):
    lock, computed = threading.Lock(), []

    def dying(images):
        with lock:
            computed.append(len(images))
            if len(computed) > 4:
                raise DataError("killed")
        return cube(images)

    def counting(images):
        with lock:
            computed.append(len(images))
        return cube(images)

    def measure(compute):
        return lambda fleet: evaluation(fleet, Numbered(300)).rows("cubes", compute, Numbered(300)).all()

    with pytest.raises(DataError, match="killed"):
        on_ranks(before, measure(dying))
    computed.clear()
    for found in on_ranks(after, measure(counting)):
        np.testing.assert_array_equal(found.ravel(), (np.arange(300, dtype=np.float32) / 1000) ** 3)
    assert len(computed) == 10 - (4 if before == 1 else 3)  # of three ranks, none keeps rows of a round that failed


def test_what_one_rank_meets_ends_all():
    def failing(images):
        if images[0] > 0.06:
            raise DataError("spoilt")
        return cube(images)

    def measure(fleet):
        with pytest.raises(DataError, match=r"rank 2 on .*: spoilt"):
            evaluation(fleet, Numbered(96)).rows("cubes", failing, Numbered(96))
        return "ended"

    assert on_ranks(3, measure) == ["ended"] * 3


def test_real_images_are_known_by_their_content(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for i in range(40):
        Image.fromarray(np.full((8, 8), i, np.uint8)).save(folder / f"{i:02d}.png")

    computed = []

    def mean(images):
        computed.append(len(images))
        return images.mean((1, 2, 3), keepdims=True).reshape(-1, 1)

    def measure():
        source = open_source("folder", resolution=8, path=folder, channels=1)
        read = Read(source, 50)
        computed.clear()
        return evaluation(Fleet(1), read).rows("means", mean, read).all().ravel(), read.bad

    np.testing.assert_array_equal(measure()[0], np.arange(40))
    assert computed == [32, 8]
    measure()
    assert computed == []
    Image.fromarray(np.full((8, 8), 200, np.uint8)).save(folder / "35.png")
    values, bad = measure()
    assert computed == [8] and not bad  # the block of 35 alone
    np.testing.assert_array_equal(values, [*range(35), 200, *range(36, 40)])
    (folder / "36.png").write_bytes(b"spoilt")
    values, bad = measure()
    assert computed == [7] and bad == {36}
    np.testing.assert_array_equal(values, [*range(35), 200, 37, 38, 39])


def test_some_of_the_real_images_are_the_same_ones_for_a_seed():
    source = open_source("embedded", resolution=32)
    chosen = [Read(source, 100, seed).indices.tolist() for seed in (0, 0, 1)]
    assert chosen[0] == chosen[1] != chosen[2]
    assert len(set(chosen[0])) == 100 and max(chosen[0]) > 1000


def test_folders_that_were_not_used_for_longest_make_room(cache, monkeypatch):
    monkeypatch.setattr(rows, "LIMIT", 600)
    monkeypatch.setattr(rows, "IN_USE", -1)
    for what in "abc":
        evaluation(Fleet(1), Numbered(40)).rows(what, cube, Numbered(40))
    assert len(list(cache.iterdir())) == 1


# ── A run and its checkpoints

EPSILON = 0.03  # 1e-4 would be lost in float32: a generator of twelve steps hardly heeds its latents
MEASURED = {"names": ["kid", "fid", "diversity"], "every_kimg": 0.064, "count": 40, "real_count": 48}


@pytest.fixture
def tiny(monkeypatch):
    monkeypatch.setattr(measuring, "feature_network", tiny_network)
    monkeypatch.setattr(evaluate, "SMALLEST", 4)


def train(directory, name, **sections):
    config = yaml.safe_load(TINY) | {"metrics": MEASURED} | sections
    return ganfleet.train(config, f"run.dir={directory}", f"run.name={name}")


def kept(run):
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def test_a_run_measures_what_evaluate_does_and_on_any_number_of_ranks(tiny, tmp_path, capsys, cache):
    alone = train(tmp_path, "alone", checkpoint={"every_kimg": 0.064, "keep": 9})
    assert capsys.readouterr().out.count("a Fréchet distance of 40 images is too high") == 1
    assert not [each for each in cache.iterdir() if len(list(each.iterdir())) != 2]  # the real ones' features alone
    four = train(tmp_path, "four", fleet={"backend": "simulated", "world_size": 4})
    assert kept(alone) == kept(four)
    records = kept(alone)
    assert [record["step"] for record in records] == [4, 8, 12]
    logged = [json.loads(line) for line in (alone / "log.jsonl").read_text().splitlines()]
    shown = [line["Metrics/kid_tiny"] for line in logged if "Metrics/kid_tiny" in line]
    assert shown == [record["metrics"]["kid_tiny"] for record in records]

    record = records[1]
    path = alone / "checkpoints" / "step-00000008"
    values = ganfleet.evaluate(path, metrics=MEASURED["names"], count=40, real_count=48, warn=lambda told: None)
    assert values == record["metrics"] != records[2]["metrics"]
    assert kept(alone)[-1] == record | {"checkpoint": path.name}
    assert {record["count"] for record in records} == {40} and records[0]["real"] == 48
    assert records[0]["features"]["name"] == "tiny" and records[0]["resize"].startswith("bicubic on floats")
    assert records[0]["ganfleet"] == ganfleet.__version__ and records[0]["seed"] == 0


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished run without metrics."""
    return train(tmp_path_factory.mktemp("runs"), "run", metrics={})


def test_the_numbers_are_those_of_the_images_that_sample_draws(tiny, run, monkeypatch):
    monkeypatch.setattr(builtin, "EPSILON", EPSILON)
    chosen = {"count": 37, "real_count": 2000, "seed": 5, "warn": lambda told: None}
    values = ganfleet.evaluate(run, metrics=["fid", "kid", "diversity", "ppl"], **chosen)
    with ganfleet.load(run) as loaded:
        drawn = loaded.sample(range(5, 42))
        pairs = [paths_of(loaded, 5 + i, ends) for ends in (False, True) for i in range(37)]
    levels = np.clip(np.rint((drawn + 1) * 127.5), 0, 255).astype(np.uint8)
    source = open_source("embedded", resolution=8)
    real = features(np.stack([source[i]["image"] for i in range(len(source))]))
    fake = features(levels)
    assert values["fd_tiny"] == pytest.approx(frechet(moments(In(real)), moments(In(fake))), rel=1e-4)
    assert values["kid_tiny"] == pytest.approx(kid(In(real), In(fake), 5)[0], rel=1e-4, abs=1e-6)
    assert values["diversity_tiny"] == pytest.approx(distances((drawn[:36] + 1) * 127.5).mean(), rel=1e-4)
    for name, part in (("full", pairs[:37]), ("end", pairs[37:])):
        lengths = distances((np.concatenate(part) + 1) * 127.5) / EPSILON**2
        low, high = np.percentile(lengths, (1, 99))
        expected = lengths[(lengths >= low) & (lengths <= high)].mean()
        assert values[f"ppl_z_{name}_tiny"] == pytest.approx(expected, rel=1e-3)


class In:
    """Rows that are an array."""

    def __init__(self, array):
        self.array = array

    def __len__(self):
        return len(self.array)

    def chunks(self, size):
        return (self.array[i : i + size] for i in range(0, len(self.array), size))

    def take(self, indices):
        return self.array[indices]


def paths_of(loaded, seed, ends):
    """Two images EPSILON apart on a great circle from the latents of ``seed`` to others, by a formula of its own."""
    first = rng.stream(seed, "sample").standard_normal((1, 8), dtype=np.float32).astype(np.float64)
    stream = rng.stream(seed, "path")
    t = 0.0 if ends else stream.random()
    second = stream.standard_normal((1, 8), dtype=np.float32).astype(np.float64)
    lengths = [np.sqrt((each**2).sum()) for each in (first, second)]
    a, b = first / lengths[0], second / lengths[1]
    across = b - (a * b).sum() * a
    across /= np.sqrt((across**2).sum())
    whole = np.arccos((a * b).sum())
    images = []
    for each in (t, t + EPSILON):
        z = (np.cos(whole * each) * a + np.sin(whole * each) * across) * (lengths[0] * (1 - each) + lengths[1] * each)
        images.append(loaded._sampler.draw([{"z": z.astype(np.float32)}]))
    return np.concatenate(images)


def test_images_on_paths_are_pairs_of_one_seed_in_any_block(run):
    with ganfleet.load(run) as loaded, loaded._holding(None):
        paths = OnPaths(loaded.from_seeds(None), 20, 3, "z", False, 0.25)
        paths.of.change = lambda inputs: inputs
        whole = paths.images(range(40))
        np.testing.assert_array_equal(paths.images(range(10, 16)), whole[10:16])
    assert whole.shape == (40, 1, 8, 8) and np.abs(whole[::2] - whole[1::2]).max((1, 2, 3)).min() > 0


@pytest.mark.parametrize(
    "wrong, message",
    [
        ({"metrics": ["fidd"]}, "unknown metric 'fidd', did you mean fid?"),
        ({"count": 3}, r"count is 3: give a whole number of images, 20 or more"),
        ({"data": "nowhere"}, "--data: there is nothing at nowhere"),
        ({"metrics": ["l1"]}, "l1 compares each translation with the image that it should be"),
        ({"psi": 0.5}, "psi"),
        ({"direction": "A2B"}, "--direction and --input go together"),
        ({"split": "test"}, "--split goes with the run's data, where these have data.split"),
        ({"metrics": ["r_precision"]}, "takes no prompt: leave r_precision out"),
        ({"direction": "A2B", "originals": "photos"}, "does not translate images A2B"),
        ({"metrics": ["ms_ssim"]}, "MS-SSIM has five scales, for which images must have 176 pixels a side or more"),
    ],
)
def test_what_cannot_be_measured_is_refused(run, wrong, message, monkeypatch):
    monkeypatch.setattr(measuring, "feature_network", tiny_network)
    before = [path.read_bytes() for path in run.rglob("*.jsonl")]
    with pytest.raises(ConfigError, match=message):
        ganfleet.evaluate(run, **({"metrics": ["kid"], "count": 20} | wrong))
    assert [path.read_bytes() for path in run.rglob("*.jsonl")] == before


# ── The best checkpoint


class Waves(Metric):
    """As a test wants it."""

    values: dict[int, float] = {}  # noqa: RUF012

    def measure(self, run):
        return {"waves": self.values[run.clock.step]}


def test_the_best_checkpoint_is_kept_until_there_is_a_better_one(tmp_path, monkeypatch):
    values = {4: -3.0, 8: -1.0, 12: -2.0, 16: float("nan"), 20: -0.5, 24: -4.0}
    monkeypatch.setattr(Waves, "values", values)
    sections = {
        "checkpoint": {"every_kimg": 0.064, "keep": 1, "keep_best": {"metric": "waves", "mode": "max"}},
        "metrics": {"names": [f"{__name__}:Waves"], "every_kimg": 0.064},
    }

    def steps(until):
        base = yaml.safe_load(TINY)
        path = train(tmp_path, "best", train=base["train"] | {"steps": until}, **sections)
        names = [each.name for each in checkpoint.checkpoints(path / "checkpoints")]
        return names, json.loads((path / "best.json").read_text())

    names, best = steps(16)
    assert names == ["step-00000008", "step-00000016"]
    assert best == {
        "checkpoint": "step-00000008",
        "step": 8,
        "kimg": 0.128,
        "metric": "waves",
        "mode": "max",
        "resolution": 8,
        "value": -1.0,
    }
    names, best = steps(24)
    assert names == ["step-00000020", "step-00000024"] and best["step"] == 20


@pytest.mark.parametrize("mode, value, beats", [("min", 0.5, True), ("min", 2.0, False), ("max", 2.0, True)])
def test_the_best_is_the_smallest_or_the_largest(mode, value, beats, tmp_path):
    settings = KeepBest(metric="waves", mode=mode)
    (tmp_path / "checkpoints" / "step-00000008").mkdir(parents=True)
    best = Best(tmp_path)
    best.note({"waves": 1.0}, settings, 8, Clock(10**6, step=8))
    assert best.beats({"waves": value}, settings, 8) == beats


@pytest.mark.parametrize("before, after, beats", [(8, 8, False), (8, 16, True), ((8, 12), Size(8, 12), False)])
def test_the_best_of_larger_images_is_another(before, after, beats, tmp_path):
    settings = KeepBest(metric="waves", mode="min")
    (tmp_path / "checkpoints" / "step-00000008").mkdir(parents=True)
    best = Best(tmp_path)
    best.note({"waves": 1.0}, settings, before, Clock(10**6, step=8))
    assert best.beats({"waves": 2.0}, settings, after) == beats


def test_a_metric_that_is_not_measured_cannot_be_the_best(tmp_path, monkeypatch):
    monkeypatch.setattr(Waves, "values", {4: 1.0})
    with pytest.raises(ConfigError, match=r"checkpoint\.keep_best\.metric is fid, and measured are waves"):
        train(
            tmp_path,
            "other",
            checkpoint={"keep_best": {"metric": "fid", "mode": "min"}},
            metrics={"names": [f"{__name__}:Waves"], "every_kimg": 0.064},
        )
