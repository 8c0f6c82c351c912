"""Selects records: by app, category, client, server, evidence, outcome and confidence, in files and live.

A filter is applied to whole batches of verdicts or of records, which have the same names for what it asks.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, fields
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from apptell.errors import UsageError
from apptell.verdicts.schema import EVIDENCE_KINDS, NAMED, OUTCOMES

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from numpy.typing import NDArray

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
_DIGITS: Final = 6
"""Decimal digits of a confidence in a record."""
_SHOWN: Final = 20


@dataclass(frozen=True, slots=True)
class RecordFilter:
    """What a record must be like; an empty field asks nothing.

    Records of flows without a verdict have only addresses: for them only ``clients`` and ``servers`` may be
    set.
    """

    apps: frozenset[str] = frozenset()
    """Ids of apps."""
    categories: frozenset[str] = frozenset()
    """Categories of apps, or kinds of services where no app is named."""
    clients: tuple[Network, ...] = ()
    """Networks that contain the client."""
    servers: tuple[Network, ...] = ()
    """Networks that contain the server."""
    evidence: frozenset[str] = frozenset()
    """Of EVIDENCE_KINDS: what the verdict rests on."""
    outcomes: frozenset[str] = frozenset()
    """Of OUTCOMES."""
    min_confidence: float | None = None
    """Smallest confidence of a model's answer; flows that no model was asked about are kept."""
    only_named: bool = False
    """Only flows of which an app is named."""
    not_named: bool = False
    """Only flows of which no app is named."""

    @property
    def is_empty(self) -> bool:
        """Whether it keeps every record."""
        return self == _NO_CONDITIONS

    @property
    def conditions(self) -> dict[str, Any]:
        """What it asks, by field, as JSON values that are equal for equal filters."""
        asked = {each.name: getattr(self, each.name) for each in fields(self)}
        return {
            name: sorted(map(str, value)) if isinstance(value, (frozenset, tuple)) else value
            for name, value in asked.items()
            if value or (value == 0 and value is not False)
        }

    def keep(self, batch: pa.RecordBatch) -> NDArray[np.bool_]:
        """Which of n records are kept, shape (n,)."""
        kept = np.ones(batch.num_rows, dtype=np.bool_)
        if self.clients:
            kept &= _is_within(batch.column("client_address"), self.clients)
        if self.servers:
            kept &= _is_within(batch.column("server_address"), self.servers)
        if self.apps:
            kept &= _is_of(batch.column("app"), self.apps)
        if self.categories:
            kind = pc.coalesce(
                batch.column("category"),
                pc.if_else(
                    batch.column("app").is_valid(),
                    pa.scalar(None, pa.string()),
                    batch.column("service_kind"),
                ),
            )
            kept &= _is_of(kind, self.categories)
        if self.evidence:
            kept &= _is_of(batch.column("evidence"), self.evidence)
        if self.outcomes:
            kept &= _is_of(batch.column("outcome"), self.outcomes)
        if self.min_confidence is not None:
            confidence = pc.round(batch.column("confidence").cast(pa.float64()), _DIGITS)
            kept &= _flags(pc.fill_null(pc.greater_equal(confidence, self.min_confidence), True))
        if self.only_named or self.not_named:
            is_named = _flags(batch.column("app").is_valid())
            kept &= is_named if self.only_named else ~is_named
        return kept

    def __call__(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """The records that are kept; the batch itself where that is all of them."""
        if self.is_empty:
            return batch
        kept = self.keep(batch)
        return batch if kept.all() else batch.filter(pa.array(kept))


_NO_CONDITIONS: Final = RecordFilter()


def parse_filter(
    *,
    apps: Sequence[str] = (),
    categories: Sequence[str] = (),
    clients: Sequence[str] = (),
    servers: Sequence[str] = (),
    evidence: Sequence[str] = (),
    outcomes: Sequence[str] = (),
    min_confidence: float | None = None,
    only_named: bool = False,
    not_named: bool = False,
    known_apps: Collection[str] | None = None,
    known_categories: Collection[str] | None = None,
) -> RecordFilter:
    """A filter from what people write.

    Args:
        apps: ids; each may be several, separated by commas, as in the lists that follow.
        categories: as in records.
        clients: addresses or networks such as ``10.0.0.0/8``.
        servers: likewise.
        evidence: of EVIDENCE_KINDS.
        outcomes: of OUTCOMES; hyphens may stand for blanks, as in ``below-threshold``.
        min_confidence: 0 to 1.
        only_named: only flows of which an app is named.
        not_named: only flows of which none is.
        known_apps: ids of the apps that verdicts can name; None accepts every id.
        known_categories: likewise, categories of apps and kinds of services.

    Raises:
        UsageError: an unknown app, category, kind of evidence or outcome, no network, or conditions that no
            record meets.
    """
    if only_named and not_named:
        raise UsageError("only named and only not named flows: together they select nothing")
    if not_named and apps:
        raise UsageError("flows of an app that are not named: there are none")
    if min_confidence is not None and not 0 <= min_confidence <= 1:
        raise UsageError(
            f"confidence {min_confidence} is not between 0 and 1", argument="min_confidence"
        )
    asked = _words(apps)
    check_known(asked, known_apps, "no verdict can name")
    wanted_categories = _words(categories)
    check_known(wanted_categories, known_categories, "no app or service has the category")
    kinds = _words(evidence)
    for kind in kinds:
        if kind not in EVIDENCE_KINDS:
            raise UsageError(f"no evidence {kind!r}; available: {', '.join(EVIDENCE_KINDS)}")
    wanted_outcomes = frozenset(word.replace("-", " ") for word in _words(outcomes))
    for outcome in sorted(wanted_outcomes.difference(OUTCOMES)):
        raise UsageError(f"no outcome {outcome!r}; available: {', '.join(OUTCOMES)}")
    if (not_named and wanted_outcomes == {NAMED}) or (
        (only_named or apps) and wanted_outcomes and NAMED not in wanted_outcomes
    ):
        raise UsageError(
            "named flows have the outcome 'named' and no other: together they select nothing"
        )
    return RecordFilter(
        frozenset(asked),
        frozenset(wanted_categories),
        parse_networks("--client", clients),
        parse_networks("--server", servers),
        frozenset(kinds),
        wanted_outcomes,
        min_confidence,
        only_named,
        not_named,
    )


def parse_networks(option: str, texts: Sequence[str]) -> tuple[Network, ...]:
    """Networks from text: addresses or CIDR, separated by commas.

    Args:
        option: named in an error.
        texts: such as ``192.168.1.0/24`` or ``2001:db8::1``.

    Raises:
        UsageError: a text is neither.
    """
    found = []
    for text in _words(texts):
        try:
            found.append(ipaddress.ip_network(text, strict=False))
        except ValueError:
            raise UsageError(
                f"{option}: {text!r} is not an address or a network such as 192.168.0.0/16"
            ) from None
    return tuple(found)


def _words(texts: Sequence[str]) -> list[str]:
    return [word for text in texts for each in text.split(",") if (word := each.strip().lower())]


def _is_of(column: pa.Array, values: Iterable[str]) -> NDArray[np.bool_]:
    return _flags(pc.is_in(column, pa.array(sorted(values), pa.string())))


def _is_within(addresses: pa.Array, networks: Sequence[Network]) -> NDArray[np.bool_]:
    """Whether each address is in one of the networks."""
    encoded = addresses.dictionary_encode()
    known = [
        address is not None and is_within(address, networks)
        for address in encoded.dictionary.to_pylist()
    ]
    places = encoded.indices.fill_null(len(known)).to_numpy(zero_copy_only=False)
    found: NDArray[np.bool_] = np.array([*known, False], dtype=np.bool_)[places]
    return found


def is_within(address: str, networks: Sequence[Network]) -> bool:
    """Whether an address, as a flow has it, is in one of the networks."""
    parsed = ipaddress.ip_address(address)
    return any(parsed.version == each.version and parsed in each for each in networks)


def _flags(values: pa.Array) -> NDArray[np.bool_]:
    return np.asarray(values.to_numpy(zero_copy_only=False), dtype=np.bool_)


def check_known(asked: Iterable[str], known: Collection[str] | None, problem: str) -> None:
    """Refuses a word that is not known, with words like it.

    Args:
        asked: words.
        known: what they may be; None for anything.
        problem: what is wrong with a word, before it.

    Raises:
        UsageError: a word is not known.
    """
    for word in () if known is None else asked:
        if word not in (known or ()):
            near = get_close_matches(word, known or ()) or sorted(known or ())[:_SHOWN]
            raise UsageError(f"{problem} {word!r}; available: {', '.join(near)}")
