import json
from pathlib import Path

import pytest

from apptell.testing import app_capture, write_pcap

from .conftest import Run


@pytest.fixture(scope="module")
def telling(run: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Enough flows of two apps, each with a server and a server name of its own."""
    root = tmp_path_factory.mktemp("telling")
    (root / "captures" / "home").mkdir(parents=True)
    for app in ("signal", "zoom"):
        write_pcap(root / "captures" / "home" / f"{app}.pcap", app_capture([app], 60))
    built = run("dataset", "build", root / "captures", "-o", root / "dataset")
    assert built.returncode == 0, built.stderr
    return root / "dataset"


def test_leaks_are_told_in_order_and_are_exit_code_1(
    run: Run, telling: Path, tmp_path: Path
) -> None:
    done = run("audit", telling, "-o", tmp_path / "r")
    assert done.returncode == 1, done.stderr
    found = json.loads(done.stdout)
    assert found == json.loads((tmp_path / "r" / "metrics.json").read_text())
    assert {"server name", "label order"} <= set(found["leaks"])
    gains = [finding["gain"] for finding in found["findings"] if finding["is_leak"]]
    assert gains == sorted(gains, reverse=True)
    assert "Leaks above 0.05: " in done.stderr
    assert "mask" in (tmp_path / "r" / "report.html").read_text()
    assert (tmp_path / "r" / "findings.csv").read_text().startswith("field,leak,gain")


def test_nothing_above_the_limit_is_exit_code_0(run: Run, dataset: Path) -> None:
    done = run("audit", dataset, "--split", "source", "--limit", 0.99)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["clean"] is True


def test_a_split_that_does_not_exist_is_exit_code_2(run: Run, dataset: Path) -> None:
    done = run("audit", dataset, "--split", "moon")
    assert done.returncode == 2
    assert "unknown split 'moon'" in done.stderr
