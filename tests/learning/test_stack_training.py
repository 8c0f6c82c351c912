"""The rule for flows of new TLS stacks is one that held on every device left out, or else they are declined."""

from __future__ import annotations

import numpy as np
import pytest

from apptell.learning import stack_training
from apptell.learning.labelled_inputs import LabelledInputs
from apptell.learning.stack_training import PRECISION, fit_stack_rule, sentence_of
from apptell.learning.task import Task
from apptell.models.new_stacks import DECLINING

APPS = np.array(["briar", "matrix", "signal", "zoom"])
PER_APP = 25
TASK = Task("lengths-rf", hyperparameters={"n_trees": 5.0})


@pytest.fixture(autouse=True)
def few_trees(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stack_training, "N_TREES", 5)


def flows(model_knows: bool, lengths_know: bool, n_devices: int = 4) -> LabelledInputs:
    """Flows whose inputs and lengths tell the app, or tell it on the devices of the training alone."""
    random = np.random.default_rng(1)
    parts = []
    for device in range(n_devices):
        app = np.repeat(np.arange(len(APPS)), PER_APP)

        def told(knows: bool, app: np.ndarray = app, device: int = device) -> np.ndarray:
            # every device has another app behind each number, or the same
            kind = app if knows else (app + 1 + device) % len(APPS)
            return (300 * kind[:, None] + random.integers(0, 40, (len(app), 5))).astype(np.float32)

        parts.append((told(model_knows), APPS[app], told(lengths_know), [f"{device}"] * len(app)))
    inputs, apps, sizes, devices = (np.concatenate(each) for each in zip(*parts, strict=True))
    ja4 = np.char.add("t13d", devices)
    return LabelledInputs(inputs, apps, sizes, devices, None, None, ja4, devices)


@pytest.mark.parametrize(
    ("model_knows", "lengths_know", "shares", "words"),
    [
        (True, False, {0.0}, "decided by the model"),
        (False, True, {1.0}, "decided by lengths"),
        (False, False, {0.0}, "declined"),
    ],
)
def test_what_held_on_every_device_decides(
    model_knows: bool, lengths_know: bool, shares: set[float], words: str
) -> None:
    rule = fit_stack_rule(TASK, flows(model_knows, lengths_know))
    facts = rule.facts
    assert facts["share"] in shares
    assert facts["devices"] == 4
    assert facts["flows"] == 400
    assert (rule.forest is not None) == (facts["share"] > 0)
    assert words in sentence_of(facts)
    if model_knows or lengths_know:
        assert facts["right"] >= PRECISION * facts["accepted"] > 200
    else:
        assert facts["temperature"] == DECLINING
        assert facts["accepted"] == 0


def test_one_device_or_no_new_stack_is_no_reason_to_accept() -> None:
    for given in (flows(True, True, 1), flows(True, True, 2)):
        assert given.ja4 is not None
        same = np.full(len(given.apps), "t13d0")
        rule = fit_stack_rule(TASK, LabelledInputs(*_of(given, same)))
        assert rule.facts["decides"] == "nobody"
        assert rule.forest is None


def _of(given: LabelledInputs, ja4: np.ndarray) -> tuple[np.ndarray | None, ...]:
    plain = (given.inputs, given.apps, given.lengths, given.groups, None, None)
    return (*plain, ja4, given.devices)


def test_a_device_on_which_all_fail_vetoes_a_rule_that_is_right_on_the_others() -> None:
    given = flows(True, True)
    assert given.devices is not None
    inputs, sizes = given.inputs.copy(), given.lengths.copy()
    odd = given.devices == "3"
    for values in (inputs, sizes):  # its apps look like others
        values[odd] = np.roll(values[odd], PER_APP, axis=0)
    changed = LabelledInputs(
        inputs, given.apps, sizes, given.groups, None, None, given.ja4, given.devices
    )
    assert fit_stack_rule(TASK, changed).facts["decides"] == "nobody"
