"""Machine code that is loaded without Numba does what Numba's own call does, and what plain Python does."""

from __future__ import annotations

import copy
import json
import pickle

import numpy as np
import pytest

from apptell.kernels.machine_code import IS_POSSIBLE, Held

from .test_compiled import Install

pytestmark = pytest.mark.skipif(
    not IS_POSSIBLE, reason="kernels are always called through Numba here"
)

KERNELS = """
from typing import NamedTuple
import numpy as np
from apptell.kernels.compiled import inlined, kernel, subroutine

class Two(NamedTuple):
    left: object
    right: object

@subroutine
def twice(value):
    return 2 * value

@inlined
def first(array):
    return twice(array[0])

@kernel
def arrays(line, square, strided, fixed):
    total = 0
    for i in range(len(line)):
        line[i] += 1
        total += line[i] * fixed[i % len(fixed)]
    for i in range(square.shape[0]):
        for j in range(square.shape[1]):
            square[i, j] = i * 10 + j + strided[i, j]
    return total, first(line), square.size, square.strides[0]

@kernel
def numbers(small, whole, real, yes, large, byte):
    return small + 1, whole - 1, real / 2, not yes, large + np.uint64(1), byte

@kernel
def records(rows, one, pair):
    one.count += 5
    for i in range(len(rows)):
        rows[i].count = i + pair.left[i] + pair.right
        rows[i].parts[1] = 7
    return one.count, rows[0].count

@kernel
def own_memory(n):
    kept = np.zeros(n, dtype=np.int64)
    for i in range(n):
        kept[i] = i
    part = kept[1:]
    return part.sum()

@kernel(allocates=False)
def nothing(line):
    line[0] = 9

@kernel
def raises(number):
    if number > 2:
        raise ValueError("too much", 3)
    return 6 // number
"""
PROGRAM = """
import json, sys
import numpy as np
from apptell.packets.several import *

def results(call, records_of=lambda array: array):
    row = np.dtype([("count", "<i4"), ("parts", "<u2", 3)])
    line, square = np.arange(5, dtype=np.int32), np.zeros((3, 2))
    strided = np.arange(24.0).reshape(6, 4)[::2, ::2]
    fixed = np.array([3, 4], dtype=np.int64); fixed.flags.writeable = False
    rows, one = (records_of(np.zeros(2, dtype=row)) for _ in range(2))
    told = [call(arrays)(line, square, strided, fixed), line.tolist(), square.tolist()]
    told.append(call(numbers)(True, -(2**40), 0.75, False, np.uint64(2**64 - 2), np.uint8(255)))
    pair = Two(np.array([4, 5], dtype=np.uint8), 3)
    told += [call(records)(rows, one[1], pair), rows.tolist(), one.tolist(), call(own_memory)(1000)]
    told += [call(nothing)(line), line.tolist(), call(raises)(2)]
    for bad in (0, 5):
        try:
            call(raises)(bad)
        except Exception as error:
            told.append([type(error).__name__, list(map(str, error.args))])
    return json.dumps(told, default=lambda value: value.tolist())
"""
COMPILED = PROGRAM + "print(results(lambda kernel: kernel))\n"
HELD = (
    PROGRAM
    + """
from apptell.kernels.machine_code import Held
def holding(kernel):
    return lambda *given: kernel(*(Held(each) if isinstance(each, tuple) else each for each in given))
print(results(holding))
"""
)


@pytest.fixture
def several(tmp_path):
    """An install with these kernels."""
    return with_kernels(tmp_path)


@pytest.fixture(scope="module")
def compiled_once(tmp_path_factory):
    """Such an install whose kernels have been compiled."""
    made = with_kernels(tmp_path_factory.mktemp("compiled"))
    told(made)
    return made


@pytest.fixture
def compiled(compiled_once, tmp_path):
    """The same install; what it compiled is a test's own. Its sources are not."""
    return compiled_once.with_cache(tmp_path / "cache")


def with_kernels(folder):
    made = Install(folder)
    (made.root / "apptell/packets/several.py").write_text(KERNELS)
    return made


def told(install: Install, program: str = COMPILED, *, without_numba: bool = False) -> list:
    if without_numba:
        program += "\nassert 'numba' not in sys.modules\n"
    done = install.run(program, anew=without_numba)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_loaded_code_does_what_the_compiler_and_what_python_do(several):
    in_python = told(
        several,
        PROGRAM
        + "print(results(lambda kernel: kernel.py_func, lambda array: array.view(np.recarray)))\n",
    )
    compiled = told(several)
    loaded = told(several, without_numba=True)
    assert compiled == loaded
    assert len(list(several.cache.rglob("*.mc"))) == 6
    assert loaded[3][:5] == [2, -(2**40) - 1, 0.375, True, 2**64 - 1]
    # Python's own arithmetic differs in the words of an error only
    assert loaded[:11] == in_python[:11]
    assert [kind for kind, _ in loaded[11:]] == ["ZeroDivisionError", "ValueError"]
    assert loaded[12] == ["ValueError", ["too much", "3"]]


