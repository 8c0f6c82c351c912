"""What may be loaded when: a process of its own, and what it has in ``sys.modules``."""

import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = ("torch", "sklearn", "matplotlib", "onnx", "skl2onnx", "jinja2")


def _loaded(program: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", f"{program}\nimport sys; print('\\n' + ' '.join(sys.modules))"],
        capture_output=True,
        text=True,
        check=True,
    )
    return {name.split(".")[0] for name in done.stdout.splitlines()[-1].split()}


def test_importing_apptell_loads_next_to_nothing() -> None:
    loaded = _loaded("import apptell")
    assert not loaded & {*HEAVY, "numpy", "pyarrow", "numba", "onnxruntime", "rich", "typer"}


def test_help_loads_no_library_that_computes() -> None:
    loaded = _loaded(
        "import sys; sys.argv = ['apptell', '--help']\n"
        "from apptell.cli import main\n"
        "try: main()\nexcept SystemExit: pass"
    )
    assert not loaded & {*HEAVY, "numpy", "pyarrow", "numba", "onnxruntime"}


@pytest.mark.parametrize("name", ["read_flows", "identify", "load_model", "Dataset", "evaluate"])
def test_what_identifies_and_measures_never_loads_a_training_framework(name: str) -> None:
    assert not _loaded(f"from apptell import {name}") & set(HEAVY)


def test_identifying_a_capture_never_loads_a_training_framework(tmp_path: Path) -> None:
    from apptell.testing import app_capture, tiny_model, write_pcap

    model = tiny_model(tmp_path / "model")
    capture = write_pcap(tmp_path / "a.pcap", app_capture(["signal"], 2))
    loaded = _loaded(
        f"import apptell; print(len(list(apptell.identify({str(capture)!r}, {str(model)!r}))))"
    )
    assert "onnxruntime" in loaded
    assert not loaded & set(HEAVY)


def test_the_command_identify_loads_neither_pandas_nor_scipy(tmp_path: Path) -> None:
    from apptell.testing import app_capture, write_pcap

    capture = write_pcap(tmp_path / "a.pcap", app_capture(["signal"], 2))
    loaded = _loaded(
        f"import sys; sys.argv = ['apptell', 'identify', {str(capture)!r}]\n"
        "from apptell.cli import main\n"
        "try: main()\nexcept SystemExit as end: assert not end.code\n"
        "sys.stdout.write('\\n'); sys.stdout.flush()"
    )
    assert "llvmlite" in loaded
    assert not loaded & {*HEAVY, "pandas", "scipy", "pydantic"}


def test_every_public_name_is_there() -> None:
    import apptell

    for name in apptell.__all__:
        assert getattr(apptell, name) is not None
    assert sorted(apptell.__all__) == apptell.__all__
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = apptell.nothing
