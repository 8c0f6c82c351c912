"""Places in the hash table depend on a secret key; ids and flows do not."""

import ipaddress
import random
import shutil
import subprocess

import numpy as np
import pytest
from numba import njit

from apptell.flows import FlowBatch, FlowTable
from apptell.flows.hashing import HashKey, Tuple5, keyed_hash, new_key, stable_hash
from apptell.packets import decode
from apptell.testing import START_NS, tcp_frame
from tests.flows.reference import SYN
from tests.packets.test_decode import batch_of

WORD = 2**64
_K_PORTS, _K_LOW, _K_HIGH = 0x9E3779B97F4A7C15, 0xD6E8FEB86659FD93, 0xA0761D6478BD642F


def sip_hash_1_3(key, words):
    """SipHash-1-3 as its authors write it, of a message whose last word has the length byte in it."""
    v = [
        key[0] ^ 0x736F6D6570736575,
        key[1] ^ 0x646F72616E646F6D,
        key[0] ^ 0x6C7967656E657261,
        key[1] ^ 0x7465646279746573,
    ]

    def rotate(value, bits):
        return (value << bits | value >> 64 - bits) % WORD

    def sip_round():
        v[0] = (v[0] + v[1]) % WORD
        v[1] = rotate(v[1], 13) ^ v[0]
        v[0] = rotate(v[0], 32)
        v[2] = (v[2] + v[3]) % WORD
        v[3] = rotate(v[3], 16) ^ v[2]
        v[0] = (v[0] + v[3]) % WORD
        v[3] = rotate(v[3], 21) ^ v[0]
        v[2] = (v[2] + v[1]) % WORD
        v[1] = rotate(v[1], 17) ^ v[2]
        v[2] = rotate(v[2], 32)

    for word in words:
        v[3] ^= word
        sip_round()
        v[0] ^= word
    v[2] ^= 0xFF
    for _ in range(3):
        sip_round()
    return v[0] ^ v[1] ^ v[2] ^ v[3]


def sip_hash_128(key, message):
    """SipHash-1-3-128 of bytes by OpenSSL's rules, written after the paper's reference code."""
    size = len(message)
    padded = message + bytes(-(size + 1) % 8) + bytes([size & 255])
    v = [
        int(key[0]) ^ 0x736F6D6570736575,
        int(key[1]) ^ 0x646F72616E646F6D ^ 0xEE,
        int(key[0]) ^ 0x6C7967656E657261,
        int(key[1]) ^ 0x7465646279746573,
    ]

    def rotate(value, bits):
        return (value << bits | value >> (64 - bits)) % WORD

    def sip_round():
        v[0] = (v[0] + v[1]) % WORD
        v[2] = (v[2] + v[3]) % WORD
        v[1] = rotate(v[1], 13) ^ v[0]
        v[3] = rotate(v[3], 16) ^ v[2]
        v[0] = rotate(v[0], 32)
        v[2] = (v[2] + v[1]) % WORD
        v[0] = (v[0] + v[3]) % WORD
        v[1] = rotate(v[1], 17) ^ v[2]
        v[3] = rotate(v[3], 21) ^ v[0]
        v[2] = rotate(v[2], 32)

    for at in range(0, len(padded), 8):
        word = int.from_bytes(padded[at : at + 8], "little")
        v[3] ^= word
        sip_round()
        v[0] ^= word
    v[2] ^= 0xEE
    halves = []
    for _ in range(2):
        for _ in range(3):
            sip_round()
        halves.append(v[0] ^ v[1] ^ v[2] ^ v[3])
        v[1] ^= 0xDD
    return tuple(halves)


@pytest.mark.oracle
@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
def test_the_plain_hash_of_texts_is_that_of_openssl(tmp_path):
    key = bytes(range(16))
    words = [int.from_bytes(key[at : at + 8], "little") for at in (0, 8)]
    path = tmp_path / "text"
    for size in (0, 1, 7, 8, 15, 25):
        path.write_bytes(bytes(range(size)))
        options = (f"hexkey:{key.hex()}", "size:16", "c-rounds:1", "d-rounds:3")
        command = ["openssl", "mac", *(part for each in options for part in ("-macopt", each))]
        done = subprocess.run(
            [*command, "-in", str(path), "SIPHASH"], capture_output=True, text=True, check=False
        )
        if done.returncode:
            pytest.skip("this openssl has no SipHash")
        halves = sip_hash_128(words, path.read_bytes())
        assert (
            b"".join(half.to_bytes(8, "little") for half in halves).hex().upper()
            == done.stdout.strip()
        )


