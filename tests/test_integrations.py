"""Dashboard, alerts, index template and queries of docs/integrations fit what apptell writes."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from apptell.records.forms.ecs import Ecs
from apptell.records.forms.jsonl import JsonLines
from apptell.records.schema import verdict_records
from apptell.service.metrics import Metrics
from tests.records.fakes import verdicts

if TYPE_CHECKING:
    from types import ModuleType

DOCS = Path(__file__).parents[1] / "docs"
FILES = DOCS / "integrations"
_NAME = re.compile(r"\bapptell_[a-z_]+")


def dashboard_maker() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_dashboard", DOCS / "make_dashboard.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def promtool(*words: object) -> None:
    if shutil.which("promtool") is None:
        pytest.skip("promtool is not installed")
    done = subprocess.run(
        ["promtool", *map(str, words)], cwd=FILES, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def metric_names() -> set[str]:
    """Every series that a sensor shows, also those that have no sample yet."""
    names = set(re.findall(r"^# TYPE (\S+)", Metrics().text(), re.MULTILINE))
    return names | {f"{name}_bucket" for name in names}


def queries() -> list[str]:
    return [
        target["expr"]
        for panel in json.loads((FILES / "grafana-dashboard.json").read_text())["panels"]
        for target in panel["targets"]
    ]


def test_the_dashboard_is_what_its_script_makes() -> None:
    made = (FILES / "grafana-dashboard.json").read_text("utf-8")
    assert made == dashboard_maker().text(), "run python docs/make_dashboard.py"
    panels = json.loads(made)["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    cells: set[tuple[int, int]] = set()
    for place in (panel["gridPos"] for panel in panels):
        own = {
            (place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])
        }
        assert not own & cells, "two panels overlap"
        assert place["x"] + place["w"] <= 24
        cells |= own


def test_dashboard_and_alerts_ask_only_for_metrics_that_there_are() -> None:
    rules = (FILES / "prometheus-rules.yml").read_text("utf-8")
    asked = {name for text in (*queries(), *re.findall(r"expr: .*(?:\n {10}.*)*", rules))
             for name in _NAME.findall(text)}  # fmt: skip
    assert asked <= metric_names()


def test_the_queries_of_the_dashboard_are_promql(tmp_path: Path) -> None:
    rules = [
        {
            "record": f"q{at}",
            "expr": query.replace("$__rate_interval", "5m").replace("$instance", ".*"),
        }
        for at, query in enumerate(queries())
    ]
    (tmp_path / "q.yml").write_text(json.dumps({"groups": [{"name": "g", "rules": rules}]}))
    promtool("check", "rules", tmp_path / "q.yml")


def test_the_alerts_are_right() -> None:
    promtool("check", "rules", "prometheus-rules.yml")
    promtool("test", "rules", "prometheus-rules-test.yml")


def leaves(document: dict[str, Any], path: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in document.items():
        if isinstance(value, dict):
            found |= leaves(value, f"{path}{name}.")
        else:
            found[f"{path}{name}"] = value
    return found


def mapped(properties: dict[str, Any], path: str = "") -> dict[str, str]:
    found: dict[str, str] = {}
    for name, value in properties.items():
        if "properties" in value:
            found |= mapped(value["properties"], f"{path}{name}.")
        else:
            found[f"{path}{name}"] = value["type"]
    return found


def test_the_index_template_has_every_field_of_a_document() -> None:
    template = json.loads((FILES / "elastic-index-template.json").read_text())
    types = mapped(template["template"]["mappings"]["properties"])
    lines = Ecs().lines(verdict_records(verdicts(0.99, 0.4)))
    kinds = {"long": int, "float": (int, float), "boolean": bool}
    for line in lines:
        for field, value in leaves(json.loads(line)).items():
            assert field in types, f"{field} has no mapping"
            values = value if isinstance(value, list) else [value]
            assert all(isinstance(each, kinds.get(types[field], str)) for each in values), field
    assert types["client.ip"] == types["destination.ip"] == "ip"


def test_the_joins_of_the_page_give_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    duckdb = pytest.importorskip("duckdb")
    monkeypatch.chdir(tmp_path)
    lines = JsonLines().lines(verdict_records(verdicts(0.99)))
    (tmp_path / "apps.jsonl").write_text("\n".join(lines) + "\n")
    row = json.loads(lines[0])
    start = 1_700_000_000.0
    connection = {"ts": start, "community_id": row["community_id"], "service": "ssl", "conn_state": "SF",
                  "orig_bytes": 10, "resp_bytes": 32}  # fmt: skip
    (tmp_path / "conn.log").write_text(json.dumps(connection) + "\n")
    alert = {
        "event_type": "alert",
        "community_id": row["community_id"],
        "alert": {"signature": "A"},
    }
    (tmp_path / "eve.json").write_text(json.dumps(alert) + "\n")
    page = (DOCS / "how-to" / "dashboards.md").read_text("utf-8")
    first, second = re.findall(r"```sql\n(.*?)```", page, re.DOTALL)
    assert duckdb.sql(first).fetchall() == [("signal", "model", "ssl", "SF", 42)]
    assert duckdb.sql(second).fetchall() == [("signal", "A", 1)]
