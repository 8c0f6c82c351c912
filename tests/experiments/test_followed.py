"""Callbacks follow a training, those of docs/how-to/tracking.md with MLflow and TensorBoard."""

import re
from pathlib import Path

import pytest

import apptell
from apptell.dataset import build
from apptell.experiments.followed import followed
from apptell.flows import FlowOptions
from apptell.flows.schema import GROUPS
from apptell.labels import CaptureFlows, LabelSearch
from apptell.learning.progress import Progress, TrainingCallback
from apptell.testing import START_NS, app_capture, write_pcap

GUIDE = Path(__file__).parents[2] / "docs/how-to/tracking.md"
STATE = Progress(0.5, 1, 2, 0.7, None, 100.0, 3.0)
SETTINGS = {"model": "fast", "epochs": 2, "learned_flows": 30}


def example(name):
    """The class that the guide defines, with what it imports."""
    text = GUIDE.read_text("utf-8")
    (code,) = [
        x for x in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if f"class {name}" in x
    ]
    defined = {}
    exec(compile(code, f"{GUIDE.name}: {name}", "exec"), defined)
    return defined[name]


class Said(TrainingCallback):
    def __init__(self):
        self.calls = []

    def begin(self, settings):
        self.calls.append(("begin", dict(settings)))

    def progress(self, state):
        self.calls.append(("progress", state.epoch))

    def end(self, figures):
        self.calls.append(("end", dict(figures)))

    def fail(self, error):
        self.calls.append(("fail", type(error).__name__))


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    folder = tmp_path_factory.mktemp("c")
    for source in ("a", "b"):
        (folder / source).mkdir()
        for seed, app in enumerate(("zoom", "signal")):
            later = 86_400 * 10**9 * (2 * seed + (source == "b"))
            packets = app_capture([app], 6, seed=later % 97, start_ns=START_NS + later)
            write_pcap(folder / source / f"{app}.pcap", packets)
    search = LabelSearch([folder], CaptureFlows(FlowOptions(groups=tuple(GROUPS))))
    return build(search, folder / "dataset").dataset


def test_a_callback_sees_the_settings_every_epoch_and_the_figures(dataset):
    said = Said()
    trained = apptell.train(
        dataset, "paper-cnn", split="source", epochs=2, seed=3, callbacks=[said]
    )
    (first, settings), *steps, (last, figures) = said.calls
    assert (first, last) == ("begin", "end")
    assert {key: settings[key] for key in ("model", "split", "seed", "epochs", "apps", "learned_flows")} == {
        "model": "paper-cnn", "split": "source", "seed": 3, "epochs": 2, "apps": 2, "learned_flows": 12,
    }  # fmt: skip
    assert all(isinstance(value, str | int | float) for value in settings.values())
    assert {epoch for _, epoch in steps} == set(range(1, max(e for _, e in steps) + 1))
    assert figures["accuracy"] == trained.test.accuracy
    assert set(figures) == {"accuracy", "macro_f1", "coverage", "accuracy_decided", "seconds"}


def test_without_a_test_side_there_are_only_seconds(dataset):
    said = Said()
    apptell.train(
        dataset, "paper-rf", split="none", hyperparameters={"n_trees": 2}, callbacks=[said]
    )
    assert set(said.calls[-1][1]) == {"seconds"}


def test_a_failure_is_told_to_every_callback_and_raised():
    one, two = Said(), Said()
    with pytest.raises(KeyboardInterrupt), followed([one, two], SETTINGS, None):
        raise KeyboardInterrupt
    assert one.calls == two.calls == [("begin", SETTINGS), ("fail", "KeyboardInterrupt")]


def test_words_and_callbacks_get_the_same_state():
    said, shown = Said(), []
    with followed([said], SETTINGS, lambda done, words: shown.append((done, words))) as following:
        following.progress(STATE)
    assert shown == [(0.5, "epoch 1 of 2, 3 s left")]
    assert said.calls[1] == ("progress", 1)
    with followed([], SETTINGS, None) as following:
        assert following.progress is None


def test_the_example_for_mlflow_logs_a_run(tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow", reason="MLflow is not installed")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    mlflow.set_tracking_uri((tmp_path / "runs").as_uri())
    with followed([example("MlflowRun")()], SETTINGS, None) as following:
        following.progress(STATE)
        following.figures["accuracy"] = 0.9
    (run,) = mlflow.search_runs(output_format="list")
    assert run.info.status == "FINISHED"
    assert run.data.params["model"] == "fast"
    assert run.data.metrics["loss"] == 0.7
    assert run.data.metrics["accuracy"] == 0.9


def test_the_example_for_tensorboard_writes_events(tmp_path):
    pytest.importorskip("tensorboard", reason="TensorBoard is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    with followed([example("TensorBoardRun")(str(tmp_path))], SETTINGS, None) as following:
        following.progress(STATE)
        following.figures["accuracy"] = 0.9
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    assert [event.value for event in events.Scalars("loss")] == pytest.approx([0.7])
    assert [event.value for event in events.Scalars("test/accuracy")] == pytest.approx([0.9])
