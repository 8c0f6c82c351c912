import pytest

from apptell.experiments import progress_meter as module
from apptell.experiments.progress_meter import ProgressMeter, duration_text, estimated_work
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
    meter = ProgressMeter(100.0, lambda done, words: said.append((round(done, 2), words)))
    meter.watch("first", 20.0)
    now[0] = 40.0
    meter.finish()
    assert meter.left_s == pytest.approx(160.0)
    watch = meter.watch("second", 40.0)
    now[0] = 80.0
    watch(state(0.5))
    assert said[-1] == (0.4, "second, epoch 2, about 2 min left")


def test_what_comes_from_the_cache_is_done_but_makes_nothing_faster(now):
    meter = ProgressMeter(100.0, None)
    meter.watch("cached", 80.0)
    meter.finish(cached=True)
    assert meter.left_s is None
    meter.watch("trained", 10.0)
    now[0] = 30.0
    meter.finish()
    assert meter.left_s == pytest.approx(30.0)


def test_a_network_is_more_work_than_a_forest_and_epochs_multiply():
    cnn, forest = Task("paper-cnn", 10), Task("paper-rf", 10)
    assert estimated_work(cnn, 1000) == pytest.approx(
        10 * estimated_work(Task("paper-cnn", 1), 1000)
    )
    assert estimated_work(forest, 1000) == estimated_work(Task("paper-rf", 1), 1000)
    assert (
        estimated_work(cnn, 1000)
        > estimated_work(forest, 1000)
        > estimated_work(Task(NEIGHBOUR), 1000)
    )


def test_times_are_said_as_people_say_them():
    assert [duration_text(s) for s in (12.2, 600, 12_600)] == ["12 s", "10 min", "3.5 h"]


def test_the_preparation_of_the_first_training_gives_no_estimate(now):
    said = []
    meter = ProgressMeter(100.0, lambda _, words: said.append(words))
    watch = meter.watch("first", 100.0)
    now[0] = 30.0
    watch(state(0.001))
    now[0] = 31.0
    watch(state(0.01))
    assert said[-2:] == ["first, epoch 2", "first, epoch 2, about 51 min left"]
