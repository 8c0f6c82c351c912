"""What decides by default, and which wishes do not fit together."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from apptell.errors import ModelError, UsageError
from apptell.models import load_model
from apptell.testing import client_hello, conversation, write_pcap
from apptell.verdicts import ContextOptions, choose_deciders, identify

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


def test_names_decide_where_nothing_is_asked_for() -> None:
    deciders = choose_deciders()
    assert deciders.model is None
    assert deciders.context is None
    assert deciders.evidence is not None
    assert deciders.evidence.options.kinds == {"name", "dns", "address", "range"}
    assert deciders.transports == (6, 17)
    assert "signal" in deciders.apps
    assert deciders.name == "names"


def test_a_model_decides_after_names_and_alone_on_what_it_learned() -> None:
    model = load_model()
    both = choose_deciders(model=model)
    assert both.model is model
    assert both.evidence is not None
    assert both.transports == (6, 17)
    alone = choose_deciders("model", model)
    assert alone.evidence is None
    assert alone.transports == (6,)
    assert alone.apps == set(model.apps)


def test_all_evidence_has_the_embedded_model_and_a_context_of_30_s() -> None:
    deciders = choose_deciders("all")
    assert deciders.model is not None
    assert deciders.context == ContextOptions(30.0)
    assert choose_deciders("all", context="5s").context == ContextOptions(5.0)


def test_a_model_or_a_context_that_no_evidence_asks_for_is_refused() -> None:
    with pytest.raises(UsageError, match="a model is given, but the evidence does not include it"):
        choose_deciders("name,dns", load_model())
    with pytest.raises(UsageError, match="context re-weights a model's verdicts"):
        choose_deciders(context="30s")


def test_identify_checks_its_arguments_at_the_call(tmp_path: Path) -> None:
    capture = write_pcap(
        tmp_path / "phone.pcap",
        conversation(
            ("192.168.1.2", 40_000),
            ("203.0.113.10", 443),
            [(True, client_hello("chat.signal.org"))],
        ),
    )
    with pytest.raises(UsageError, match="threshold 2 is not between 0 and 1"):
        identify(capture, threshold=2)
    with pytest.raises(UsageError, match=r"threshold '0\.9' is not between 0 and 1"):
        identify(capture, threshold="0.9")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="rate '5%' is not a number above 0 and below 1"):
        identify(capture, unknown="5%")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="no evidence 'names'"):
        identify(capture, evidence="names")
    with pytest.raises(UsageError, match="no transport protocol 'sctp'; available: tcp"):
        identify(capture, transports="tcp,sctp")
    with pytest.raises(ModelError):
        identify(capture, tmp_path / "none")
    (verdict,) = identify(capture)
    assert (verdict.app, verdict.evidence, verdict.payload_packets_seen) == ("signal", "name", 1)
    assert list(identify(capture, evidence="model")) == []  # a model needs two payload packets


@pytest.mark.parametrize("transports", ["tcp, UDP", ("tcp", "udp"), (6, 17), ["tcp", 17]])
def test_transport_protocols_have_names_and_numbers(transports: str | Sequence[int | str]) -> None:
    assert choose_deciders(transports=transports).transports == (6, 17)
