"""A dataset whose captures are read on Ray is that of one process, also when workers and a node are killed."""

from __future__ import annotations

import os
import signal
import sys
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from apptell.cluster import RaySourceReader, ray_source_reader
from apptell.dataset import Dataset, build
from apptell.errors import CaptureError, DatasetError, LabelError
from apptell.testing import app_capture, flow_batch, write_pcap
from tests.cluster import NODE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from apptell.flows import FlowBatch

ray = pytest.importorskip("ray", reason="Ray is not installed")
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has all of 127.0.0.0/8")


class Source:
    """A source of ``n`` batches of flows, which go wrong in the end."""

    kind = "folders"

    def __init__(self, file: Path, n: int, wrong: str = "") -> None:
        self.name, self.files, self.n, self.wrong = file.name, [file], n, wrong
        self.dropped: Counter[str] = Counter()
        self.facts: dict[str, Any] = {}

    def flows(self) -> Iterator[FlowBatch]:
        """Batches; a killed attempt has given a part of them."""
        for number in range(self.n):
            yield flow_batch([f"app{number % 3}"] * 20, groups=[{"source": self.name}] * 20)
        flag = self.files[0].with_suffix(".died")
        if self.wrong == "killed" and not flag.exists():
            flag.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        yield flow_batch(["last"])
        self.facts["n"] = self.n
        self.dropped["none"] += self.n
        if self.wrong == "damage":
            raise CaptureError(f"{self.name}: cut at byte 9")
        if self.wrong == "label":
            raise LabelError(f"{self.name}: no log")


class OneChunkABatch(Source):
    """A source whose worker sends every batch at once, so that a killed attempt has sent a part."""

    def flows(self) -> Iterator[FlowBatch]:
        """The batches, in a worker that was told so."""
        ray_source_reader._CHUNK_BYTES = 1  # type: ignore[misc]
        return Source.flows(self)


def source(folder: Path, name: str, n: int, wrong: str = "", content: str = "") -> Source:
    file = folder / name
    file.write_text(content or name)
    return OneChunkABatch(file, n, wrong)


def some(folder: Path) -> list[Source]:
    return [
        source(folder, "a", 3),
        source(folder, "b", 4, "killed"),
        source(folder, "empty", 0),
        source(folder, "again", 2, content="a"),
        source(folder, "cut", 2, "damage"),
        source(folder, "c", 5),
    ]


def half(flows: FlowBatch) -> FlowBatch:
    """An edit that drops flows."""
    return flows.take(range(0, len(flows), 2))


def content(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


@pytest.mark.slow
def test_the_dataset_is_that_of_one_process_though_workers_and_a_node_are_killed(
    cluster: Any, tmp_path: Path
) -> None:
    node = cluster.add_node(**NODE, resources={"second": 1})
    second = ray.remote(resources={"second": 0.1})(lambda: os.getpid())
    assert ray.get(second.remote()) != os.getpid()  # it has a worker now
    begun: list[str] = []

    def progress(new: Any) -> None:
        begun.append(new.name)
        if len(begun) == 1:  # tasks run on the second node, or have run there
            cluster.remove_node(node, allow_graceful=False)

    def built(name: str, **how: Any) -> Any:
        return build(
            some(tmp_path), tmp_path / name / "d", change=half, applied_edits=["halved"], **how
        )

    on_ray = built("ray", reader=RaySourceReader("auto"), progress=progress)
    assert (tmp_path / "b.died").exists()
    alone = built("alone")
    assert content(tmp_path / "ray" / "d") == content(tmp_path / "alone" / "d")
    assert on_ray.skipped == alone.skipped == ["again"]
    assert on_ray.damaged == alone.damaged == ["cut: cut at byte 9"]
    assert begun == on_ray.added == alone.added


def test_an_error_in_a_worker_changes_nothing_and_leaves_nothing(
    cluster: Any, tmp_path: Path
) -> None:
    del cluster
    build([source(tmp_path, "old", 1)], tmp_path / "d")
    before = content(tmp_path / "d")
    sources = [source(tmp_path, "good", 1), source(tmp_path, "bad", 1, "label")]
    with pytest.raises(LabelError, match="bad: no log"):
        build(sources, tmp_path / "d", reader=RaySourceReader("auto"))
    gone = [source(tmp_path, "new", 1), source(tmp_path, "gone", 1)]
    gone[1].files[0].unlink()
    with pytest.raises(DatasetError, match="gone: a worker cannot read it: No such file"):
        build(gone, tmp_path / "d", reader=RaySourceReader("auto"))
    assert Dataset.open(tmp_path / "d").read().to_arrow().num_rows == 21
    assert content(tmp_path / "d")["dataset.json"] == before["dataset.json"]
    report = build(
        [source(tmp_path, "old", 1), source(tmp_path, "new", 1)],
        tmp_path / "d",
        reader=RaySourceReader("auto"),
    )
    assert (report.skipped, report.added, report.n_added) == (["old"], ["new"], 21)


def test_captures_in_relative_folders_are_read_as_by_one_process(
    cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    del cluster
    monkeypatch.chdir(tmp_path)
    for number, app in enumerate(("signal", "zoom", "briar")):
        folder = tmp_path / "captures" / f"home{number}"
        folder.mkdir(parents=True)
        write_pcap(folder / f"{app}.pcap", app_capture([app], 3, seed=number))
    cut = tmp_path / "captures" / "home0" / "signal.pcap"
    cut.write_bytes(cut.read_bytes()[:-5])
    for name, reader in (("ray", RaySourceReader("auto")), ("alone", None)):
        with pytest.warns(UserWarning, match="signal"):
            Dataset.build("captures", tmp_path / name / "d", labels="folders", reader=reader)
    assert len(Dataset.open("ray/d")) == 9
    assert content(tmp_path / "ray" / "d") == content(tmp_path / "alone" / "d")
