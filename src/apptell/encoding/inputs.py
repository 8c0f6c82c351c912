"""Finds encodings by name, checks their options, and encodes flows with them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from apptell.encoding.bursts import BURST_PACKETS, BURSTS_VERSION, burst_names, bursts
from apptell.encoding.image import IMAGE_SIDE, IMAGE_VERSION, images
from apptell.encoding.lengths import LENGTHS_VERSION, lengths
from apptell.encoding.name_keys import N_KEY_WORDS, NAME_KEYS_VERSION, name_keys
from apptell.encoding.packet_sequence import SEQUENCE_VERSION, sequences
from apptell.encoding.payload import PAYLOAD_BYTES, PAYLOAD_VERSION, payloads
from apptell.encoding.statistics import STATISTICS_VERSION, statistics, statistics_names
from apptell.encoding.structure import N_TOKENS, STRUCTURE_VERSION, structure
from apptell.errors import UsageError
from apptell.flows.schema import DECISION_SEGMENTS, MAX_SEQUENCE

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from apptell.flows.schema import FlowBatch

Options = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Encoding:
    """A way to make a model's inputs from flows."""

    name: str
    version: int
    """Changes when the same flow gives another array; a model asks for the one it learned from."""
    dtype: type[np.generic]
    options: Mapping[str, Any]
    """Every option with its default."""
    shape: Callable[[Options], tuple[int, ...]]
    """Returns the shape of one flow's input for the options."""
    encode: Callable[[FlowBatch, Options], NDArray[Any]]
    """Encodes n flows; returns an array of shape (n, *shape)."""
    reads_payload: bool = False
    """Whether it is made of payload bytes, so that flows without them have an empty input."""


ENCODINGS: Final = {
    encoding.name: encoding
    for encoding in (
        Encoding(
            "image",
            IMAGE_VERSION,
            np.uint8,
            {},
            lambda _options: (IMAGE_SIDE, IMAGE_SIDE),
            lambda flows, _options: images(flows),
            reads_payload=True,
        ),
        Encoding(
            "statistics",
            STATISTICS_VERSION,
            np.float32,
            {"ports": True},
            lambda options: (len(statistics_names(**options)),),
            lambda flows, options: statistics(flows, **options),
        ),
        Encoding(
            "structure",
            STRUCTURE_VERSION,
            np.uint16,
            {"packets": DECISION_SEGMENTS, "skip": 0, "names": "on", "keys": False},
            lambda options: (N_TOKENS + N_KEY_WORDS * options["keys"],),
            lambda flows, options: structure(flows, **options),
            reads_payload=True,
        ),
        Encoding(
            "names",
            NAME_KEYS_VERSION,
            np.uint16,
            {},
            lambda _options: (N_KEY_WORDS,),
            lambda flows, _options: name_keys(flows),
            reads_payload=True,
        ),
        Encoding(
            "sequence",
            SEQUENCE_VERSION,
            np.float32,
            {"length": MAX_SEQUENCE, "packets": DECISION_SEGMENTS},
            lambda options: (options["length"], 3),
            lambda flows, options: sequences(flows, **options),
        ),
        Encoding(
            "lengths",
            LENGTHS_VERSION,
            np.float32,
            {"packets": 10},
            lambda options: (options["packets"],),
            lambda flows, options: lengths(flows, **options),
        ),
        Encoding(
            "bursts",
            BURSTS_VERSION,
            np.float32,
            {"packets": BURST_PACKETS},
            lambda options: (len(burst_names(**options)),),
            lambda flows, options: bursts(flows, **options),
        ),
        Encoding(
            "payload",
            PAYLOAD_VERSION,
            np.uint8,
            {},
            lambda _options: (PAYLOAD_BYTES,),
            lambda flows, _options: payloads(flows),
            reads_payload=True,
        ),
    )
}
"""Every encoding by its name."""


def encoding_of(name: str) -> Encoding:
    """The encoding of that name.

    Raises:
        UsageError: there is none.
    """
    if name not in ENCODINGS:
        raise UsageError(f"there are no inputs {name!r}; available: {', '.join(ENCODINGS)}")
    return ENCODINGS[name]


def complete_options(name: str, options: Mapping[str, Any]) -> Options:
    """The options with the defaults of those that are not given.

    Raises:
        UsageError: an option that this encoding does not have, or a value of another type.
    """
    known = encoding_of(name).options
    for option, value in options.items():
        if option not in known:
            raise UsageError(f"the inputs {name!r} have no option {option!r}")
        if type(value) is not type(known[option]):
            raise UsageError(f"the inputs {name!r} do not accept {option}={value!r}")
    return {**known, **options}


def encode(flows: FlowBatch, name: str, options: Mapping[str, Any] | None = None) -> NDArray[Any]:
    """The inputs of flows, by the encoding's name.

    Returns:
        An array of shape (n, *shape of the encoding), in its dtype.

    Raises:
        UsageError: no such encoding or option.
        DatasetError: a column that it needs is missing.
    """
    return encoding_of(name).encode(flows, complete_options(name, options or {}))
