"""What is known of a trained model in, its README.md out."""

from __future__ import annotations

from typing import Any


def model_card(info: dict[str, Any], description: str) -> str:
    """The card of a model, Markdown, from the content of its ``model.json``."""
    data = info["data"]
    threshold = info["threshold"]
    lines = [
        f"# {info['name']}",
        "",
        description,
        "",
        f"It knows {len(info['apps'])} apps and no others; a flow of any other app is given the",
        "name of one of these, or declined when the confidence is below the threshold.",
        "",
        "| app | training flows |",
        "| --- | ---: |",
        *(f"| {app} | {data['per_app'].get(app, 0)} |" for app in info["apps"]),
        "",
        f"- Inputs: {info['inputs']}, version {info['encoding']}",
        f"- Options of the inputs: {info['options'] or 'none'}",
        f"- Threshold: {'set by whoever runs it' if threshold is None else threshold}",
        f"- Training data: {data['flows']} flows, hash {data['hash']}",
        f"- Seed: {info['seed']}",
        f"- Created: {info['created']}",
        "- Made with: " + ", ".join(f"{name} {v}" for name, v in info["versions"].items()),
        "",
        "Accuracy on flows of networks and devices it never saw is lower than on flows like those",
        "it learned from; measure it on your own captures before relying on it.",
        "",
    ]
    if info["metrics"]:
        lines += ["| measure | value |", "| --- | ---: |"]
        lines += [f"| {name} | {value} |" for name, value in info["metrics"].items()]
        lines.append("")
    return "\n".join(lines)
