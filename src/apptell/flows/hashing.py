"""Hashes of 5-tuples and of texts: keyed ones for hash tables, and a stable one for ids.

The sender of packets chooses their 5-tuples. The place in the hash table therefore depends on a secret key
(SipHash-1-3: Aumasson and Bernstein, "SipHash: a fast short-input PRF", 2012, with one and three rounds), so
that nobody can choose tuples that collide. The stable hash has no key: connection ids must be the same on each
run.

The hash of a text has 128 bits (SipHash-1-3-128), so that it can stand for the text: two texts of the same hash
do not occur, and nobody can make them without the key.
"""

from __future__ import annotations

import secrets
from typing import NamedTuple

import numpy as np

from apptell.kernels.compiled import inlined, subroutine


class Tuple5(NamedTuple):
    """A 5-tuple in canonical order: endpoint A is the one with the smaller (address, port)."""

    low_high: np.uint64
    """Upper half of A's address; 0 for IPv4."""
    low_low: np.uint64
    """Lower half of A's address."""
    high_high: np.uint64
    """Upper half of B's address; 0 for IPv4."""
    high_low: np.uint64
    """Lower half of B's address."""
    ports: np.uint64
    """A's port, B's port and the IP protocol: bits 32 to 47, 8 to 23, and 0 to 7."""
    version: np.uint64
    """IP version: 4 or 6."""


class HashKey(NamedTuple):
    """The two secret words of the keyed hash."""

    first: np.uint64
    second: np.uint64


def new_key() -> HashKey:
    """A random key from the operating system."""
    return HashKey(np.uint64(secrets.randbits(64)), np.uint64(secrets.randbits(64)))


@inlined
def pack_ports(low_port, high_port, protocol):
    """Both ports and the IP protocol in one word."""
    return (
        (np.uint64(low_port) << np.uint64(32))
        | (np.uint64(high_port) << np.uint64(8))
        | np.uint64(protocol)
    )


@inlined
def tuple_of_packet(header):
    """The 5-tuple of a decoded packet, and its direction: 0 from A to B, 1 from B to A."""
    source_high, source_low, source_port = header.source_high, header.source_low, header.source_port
    target_high, target_low, target_port = header.target_high, header.target_low, header.target_port
    is_reversed = source_high > target_high or (
        source_high == target_high
        and (source_low > target_low or (source_low == target_low and source_port > target_port))
    )
    version = np.uint64(header.ip_version)
    if is_reversed:
        ports = pack_ports(target_port, source_port, header.protocol)
        return Tuple5(target_high, target_low, source_high, source_low, ports, version), 1
    ports = pack_ports(source_port, target_port, header.protocol)
    return Tuple5(source_high, source_low, target_high, target_low, ports, version), 0


@inlined
def tuple_of_flow(flow):
    """The 5-tuple of a flow record."""
    return Tuple5(
        flow.low_high,
        flow.low_low,
        flow.high_high,
        flow.high_low,
        pack_ports(flow.low_port, flow.high_port, flow.protocol),
        np.uint64(flow.ip_version),
    )


@inlined
def mix(value):
    """Finaliser of MurmurHash3 (public domain): spreads 64 bits."""
    value ^= value >> np.uint64(33)
    value *= np.uint64(0xFF51AFD7ED558CCD)
    value ^= value >> np.uint64(33)
    value *= np.uint64(0xC4CEB9FE1A85EC53)
    value ^= value >> np.uint64(33)
    return value


@inlined
def stable_hash(key):
    """Hash of a 5-tuple that is the same in every process."""
    value = mix(key.low_low ^ (key.ports * np.uint64(0x9E3779B97F4A7C15)))
    value = mix(value ^ key.high_low ^ (key.low_high * np.uint64(0xD6E8FEB86659FD93)))
    return value ^ (key.high_high * np.uint64(0xA0761D6478BD642F))


