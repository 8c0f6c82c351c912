"""Derives the label of flows from an owner's package, title or user id.

A label is lower case, ``app`` or ``app/activity``. A package name is preferred to an app's title: titles
are translated, cut and not unique, and Android's uids differ between devices.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

SYSTEM: Final = "system"
"""The label of the operating system's own traffic. It differs from ``other``, which is background apps."""
NAME_LABELS: Final = "names"
"""The label format of names, DNS answers and addresses, and ``label_from`` of flows that it labelled."""
FIRST_APP_UID: Final = 10_000
"""Android gives installed apps uids from here; below are root, netd, mDNS, mediaserver, ..."""
_PER_USER: Final = 100_000
_NOBODY: Final = 9999


def is_system_uid(uid: int) -> bool:
    """Whether an Android uid is the system's own, for any user of the phone; -1 (unknown) is not."""
    return uid >= 0 and (uid % _PER_USER < FIRST_APP_UID or uid == _NOBODY)


def app_id(uid: int) -> int:
    """The part of an Android uid that is the same app's for every user (and work profile) of the phone."""
    return uid % _PER_USER


def label_of(
    *,
    uid: int | None,
    package: str | None,
    name: str | None,
    rename: Mapping[str, str] | None = None,
) -> str | None:
    """The label for an owner; None when it is unknown.

    An app of which only the uid is known is labelled ``uid-10123``.

    Args:
        uid: Android uid, None where there is none (a process id is not one); a negative one is unknown.
        package: package name.
        name: the app's title or the process' name.
        rename: lower-case package or title to label, wins over all else.
    """
    for known in (package, name):
        if rename and known and known.lower() in rename:
            return rename[known.lower()]
    if uid is not None and is_system_uid(uid):
        return SYSTEM
    if uid is not None and uid < 0:
        return None
    if name is not None and uid is not None and name.strip() == str(uid):
        name = None  # the recorder found no title: an app of another user of the phone
    known_as = plain(package or name)
    return known_as if known_as or uid is None else f"uid-{uid}"


def plain(name: str | None) -> str | None:
    """A name as a label: lower case, one kind of space, no slash (that parts app from activity)."""
    if name is None:
        return None
    return plain_text(name.lower().replace("/", " "))


def plain_text(value: object) -> str | None:
    """A value as text with one kind of space that UTF-8 can hold; None for nothing."""
    text = "" if value is None else str(value)
    if not text.isascii():
        text = text.encode("utf-8", "replace").decode()
    return " ".join(text.split()) or None


def label_text(text: str) -> str | None:
    """``App/Activity`` as a label: each part plain, at most one activity."""
    app, _, activity = text.partition("/")
    parts = [part for part in (plain(app), plain(activity)) if part]
    return "/".join(parts) or None
