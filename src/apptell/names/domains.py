"""Normalises host names, and finds the registered domain of a name.

The suffixes under which registries hand out names come from the Public Suffix List
(https://publicsuffix.org), in the snapshot that the package ``publicsuffixlist`` carries: nothing is
fetched. Only the list's ICANN section counts, so that a customer of a hosting service keeps the name of the
service: ``d1.cloudfront.net`` belongs to ``cloudfront.net``.
"""

from __future__ import annotations

import ipaddress
import re
from functools import cache, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from publicsuffixlist import PublicSuffixList

_MAX_NAME_CHARS: Final = 253  # RFC 1035, section 2.3.4, without the final dot
_HOST: Final = re.compile(r"[a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63})*")


@lru_cache(maxsize=16_384)
def comparable_name(name: str) -> str | None:
    """The form in which host names are compared: lower case, Punycode, no final dot.

    Args:
        name: a host name, ``Bücher.example.`` or ``xn--bcher-kva.example``.

    Returns:
        ``xn--bcher-kva.example``; None for an address literal and for what is no host name (an empty label, a
        character that host names do not have, more than 253 characters).
    """
    lowered = name.strip().lower()
    if not lowered.isascii():
        import idna

        try:
            lowered = idna.encode(lowered, uts46=True).decode("ascii")
        except idna.IDNAError:
            return None
    lowered = lowered.removesuffix(".")
    if len(lowered) > _MAX_NAME_CHARS:
        return None
    # A final label of digits makes an IPv4 address, well formed or not (https://url.spec.whatwg.org/#host-parsing);
    # an IPv6 address has colons.
    if not _HOST.fullmatch(lowered) or lowered.rpartition(".")[2].isdigit():
        return None
    return lowered


@lru_cache(maxsize=16_384)
def registered_domain(name: str) -> str | None:
    """The part of a host name that someone registered: ``mail.example.co.uk`` gives ``example.co.uk``.

    Under a top-level domain that the Public Suffix List does not know, the last two labels are taken, as the
    list prescribes.

    Args:
        name: a host name in any case, with internationalised labels in either form.

    Returns:
        The domain as ``comparable_name`` writes it; None for an address literal, a name of one label, a
        public suffix itself (``co.uk``), and what is no host name.
    """
    host = comparable_name(name)
    if host is None:
        return None
    return _suffixes(has_punycode="xn--" in host).privatesuffix(host)


def is_address(name: str) -> bool:
    """Whether a name is an IPv4 or IPv6 address literal, in brackets or not."""
    try:
        ipaddress.ip_address(name.removeprefix("[").removesuffix("]"))
    except ValueError:
        return False
    return True


@cache
def _suffixes(*, has_punycode: bool) -> PublicSuffixList:
    """The list, read once when it is first needed: as a whole only for the few names with Punycode.

    The names that are looked up have only ASCII letters. To write the list's internationalised suffixes in
    Punycode takes ten times as long as the rest.
    """
    from publicsuffixlist import PSLFILE, PublicSuffixList

    text = Path(PSLFILE).read_text(encoding="utf-8")
    section = text.partition("// ===BEGIN ICANN DOMAINS===")[2].partition("// ===END ICANN")[0]
    return PublicSuffixList(section, accept_encoded_idn=has_punycode)
