import pytest

from apptell.experiments import clock as module
from apptell.experiments.clock import Clock, spoken, work_of
from apptell.learning.progress import Progress
from apptell.learning.task import NEIGHBOUR, Task


@pytest.fixture
def now(monkeypatch):
    """A clock that stands until it is moved."""
    time = [0.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: time[0])
    return time


def state(done):
    return Progress(done, 2, 4, None, None, 0.0, 0.0)


def test_what_is_left_follows_from_what_was_trained(now):
    said = []
    clock = Clock(100.0, lambda done, words: said.append((round(done, 2), words)))
    clock.watch("first", 20.0)
    now[0] = 40.0
    clock.finish()
    assert clock.left_s == pytest.approx(160.0)
    watch = clock.watch("second", 40.0)
    now[0] = 80.0
    watch(state(0.5))
    assert said[-1] == (0.4, "second, epoch 2, about 2 min left")


def test_what_comes_from_the_cache_is_done_but_makes_nothing_faster(now):
    clock = Clock(100.0, None)
    clock.watch("cached", 80.0)
    clock.finish(cached=True)
    assert clock.left_s is None
    clock.watch("trained", 10.0)
    now[0] = 30.0
    clock.finish()
    assert clock.left_s == pytest.approx(30.0)


def test_a_network_is_more_work_than_a_forest_and_epochs_multiply():
    cnn, forest = Task("paper-cnn", 10), Task("paper-rf", 10)
    assert work_of(cnn, 1000) == pytest.approx(10 * work_of(Task("paper-cnn", 1), 1000))
    assert work_of(forest, 1000) == work_of(Task("paper-rf", 1), 1000)
    assert work_of(cnn, 1000) > work_of(forest, 1000) > work_of(Task(NEIGHBOUR), 1000)


def test_times_are_said_as_people_say_them():
    assert [spoken(s) for s in (12.2, 600, 12_600)] == ["12 s", "10 min", "3.5 h"]
