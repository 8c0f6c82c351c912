"""Tables of apps, domains and address ranges, and what a server's name or address says about its app."""

from __future__ import annotations

from apptell.catalogue.lookup import MATCH_SCHEMA, Catalogue, Match
from apptell.catalogue.rows import CATEGORIES, KINDS, App, Domain, Range

__all__ = ["CATEGORIES", "KINDS", "MATCH_SCHEMA", "App", "Catalogue", "Domain", "Match", "Range"]
