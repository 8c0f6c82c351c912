"""Reads integers from a byte buffer and copies bytes; the caller has checked that the bytes exist."""

from __future__ import annotations

import numpy as np

from apptell.kernels.compiled import inlined


@inlined
def be16(buffer, at):
    """Big-endian unsigned number of 16 bits at a place."""
    return (np.int64(buffer[at]) << 8) | np.int64(buffer[at + 1])


@inlined
def le16(buffer, at):
    """Little-endian unsigned number of 16 bits at a place."""
    return (np.int64(buffer[at + 1]) << 8) | np.int64(buffer[at])


@inlined
def be32(buffer, at):
    """Big-endian unsigned number of 32 bits at a place."""
    return (
        (np.int64(buffer[at]) << 24)
        | (np.int64(buffer[at + 1]) << 16)
        | (np.int64(buffer[at + 2]) << 8)
        | np.int64(buffer[at + 3])
    )


@inlined
def le32(buffer, at):
    """Little-endian unsigned number of 32 bits at a place."""
    return (
        (np.int64(buffer[at + 3]) << 24)
        | (np.int64(buffer[at + 2]) << 16)
        | (np.int64(buffer[at + 1]) << 8)
        | np.int64(buffer[at])
    )


@inlined
def be64(buffer, at):
    """Big-endian unsigned number of 64 bits at a place."""
    return (np.uint64(be32(buffer, at)) << np.uint64(32)) | np.uint64(be32(buffer, at + 4))


@inlined
def copy_bytes(source, start, target, at, n):
    """Copies n bytes; unsigned places, since signed ones are tested for wrap-around byte by byte."""
    start, at = np.uint64(start), np.uint64(at)
    for byte in range(np.uint64(n)):
        target[at + byte] = source[start + byte]
