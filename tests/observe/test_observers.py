"""The observers as the training loop uses them."""

import io
import json
import time
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from ganfleet.clock import Clock
from ganfleet.observe import Observers
from ganfleet.store import rundir

STAGE = SimpleNamespace(resolution=32, batch_size=32)


@pytest.fixture
def run_dir(tmp_path):
    return rundir.plan(tmp_path, None, "gan").take().create()


def observe(run_dir, clock, every_steps=2, stream=None):
    return Observers(run_dir, "train: {kimg: 1}", clock, every_steps, stream or io.StringIO())


def train(observers, clock, stats_of, steps):
    for _ in range(steps):
        clock.tick(STAGE.batch_size)
        observers.after_step(clock, STAGE, stats_of(clock.step))


def lines(run_dir):
    return [json.loads(line) for line in (run_dir / "log.jsonl").read_text().splitlines()]


def test_a_line_has_the_mean_of_its_own_interval(run_dir):
    clock = Clock(total_nimg=1_000_000)
    observers = observe(run_dir, clock, every_steps=4)
    scores = iter([1.0, 2.0, 4.0, 5.0, 10.0, 10.0, 10.0, 14.0])
    # The second phase runs on the last of every two steps only.
    train(
        observers,
        clock,
        lambda step: {"Loss/D": np.float32(next(scores))} | ({"Loss/G": np.float32(step)} if step % 2 == 0 else {}),
        steps=8,
    )
    observers.close()
    first, second = lines(run_dir)
    assert (first["Loss/D"], first["Loss/G"]) == (3.0, 3.0)  # (1+2+4+5)/4, (2+4)/2
    assert (second["Loss/D"], second["Loss/G"]) == (11.0, 7.0)
    assert list(first) == ["step", "nimg", "kimg", "resolution", "Loss/D", "Loss/G", "sec_per_kimg", "images_per_sec"]
    assert [second[key] for key in ("step", "nimg", "kimg", "resolution")] == [8, 256, 0.256, 32]


def test_totals_are_written_as_they_are(run_dir):
    clock = Clock(total_nimg=1_000_000)
    observers = observe(run_dir, clock)
    for skipped in (0, 3):
        clock.tick(32)
        observers.after_step(clock, STAGE, {"Loss/D": 1.0}, lambda skipped=skipped: {"nonfinite": skipped})
    observers.close()
    assert lines(run_dir)[0]["nonfinite"] == 3


def test_a_skipped_step_does_not_spoil_the_mean_and_a_spoilt_interval_is_null(run_dir):
    clock = Clock(total_nimg=1_000_000)
    observers = observe(run_dir, clock)
    values = [2.0, np.nan, np.inf, np.nan]
    train(observers, clock, lambda step: {"Loss/D": np.float32(values[step - 1])}, steps=4)
    observers.close()
    assert [line["Loss/D"] for line in lines(run_dir)] == [2.0, None]


def test_the_last_interval_is_reported_even_if_it_is_short(run_dir):
    clock = Clock(total_nimg=160)
    observers = observe(run_dir, clock, every_steps=3)
    train(observers, clock, lambda step: {"Loss/D": step}, steps=5)
    observers.close()
    assert [(line["step"], line["Loss/D"]) for line in lines(run_dir)] == [(3, 2.0), (5, 4.5)]


def test_killed_and_resumed_at_an_interval_the_record_is_that_of_one_run(run_dir, tmp_path, shown):
    def stats(step):
        return {"Loss/D": 1 / step}

    def scalars(folder):
        return [
            {key: value for key, value in line.items() if key not in ("sec_per_kimg", "images_per_sec")}
            for line in lines(folder)
        ]

    def curve(folder):
        return [point for point in shown(folder) if point[0] in ("Loss/D", "Progress/kimg")]

    whole, clock = rundir.plan(tmp_path, "whole", "gan").take().create(), Clock(total_nimg=320)
    train(observe(whole, clock), clock, stats, steps=10)
    clock = Clock(total_nimg=320)
    train(observe(run_dir, clock), clock, stats, steps=7)  # killed: never closed
    clock = Clock(total_nimg=320, step=4, nimg=128)
    train(observe(run_dir, clock), clock, stats, steps=6)
    assert scalars(run_dir) == scalars(whole)
    assert curve(run_dir) == curve(whole) and len(curve(whole)) == 10


