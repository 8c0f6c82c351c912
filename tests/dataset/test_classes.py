import numpy as np
import pytest

from apptell.dataset import Classes
from apptell.dataset.classes import by_app
from apptell.errors import UsageError
from apptell.flows.schema import FlowBatch

FLOWS = FlowBatch.from_columns({"label": ["chat/call", "chat", "mail", "system", "other"]})


def test_an_activity_belongs_to_its_app_and_system_traffic_to_the_background():
    assert Classes().of(FLOWS) == ["chat", "chat", "mail", "other", "other"]
    assert Classes().kept(FLOWS).all()


def test_activities_and_system_are_classes_when_asked_for():
    fine = Classes("activity", "system")
    assert fine.of(FLOWS) == ["chat/call", "chat", "mail", "system", "other"]
    kept = FLOWS.filter(Classes(system="drop").kept(FLOWS))
    assert kept.column("label").to_pylist() == ["chat/call", "chat", "mail", "other"]


def test_other_words_are_refused():
    with pytest.raises(UsageError, match="level 'session' is not one of app, activity"):
        Classes("session")
    with pytest.raises(UsageError, match="system 'mine' is not one of other, system, drop"):
        Classes(system="mine")


def test_the_probability_of_an_app_is_the_sum_over_its_activities():
    found, apps = by_app(
        np.array([[0.2, 0.3, 0.5], [1, 0, 0]], dtype=np.float32), ["b/x", "a", "b/y"]
    )
    assert apps == ["a", "b"]
    assert np.allclose(found, [[0.3, 0.7], [0, 1]])
