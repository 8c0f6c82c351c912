"""The content of ``dataset.json`` enters; the README of the dataset, for people, leaves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

_ROWS = 200
"""Rows of one table at most; ``dataset.json`` has them all."""


def card(info: Mapping[str, Any]) -> str:
    """A Markdown page: what the dataset holds, where it came from, what was left out and done to it."""
    apps = {label.split("/", 1)[0] for label in info["apps"]}
    lines = [
        f"# Labelled flows of {len(apps)} apps",
        "",
        (
            f"{info['n_flows']:,} labelled flows of {len(apps)} apps from {len(info['sources'])} sources, in "
            f"the flow schema of version {info['flow_schema']}. Written by {info['written_by']}; "
            f"content hash `{info['hash'][:16]}`."
        ),
        "",
        (
            "Open it with `apptell.dataset.Dataset.open(path)`, `apptell dataset info`, or read the Parquet "
            "files that `dataset.json` lists with any tool."
        ),
        "",
        "## Apps",
        "",
        *_table(("label", "flows"), info["apps"]),
        "",
        "## Groups",
        "",
        "Keep a group on one side of a split (`--split`), or a model learns the group and not the app.",
        "",
    ]
    if info["groups"]:
        lines += ["| group | values | flows |", "| --- | ---: | ---: |"]
        lines += [f"| {n} | {len(c):,} | {sum(c.values()):,} |" for n, c in info["groups"].items()]
    else:
        lines += ["None."]
    lines += [
        "",
        "## Where the labels came from",
        "",
        *_table(("ground truth", "flows"), info["label_from"]),
    ]
    lines += ["", "## What was left out", ""]
    if info["dropped"]:
        lines += _table(("why", "flows"), info["dropped"])
    else:
        lines += ["Nothing."]
    damaged = [source for source in info["sources"] if source.get("damage")]
    if damaged:
        lines += ["", "These sources are damaged; what precedes the damage is in the dataset:", ""]
        lines += [f"- {_plain(source['damage'])}" for source in damaged[:_ROWS]]
    if info["done"]:
        lines += [
            "",
            "## What was done to the flows",
            "",
            *(f"- {_plain(edit)}" for edit in info["done"]),
        ]
    limits = info["encoding"]
    lines += [
        "",
        "## Limits",
        "",
        (
            f"A flow keeps its first {limits['segments']} payload segments with up to "
            f"{limits['segment_bytes']:,} bytes each, and the lengths and gaps of its first "
            f"{limits['sequence']} payload packets."
        ),
        "",
        "## Privacy",
        "",
        (
            "Flows hold addresses, names and the first bytes of what was said. Share a dataset only after "
            "`--anonymize` and `--mask-names`, and only if everyone recorded agreed."
        ),
        "",
    ]
    return "\n".join(lines)


def _table(head: tuple[str, str], counts: Mapping[str, int]) -> list[str]:
    rows = [f"| {head[0]} | {head[1]} |", "| --- | ---: |"]
    rows += [f"| {_plain(name)} | {n:,} |" for name, n in list(counts.items())[:_ROWS]]
    if len(counts) > _ROWS:
        rows += [f"| … {len(counts) - _ROWS:,} more | |"]
    return rows


def _plain(text: str) -> str:
    """Text that cannot break a Markdown table."""
    return " ".join(text.split()).replace("|", "\\|")