@inlined
def _rotate(value, bits):
    return (value << np.uint64(bits)) | (value >> np.uint64(64 - bits))


@inlined
def _round(v0, v1, v2, v3):
    """One SipRound."""
    v0 += v1
    v2 += v3
    v1 = _rotate(v1, 13) ^ v0
    v3 = _rotate(v3, 16) ^ v2
    v0 = _rotate(v0, 32)
    v2 += v1
    v0 += v3
    v1 = _rotate(v1, 17) ^ v2
    v3 = _rotate(v3, 21) ^ v0
    v2 = _rotate(v2, 32)
    return v0, v1, v2, v3


@inlined
def _absorb(v0, v1, v2, v3, word):
    """One word of the message."""
    v0, v1, v2, v3 = _round(v0, v1, v2, v3 ^ word)
    return v0 ^ word, v1, v2, v3


@inlined
def keyed_hash(key, secret):
    """SipHash-1-3 of a 5-tuple under a secret key.

    The message is both addresses, IPv4 as one word and IPv6 as four, and last the ports with the IP version in
    the byte where SipHash has the length: that differs between the two kinds of message.
    """
    v0 = secret.first ^ np.uint64(0x736F6D6570736575)
    v1 = secret.second ^ np.uint64(0x646F72616E646F6D)
    v2 = secret.first ^ np.uint64(0x6C7967656E657261)
    v3 = secret.second ^ np.uint64(0x7465646279746573)
    if key.version == np.uint64(4):
        addresses = key.low_low | (key.high_low << np.uint64(32))
        v0, v1, v2, v3 = _absorb(v0, v1, v2, v3, addresses)
    else:
        v0, v1, v2, v3 = _absorb(v0, v1, v2, v3, key.low_low)
        v0, v1, v2, v3 = _absorb(v0, v1, v2, v3, key.high_low)
        v0, v1, v2, v3 = _absorb(v0, v1, v2, v3, key.low_high)
        v0, v1, v2, v3 = _absorb(v0, v1, v2, v3, key.high_high)
    v0, v1, v2, v3 = _absorb(v0, v1, v2, v3, key.ports | (key.version << np.uint64(56)))
    v2 ^= np.uint64(0xFF)
    v0, v1, v2, v3 = _round(v0, v1, v2, v3)
    v0, v1, v2, v3 = _round(v0, v1, v2, v3)
    v0, v1, v2, v3 = _round(v0, v1, v2, v3)
    return v0 ^ v1 ^ v2 ^ v3


@subroutine
def text_hash(data, begin, end, secret):
    """SipHash-1-3-128 of the bytes data[begin:end] under a secret key: two words."""
    v0 = secret.first ^ np.uint64(0x736F6D6570736575)
    v1 = secret.second ^ np.uint64(0x646F72616E646F6D) ^ np.uint64(0xEE)
    v2 = secret.first ^ np.uint64(0x6C7967656E657261)
    v3 = secret.second ^ np.uint64(0x7465646279746573)
    at = begin
    while at + 8 <= end:
        word = np.uint64(0)
        for byte in range(8):
            word |= np.uint64(data[at + byte]) << np.uint64(8 * byte)
        v0, v1, v2, v3 = _absorb(v0, v1, v2, v3, word)
        at += 8
    word = np.uint64((end - begin) & 255) << np.uint64(56)
    for byte in range(end - at):
        word |= np.uint64(data[at + byte]) << np.uint64(8 * byte)
    v0, v1, v2, v3 = _absorb(v0, v1, v2, v3, word)
    v2 ^= np.uint64(0xEE)
    for _ in range(3):
        v0, v1, v2, v3 = _round(v0, v1, v2, v3)
    first = v0 ^ v1 ^ v2 ^ v3
    v1 ^= np.uint64(0xDD)
    for _ in range(3):
        v0, v1, v2, v3 = _round(v0, v1, v2, v3)
    return first, v0 ^ v1 ^ v2 ^ v3
