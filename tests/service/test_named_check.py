"""Planted drift in the lab's traffic shows in the accuracy on named flows; calm traffic raises nothing."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from apptell.catalogue import Catalogue
from apptell.dataset import Dataset
from apptell.experiments.labelled import apps_of
from apptell.flows import FlowOptions
from apptell.learning import train_model
from apptell.models import Model, load_model
from apptell.names import read_flows
from apptell.service import LiveOptions, LivePipeline, ReplaySource, named_check
from apptell.service.drift_watch import SAY_S, DriftWatch
from apptell.service.metrics import Metrics
from apptell.service.work import DECIDED, Work
from apptell.testing import flow_batch
from apptell.verdicts import Evidence, EvidenceOptions
from apptell.watch import measure_drift
from apptell.watch.observed_sources import observe

if TYPE_CHECKING:
    from apptell.flows import FlowBatch

SAMPLES = Path(__file__).parents[2] / "src/apptell/samples"
APPS = ("irc", "mqtt", "mumble", "xmpp")
WATCHED = "day1-*"
"""Recordings that the model learned from, so that nothing has changed but what is planted."""


def captures(recordings: str = "day*") -> list[Path]:
    found = SAMPLES.glob(f"{recordings}/*.pcap.xz")
    return sorted(path for path in found if path.name.partition(".")[0] in APPS)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """A model of four apps."""
    aside = tmp_path_factory.mktemp("named")
    for path in captures():
        folder = aside / "captures" / path.parent.name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / path.name).symlink_to(path)
    flows = Dataset.build(aside / "captures", aside / "dataset", labels="folders").read()
    train_model(
        flows, apps_of(flows), model="lengths-rf", unknown=True, out=aside / "model",
        hyperparameters={"n_trees": 10},
    )  # fmt: skip
    return load_model(aside / "model")


@pytest.fixture
def rows(tmp_path: Path) -> dict[str, Path]:
    """Rows of the catalogue for the lab's names: as they are, and with IRC's servers as XMPP's."""
    found = {}
    for kind, planted in (("calm", "irc"), ("drift", "xmpp")):
        lines = []
        for path in captures(WATCHED):
            app = path.name.partition(".")[0]
            with read_flows(path, FlowOptions(groups=("core", "segments", "names"))) as reader:
                names = set(reader.to_flows().column("server_name").to_pylist()) - {None}
            lines += [f"{name},{planted if app == 'irc' else app}" for name in sorted(names)]
        found[kind] = tmp_path / f"{kind}.csv"
        found[kind].write_text("\n".join(lines) + "\n")
    return found


@pytest.mark.parametrize(("kind", "alarms"), [("calm", []), ("drift", ["xmpp"])])
def test_live_and_captures_notice_a_planted_drift(
    model: Model, rows: dict[str, Path], kind: str, alarms: list[str]
) -> None:
    clock, said = [0.0], list[str]()
    watch, metrics = DriftWatch(said.append, lambda: clock[0]), Metrics()
    metrics.drift = watch
    evidence = Evidence(Catalogue.load([str(rows[kind])]), EvidenceOptions.parse("name"))
    flows = FlowOptions(groups=("core", "segments", "names"), lists_decided=True)
    sources = [ReplaySource(path) for path in captures(WATCHED)]
    pipeline = LivePipeline(sources, model, [], LiveOptions(flows, evidence=evidence), metrics)
    pipeline.run(threading.Event())
    watch.close()
    found = watch.measure()
    assert found is not None
    assert found.flows == 0  # every flow is decided by its name
    assert found.named > 150
    assert [each.app for each in found.alarms] == alarms
    text = metrics.text()
    right = {each.app: each.named_right for each in found.apps}
    assert f'apptell_drift_named_right{{app="mqtt"}} {right["mqtt"]:.4f}' in text
    assert f'apptell_drift_alarm{{app="xmpp"}} {len(alarms)}' in text
    clock[0] = SAY_S
    watch.measure()
    (line,) = said
    assert line.startswith("Drift: xmpp: right on" if alarms else "Drift: no alarm among 4 apps")
    assert "named ones" in line
    of_files = observe([str(path) for path in captures(WATCHED)], model, [rows[kind]])
    files = measure_drift(of_files, model.apps, model.prior, model.held_out)
    assert {each.app: (each.named, each.named_right) for each in files.apps if each.named} == {
        each.app: (each.named, each.named_right) for each in found.apps if each.named
    }
    assert "xmpp" not in [each.app for each in files.alarms] or kind == "drift"


def test_only_so_many_flows_are_asked_about_and_no_verdict_waits(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(named_check, "MOST_ASKED", 10)
    labels = ["irc"] * 8
    works = [_named(flow_batch(labels), "irc")]
    check = named_check.NamedCheck()
    check.add(works)  # no model is watched
    check.watch(model)
    for _ in range(5):
        check.add(works)
    check.close()
    place = model.apps.index("irc")
    assert check.counts(model)[0].tolist() == [16 if n == place else 0 for n in range(4)]
    check.renew()
    full = named_check.NamedCheck()
    full.watch(model)
    full.close()  # nobody takes any more
    monkeypatch.setattr(named_check, "MOST_ASKED", 10**6)
    full.renew()
    monkeypatch.setattr(threading.Thread, "start", lambda _self: None)
    for _ in range(100):
        full.add(works)
    assert not full.counts(model).any()


def _named(flows: FlowBatch, app: str) -> Work:
    """Flows whose verdict is due and whose names identify an app."""
    rows = Evidence(Catalogue.load(), EvidenceOptions.parse("name"))
    found = rows.begin(
        flows.with_columns(server_name=["chat.signal.org"] * len(flows)), is_remembered=False
    )
    found.identities = [each._replace(app=app) for each in found.identities]
    return Work(found.flows, DECIDED, is_overloaded=False, since_s=time.monotonic(), found=found)
