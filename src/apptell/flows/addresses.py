"""Formats the client or server addresses of flow records as text (RFC 5952) and as 16 bytes."""

from __future__ import annotations

from typing import Final

import numpy as np

from apptell.kernels.compiled import inlined, subroutine

ADDRESS_TEXT: Final = 46
"""Characters of the longest address."""


@inlined
def _write_decimal(value, text, at):
    if value >= 100:
        text[at] = 48 + value // 100
        at += 1
    if value >= 10:
        text[at] = 48 + value // 10 % 10
        at += 1
    text[at] = 48 + value % 10
    return at + 1


@subroutine
def write_address(high, low, version, text, at):
    """Writes an address as text (RFC 5952); returns where it ends."""
    if version == 4:
        for octet in range(4):
            if octet:
                text[at] = 46
                at += 1
            at = _write_decimal(
                np.int64((low >> np.uint64(24 - 8 * octet)) & np.uint64(255)), text, at
            )
        return at
    best_start, best_length, start, length = -1, 1, -1, 0
    for group in range(9):
        value = np.uint64(1)
        if group < 4:
            value = (high >> np.uint64(48 - 16 * group)) & np.uint64(0xFFFF)
        elif group < 8:
            value = (low >> np.uint64(112 - 16 * group)) & np.uint64(0xFFFF)
        if value == 0:
            if start < 0:
                start = group
            length += 1
        else:
            if length > best_length:
                best_start, best_length = start, length
            start, length = -1, 0
    group = 0
    while group < 8:
        if group == best_start:
            text[at] = 58
            text[at + 1] = 58
            at += 2
            group += best_length
            continue
        if (group and group != best_start + best_length) or (group and best_start < 0):
            text[at] = 58
            at += 1
        word = high if group < 4 else low
        value = np.int64((word >> np.uint64(48 - 16 * (group % 4))) & np.uint64(0xFFFF))
        started = False
        for shift in (12, 8, 4, 0):
            digit = (value >> shift) & 15
            if digit or started or shift == 0:
                started = True
                text[at] = 48 + digit if digit < 10 else 87 + digit
                at += 1
        group += 1
    return at


@inlined
def write_side(flow, side, text, ends, raw, index):
    """Address number ``index`` of one side as text with its end, and as 16 bytes (IPv4 in the last four)."""
    high = flow.low_high if side == 0 else flow.high_high
    low = flow.low_low if side == 0 else flow.high_low
    ends[index + 1] = write_address(high, low, flow.ip_version, text, np.int64(ends[index]))
    for byte in range(8):
        raw[index, byte] = (high >> np.uint64(56 - 8 * byte)) & np.uint64(255)
        raw[index, 8 + byte] = (low >> np.uint64(56 - 8 * byte)) & np.uint64(255)
