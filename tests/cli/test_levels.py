"""Classes finer than an app, and the phone's own traffic, from dataset to figures."""

import json
from pathlib import Path

import pytest

from apptell.testing import START_NS, app_capture, write_pcap

from .conftest import Run


@pytest.fixture(scope="module")
def activities(run: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three recordings of two activities of one app, of another app, and of the phone's system."""
    root = tmp_path_factory.mktemp("activities")
    names = {"signal": "chat-call", "zoom": "chat-text", "viber": "mail", "teams": "system"}
    for i in range(3):
        (root / "captures" / f"home{i}").mkdir(parents=True)
        for app, name in names.items():
            packets = app_capture([app], 5, seed=100 * i + 7, start_ns=START_NS + i * 10**13)
            write_pcap(root / "captures" / f"home{i}" / f"{name}.pcap", packets)
    done = run(
        "dataset", "build", root / "captures", "-o", root / "dataset",
        "--pattern", r"(?P<app>[a-z]+)(?:-(?P<activity>[a-z]+))?",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return root / "dataset"


@pytest.fixture(scope="module")
def fine(run: Run, activities: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fine") / "model"
    words = ("--model", "paper-rf", "--split", "source", "--level", "activity")
    done = run("train", activities, "-o", folder, *words)
    assert done.returncode == 0, done.stderr
    return folder


def test_a_model_of_activities_has_them_as_classes_and_system_as_other(fine: Path) -> None:
    info = json.loads((fine / "model.json").read_text())
    assert info["apps"] == ["chat/call", "chat/text", "mail", "other"]
    assert (info["data"]["level"], info["data"]["system"]) == ("activity", "other")


def test_it_is_measured_by_activity_and_when_asked_by_app(
    run: Run, activities: Path, fine: Path
) -> None:
    own = json.loads(run("evaluate", fine, activities).stdout)
    assert own["apps"] == ["chat/call", "chat/text", "mail", "other"]
    assert own["level"] == "activity"
    coarse = json.loads(run("evaluate", fine, activities, "--level", "app").stdout)
    assert coarse["apps"] == ["chat", "mail", "other"]
    assert coarse["unknown_apps"] == []
    assert coarse["accuracy"] >= own["accuracy"] > 0.8


def test_a_model_of_apps_knows_no_activity(run: Run, activities: Path, tmp_path: Path) -> None:
    words = ("--model", "paper-rf", "--split", "source", "--system", "drop")
    done = run("train", activities, "-o", tmp_path / "m", *words)
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "m" / "model.json").read_text())["apps"] == ["chat", "mail"]
    assert json.loads(run("evaluate", tmp_path / "m", activities).stdout)["flows"] == 45
    done = run("evaluate", tmp_path / "m", activities, "--level", "activity")
    assert done.returncode == 2
    assert "knows only apps" in done.stderr


def test_a_comparison_takes_activities_and_system_as_classes(
    run: Run, activities: Path, tmp_path: Path
) -> None:
    words = ("--level", "activity", "--system", "system", "--folds", 2, "--epochs", 1)
    done = run("compare", activities, "-o", tmp_path / "r", *words)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["apps"] == ["chat/call", "chat/text", "mail", "system"]
    assert found["level"] == "activity"
