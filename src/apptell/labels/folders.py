"""A capture's path enters; its app, by the file's name, and its groups, by its folders, leave.

``<group>/<app>.pcap[ng][.gz|.xz|...]``: the file's name in lower case is the label; the folders between
the one that was named and the file are the group ``source``. A folder ``name=value`` is the group
``name``. Two underscores end the app's name: ``app__run3.pcap`` is a run of ``app``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from apptell.labels.naming import plain

if TYPE_CHECKING:
    from pathlib import Path

CAPTURE_SUFFIXES: Final = (".pcap", ".pcapng", ".cap", ".pktap", ".ntar", ".dmp")
_COMPRESSED: Final = (".gz", ".bz2", ".xz", ".zst", ".lz4")


def bare_name(path: Path) -> str:
    """A file's name without the suffixes of capture and compression."""
    name = path.name
    for suffix in _COMPRESSED:
        name = name.removesuffix(suffix)
    for suffix in (*CAPTURE_SUFFIXES, ".csv", ".txt", ".log", ".jsonl", ".json", ".tsv"):
        if name.lower().endswith(suffix):
            return name[: -len(suffix)]
    return name


def app_and_groups(path: Path, root: Path) -> tuple[str, dict[str, str]]:
    """The app and the groups of a capture.

    Args:
        path: the capture.
        root: the folder that was named (or the capture itself): what lies below it is group.
    """
    name, _, run = bare_name(path).partition("__")
    app = plain(name) or "unnamed"
    if path == root:
        folders = [path.resolve().parent.name]
    else:
        folders = list(path.relative_to(root).parts[:-1]) or [root.resolve().name]
    groups = {}
    for folder in folders:
        key, equals, value = folder.partition("=")
        if equals and key and value:
            groups[key] = value
    groups.setdefault("source", "/".join(folders))
    if run:
        groups["session"] = f"{app}/{run}"
    return app, groups
