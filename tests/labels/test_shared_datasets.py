"""The real captures and FG-Net, built with the commands of their cards in docs/reference/datasets."""

import os
import re
from pathlib import Path

import pytest

from apptell.dataset import build, folds, split
from apptell.flows import FlowOptions
from apptell.flows.schema import GROUPS
from apptell.labels import CaptureFlows, LabelOptions, LabelSearch

SHARED = Path(
    os.environ.get("APPTELL_SHARED", Path(__file__).resolve().parents[2] / ".." / "shared")
)
ANDROID = (
    r"(?:xz1_|(?P<version>android\d+)_)?(?P<app>[A-Za-z]+)(?:-[a-z]+)?(?:_(?:merged|filtered))?"
    r"(?:_cache)?(?P<session>\d*)"
)
pytestmark = pytest.mark.shared


def built(name, folder, **options):
    path = SHARED / name
    if not path.is_dir():
        pytest.skip("shared data are absent")
    reader = CaptureFlows(FlowOptions(groups=tuple(GROUPS)))
    return build(LabelSearch([path], reader, LabelOptions(**options)), folder).dataset


def test_messengers_have_the_flows_of_their_card_and_split_by_source(tmp_path):
    data = built("captures/messengers", tmp_path / "d")
    assert data.info["apps"] == {
        "discord": 79, "other": 2770, "signal": 157, "skype": 284, "teams": 407, "whatsapp": 385,
        "zoom": 65,
    }  # fmt: skip
    assert len(data.info["groups"]["source"]) == 54
    flows = data.read(("core", "labels"))
    for part in folds(flows, "source"):
        sides = [
            {dict(row)["source"] for row in flows.take(rows).column("groups").to_pylist()}
            for rows in (part.train, part.test)
        ]
        assert not sides[0] & sides[1]
        assert len(set(flows.take(part.test).column("label").to_pylist())) >= 5


def test_android_gets_version_and_run_from_its_names(tmp_path):
    data = built("captures/android", tmp_path / "d", pattern=re.compile(ANDROID))
    assert len(data) == 1342
    assert data.info["groups"]["version"] == {"android71": 372, "android81": 283}
    assert data.info["apps"]["mujvlak"] == 24


def test_fgnet_is_whole_and_splits_by_session_and_time(tmp_path):
    data = built("datasets/fgnet", tmp_path / "d")
    assert (len(data), len(data.apps)) == (223_588, 53)
    flows = data.read(("core", "labels"))
    assert flows.column("connection_id").value_counts().field("counts").to_pylist() == [1] * len(
        flows
    )
    part = split(flows, "session")
    assert abs(len(part.test) / len(flows) - 0.2) < 0.02
    late = split(flows, "time", test_share=0.3)
    assert flows.numpy("start_ns")[late.train].max() < flows.numpy("start_ns")[late.test].min()
