"""The examples of docs/how-to/extend.md are complete: each is taken from the page and used."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pyarrow as pa

from apptell.dataset.splits import SplitMethod
from apptell.labels import LogFormat
from apptell.learning import Recipe

GUIDE = Path(__file__).parents[1] / "docs/how-to/extend.md"
TEXT = GUIDE.read_text(encoding="utf-8")


def example(name: str) -> dict[str, Any]:
    """The names that the example with a word in it defines."""
    (code,) = [
        block for block in re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL) if name in block
    ]
    defined: dict[str, Any] = {}
    exec(compile(code, f"{GUIDE.name}: {name}", "exec"), defined)
    return defined


def test_the_output_form_writes_a_line_for_each_record() -> None:
    batch = pa.record_batch({"server_address": ["192.0.2.1", "192.0.2.2"], "app": ["zoom", None]})
    assert example("class Brief")["FORM"].lines(batch) == ["192.0.2.1 zoom", "192.0.2.2 None"]


def test_the_label_format_reads_the_log_that_the_page_shows(tmp_path: Path) -> None:
    log = tmp_path / "phone.txt"
    (shown,) = re.findall(r"```text\n(apptell notebook\n.*?)```", TEXT, re.DOTALL)
    log.write_text(shown + "a bad line\n", encoding="utf-8")
    added, passed_over = [], []

    class Lines:
        def add(self, *line: object) -> None:
            added.append(line)

        def pass_over(self, number: int, error: Exception) -> None:
            passed_over.append(number)

    notebook = example("class Notebook")["Notebook"]
    assert issubclass(notebook, LogFormat)
    notebook().read_log(log, Lines(), None)
    start_ns = 1_795_903_737 * 10**9
    ends = ("10.23.0.11", 60433), ("198.51.100.1", 443)
    assert added == [(start_ns, start_ns, 6, *ends, "whatsapp")]
    assert passed_over == [3]


def test_the_model_and_the_split_are_what_their_registries_expect() -> None:
    assert isinstance(example("StatisticsForest")["RECIPE"], Recipe)
    assert issubclass(example("class Weekday")["Weekday"], SplitMethod)


def test_every_entry_point_of_the_page_names_something_that_an_example_defines() -> None:
    (settings,) = re.findall(r"```toml\n(.*?)```", TEXT, re.DOTALL)
    groups = tomllib.loads(settings)["project"]["entry-points"]
    objects = [target.partition(":")[2] for group in groups.values() for target in group.values()]
    assert sorted(objects) == ["", "FORM", "Notebook", "RECIPE", "Weekday"]
    assert all(re.search(rf"^(class )?{name}\b", TEXT, re.MULTILINE) for name in objects if name)
