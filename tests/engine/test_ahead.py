"""While a stage trains, a process beside it compiles the graphs of the next, and the run finds all of them."""

import os
from pathlib import Path

import psutil
import pytest

import ganfleet
from ganfleet.engine import ahead, compile_cache
from ganfleet.engine.ahead import Ahead
from ganfleet.fleet import cpu

TESTS = Path(__file__).parents[1]
CONFIG = {
    "strategy": {"name": "growing:Growing"},
    "data": {"source": "embedded"},
    "train": {"steps": 4, "batch_size": 8, "lanes": 2},
    "log": {"samples": 4, "samples_every_kimg": 100},
}


@pytest.fixture(scope="module")
def graphs(tmp_path_factory):
    """The folder of compiled graphs, of which the first test finds none."""
    return tmp_path_factory.mktemp("graphs")


@pytest.fixture
def room(graphs, monkeypatch):
    """A core is free."""
    monkeypatch.setattr(cpu, "free", cpu.allowed)
    monkeypatch.setenv(compile_cache.VARIABLE, str(graphs))
    monkeypatch.setenv("PYTHONPATH", str(TESTS), prepend=os.pathsep)
    monkeypatch.syspath_prepend(str(TESTS))


class Waiting(ganfleet.Callback):
    """Lets the process beside end before the second stage begins, and counts what is compiled in each stage."""

    def after_step(self, run, stats):
        if run.clock.step == 2:
            [beside] = [each for each in run.callbacks if isinstance(each, Ahead)]
            assert beside._process.wait(120) == 0
            compile_cache.counts.clear()

    def at_end(self, run):
        self.counts = dict(compile_cache.counts)


@pytest.mark.slow
def test_the_graphs_of_the_next_stage_are_there_when_it_begins(room, tmp_path, monkeypatch):
    monkeypatch.setattr(ahead, "LOWEST", 0)  # the process beside does not give way to other tests
    waiting = Waiting()
    ganfleet.train(CONFIG, f"run.dir={tmp_path}", callbacks=[waiting])
    assert not waiting.counts.get("compiled") and waiting.counts["loaded"] >= 6, waiting.counts


@pytest.mark.slow
def test_it_ends_with_the_run_and_there_is_none_where_no_core_is_free(room, tmp_path, monkeypatch):
    class Looking(ganfleet.Callback):
        def after_step(self, run, stats):
            if run.clock.step == 2:
                self.beside = psutil.Process().children()

    for free, count in ((cpu.allowed, 1), (set, 0)):
        monkeypatch.setattr(cpu, "free", free)
        looking = Looking()
        ganfleet.train(CONFIG, f"run.dir={tmp_path}", "train.steps=3", callbacks=[looking])
        assert len(looking.beside) == count
        assert not any(each.is_running() for each in looking.beside)