@njit
def _hash(key, secret):
    return keyed_hash(key, secret)


@njit
def _stable(key):
    return stable_hash(key)


def tuple5(*words):
    return Tuple5(*(np.uint64(word) for word in words))


def mixed(value):
    value ^= value >> 33
    value = value * 0xFF51AFD7ED558CCD % WORD
    value ^= value >> 33
    value = value * 0xC4CEB9FE1A85EC53 % WORD
    return value ^ value >> 33


def test_the_keyed_hash_is_siphash_1_3():
    rng = random.Random(1)
    assert sip_hash_1_3((0x0706050403020100, 0x0F0E0D0C0B0A0908), [0]) == 0xABAC0158050FC4DC
    for version, bits in ((4, 32), (6, 64)):
        low, high = rng.randrange(1 << bits), rng.randrange(1 << bits)
        more_low, more_high, ports, *key = (rng.randrange(WORD) for _ in range(5))
        ports >>= 16
        addresses = [low | high << 32] if version == 4 else [low, high, more_low, more_high]
        message = [*addresses, ports | version << 56]
        secret = HashKey(*(np.uint64(word) for word in key))
        found = _hash(tuple5(more_low, low, more_high, high, ports, version), secret)
        assert int(found) == sip_hash_1_3(key, message)


def colliding_tuples(n):
    """IPv6 tuples whose hash without a key is 0: the upper half of an address can be solved for it."""
    inverse = pow(_K_HIGH, -1, WORD)
    low_high, server_low, found = 0x20010DB8 << 32, 1, []
    for low_low in range(10 * n):
        ports = 40_000 << 32 | 443 << 8 | 6
        value = mixed(low_low ^ ports * _K_PORTS % WORD)
        value = mixed(value ^ server_low ^ low_high * _K_LOW % WORD)
        high_high = value * inverse % WORD  # so that the hash is 0
        if high_high > low_high and len(found) < n:
            found.append((low_high, low_low, high_high, server_low, ports, 6))
    return found


def longest_run(buckets):
    """The longest run of used buckets, which bounds the probes of a look-up."""
    free = np.flatnonzero(np.concatenate([buckets, buckets]) < 0)
    return int(np.diff(free).max()) - 1


def test_tuples_chosen_to_collide_without_the_key_do_not_collide_in_the_table():
    tuples = colliding_tuples(3000)
    assert {int(_stable(tuple5(*words))) for words in tuples} == {0}
    packets = [
        tcp_frame(
            (str(ipaddress.IPv6Address(low_high << 64 | low_low)), 40_000),
            (str(ipaddress.IPv6Address(high_high << 64 | high_low)), 443),
            flags=SYN,
        )
        for low_high, low_low, high_high, high_low, _, _ in tuples
    ]
    table = FlowTable()
    list(table.add(decode(batch_of(packets))))
    buckets = table._memory.buckets
    assert np.count_nonzero(buckets >= 0) == len(tuples)
    assert longest_run(buckets) < 100  # 3,000 without the key


def test_each_table_has_its_own_key_and_gives_the_same_flows():
    assert new_key() != new_key()
    frames = [tcp_frame((f"10.0.0.{i}", 40_000), ("192.0.2.7", 443), b"x") for i in range(200)]
    places, flows = [], []
    for _ in range(2):
        table = FlowTable()
        batch = batch_of(frames)
        batch.time_ns[:] = START_NS
        list(table.add(decode(batch)))
        places.append(table._memory.buckets.tolist())
        flows.append(FlowBatch.concat(list(table.finish())).to_arrow())
    assert places[0] != places[1]
    assert flows[0].equals(flows[1])


def test_connection_ids_do_not_depend_on_the_key():
    table = FlowTable()
    batch = batch_of([tcp_frame(("10.0.0.2", 40_000), ("192.0.2.7", 443), b"x", sequence=1)])
    batch.time_ns[:] = START_NS
    list(table.add(decode(batch)))
    (flow,) = FlowBatch.concat(list(table.finish()))
    assert flow.connection_id == 15811442364861140111
