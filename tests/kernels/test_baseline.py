"""Machine code that came with the package is used where it fits, and only there."""

from __future__ import annotations

import shutil

import pytest
from llvmlite import binding

from apptell.kernels.baseline import PROCESSOR, is_able

from .test_compiled import PROGRAM, Install

BASELINE = {"NUMBA_CPU_NAME": PROCESSOR, "NUMBA_CPU_FEATURES": ""}
OLDER = """
from llvmlite import binding
ask = binding.get_host_cpu_features
def answer():
    features = ask()
    features["avx2"] = False
    return features
binding.get_host_cpu_features = answer
"""


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    """The files of a kernel that was compiled for the baseline."""
    if not is_able(binding.get_host_cpu_features()):
        pytest.skip(f"this processor is not {PROCESSOR}")
    made = Install(tmp_path_factory.mktemp("baseline"))
    assert made.answer(**BASELINE) == (42, True)
    return [*made.cache.rglob("*.nb?"), *made.cache.rglob("*.mc")]


@pytest.fixture
def install(tmp_path, compiled):
    """A package with compiled kernels, and an empty cache."""
    made = Install(tmp_path)
    folder = made.root / "apptell/kernels/prebuilt"
    folder.mkdir()
    for path in compiled:
        shutil.copy(path, folder)
    return made


def test_what_came_with_the_package_is_not_compiled_again(install):
    assert install.answer() == (42, False)
    assert not [path for path in install.cache.rglob("*") if path.is_file()]


def test_code_of_other_sources_is_not_used(install):
    install.constant(99)
    assert install.answer() == (100, True)
    assert install.answer() == (100, False)


def test_bounds_checks_are_not_lost(install):
    assert install.answer(NUMBA_BOUNDSCHECK="1") == (42, True)


def test_a_processor_that_lacks_an_instruction_compiles_for_itself(install):
    program = OLDER + PROGRAM
    done = install.run(program, anew=True)
    assert done.stdout.split()[:2] == ["42", "1"], done.stderr


def test_a_folder_that_others_can_write_to_is_ignored(install):
    (install.root / "apptell/kernels/prebuilt").chmod(0o777)
    assert install.answer() == (42, True)


def test_damaged_code_is_replaced_by_what_this_machine_compiles(install):
    for path in (install.root / "apptell/kernels/prebuilt").iterdir():
        path.write_bytes(path.read_bytes()[:40])
    assert install.answer() == (42, True)
    assert install.answer() == (42, False)
