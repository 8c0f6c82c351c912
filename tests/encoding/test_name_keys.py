from __future__ import annotations

import hashlib

import numpy as np
import pytest

from apptell.dataset.masking import mask_server_names
from apptell.encoding import encode
from apptell.encoding.name_keys import name_keys
from apptell.encoding.structure import N_TOKENS
from apptell.flows.schema import GROUPS, FlowBatch
from apptell.names import add_names
from tests.encoding.crafted import CraftedFlow, Packet, batch
from tests.encoding.test_structure import client_hello


def key(kind: str, name: str) -> list[int]:
    digest = hashlib.blake2b(f"{kind}:{name}".encode(), digest_size=4).digest()
    return [digest[0] << 8 | digest[1], digest[2] << 8 | digest[3]]


def flows(*names: str):
    """Flows whose clients send a TLS hello with each name."""
    made = []
    for name in names:
        message = client_hello(name.encode())
        record = b"\x16\x03\x01" + len(message).to_bytes(2, "big") + message
        made.append(CraftedFlow([Packet(True, record, 0), Packet(False, b"\x17\x03\x03\0\2ok", 0)]))
    return add_names(batch(made))


def test_a_name_gives_the_keys_of_its_host_and_of_its_registered_domain():
    found = name_keys(flows("Chat.Example.co.uk", "example.co.uk", "localhost", "192.0.2.7"))
    domain = key("domain", "example.co.uk")
    assert found.tolist() == [
        key("host", "chat.example.co.uk") + domain,
        key("host", "example.co.uk") + domain,
        [*key("host", "localhost"), 0, 0],
        [0, 0, 0, 0],
    ]


def test_names_that_were_read_before_give_the_same_keys():
    made = flows("chat.example.net", "example.org")
    found = name_keys(made)
    assert found.all()
    columns = [*GROUPS["core"], *GROUPS["segments"]]
    nameless = FlowBatch(made.to_arrow().select([c for c in columns if c in made.columns]))
    np.testing.assert_array_equal(name_keys(nameless), found)


@pytest.mark.parametrize(
    ("options", "there"), [({}, True), ({"names": "masked"}, False), ({"skip": 1}, False)]
)
def test_keys_follow_the_tokens_unless_the_name_is_not_to_be_seen(options, there):
    made = flows("chat.example.net")
    with_keys = encode(made, "structure", {**options, "keys": True})
    assert with_keys.shape == (1, N_TOKENS + 4)
    np.testing.assert_array_equal(with_keys[:, :N_TOKENS], encode(made, "structure", options))
    assert with_keys[0, N_TOKENS:].any() == there


def test_a_masked_flow_has_no_keys():
    assert not name_keys(mask_server_names(flows("chat.example.net"))).any()
