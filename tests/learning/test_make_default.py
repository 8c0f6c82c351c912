from __future__ import annotations

import numpy as np
import pytest

from apptell.errors import DatasetError
from apptell.learning.make_default import make_default, read_samples, recorded_captures
from apptell.models import load_model


@pytest.mark.slow
def test_the_model_in_the_package_is_what_the_script_makes(tmp_path):
    shipped = load_model()
    made = make_default(tmp_path / "default")
    assert made.info["data"] == shipped.info["data"]
    assert made.info["options"]["names"] == "on"
    np.testing.assert_allclose(made.prior, 1 / 7)  # it learns as if all were as common
    flows, apps, _ = read_samples()
    ours, theirs = made.predict_proba(flows), shipped.predict_proba(flows)
    # not the same bits: they follow from the order in which the linear algebra of a processor adds
    assert (ours.argmax(axis=1) == theirs.argmax(axis=1)).mean() > 0.99
    assert np.abs(ours - theirs).mean() < 0.01
    found = np.array(shipped.apps)[theirs.argmax(axis=1)]
    assert (found == apps).mean() > 0.95  # it learned these very flows


def test_samples_that_are_no_recordings_of_one_app_each_are_passed_over(tmp_path):
    (tmp_path / "named").mkdir()
    (tmp_path / "named" / "named.pcap.xz").write_bytes(b"")
    assert recorded_captures(tmp_path) == []
    assert {path.name for path in recorded_captures()} >= {"irc.pcap.xz", "xmpp.pcap.xz"}
    assert "named.pcap.xz" not in {path.name for path in recorded_captures()}


def test_no_samples_are_said(tmp_path):
    with pytest.raises(DatasetError, match=r"there are no samples$"):
        make_default(tmp_path / "out", tmp_path)
