"""Every public name is documented on one page, with an example that runs."""

import doctest
import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

import apptell
from apptell.testing import START_NS, app_capture, write_pcap

ROOT = Path(__file__).parents[1]
NAMES = [name for name in apptell.__all__ if not name.startswith("_")]
FLAGS = doctest.ELLIPSIS | doctest.IGNORE_EXCEPTION_DETAIL


@pytest.fixture(scope="module")
def examples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the examples find in their folder, as the page says it."""
    folder = tmp_path_factory.mktemp("examples")
    write_pcap(folder / "phone.pcap", app_capture(["signal", "zoom"], 1, seed=500))
    for i in range(5):
        (folder / "captures" / f"home{i}").mkdir(parents=True)
        for app in ("signal", "zoom"):
            packets = app_capture([app], 4, seed=1000 + 100 * i, start_ns=START_NS + i * 10**13)
            write_pcap(folder / "captures" / f"home{i}" / f"{app}.pcap", packets)
    (folder / "ours.csv").write_text("domain,app\nsignal.example,Signal\nzoom.example,Zoom\n")
    data = apptell.Dataset.build(folder / "captures", folder / "dataset")
    apptell.train(data, "paper-rf", out=folder / "model", split="source", ports=False)
    return folder


@pytest.fixture
def in_examples(examples: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(examples)
    return examples


def reference() -> ModuleType:
    place = ROOT / "docs" / "make_python_reference.py"
    spec = importlib.util.spec_from_file_location("make_python_reference", place)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_is_what_the_docstrings_say() -> None:
    module = reference()
    assert module.PAGE.read_text(encoding="utf-8") == module.page(), (
        "run python docs/make_python_reference.py"
    )


@pytest.mark.parametrize("name", NAMES)
def test_every_public_name_has_an_example_that_runs(name: str, in_examples: Path) -> None:
    finder = doctest.DocTestFinder(recurse=name == "Dataset")
    tests = finder.find(getattr(apptell, name), name, globs={"apptell": apptell})
    examples = [test for test in tests if test.examples]
    assert examples, f"{name} has no example"
    for test in examples:
        said: list[str] = []
        result = doctest.DocTestRunner(optionflags=FLAGS).run(test, out=said.append)
        assert result.failed == 0, "".join(said)


def test_types_are_shipped() -> None:
    assert (Path(apptell.__file__).parent / "py.typed").is_file()
