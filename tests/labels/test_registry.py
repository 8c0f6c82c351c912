"""A label format of another distribution, from its file to a dataset."""

import sys
import textwrap

import pytest

from apptell.dataset import build
from apptell.errors import UsageError
from apptell.flows import FlowOptions
from apptell.flows.schema import GROUPS
from apptell.labels import CaptureFlows, LabelOptions, LabelSearch, format_names
from apptell.testing import START_NS, conversation, write_pcap

FORMAT = """
    from apptell.labels import LogFormat
    from apptell.labels import fields


    class Notebook(LogFormat):
        name = "notebook"

        def is_log(self, log, options):
            return log.first_line == "apptell notebook"

        def read_log(self, path, lines, options):
            for number, line in enumerate(path.read_text().splitlines()[1:], 2):
                try:
                    app, time, client, port = fields.enough(line.split(), 4)
                    ends = (client, fields.port(port)), ("192.0.2.1", 443)
                    start_ns = fields.time_ns(time)
                    lines.add(start_ns, start_ns, 6, *ends, app)
                except ValueError as error:
                    lines.pass_over(number, error)
"""


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """A distribution with one label format, as ``pip install`` would leave it."""
    site = tmp_path / "site"
    about = site / "notebook-1.0.dist-info"
    about.mkdir(parents=True)
    (site / "notebook_labels.py").write_text(textwrap.dedent(FORMAT))
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: notebook\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(
        "[apptell.label_formats]\nnotebook = notebook_labels:Notebook\nbroken = notebook_labels:fields\n"
    )
    monkeypatch.syspath_prepend(site)
    yield
    sys.modules.pop("notebook_labels", None)


def search(folder, kind=None):
    reader = CaptureFlows(FlowOptions(groups=tuple(GROUPS)))
    return LabelSearch([folder], reader, LabelOptions(kind=kind))


def test_a_format_of_another_distribution_labels_flows(tmp_path, installed, monkeypatch):
    folder = tmp_path / "recordings"
    folder.mkdir()
    talk = [(True, b"hello there"), (False, b"general")]
    write_pcap(folder / "x.pcap", conversation(("10.0.0.2", 40001), ("192.0.2.1", 443), talk))
    time = START_NS // 10**9
    (folder / "x.log").write_text(f"apptell notebook\nchat {time} 10.0.0.2 40001\nspoiled line\n")
    monkeypatch.setattr("apptell.labels.registry.format_names", lambda: ("notebook", "folders"))
    dataset = build(search(folder), tmp_path / "d").dataset
    assert dataset.info["label_from"] == {"notebook": 1}
    assert dataset.info["apps"] == {"chat": 1}
    assert dataset.info["sources"][0]["bad_log_lines"] == 1


def test_formats_of_others_are_asked_before_names_of_files(installed):
    names = format_names()
    assert names[-1] == "folders"
    assert {"notebook", "pcapdroid", "zeek"} < set(names)


def test_an_entry_point_that_is_no_format_is_refused_in_one_line(tmp_path, installed):
    with pytest.raises(UsageError, match=r"label format broken: .* not a subclass of LabelFormat"):
        search(tmp_path, kind="broken")