def test_memory_that_a_kernel_makes_for_itself_is_given_back(compiled):
    program = (
        "from pathlib import Path\nfrom apptell.packets.several import own_memory\n"
        "for _ in range(2000): own_memory(200_000)\n"
        "print(Path('/proc/self/status').read_text().split('VmHWM:')[1].split()[0])"
    )  # and not ru_maxrss, which a process inherits from the one that began it
    assert told(compiled, program) < 1_000_000  # KiB; all of it would be 3,200 MB


def test_other_types_of_arguments_are_compiled_apart(compiled):
    program = (
        "import numpy as np\nfrom apptell.packets.several import nothing\n"
        "line = np.zeros(3, {}); nothing(line)\n"
        "print([float(line[0]), len(nothing.stats.cache_misses)])"
    )
    assert told(compiled, program.format("np.int16")) == [9.0, 1]
    assert told(compiled, program.format("np.float32")) == [9.0, 1]
    assert told(compiled, program.format("np.int16")) == [9.0, 0]


def test_an_array_of_one_row_or_column_is_one_of_its_kind(several):
    told(several)
    program = (
        "import sys\nimport numpy as np\nfrom apptell.packets.several import arrays\n"
        "said = []\n"
        "for shape in ((3, 2), (1, 2), (3, 1), (1, 1)):\n"
        "    line, square = np.arange(5, dtype=np.int32), np.zeros(shape)\n"
        "    strided = np.zeros((6, 4))[::2, ::2]\n"
        "    said.append([*arrays(line, square, strided, np.ones(2, np.int64)), square.tolist()])\n"
        "import json; print(json.dumps(said, default=int))"
    )
    sizes = [6, 2, 3, 1]
    rows = [
        [[10 * i + j for j in range(n)] for i in range(m)]
        for m, n in ((3, 2), (1, 2), (3, 1), (1, 1))
    ]
    said = told(several, program, without_numba=True)
    assert [each[2] for each in said] == sizes
    assert [each[4] for each in said] == rows


def test_a_held_tuple_is_taken_like_the_tuple(compiled, several):
    expected = told(compiled)
    assert told(compiled, HELD) == expected
    assert told(several, HELD) == expected  # compiled with it


@pytest.mark.parametrize("spoil", [lambda data: data[:60], lambda data: data[:-1] + b"?"])
def test_a_damaged_file_is_not_run(compiled, spoil):
    expected = told(compiled)
    for path in compiled.cache.rglob("*.mc"):
        path.write_bytes(spoil(path.read_bytes()))
    assert told(compiled) == expected


def test_files_of_other_sources_are_deleted(several):
    told(several)
    before = {path.name for path in several.cache.rglob("*.mc")}
    source = several.root / "apptell/packets/several.py"
    source.write_text(source.read_text() + "\nCHANGED = 1\n")
    told(several)
    after = {path.name for path in several.cache.rglob("*.mc")}
    assert len(after) == len(before)
    assert not after & before


def test_files_for_other_processors_are_kept(compiled):
    before = {path.name for path in compiled.cache.rglob("*.mc")}
    expected = told(compiled, COMPILED)
    assert compiled.run(COMPILED, NUMBA_CPU_NAME="generic", NUMBA_CPU_FEATURES="").returncode == 0
    both = {path.name for path in compiled.cache.rglob("*.mc")}
    assert before < both
    assert len(both) == 2 * len(before)
    assert told(compiled, without_numba=True) == expected


def test_a_working_directory_that_may_not_be_looked_into_does_no_harm(several, tmp_path):
    closed = tmp_path / "closed"
    closed.mkdir()
    program = (
        "import os\nfrom apptell.kernels import compiled\n"
        f"os.chdir({str(closed)!r}); os.chmod('.', 0)\n"
        "if os.getuid() == 0: os.seteuid(65534)\n"
        "try: os.stat('anything')\n"
        "except PermissionError: print(int(compiled._is_usual()))\n"
    )
    assert told(several, program) == 1


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda held: pickle.loads(pickle.dumps(held))])
def test_a_copy_of_held_arguments_has_the_addresses_of_its_own_arrays(copied):
    held = Held((np.arange(5), 7))
    other = copied(held)
    assert other.key == held.key
    assert other.slots == [id(other.values[0]), 7]
    assert other.values[0] is not held.values[0]
