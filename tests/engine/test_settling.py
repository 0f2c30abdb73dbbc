"""``engine.settling``: what ranks ask one another for gets through, whatever becomes of the steps that carried it."""

from types import SimpleNamespace

from ganfleet.engine.budgets import Budgets
from ganfleet.engine.journal import Journal
from ganfleet.engine.settling import Asked, Settling
from ganfleet.fleet import Fleet


def settling(*steps):
    """Of one rank, with ``steps`` that nobody has read: (stop, save, bad images, news), and the phases skipped."""
    made = Settling(Fleet(1), Budgets(nonfinite=0, bad_images=0))
    for step, (host, skipped) in enumerate(steps, 1):
        made.add(step, SimpleNamespace(host=host, skipped=skipped), [])
    return made


def test_before_a_stop_the_last_step_is_read_too():
    last = settling(((1, 0, 0, 0), []), ((0, 1, 0, 1), []))
    last.settle(Journal(), but=1)
    assert last.asked(Journal()) == Asked(stop=True, save=True, news=True)


def test_without_a_stop_the_step_that_the_device_is_at_is_not_waited_for():
    last = settling(((0, 0, 0, 1), []), ((1, 1, 0, 0), []))
    last.settle(Journal(), but=1)
    assert last.asked(Journal()) == Asked(news=True)
    last.settle(Journal())
    assert last.asked(Journal()) == Asked(stop=True, save=True)


def test_a_run_that_goes_back_counts_no_later_step_and_still_hears_what_was_asked_for():
    last = settling(((0, 1, 0, 0), ["D"]), ((0, 0, 0, 1), ["D"]))
    last.forget()  # each of these would be past the budget
    last.settle(Journal())
    assert last.asked(Journal()) == Asked(save=True, news=True)
