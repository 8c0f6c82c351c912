"""An owner as a log or a capture names it enters; the label of its flows leaves.

A label is lower case, ``app`` or ``app/activity``. A package name is preferred to an app's title: titles
are translated, cut and not unique, and Android's uids differ between devices.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

SYSTEM: Final = "system"
"""The label of the operating system's own traffic. It is not ``other``: that is apps nobody asked for."""
FIRST_APP_UID: Final = 10_000
"""Android gives installed apps uids from here; below are root, netd, mDNS, mediaserver, ..."""
_PER_USER: Final = 100_000
_NOBODY: Final = 9999


def is_system_uid(uid: int) -> bool:
    """Whether an Android uid is the system's own, for any user of the phone; -1 (unknown) is not."""
    return uid >= 0 and (uid % _PER_USER < FIRST_APP_UID or uid == _NOBODY)


def label_of(
    *,
    uid: int | None,
    package: str | None,
    name: str | None,
    rename: Mapping[str, str] | None = None,
) -> str | None:
    """The label for an owner; None when it is unknown.

    Args:
        uid: Android uid, None where there is none (a process id is not one).
        package: package name.
        name: the app's title or the process' name.
        rename: lower-case package or title to label, wins over all else.
    """
    for known in (package, name):
        if rename and known and known.lower() in rename:
            return rename[known.lower()]
    if uid is not None and is_system_uid(uid):
        return SYSTEM
    if uid == -1:
        return None
    return plain(package or name)


def plain(name: str | None) -> str | None:
    """A name as a label: lower case, one kind of space, no slash (that parts app from activity)."""
    if name is None:
        return None
    return " ".join(name.lower().replace("/", " ").split()) or None
