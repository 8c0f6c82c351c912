"""Rows of the catalogue's tables (apps, domains, address ranges), and the values of their columns."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from apptell.names.domains import comparable_name, registered_domain

if TYPE_CHECKING:
    import ipaddress

KINDS: Final = ("app", "platform", "cdn", "sdk", "ads")
"""What a domain is. ``app``: its presence names the app. The others are shared and name a service:
``platform``, a provider's servers behind several of its products; ``cdn``, a delivery network or a cloud;
``sdk``, a library's server that many apps reach (analytics, crash reports, push, payment); ``ads``."""
MATCHES: Final = ("suffix", "exact")
"""How a domain matches. ``suffix``: the name itself and every name below it; ``exact``: only the name
itself.
"""
TRANSPORTS: Final = {"tcp": 6, "udp": 17}
"""IP protocol numbers of the transport protocols that a range can be of."""
CATEGORIES: Final = (
    "ai", "bank", "books", "browser", "calls", "cloud", "dating", "development", "education", "finance",
    "food", "games", "government", "health", "jobs", "kids", "lifestyle", "mail", "maps", "messaging", "music",
    "news", "payment", "photo", "productivity", "security", "shopping", "smart home", "social", "sports",
    "system", "telecom", "tools", "transport", "travel", "video", "vpn", "weather",
)  # fmt: skip
"""What an app is for, in the shipped tables."""
MAX_APP_CHARS: Final = 64

_APP_ID: Final = re.compile(r"[a-z0-9](?:[a-z0-9.+-]*[a-z0-9+])?")


@dataclass(frozen=True, slots=True)
class App:
    """An app that people have on their phones."""

    id: str
    """Lower case, without blanks: ``whatsapp``. It is the ``app`` of a record."""
    name: str
    """As its vendor writes it."""
    category: str | None = None
    """One of CATEGORIES in the shipped tables; a user's table may use another word."""
    provider: str | None = None
    """The company or project behind it."""
    country: str | None = None
    """The provider's country, ISO 3166-1 alpha-2."""
    android: tuple[str, ...] = ()
    """Package names."""
    ios: tuple[str, ...] = ()
    """Bundle identifiers."""


@dataclass(frozen=True, slots=True)
class Domain:
    """A domain, and the meaning of names under it."""

    domain: str
    """In the form of ``comparable_name``. A second label ``*`` stands for any one label, and ``*-`` at the
    beginning for any beginning of the first label."""
    match: str
    """One of MATCHES."""
    kind: str
    """One of KINDS."""
    app: str | None
    """An app's id when the kind is ``app``, else None."""
    service: str | None
    """What is behind the domain when the kind is not ``app``: ``Google Fonts``."""
    published: str | None = None
    """Where the fact is published (docs/reference/catalogue.md)."""
    checked: str | None = None
    """The day the row was last reviewed, ISO 8601."""


@dataclass(frozen=True, slots=True)
class Range:
    """Addresses that one app owns, or ports of addresses that it alone serves there."""

    network: ipaddress.IPv4Network | ipaddress.IPv6Network
    app: str
    published: str | None = None
    checked: str | None = None
    transport: str | None = None
    """One of TRANSPORTS; None for both."""
    ports: tuple[int, int] | None = None
    """First and last server port; None for all."""

    @property
    def ports_text(self) -> str | None:
        """The ports as the tables write them: ``443`` or ``3478-3481``."""
        if self.ports is None:
            return None
        first, last = self.ports
        return str(first) if first == last else f"{first}-{last}"

    @property
    def key(self) -> str:
        """What tells a row from others."""
        return " ".join(filter(None, (str(self.network), self.transport, self.ports_text)))

    def has(self, protocol: int | None, port: int | None) -> bool:
        """Whether a server port over an IP protocol is the app's; None for what is not known."""
        return (self.transport is None or TRANSPORTS[self.transport] == protocol) and (
            self.ports is None or (port is not None and self.ports[0] <= port <= self.ports[1])
        )


def domain_fault(domain: str) -> str | None:
    """Why a text cannot be the domain of a row; None when it can.

    A public suffix cannot: it would name every domain that is registered under it.
    """
    label, _, below = domain.partition(".*.")
    is_starred = bool(below) and "." not in label
    whole = f"{label}.{below}" if is_starred else domain
    if domain.startswith("*-"):
        is_starred, below = True, domain.partition(".")[2]
        whole = domain[2:]
    if comparable_name(whole) is None:
        return f"{_shown(domain)} is not a domain"
    if registered_domain(below if is_starred else domain) is None:
        return f"{_shown(domain)} is a public suffix or a single label"
    return None


def is_app_id(text: str) -> bool:
    """Whether a text can be an app's id."""
    return len(text) <= MAX_APP_CHARS and _APP_ID.fullmatch(text) is not None


def id_of(name: str) -> str | None:
    """The id that an app of this name gets: lower case, hyphens for blanks; None when nothing is left.

    An app's name in another script stays as it is, so that a record shows what the user wrote.
    """
    return "-".join(name.lower().replace("/", " ").split()) or None


def _shown(text: str) -> str:
    """A text of a file, short and printable, for an error."""
    return repr(text if len(text) <= 80 else f"{text[:77]}...")
