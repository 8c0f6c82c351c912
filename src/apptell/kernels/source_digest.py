"""Computes a digest of a module's source and of every apptell module that it imports.

A compiled kernel contains constants and inlined functions of other modules. Its compiled form is therefore
valid as long as this digest is the same.
"""

from __future__ import annotations

import hashlib
import re
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Final

_PACKAGE: Final = __name__.partition(".")[0]
_IMPORT: Final = re.compile(
    rf"^from ({_PACKAGE}[\w.]*) import (?:\(([^)]*)\)|([^(\n]*))|^import ({_PACKAGE}[\w.]*)",
    re.MULTILINE,
)
"""Imports at module level. Imports inside functions and for type checkers only are not part of a kernel."""


def source_digest(module: str) -> bytes | None:
    """SHA-256 over the sources of a module and of the modules of apptell that it imports, at any depth.

    Args:
        module: its full name; also of a module outside apptell.

    Returns:
        The digest; None where the module's source is not a file.
    """
    if _source(module) is None:
        return None
    seen: dict[str, bytes] = {}
    waiting = [module]
    while waiting:
        name = waiting.pop()
        if name not in seen:
            seen[name] = _source(name) or b""
            waiting += _imports(name)
    digest = hashlib.sha256()
    for name in sorted(seen):
        digest.update(f"{name}\0{len(seen[name])}\0".encode())
        digest.update(seen[name])
    return digest.digest()


@cache
def _imports(module: str) -> tuple[str, ...]:
    """Modules that a module imports: of ``from a import b`` the module ``a.b``, else ``a``."""
    text = (_source(module) or b"").decode("utf-8", "replace")
    names = []
    for match in _IMPORT.finditer(text):
        package, several, one, whole = match.groups()
        if whole:
            names.append(whole)
            continue
        for part in re.sub(r"#[^\n]*", "", several or one).split(","):
            word = part.split(" as ")[0].strip()
            submodule = f"{package}.{word}"
            names.append(submodule if word and _source(submodule) is not None else package)
    return tuple(names)


@cache
def _source(module: str) -> bytes | None:
    """A module's source; None where there is no such file. No module is imported for it."""
    path = _file(module)
    if path is None:
        return None
    try:
        return path.read_bytes()
    except OSError:
        return None


def _file(module: str) -> Path | None:
    top, *rest = module.split(".")
    if top != _PACKAGE:
        spec = find_spec(module)
        return Path(spec.origin) if spec is not None and spec.origin is not None else None
    path = Path(__file__).parents[1].joinpath(*rest)
    if (path / "__init__.py").is_file():
        return path / "__init__.py"
    return path.with_suffix(".py") if rest else None
