"""The public names of apptell in, docs/reference/python.md out: ``python docs/make_python_reference.py``."""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from pathlib import Path
from typing import Any

import apptell

PAGE = Path(__file__).parent / "reference" / "python.md"
_HEAD = """# The Python API

*This page is made from the docstrings by `docs/make_python_reference.py`; a test holds it equal to them and
runs every example.*

    import apptell

    for verdict in apptell.identify("phone.pcap"):
        print(verdict.server_name, verdict.app)

`import apptell` loads nothing else: each name is loaded when it is first used. Training needs the extra
`train`; where a library is missing, the error has the command that installs it (`pip install
'apptell[train]'`). The functions have the defaults of the verbs of the same name on the command line, and
check their arguments when they are called.

**What is stable.** The names on this page, their parameters and what they return follow
[SemVer](https://semver.org/): they change only with the major version, and before 1.0 with the minor one. So
do the columns of flows and verdicts, and the files of datasets and models. Everything else in the package
(modules, names with an underscore, what is imported from a module and is not on this page) may change at any
time. Texts of errors and reports may change too; the classes of errors do not.

**How things are deprecated.** A name or a parameter that is to go is announced in the changelog, keeps
working for at least one minor version, and raises a `DeprecationWarning` that names what to use instead. The
upgrade notes list what went in which version.

In the examples `phone.pcap` has a flow of each of two invented apps, `dataset/` forty flows of them from five
recordings in `captures/`, `model/` a forest that learned from four of these, and `ours.csv` two lines for the
catalogue.
"""
_SECTIONS = {
    "Identify": ("read_flows", "identify", "identify_flows", "identify_table", "explain", "load_model"),
    "Datasets": ("Dataset", "Selection", "load_dataset", "FlowArrays"),
    "Train and measure": ("train", "learn", "evaluate", "compare", "audit"),
    "Results": (
        "TrainedModel", "TrainingCallback", "LearnedModel", "EvaluatedModel", "Evaluation", "Comparison", "Audit",
        "Explanation",
    ),
    "Flows, verdicts and models": (
        "FlowOptions", "FlowReader", "FlowBatch", "Verdict", "VerdictBatch", "Model",
    ),
    "Plots": (
        "plot_confusion", "plot_reliability", "plot_coverage", "plot_sources", "plot_flow_image",
        "plot_timeline",
    ),
    "Estimators": (
        "AppClassifier", "ByteClassifier", "StatisticsForest", "CalibratedForest", "TokenLinear",
        "TokenFusion",
    ),
    "Errors": (
        "ApptellError", "CaptureError", "CatalogueError", "DatasetError", "LabelError", "MissingError",
        "ModelError", "OutputError", "UsageError",
    ),
}  # fmt: skip
_PARTS = re.compile(r"^(Args|Raises|Returns|Yields|Parameters|Attributes|Example):$", re.MULTILINE)


def page() -> str:
    """The whole page.

    Raises:
        ValueError: a public name stands in no section, or in two.
    """
    listed = [name for names in _SECTIONS.values() for name in names]
    public = [name for name in apptell.__all__ if not name.startswith("_")]
    if sorted(listed) != sorted(public):
        raise ValueError(f"sections and apptell.__all__ differ: {set(listed) ^ set(public)}")
    parts = [_HEAD]
    for title, names in _SECTIONS.items():
        parts.append(f"## {title}\n")
        parts += [_entry(name) for name in names]
    return "\n".join(parts)


def _entry(name: str) -> str:
    thing = getattr(apptell, name)
    lines = [f"### `{name}`\n"]
    if inspect.isfunction(thing) or _has_own_init(thing):
        lines.append(f"```python\n{_signature(name, thing)}\n```\n")
    lines.append(_docstring(inspect.getdoc(thing) or ""))
    if inspect.isclass(thing) and not issubclass(thing, Exception):
        lines.append(_members(thing))
    return "\n".join(lines)


def _has_own_init(thing: Any) -> bool:
    """Whether users make one: result classes come from functions."""
    return inspect.isclass(thing) and thing.__module__.startswith(
        ("apptell.learning", "apptell.flows.options")
    )


def _signature(name: str, thing: Any) -> str:
    parameters = list(inspect.signature(thing).parameters.values())
    texts, is_keyword = [], False
    for each in parameters:
        if each.name == "self":
            continue
        if each.kind is each.KEYWORD_ONLY and not is_keyword:
            texts.append("*")
            is_keyword = True
        default = "" if each.default is each.empty else f"={each.default!r}"
        texts.append(f"{each.name}{default}")
    line = f"{name}({', '.join(texts)})"
    return line if len(line) <= 100 else "\n".join([f"{name}(", *(f"    {t}," for t in texts), ")"])


def _docstring(text: str) -> str:
    """A docstring in Google's style as Markdown."""
    pieces = _PARTS.split(text)
    lines = [_prose(pieces[0])]
    for part, body in zip(pieces[1::2], pieces[2::2], strict=True):
        body = textwrap.dedent(body.strip("\n"))
        if part == "Example":
            lines.append(f"```pycon\n{body.rstrip()}\n```\n")
        elif part in ("Returns", "Yields"):
            lines.append(f"**{part}** {_prose(body)}")
        else:
            lines += [f"**{part}**\n", _items(body)]
    return "\n".join(lines)


def _prose(text: str) -> str:
    return text.strip().replace("``", "`") + "\n"


def _items(body: str) -> str:
    entries = re.split(r"\n(?=\S)", body.rstrip())
    items = []
    for entry in entries:
        name, _, words = " ".join(entry.split()).partition(": ")
        items.append(f"- `{name}`: {words.replace('``', '`')}")
    return "\n".join(items) + "\n"


def _members(thing: Any) -> str:
    """Its public attributes and methods, each with the first sentence of what is said of it."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(thing)))
    body = tree.body[0].body if isinstance(tree.body[0], ast.ClassDef) else []
    found = []
    for node, after in zip(body, [*body[1:], None], strict=True):
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            said = after.value if isinstance(after, ast.Expr) else None
            words = said.value if isinstance(said, ast.Constant) else ""
            found.append((node.target.id, str(words)))
        elif isinstance(node, ast.FunctionDef):
            call = "" if any("property" in ast.unparse(d) for d in node.decorator_list) else "()"
            found.append((f"{node.name}{call}", ast.get_docstring(node) or ""))
    rows = [
        f"| `{name}` | {_first(words)} |"
        for name, words in found
        if words and not name.startswith("_")
    ]
    return "\n".join(["| member | meaning |", "| --- | --- |", *rows, ""]) if rows else ""


def _first(words: str) -> str:
    paragraph = " ".join(words.strip().split("\n\n")[0].split())
    return paragraph.replace("``", "`").replace("|", "\\|")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
