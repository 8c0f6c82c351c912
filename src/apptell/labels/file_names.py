"""Derives the app of a capture from its file name, and its groups from its folders.

``<group>/<app>.pcap[ng][.gz|.xz|...]``: the file's name in lower case is the label; the folders between
the one that was named and the file are the group ``source``. A folder ``name=value`` is the group
``name``. Two underscores end the app's name: ``app__run3.pcap`` is a run of ``app``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from apptell.errors import LabelError
from apptell.files import readable
from apptell.labels.naming import plain

if TYPE_CHECKING:
    import re
    from pathlib import Path

CAPTURE_SUFFIXES: Final = (".pcap", ".pcapng", ".cap", ".pktap", ".ntar", ".dmp")
LOG_SUFFIXES: Final = (".csv", ".txt", ".log", ".jsonl", ".json", ".tsv")
_COMPRESSED: Final = (".gz", ".bz2", ".xz", ".zst", ".lz4")


def is_capture_name(path: Path) -> bool:
    """Whether a file is named as captures are, compressed or not."""
    return any(suffix.lower() in CAPTURE_SUFFIXES for suffix in path.suffixes)


def bare_name(path: Path) -> str:
    """A file's name without the suffixes of capture, log and compression."""
    name = readable(path.name)
    for suffix in _COMPRESSED:
        if name.lower().endswith(suffix):
            name = name[: -len(suffix)]
    for suffix in (*CAPTURE_SUFFIXES, *LOG_SUFFIXES):
        if name.lower().endswith(suffix):
            return name[: -len(suffix)]
    return name


def app_and_groups(
    path: Path, root: Path, pattern: re.Pattern[str] | None = None
) -> tuple[str, dict[str, str]]:
    """The app and the groups of a capture.

    Args:
        path: the capture.
        root: the folder that the user named (or the capture itself): the folders below it are groups.
        pattern: a pattern for file names, matched against the name without suffixes; its named group ``app``
            is the app, ``activity`` the activity, and any other a group of that name.

    Raises:
        LabelError: the pattern does not match a name.
    """
    parts = _parts(path, pattern)
    app = plain(parts.pop("app")) or "unnamed"
    if path == root:
        names = [path.resolve().parent.name]
    else:
        names = list(path.relative_to(root).parts[:-1]) or [root.resolve().name]
    folders = [readable(name) for name in names]
    groups = {}
    for folder in folders:
        key, equals, value = folder.partition("=")
        if equals and key and value:
            groups[key] = value
    groups.setdefault("source", "/".join(folders))
    if "session" in parts:
        # The number of a run is only unique within its folder and app.
        parts["session"] = f"{groups['source']}/{app}/{parts['session']}"
    activity = plain(parts.pop("activity", None))
    return f"{app}/{activity}" if activity else app, {**groups, **parts}


def _parts(path: Path, pattern: re.Pattern[str] | None) -> dict[str, str]:
    name = bare_name(path)
    if pattern is None:
        app, _, run = name.partition("__")
        return {"app": app, "session": run} if run else {"app": app}
    match = pattern.fullmatch(name)
    if match is None or not match.groupdict().get("app"):
        raise LabelError(
            f"{path}: its name does not fit the pattern {pattern.pattern!r}", argument="pattern"
        )
    return {key: value for key, value in match.groupdict().items() if value}
