"""No module and no function is longer than can be read in one go; exceptions are named with their reason."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MODULE_LINES = 450
FUNCTION_LINES = 80
KERNEL_LINES = 120
"""Of a function that Numba compiles: its steps share many local variables."""
LONG_MODULES: dict[str, str] = {}
"""Path to the reason why the module is longer."""
_STEPS = "one pass over bytes whose steps share a dozen local variables, which Numba cannot pass by reference"
LONG_FUNCTIONS: dict[str, str] = {
    "src/apptell/encoding/stream_tokens.py:read_streams": _STEPS,
    "src/apptell/names/hello.py:parse_hellos": _STEPS,
}
"""``path:function`` to the reason why the function is longer."""


def modules() -> list[Path]:
    return sorted(
        path
        for folder in ("src", "lab", "benchmarks")
        for path in (ROOT / folder).rglob("*.py")
        if path.is_file()
    )


def is_compiled(function: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    return any("njit" in ast.unparse(decorator) for decorator in function.decorator_list) or any(
        "kernel" in ast.unparse(decorator) for decorator in function.decorator_list
    )


def body_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of the body; the signature and the docstring are no steps to follow."""
    first = function.body[0]
    documented = (
        isinstance(first, ast.Expr)
        and isinstance(first.value, ast.Constant)
        and isinstance(first.value.value, str)
    )
    begin = (first.end_lineno or 0) if documented else first.lineno - 1
    return (function.end_lineno or 0) - begin


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def long_modules() -> dict[str, int]:
    return {
        str(path.relative_to(ROOT)): n
        for path in modules()
        if (n := len(path.read_text(encoding="utf-8").splitlines())) > MODULE_LINES
    }


def long_functions() -> dict[str, int]:
    return {
        f"{path.relative_to(ROOT)}:{function.name}": n
        for path in modules()
        for function in functions(path)
        if (n := body_lines(function)) > (KERNEL_LINES if is_compiled(function) else FUNCTION_LINES)
    }


def test_the_modules_that_are_longer_than_the_limit_are_those_that_are_named() -> None:
    assert long_modules().keys() == LONG_MODULES.keys()


def test_the_functions_that_are_longer_than_the_limit_are_those_that_are_named() -> None:
    assert long_functions().keys() == LONG_FUNCTIONS.keys()


@pytest.mark.parametrize("reasons", [LONG_MODULES, LONG_FUNCTIONS])
def test_every_exception_says_why(reasons: dict[str, str]) -> None:
    assert all(len(reason.split()) > 3 for reason in reasons.values())
