"""On a device of the lab that was left out, a model decides flows of its TLS stack rightly or declines them."""

from __future__ import annotations

import hashlib
import json
import shutil
import threading
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from apptell.dataset import Dataset
from apptell.encoding.lengths import lengths
from apptell.errors import ModelError
from apptell.experiments.labelled import apps_of
from apptell.experiments.update import update
from apptell.flows import FlowOptions
from apptell.learning import stack_training, train_model
from apptell.learning.forest import StatisticsForest
from apptell.models import Model, load_model, read_model, read_rows, write_model
from apptell.models.training_rows import TrainingRows
from apptell.names import read_flows
from apptell.records.forms.jsonl import json_lines
from apptell.service import LiveOptions, LivePipeline, QueuedOutput, ReplaySource
from apptell.service.decisions import ended_records
from apptell.verdicts import flows_and_verdicts

if TYPE_CHECKING:
    import pyarrow as pa

SAMPLES = Path(__file__).parents[2] / "src/apptell/samples"
NEW = "android-like"
APPS = ("irc", "matrix", "other")
OPTIONS = FlowOptions(groups=("core", "segments", "names"))


def captures(device: str) -> list[Path]:
    found = SAMPLES.glob(f"day*-{device}/*.pcap.xz")
    return sorted(path for path in found if path.name.partition(".")[0] in APPS)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A model that learned from two devices, plain, and with a rule for new stacks."""
    aside = tmp_path_factory.mktemp("stacks")
    for device in ("openssl-default", "tls12-only"):
        for path in captures(device):
            folder = aside / "captures" / f"device={device}" / path.parent.name
            folder.mkdir(parents=True, exist_ok=True)
            (folder / path.name).symlink_to(path)
    flows = Dataset.build(aside / "captures", aside / "dataset", labels="folders").read()
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(stack_training, "N_TREES", 10)
        for name, more in (("plain", False), ("rule", True)):
            train_model(
                *(flows, apps_of(flows)),
                model="fast",
                new_stacks=more,
                keep_rows=more,
                out=aside / name,
            )
    return aside / "plain", aside / "rule"


def accepted(model: Model) -> tuple[int, int, int]:
    """Flows of new stacks on the device that was left out, accepted ones, and right ones of these."""
    found = np.zeros(3, dtype=np.int64)
    for path in captures(NEW):
        with read_flows(path, OPTIONS) as reader:
            for _, verdicts in flows_and_verdicts(reader, model, 0.85):
                for one in verdicts:
                    if one.stack == "new":
                        found += [1, one.app is not None, one.app == path.name.partition(".")[0]]
    n, taken, right = found.tolist()
    return n, taken, right


def test_the_promise_holds_on_a_planted_stack(models: tuple[Path, Path]) -> None:
    plain, rule = (load_model(folder) for folder in models)
    assert plain.hash != rule.hash
    n, taken, right = accepted(plain)
    assert n > 150
    assert right < 0.9 * taken  # without a rule the device's flows are given away
    n, taken, right = accepted(rule)
    assert right >= 0.9 * taken
    about = rule.info["new_stacks"]
    assert about["devices"] == 2
    assert about["right"] >= 0.9 * about["accepted"]
    assert "TLS stacks" in (models[1] / "README.md").read_text()


@pytest.fixture(scope="module")
def averaging(models: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same model, whose flows of new stacks are decided by the mean with a forest on lengths."""
    info, onnx = read_model(models[1])
    content = read_rows(models[1], info)
    assert content is not None
    rows = TrainingRows.from_bytes(content, "rows")
    forest = StatisticsForest(10, random_state=0).fit(rows.lengths, rows.apps).to_onnx()
    sha256 = hashlib.sha256(forest).hexdigest()
    about = {**info["new_stacks"], "share": 0.5, "temperature": 1.0, "sha256": sha256}
    folder = tmp_path_factory.mktemp("averaging") / "model"
    write_model(folder, onnx, {**info, "new_stacks": about}, "card", rows=content, forest=forest)
    return folder


