"""apptell tells which app made each flow of a phone's network traffic, also when it is encrypted."""

from __future__ import annotations

from apptell._version import __version__

__all__ = ["__version__"]
