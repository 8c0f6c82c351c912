"""No value in a page or a card can be markup."""

from html.parser import HTMLParser
from pathlib import Path

import pytest
from jinja2 import UndefinedError

from apptell.templates import markdown_text, render

HOSTILE = """<script>alert(1)</script>"'&|`*_[x](javascript:y)\n# head"""


class Tags(HTMLParser):
    """The tags of a page, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.tags.append(tag)

    def handle_data(self, data: str) -> None:
        self.text += data


def test_html_escapes_every_value(tmp_path: Path) -> None:
    (tmp_path / "t.html").write_text('<p title="{{ x }}">{{ x }}</p>')
    page = Tags(render(tmp_path / "t.html", x=HOSTILE))
    assert page.tags == ["p"]
    assert page.text == HOSTILE


def test_markdown_escapes_every_value(tmp_path: Path) -> None:
    (tmp_path / "t.md").write_text("| {{ x }} | {{ n }} |\n- {{ x }}\n")
    lines = render(tmp_path / "t.md", x=HOSTILE, n=3).splitlines()
    assert len(lines) == 2
    assert "<" not in lines[0]
    assert lines[0].replace("\\|", "").count("|") == 3
    assert "\\[x\\](javascript:y)" in lines[1]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("org.example.chat", "org.example.chat"),
        ("a_b", "a\\_b"),
        ("# head", "\\# head"),
        ("- item", "\\- item"),
        ("a\n\nb", "a b"),
        ('it\'s "x"', 'it\'s "x"'),
        ("<b>&", "&lt;b&gt;&amp;"),
    ],
)
def test_markdown_shows_text_as_it_is(text: str, shown: str) -> None:
    assert markdown_text(text) == shown


def test_a_value_that_is_not_given_is_a_defect(tmp_path: Path) -> None:
    (tmp_path / "t.html").write_text("{{ nothing }}")
    with pytest.raises(UndefinedError):
        render(tmp_path / "t.html")
