"""Writes docs/integrations/grafana-dashboard.json: ``python docs/make_dashboard.py``; a test holds the file equal."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

PAGE = Path(__file__).parent / "integrations" / "grafana-dashboard.json"
_SOURCE = {"type": "prometheus", "uid": "${datasource}"}
_HERE = 'instance=~"$instance"'
_RATE = "$__rate_interval"


def panel(
    title: str,
    queries: dict[str, str],
    place: tuple[int, int, int, int],
    *,
    kind: str = "timeseries",
    unit: str = "short",
    stack: bool = False,
    description: str = "",
) -> dict[str, Any]:
    """A panel: queries by legend, its place (x, y, width, height) on a grid of 24 columns."""
    x, y, width, height = place
    custom = {
        "fillOpacity": 25 if stack else 0,
        "stacking": {"mode": "normal" if stack else "none"},
    }
    return {
        "type": kind,
        "title": title,
        "description": description,
        "datasource": _SOURCE,
        "gridPos": {"x": x, "y": y, "w": width, "h": height},
        "fieldConfig": {
            "defaults": {"unit": unit, **({"custom": custom} if kind == "timeseries" else {})},
            "overrides": [],
        },
        "options": {},
        "targets": [
            {"refId": chr(65 + at), "expr": query, "legendFormat": legend, "datasource": _SOURCE}
            for at, (legend, query) in enumerate(queries.items())
        ],
    }


def dashboard() -> dict[str, Any]:
    """The whole dashboard."""
    verdicts = f"rate(apptell_verdicts_total{{{_HERE}}}[{_RATE}])"
    named = f'rate(apptell_verdicts_total{{{_HERE},outcome="named"}}[{_RATE}])'
    delay = f"rate(apptell_decision_delay_seconds_bucket{{{_HERE}}}[{_RATE}])"
    confidence = f"rate(apptell_confidence_bucket{{{_HERE}}}[{_RATE}])"
    panels = [
        panel("Ready", {"{{instance}}": f"apptell_ready{{{_HERE}}}"}, (0, 0, 4, 4), kind="stat"),
        panel("Packets per second", {"packets": f"sum(rate(apptell_packets_total{{{_HERE}}}[{_RATE}]))"},
              (4, 0, 5, 4), kind="stat", unit="pps"),
        panel("Traffic", {"bits": f"8 * sum(rate(apptell_bytes_total{{{_HERE}}}[{_RATE}]))"},
              (9, 0, 5, 4), kind="stat", unit="bps"),
        panel("Open flows", {"open": f"sum(apptell_active_flows{{{_HERE}}})"}, (14, 0, 5, 4), kind="stat"),
        panel("Packets dropped by the kernel",
              {"share": f"sum(rate(apptell_kernel_drops_total{{{_HERE}}}[{_RATE}])) / "
                        f"sum(rate(apptell_packets_total{{{_HERE}}}[{_RATE}]))"},
              (19, 0, 5, 4), kind="stat", unit="percentunit"),
        panel("Verdicts by app", {"{{app}}": f"topk(12, sum by (app) ({named}))"}, (0, 4, 16, 9),
              stack=True, description="The twelve apps with the most verdicts."),
        panel("Verdicts by outcome", {"{{outcome}}": f"sum by (outcome) ({verdicts})"}, (16, 4, 8, 9),
              stack=True),
        panel("Decision delay", {
            "median": f"histogram_quantile(0.5, sum by (le) ({delay}))",
            "99 %": f"histogram_quantile(0.99, sum by (le) ({delay}))",
        }, (0, 13, 8, 8), unit="s", description="From the deciding packet to the verdict."),
        panel("Confidence of verdicts", {
            "lower quartile": f"histogram_quantile(0.25, sum by (le) ({confidence}))",
            "median": f"histogram_quantile(0.5, sum by (le) ({confidence}))",
        }, (8, 13, 8, 8), unit="percentunit", description="A slow fall can mean that an app has changed."),
        panel("Flows that got no time or no room", {
            "overloaded": f"sum(rate(apptell_flows_overloaded_total{{{_HERE}}}[{_RATE}]))",
            "evicted": f"sum(rate(apptell_flows_evicted_total{{{_HERE}}}[{_RATE}]))",
            "waiting": f"sum(apptell_waiting_flows{{{_HERE}}})",
        }, (16, 13, 8, 8)),
        panel("Records by output and fate",
              {"{{output}} {{state}}":
               f"sum by (output, state) (rate(apptell_output_records_total{{{_HERE}}}[{_RATE}]))"},
              (0, 21, 16, 8)),
        panel("Records that wait for an output",
              {"{{output}}": f"sum by (output) (apptell_output_queued{{{_HERE}}})"}, (16, 21, 8, 8)),
        panel("Model", {"{{instance}}: {{name}}@{{hash}}": f"apptell_model_info{{{_HERE}}}"},
              (0, 29, 24, 4), kind="table"),
    ]  # fmt: skip
    return {
        "uid": "apptell",
        "title": "apptell",
        "tags": ["network", "apptell"],
        "schemaVersion": 39,
        "version": 1,
        "editable": True,
        "timezone": "browser",
        "time": {"from": "now-1h", "to": "now"},
        "refresh": "30s",
        "annotations": {"list": []},
        "templating": {
            "list": [
                {
                    "name": "datasource",
                    "type": "datasource",
                    "query": "prometheus",
                    "label": "Data source",
                },
                {
                    "name": "instance",
                    "type": "query",
                    "label": "Sensor",
                    "datasource": _SOURCE,
                    "query": {
                        "query": "label_values(apptell_ready, instance)",
                        "refId": "instance",
                    },
                    "refresh": 2,
                    "multi": True,
                    "includeAll": True,
                    "allValue": ".*",
                    "current": {"text": "All", "value": "$__all"},
                },
            ]
        },
        "panels": [{"id": at, **each} for at, each in enumerate(panels, 1)],
    }


def text() -> str:
    """The file's content."""
    return json.dumps(dashboard(), indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    PAGE.write_text(text(), encoding="utf-8")
