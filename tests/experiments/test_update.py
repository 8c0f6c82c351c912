"""A new app is taken in, a bad update is refused, and a killed one leaves the old model alone."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest
from typer.testing import CliRunner

from apptell.cli.app import app as command_line
from apptell.errors import DatasetError, ModelError, UsageError
from apptell.experiments.held_out_change import AppChange
from apptell.experiments.pseudo_labels import confident_flows
from apptell.experiments.update import update
from apptell.learning import train_model
from apptell.models import load_model, read_rows
from apptell.models.training_rows import TrainingRows
from apptell.testing import (
    START_NS,
    app_capture,
    app_messages,
    conversation,
    flow_batch,
    write_pcap,
)
from apptell.watch.discover import discover

if TYPE_CHECKING:
    from pathlib import Path

APPS = ["briar", "matrix", "signal", "zoom"]
HOUR = 3_600_000_000_000


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("kept") / "model"
    labels = APPS * 30
    train_model(
        flow_batch(labels), labels, model="lengths-rf", out=path, hyperparameters={"n_trees": 10},
        unknown=True, keep_rows=True,
    )  # fmt: skip
    return path


@pytest.fixture(scope="module")
def found(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Candidates in captures of an app that the model does not know."""
    path = tmp_path_factory.mktemp("seen")
    for number in range(1, 7):
        packets = []
        for flow in range(5):
            packets += conversation(
                (f"192.168.9.{number}", 50_000 + flow), ("198.51.100.7", 443),
                app_messages("viber", seed=100 * number + flow),
                start_ns=START_NS + number * HOUR + flow * 1_000_000_000,
            )  # fmt: skip
        write_pcap(path / f"phone{number}.pcap", packets)
    discover([str(path)], load_model(folder), path.parent / "found", examples=0)
    return path.parent / "found"


def test_a_model_keeps_its_rows_without_names_or_addresses(folder: Path) -> None:
    content = read_rows(folder, load_model(folder).info)
    assert content is not None
    rows = TrainingRows.from_bytes(content, "m")
    assert len(rows) == 120
    assert sorted(set(rows.apps.tolist())) == APPS
    assert len(set(rows.groups.tolist())) == 5
    for secret in (b"192.168", b"203.0.113", b".pcap", b".example"):
        assert secret not in content
    assert len(content) / len(rows) < 200


def test_a_discovered_app_is_taken_in_and_nothing_is_lost(
    folder: Path, found: Path, tmp_path: Path
) -> None:
    done = update(folder, add=[(found / "1", "Viber")], out=tmp_path / "new")
    assert done.model is not None
    assert done.model.apps == sorted([*APPS, "viber"])
    by_app = {each.app: each for each in done.changes}
    assert by_app["viber"].before is None
    assert by_app["viber"].after >= 0.8
    assert all(by_app[app].after >= by_app[app].before - 0.02 for app in APPS)  # type: ignore[operator]
    with_viber = done.model.predict_proba(flow_batch(["viber"] * 10, seed=900))
    assert (with_viber.argmax(axis=1) == done.model.apps.index("viber")).mean() >= 0.8
    (entry,) = done.model.info["lineage"]
    assert entry["parent"] == load_model(folder).hash
    assert entry["added"] == [{"by": "candidate", "from": "viber", "flows": {"viber": 30}}]
    assert entry["when"].endswith("Z")
    assert done.model.unknown is not None  # calibrated again, with the new app
    assert done.model.unknown.quantiles.shape[0] == 5
    again = update(tmp_path / "new", labels=[flow_batch(APPS * 5, seed=7)], out=tmp_path / "newer")
    assert again.model is not None
    assert [each["parent"] for each in again.model.info["lineage"]] == [
        load_model(folder).hash, done.model.hash
    ]  # fmt: skip


def test_an_update_that_ruins_an_app_is_refused_unless_forced(folder: Path, tmp_path: Path) -> None:
    wrong = flow_batch(["zoom"] * 120, seed=50).with_columns(label=["briar"] * 120)
    done = update(folder, labels=[wrong], out=tmp_path / "new")
    assert done.model is None
    assert not (tmp_path / "new").exists()
    assert [each.app for each in done.lost] == ["zoom"]
    assert done.refusal.startswith("zoom would lose: ")
    forced = update(folder, labels=[wrong], out=tmp_path / "new", force=True)
    assert forced.model is not None
    assert forced.model.info["lineage"][0]["forced"]


@pytest.mark.parametrize(
    ("flows", "before", "after", "is_lost"),
    [
        (100, 0.9, 0.87, True),
        (100, 0.9, 0.89, False),
        (20, 0.9, 0.8, False),
        (20, None, 0.1, False),
    ],
)
def test_a_loss_is_more_than_two_points_and_two_flows(
    flows: int, before: float | None, after: float, is_lost: bool
) -> None:
    assert AppChange("a", flows, before, after, 0).is_lost == is_lost


