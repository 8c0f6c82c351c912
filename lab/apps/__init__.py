"""The messaging systems, one module each, in a fixed order."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import ModuleType

APPS = ("irc", "matrix", "mqtt", "mumble", "websocketchat", "xmpp")
MORE = ("deltachat",)
"""Run when named; not in the samples and the dataset, whose six stand for the paper's six."""


def load(name: str) -> ModuleType:
    """The module of one messaging system.

    ``serve``, ``session`` and, where it has any, ``ROLES``.
    """
    return importlib.import_module(f"lab.apps.{name}")