def test_tensorboard_gets_the_scalars_the_pace_and_the_config(run_dir, events, shown):
    clock = Clock(total_nimg=1_000_000)
    observers = observe(run_dir, clock)
    train(observers, clock, lambda step: {"Loss/D": 0.5, "Loss/scores/real": 0.25}, steps=2)
    observers.close()
    points = {tag: (step, value) for tag, step, value in shown(run_dir)}
    assert points["Loss/D"] == (2, 0.5) and points["Loss/scores/real"] == (2, 0.25)
    assert points["Progress/kimg"] == (2, pytest.approx(0.064))
    assert points["Timing/sec_per_kimg"] == (2, pytest.approx(lines(run_dir)[0]["sec_per_kimg"]))
    assert points["Timing/images_per_sec"][1] * points["Timing/sec_per_kimg"][1] == pytest.approx(1000)
    assert points["Progress/resolution"] == (2, 32)
    config = next(value for event in events(run_dir) for value in event.summary.value if value.tag.startswith("config"))
    assert "train: {kimg: 1}" in config.tensor.string_val[0].decode()


def test_samples_are_a_file_that_sorts_by_kimg_and_a_tensorboard_image(run_dir, events):
    clock = Clock(total_nimg=10**9, step=1, nimg=9_400)
    observers = observe(run_dir, clock)
    images = np.random.default_rng(0).uniform(-1, 1, (4, 3, 64, 64))
    first = observers.samples(clock, images)
    clock.tick(114_000)
    second = observers.samples(clock, -images)
    observers.close()
    assert [path.name for path in sorted((run_dir / "samples").iterdir())] == [first.name, second.name]
    assert [first.name, second.name] == ["000009.400kimg.png", "000123.400kimg.png"]
    with Image.open(first) as picture:
        assert picture.size == (130, 130)
        assert picture.getpixel((66, 0)) == tuple(int(v) for v in np.rint((images[1, :, 0, 0] + 1) * 127.5))
    shown_images = [value.image for event in events(run_dir) for value in event.summary.value if value.tag == "Samples"]
    assert [each.encoded_image_string for each in shown_images] == [first.read_bytes(), second.read_bytes()]


def test_pauses_are_not_part_of_the_pace(run_dir, monkeypatch):
    now = 100.0
    monkeypatch.setattr(time, "perf_counter", lambda: now)
    clock = Clock(total_nimg=1_000_000)
    observers = observe(run_dir, clock)
    for _ in range(2):
        now += 1.0  # a step
        with observers.pause():
            now += 30.0  # a checkpoint
            with observers.pause():
                now += 30.0
        clock.tick(250)
        observers.after_step(clock, STAGE, {})
    for _ in range(2):
        now += 3.0
        clock.tick(250)
        observers.after_step(clock, STAGE, {})
    observers.close()
    assert [line["sec_per_kimg"] for line in lines(run_dir)] == [4.0, 12.0]


def test_the_plain_line_counts_down_to_whichever_limit_comes_first(run_dir, monkeypatch):
    now = 0.0
    monkeypatch.setattr(time, "perf_counter", lambda: now)
    stream = io.StringIO()
    clock = Clock(total_nimg=1_000_000, total_steps=10)
    observers = observe(run_dir, clock, every_steps=4, stream=stream)
    now += 8.0
    train(observers, clock, lambda step: {"Loss/D": 1.0}, steps=4)
    observers.say("stopped")
    observers.close()
    assert stream.getvalue() == "step 4  images 128/320  res 32  Loss/D 1.0000  62.50 sec/kimg  left 12s\nstopped\n"


def test_what_compiles_is_told_once_per_step_and_not_part_of_the_pace(run_dir, monkeypatch):
    now = 0.0
    monkeypatch.setattr(time, "perf_counter", lambda: now)
    stream, clock = io.StringIO(), Clock(total_nimg=64)
    observers = observe(run_dir, clock, every_steps=1, stream=stream)
    for graphs in (2, 0, 1):
        for _ in range(graphs):
            with observers.compiling():
                now += 60.0
        now += 0.5
        train(observers, clock, lambda step: {}, steps=1)
    observers.close()
    told = [line for line in stream.getvalue().splitlines() if "compiling" in line]
    assert told == ["compiling graphs after step 0 ...", "compiling graphs after step 2 ..."]
    assert [line["images_per_sec"] for line in lines(run_dir)] == [64.0, 64.0, 64.0]


def test_a_growing_run_is_in_tensorboard_over_images_too_and_resumes_there(run_dir, shown):
    clock = Clock(total_nimg=10**6)
    for batch_sizes in ((64, 16), (16, 16)):  # the second process goes on from the first one's step 1
        observers = Observers(run_dir, "", clock, 1, io.StringIO(), by_images=True)
        for batch_size in batch_sizes:
            clock.tick(batch_size)
            stage = SimpleNamespace(resolution=32, batch_size=batch_size)
            observers.after_step(clock, stage, {"Loss/D": clock.step / 4})
        observers.close()
        clock = Clock(total_nimg=10**6, step=1, nimg=64)
    by_step, by_images = (
        [(at, value) for tag, at, value in shown(folder) if tag == "Loss/D"]
        for folder in (run_dir, run_dir / "by_images")
    )
    assert by_step == [(1, 0.25), (2, 0.5), (3, 0.75)]
    assert by_images == [(64, 0.25), (80, 0.5), (96, 0.75)]
