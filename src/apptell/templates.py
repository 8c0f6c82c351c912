"""Fills HTML and Markdown templates with escaped values.

Templates are files whose names end in ``.html`` or ``.md``, for Jinja2. Every value is escaped unless it is
``markupsafe.Markup``, which only our own figures are.
"""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING, Any, Final

from markupsafe import Markup, escape

if TYPE_CHECKING:
    from pathlib import Path

    from jinja2 import Environment

_MARKDOWN: Final = re.compile(r"[\\`*_\[\]|~]|^[#+=-]")
"""What Markdown gives a meaning: CommonMark 0.31, Section 2.4, and the tables of GitHub's dialect."""


def render(template: Path, **values: Any) -> str:
    """Renders a template; a value that it uses and that is not given raises an error."""
    environment = _environment(template.parent, template.suffix)
    return environment.get_template(template.name).render(**values)


def markdown_text(text: str) -> str:
    """Text as Markdown shows it: one line, no formatting, no link, no HTML."""
    line = " ".join(str(text).split())
    return _MARKDOWN.sub(r"\\\g<0>", str(escape(line)).replace("&#39;", "'").replace("&#34;", '"'))


def _in_markdown(value: Any) -> Any:
    return value if isinstance(value, Markup) else Markup(markdown_text(value))


@cache
def _environment(folder: Path, suffix: str) -> Environment:
    # imported here, because identification does not need templates
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    return Environment(
        loader=FileSystemLoader(folder),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        finalize=_in_markdown if suffix == ".md" else None,
    )
