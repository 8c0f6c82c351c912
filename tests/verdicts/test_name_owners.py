"""The catalogue is asked once about each name, and what nothing rests on is forgotten."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from apptell.flows.hashing import new_key
from apptell.verdicts.identity import NOBODY
from apptell.verdicts.name_owners import NameOwners
from tests.verdicts.catalogues import SmallCatalogue


class _Counting(SmallCatalogue):
    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []

    def lookup(self, name: str | None) -> Any:
        self.asked.append(name or "")
        return super().lookup(name)


def _apps(owners: NameOwners, numbers: Any) -> list[str | None]:
    return [None if n < 0 else owners.identities[n].app for n in numbers.tolist()]


def test_each_name_is_looked_up_once() -> None:
    catalogue = _Counting()
    owners = NameOwners(catalogue, new_key())  # type: ignore[arg-type]
    names = pa.array(["a.chat.example", None, "tube.example", "a.chat.example", "203.0.113.10"])
    for _ in range(2):
        assert _apps(owners, owners.of_own(names)) == ["chat", None, "tube", "chat", None]
        assert _apps(owners, owners.of(owners.names.numbers(names)))[:1] == ["chat"]
    assert sorted(catalogue.asked) == ["203.0.113.10", "a.chat.example", "tube.example"]


def test_the_public_name_of_hidden_names_owns_no_flow_but_can_be_asked_for() -> None:
    owners = NameOwners(SmallCatalogue(), new_key())  # type: ignore[arg-type]
    names = pa.array(["Cloudflare-ECH.com:443"])
    assert owners.of_own(names).tolist() == [NOBODY]
    assert owners.of(owners.names.numbers(names))[0] >= 0


def test_what_is_kept_has_the_same_owner_under_its_new_number() -> None:
    owners = NameOwners(SmallCatalogue(), new_key())  # type: ignore[arg-type]
    own = owners.of_own(pa.array(["x.one.test", "a.chat.example", "x.two.test", "tube.example"]))
    names, identities = owners.keep(np.array([1, 3], np.int32), own[[2]])
    assert names.tolist() == [-1, 0, -1, 1]
    assert _apps(owners, owners.of(names[[1, 3]])) == ["chat", "tube"]
    assert owners.identities[identities[own[2]]].service == "two.test"
    assert identities[own[0]] == NOBODY
    assert _apps(owners, owners.of_own(pa.array(["x.one.test", "a.chat.example"]))) == [
        None,
        "chat",
    ]