def test_flows_that_the_model_is_sure_of_are_labelled_by_it(folder: Path, tmp_path: Path) -> None:
    capture = write_pcap(tmp_path / "a.pcap", app_capture(["signal"], 12, seed=400))
    chosen, apps = confident_flows(load_model(folder), capture, 0.9)
    assert len(chosen) == len(apps) >= 8
    assert set(apps) == {"signal"}
    done = update(folder, pseudo=[(0.9, capture)], out=tmp_path / "new")
    assert done.added == {"signal": len(apps)}
    with pytest.raises(DatasetError, match="sure of no flow"):
        confident_flows(load_model(folder), _unlike_any(tmp_path), 1.0)


def _unlike_any(path: Path) -> Path:
    return write_pcap(path / "b.pcap", app_capture(["viber"], 6, seed=3))


def test_pseudo_labels_of_apps_with_many_labelled_sessions_are_left_out(
    folder: Path, tmp_path: Path
) -> None:
    capture = write_pcap(tmp_path / "a.pcap", app_capture(["signal"], 12, seed=400))
    said: list[str] = []
    labelled = flow_batch(["signal", "zoom"] * 10, seed=7)
    done = update(
        folder, labels=[labelled], pseudo=[(0.9, capture)], out=tmp_path / "new", notify=said.append
    )
    assert done.added == {"signal": 10, "zoom": 10}
    assert any("Pseudo-labels of 2 apps are left out" in each for each in said)


def test_what_cannot_be_updated_is_refused_in_one_line(
    folder: Path, found: Path, tmp_path: Path
) -> None:
    plain = tmp_path / "plain"
    labels = APPS * 10
    train_model(flow_batch(labels), labels, model="lengths-rf", out=plain,
                hyperparameters={"n_trees": 2})  # fmt: skip
    with pytest.raises(UsageError, match="without keeping its rows"):
        update(plain, add=[(found / "1", "viber")], out=tmp_path / "new")
    with pytest.raises(UsageError, match="no new flow"):
        update(folder, out=tmp_path / "new")
    with pytest.raises(UsageError, match="cannot be the name"):
        update(folder, add=[(found / "1", "a\nb")], out=tmp_path / "new")
    with pytest.raises(UsageError, match="payload bytes"):
        train_model(
            flow_batch(labels), labels, model="paper-cnn", keep_rows=True, out=tmp_path / "c"
        )
    changed = tmp_path / "changed"
    changed.mkdir()
    for file in folder.iterdir():
        (changed / file.name).write_bytes(file.read_bytes())
    (changed / "rows.zip").write_bytes(b"other")
    with pytest.raises(ModelError, match=r"rows\.zip: its SHA-256"):
        update(changed, add=[(found / "1", "viber")], out=tmp_path / "new")


KILLED = """
import os, signal, sys
from pathlib import Path
from apptell import files
rename, at = Path.rename, int(sys.argv[4])
def kill(self, target):
    if at == 0 and self.name == "new":
        os.kill(os.getpid(), signal.SIGKILL)
    found = rename(self, target)
    if at == 1 and self.name == "new":
        os.kill(os.getpid(), signal.SIGKILL)
    return found
Path.rename = kill
from apptell.experiments.update import update
update(sys.argv[1], add=[(sys.argv[2], "viber")], out=sys.argv[3])
"""


@pytest.mark.parametrize("at", [0, 1])
def test_a_killed_update_leaves_the_old_model_and_a_whole_new_one_or_none(
    folder: Path, found: Path, tmp_path: Path, at: int
) -> None:
    before = {file.name: file.read_bytes() for file in folder.iterdir()}
    out = tmp_path / "new"
    words = [sys.executable, "-c", KILLED, str(folder), str(found / "1"), str(out), str(at)]
    assert subprocess.run(words, check=False).returncode == -signal.SIGKILL
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == before
    if at == 0:
        assert not out.exists()
    else:
        assert load_model(out).apps == sorted([*APPS, "viber"])


def test_the_verb_reports_before_and_after_and_exits_with_one_where_it_refuses(
    folder: Path, found: Path, tmp_path: Path
) -> None:
    words = ["update", str(folder), "--add", f"{found}/1=viber", "-o", str(tmp_path / "new")]
    done = CliRunner().invoke(command_line, words)
    assert done.exit_code == 0, done.output
    said = json.loads(done.stdout)
    assert said["added"] == {"viber": 30}
    assert [each["app"] for each in said["apps"]] == [*APPS, "viber"]
    assert CliRunner().invoke(command_line, words).exit_code == 1  # it is there already
    for wrong in (["--add", "found/1"], ["--pseudo", "0.4:x"], ["--pseudo", "x"]):
        done = CliRunner().invoke(
            command_line, ["update", str(folder), *wrong, "-o", str(tmp_path / "x")]
        )
        assert done.exit_code == 2


def test_the_rows_of_two_groups_are_never_on_both_sides() -> None:
    from apptell.experiments.held_out_change import _folds

    groups = np.repeat(np.arange(7), [5, 1, 9, 2, 2, 4, 6])
    fold = _folds(groups, 0)
    assert set(fold.tolist()) == {0, 1, 2}
    for group in range(7):
        assert len(set(fold[groups == group].tolist())) == 1