@pytest.mark.parametrize("recipe", ["paper-rf", "sequence", "fusion"])
def test_every_recipe_can_have_a_rule(
    models: tuple[Path, Path], tmp_path: Path, recipe: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stack_training, "N_TREES", 10)
    learned = Dataset.open(models[0].parent / "dataset").read()
    train_model(
        *(learned, apps_of(learned)),
        model=recipe,
        new_stacks=True,
        epochs=1,
        hyperparameters=None if recipe == "fusion" else {"n_trees": 10},
        out=tmp_path / "chosen",
    )
    n, taken, right = accepted(load_model(tmp_path / "chosen"))
    assert n > 150
    assert right >= 0.9 * taken
    info, onnx = read_model(tmp_path / "chosen")
    about = info.pop("new_stacks")
    assert (about["devices"], about["flows"] > 100) == (2, True)
    learned = learned.filter(learned.payload_packets >= 2)
    forest = StatisticsForest(10, random_state=0)
    forest.fit(lengths(learned, packets=about["packets"]), np.array(apps_of(learned)))
    content = forest.to_onnx()
    sha256 = hashlib.sha256(content).hexdigest()
    about |= {"share": 0.5, "temperature": 1.0, "sha256": sha256}
    write_model(tmp_path / "plain", onnx, info, "card")
    write_model(tmp_path / "mean", onnx, {**info, "new_stacks": about}, "card", forest=content)
    plain, mean = load_model(tmp_path / "plain"), load_model(tmp_path / "mean")
    with read_flows(captures(NEW)[0], OPTIONS) as reader:
        flows = reader.to_flows()
    flows = flows.filter(flows.payload_packets >= 2)
    is_new = mean.is_new_stack(flows)
    assert is_new.sum() > 20
    alone, both = plain.predict_proba(flows), mean.predict_proba(flows)
    by_lengths = forest.predict_proba(lengths(flows, packets=about["packets"]))
    assert np.allclose(both[is_new], ((alone + by_lengths) / 2)[is_new], atol=1e-3)
    assert np.array_equal(both[~is_new], alone[~is_new])


class Lines:
    """An output that keeps JSON lines."""

    def __init__(self) -> None:
        self.extra: dict[str, str] = {}
        self.lines = Counter[str]()

    def write(self, batch: pa.RecordBatch) -> None:
        self.lines.update(json_lines(batch))

    def tick(self) -> None:
        """Nothing waits."""

    def close(self) -> None:
        """Nothing is open."""


def test_files_and_live_decide_new_stacks_alike(averaging: Path, models: tuple[Path, Path]) -> None:
    model, alone = load_model(averaging), load_model(models[0])
    path = captures(NEW)[0]
    from_file = Counter[str]()
    n_changed = 0
    with read_flows(path, OPTIONS) as reader:
        for flows, verdicts in flows_and_verdicts(reader, model):
            own = alone.predict_proba(flows).max(axis=1)
            n_changed += int((abs(own - np.array(verdicts.column("confidence"))) > 0.01).sum())
            for records in ended_records(flows, verdicts):
                from_file.update(json_lines(records))
    assert n_changed > 10
    kept = Lines()
    options = LiveOptions(FlowOptions(groups=OPTIONS.groups, lists_decided=True), evidence=None)
    outputs = [QueuedOutput("kept", kept, is_lossless=True)]
    LivePipeline([ReplaySource(path)], model, outputs, options).run(threading.Event())
    assert kept.lines == from_file
    assert any(json.loads(line)["stack"] == "new" for line in from_file)


def test_open_flows_of_new_stacks_are_not_decided_early(averaging: Path) -> None:
    model = load_model(averaging)
    with read_flows(captures(NEW)[0], OPTIONS) as reader:
        flows = reader.to_flows()
    early = model.predict_proba(flows, early=True).max(axis=1)
    is_new = model.is_new_stack(flows)
    assert is_new.sum() > 20
    assert early[is_new].max() < 0.5
    assert (early[~is_new] <= 1).all()


def test_an_update_chooses_again(models: tuple[Path, Path], tmp_path: Path) -> None:
    more = Dataset.build(_folder(tmp_path / "captures"), tmp_path / "more", labels="folders")
    before = load_model(models[1])
    done = update(models[1], labels=[more.read()], out=tmp_path / "newer", force=True)
    assert done.model is not None
    about = done.model.info["new_stacks"]
    assert about["devices"] == 3
    assert about["accepted"] > 50
    assert about["right"] >= 0.9 * about["accepted"]
    assert before.is_new_stack(more.read()).any()
    assert not done.model.is_new_stack(more.read()).any()


def _folder(place: Path) -> Path:
    """The captures of the device that was left out."""
    for path in captures(NEW):
        folder = place / f"device={NEW}" / path.parent.name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / path.name).symlink_to(path)
    return place


@pytest.mark.parametrize(
    ("about", "message"),
    [
        ([], "not an object"),
        ({"share": 2.0}, "'share' of 'new_stacks' is not from 0 to 1"),
        ({"temperature": 0}, "'temperature' of 'new_stacks'"),
        ({"packets": 2.5}, "no number of packets"),
        ({"share": 0.0}, "but not the file"),
        ({"packets": 7}, "takes \\[\\[5\\]\\], not 7 lengths"),
        ({"sha256": "0"}, "its SHA-256 is not the one"),
    ],
)
def test_a_damaged_rule_is_refused(
    averaging: Path, tmp_path: Path, about: Any, message: str
) -> None:
    info = json.loads((averaging / "model.json").read_text())
    info["new_stacks"] = {**info["new_stacks"], **about} if isinstance(about, dict) else about
    folder = tmp_path / "model"
    shutil.copytree(averaging, folder)
    (folder / "model.json").write_text(json.dumps(info))
    with pytest.raises(ModelError, match=message):
        load_model(folder)
