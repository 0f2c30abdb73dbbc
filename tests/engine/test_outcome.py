"""No step waits for what it tells: a step is read when the next one has begun, or where something is due."""

import pytest
from in_memory import trainer

from ganfleet.data import as_source
from ganfleet.engine import outcome, step
from ganfleet.engine.callbacks import Callback, Log
from ganfleet.testing import FakeImages

YAML = """
strategy: {name: gan, resolution: 8, latent: 4, hidden: [8]}
train: {batch_size: 8, lanes: 4, steps: 7, seed: 5}
log: {every_steps: 3}
"""


@pytest.fixture
def order(monkeypatch, tmp_path):
    """A trainer, and in which order it begins steps and reads them."""
    order, began = [], []
    made = trainer(YAML, as_source(FakeImages(), 8), tmp_path)
    issue, read = step.Stepper._issue, outcome.values

    def issuing(stepper, samples, clock, host):
        order.append(f"step {clock.step + 1}")
        came = issue(stepper, samples, clock, host)
        began.append((clock.step + 1, came._summaries))
        return came

    def reading(summaries):
        [number] = [number for number, each in began if each and each[0][1] is summaries[0]]
        order.append(f"read {number}")
        return read(summaries)

    monkeypatch.setattr(step.Stepper, "_issue", issuing)
    monkeypatch.setattr(outcome, "values", reading)
    return made, order


def test_a_step_is_read_when_the_next_has_begun_or_when_a_line_is_due(order):
    made, order = order
    made.callbacks = (Log(),)
    made.run()
    # The first run of a phase compiles its kernels, so it is read at once.
    assert order[:6] == ["step 1", "read 1", "step 2", "step 3", "read 2", "read 3"]
    assert order[6:] == ["step 4", "step 5", "read 4", "step 6", "read 5", "read 6", "step 7", "read 7"]


def test_a_checkpoint_has_counted_every_step_that_it_holds(order):
    made, order = order

    class Saves(Callback):
        def after_step(self, run, stats):
            if run.clock.step == 5:
                run.snapshot()

    made.callbacks = (Saves(),)
    made.run()
    assert order[order.index("step 5") :][:4] == ["step 5", "read 4", "read 5", "step 6"]


def test_a_callback_that_reads_stats_waits_for_them(order):
    made, order = order
    seen = []

    class Reads(Callback):
        def after_step(self, run, stats):
            if run.clock.step == 5:
                seen.append(sorted(stats))

    made.callbacks = (Reads(),)
    made.run()
    assert {"Loss/D", "Loss/G"} <= set(seen[0])
    assert order[order.index("step 5") :][:4] == ["step 5", "read 4", "read 5", "step 6"]
