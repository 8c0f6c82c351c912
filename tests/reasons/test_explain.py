"""Reasons say what the model and the evidence used; sums are the scores."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pytest

import apptell
from apptell.catalogue import Catalogue
from apptell.encoding.structure import N_TOKENS
from apptell.errors import UsageError
from apptell.models import Model, load_model
from apptell.reasons import Explainer
from apptell.reasons.token_weights import TokenWeights, sources_of_names
from apptell.testing import (
    app_capture,
    client_hello,
    conversation,
    flow_batch,
    tiny_model,
    write_pcap,
)
from apptell.verdicts import Evidence, identify_flows
from tests.models import tiny

if TYPE_CHECKING:
    from pathlib import Path

APPS = ("signal", "zoom", "maps")


def flows_of(*apps: str, seed: int = 77) -> apptell.FlowBatch:
    """Flows with names, as a reader gives them."""
    flows = flow_batch(list(apps), seed=seed)
    nothing = [None] * len(apps)
    names = [f"{app}.example" for app in apps]
    return flows.with_columns(server_name=names, http_host=nothing, dns_name=nothing)


def explained(model: Model, flows: apptell.FlowBatch) -> list[apptell.Explanation]:
    explainer = Explainer(model)
    (verdicts,) = identify_flows([flows], model, threshold=0.0)
    return [explainer.explain(flows.take([i]), verdict) for i, verdict in enumerate(verdicts)]


@pytest.fixture(scope="module")
def linear(tmp_path_factory: pytest.TempPathFactory) -> Model:
    pytest.importorskip("sklearn")
    from apptell.learning import train_model

    place = tmp_path_factory.mktemp("linear") / "model"
    labels = [app for app in APPS for _ in range(10)]
    train_model(flows_of(*labels, seed=0), labels, model="fast", out=place)
    return load_model(place)


@pytest.fixture(scope="module")
def forest(tmp_path_factory: pytest.TempPathFactory) -> Model:
    pytest.importorskip("sklearn")
    return load_model(tiny_model(tmp_path_factory.mktemp("forest") / "model", APPS))


def test_terms_of_a_linear_model_add_up_to_its_log_odds(linear: Model) -> None:
    flows = flows_of("signal", "zoom", "maps", "unheard-of")
    probabilities = linear.predict_proba(flows)
    for row, found in enumerate(explained(linear, flows)):
        reason = found.model
        assert reason is not None
        assert reason.method == "exact"
        total = reason.base + sum(each.value for each in reason.contributions)
        assert total == pytest.approx(reason.total, abs=1e-9)
        first, second = np.sort(probabilities[row])[[-1, -2]]
        assert total == pytest.approx(np.log(first / second), abs=1e-3)


def test_each_term_is_what_the_model_adds_for_the_token(linear: Model) -> None:
    """Against the model itself: without a token, its log odds fall by the term, once the scale is the same."""
    flows = flows_of("signal")
    (found,) = explained(linear, flows)
    reason = found.model
    assert reason is not None
    x = linear.encode(flows)[0]
    known = TokenWeights.of(linear)
    assert known is not None
    n = len(known.terms(x)[0])
    app, other = (linear.apps.index(name) for name in (reason.app, reason.runner_up))
    x[N_TOKENS:] = 0  # the lookup of names is not a term of the sum

    def odds(row: np.ndarray) -> float:
        p = linear.predict_inputs(row[None])[0].astype(np.float64)
        return float(np.log(p[app] / p[other]))

    t = (linear.info["calibration"] or {"temperature": 1.0})["temperature"]
    for each in [each for each in reason.contributions if each.token][:5]:
        without = x.copy()
        at = int(np.flatnonzero(x[:N_TOKENS] == each.token)[0])
        without[at : N_TOKENS - 1], without[N_TOKENS - 1] = x[at + 1 : N_TOKENS], 0
        bias = (known.bias[app] - known.bias[other]) / t
        expected = (odds(x) - bias) - (odds(without) - bias) * np.sqrt((n - 1) / n)
        assert each.value == pytest.approx(expected, abs=2e-3)


def test_contributions_say_the_field_they_came_from(linear: Model) -> None:
    (found,) = explained(linear, flows_of("zoom"))
    assert found.model is not None
    words = {each.words for each in found.model.contributions}
    assert any(text.startswith("cipher list order") for text in words)
    assert "domain zoom.example" in words
    assert any(each.field == "known name" for each in found.model.contributions)
    known = "zoom.example was seen in 5 sources of the training data, always with this app"
    assert known in words
    spans = [span for each in found.model.contributions for span in each.spans]
    for segment, start, stop in spans:
        assert 0 <= start < stop <= len(found.segments[segment].data)


@pytest.mark.parametrize(
    ("sources", "words"),
    [
        (
            None,
            "zoom.example is a name of the training data, there of this app in 100% of its sources",
        ),
        (
            0,
            "zoom.example is not in the training data; the catalogue lists it as a name of this app",
        ),
        (1, "zoom.example was seen in 1 source of the training data, always with this app"),
    ],
)
def test_a_known_name_is_said_also_for_folders_that_do_not_count_sources(
    linear: Model, monkeypatch: pytest.MonkeyPatch, sources: int | None, words: str
) -> None:
    known = TokenWeights.of(linear)
    assert known is not None
    counts = None if sources is None else np.full(len(known.name_weight), sources)
    changed = replace(known, name_sources=counts)
    monkeypatch.setattr(TokenWeights, "of", classmethod(lambda *_: changed))
    (found,) = explained(linear, flows_of("zoom"))
    assert found.model is not None
    assert words in {each.words for each in found.model.contributions}


@pytest.mark.parametrize(
    "text", ["", "1 2", "1 2 3 4", "1 2 -3", "1 2 ²", "1 2 9999999999", "1  3"]
)
def test_counts_of_sources_that_do_not_fit_are_not_shown(text: str) -> None:
    assert sources_of_names(text, 3) is None


def test_votes_of_trees_add_up_along_their_ways(forest: Model) -> None:
    flows = flows_of("signal", "maps", "unheard-of")
    probabilities = forest.predict_proba(flows)
    for row, found in enumerate(explained(forest, flows)):
        reason = found.model
        assert reason is not None
        assert (reason.method, reason.unit) == ("paths", "share of votes")
        total = reason.base + sum(each.value for each in reason.contributions)
        first, second = np.sort(probabilities[row])[[-1, -2]]
        assert total == pytest.approx(first - second, abs=1e-5)
        assert reason.total == pytest.approx(total)
        assert any("size_" in each.words for each in reason.contributions)


def hand_made(inputs: str) -> Model:
    return Model(tiny.info(inputs=inputs, onnx_sha256="0"), tiny.network(inputs), place="here")


@pytest.mark.parametrize("inputs", ["image", "payload", "sequence", "lengths", "statistics"])
def test_other_models_are_asked_without_each_part(inputs: str) -> None:
    """A softmax of a linear function: leaving a part out lowers the log odds by exactly its terms."""
    model = hand_made(inputs)
    flows = flows_of("signal")
    (found,) = explained(model, flows)
    reason = found.model
    assert reason is not None
    assert reason.method == "occlusion"
    assert not reason.adds_up
    weights = tiny.weights(int(np.prod(model.encode(flows).shape[1:]))).astype(np.float64)
    app, other = (model.apps.index(name) for name in (reason.app, reason.runner_up))
    terms = model.encode(flows)[0].reshape(-1) * (weights[:, app] - weights[:, other])
    assert sum(each.value for each in reason.contributions) == pytest.approx(terms.sum(), abs=1e-3)
    assert reason.total == pytest.approx(terms.sum(), abs=1e-3)


def test_the_image_has_a_saliency_of_the_same_sum() -> None:
    (found,) = explained(hand_made("image"), flows_of("zoom"))
    reason = found.model
    assert reason is not None
    assert reason.saliency is not None
    assert reason.saliency.shape == (87, 87)
    total = sum(each.value for each in reason.contributions)
    assert reason.saliency.sum() == pytest.approx(total, abs=1e-6)
    assert not reason.saliency.reshape(-1)[7500:].any()  # padding


def test_a_model_that_only_looks_linear_is_not_taken_for_one(linear: Model) -> None:
    weights = TokenWeights.of(linear)
    assert weights is not None
    x = linear.encode(flows_of("signal"))[0]
    right = linear.predict_inputs(x[None])[0]
    assert weights.fits(x, right, 1.0)
    assert not weights.fits(x, np.roll(right, 1), 1.0)


def test_tokens_left_out_one_by_one_where_the_model_is_no_sum(
    linear: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TokenWeights, "of", classmethod(lambda *_: None))
    (found,) = explained(linear, flows_of("zoom"))
    reason = found.model
    assert reason is not None
    assert reason.method == "occlusion"
    assert any(each.field == "known name" and each.value > 0 for each in reason.contributions)


@pytest.fixture
def phone(tmp_path: Path) -> Path:
    def flow(port: int, server: str, name: str, second: int) -> list[tuple[int, bytes]]:
        return conversation(
            ("192.168.1.2", port),
            (server, 443),
            [(True, client_hello(name)), (False, b"\x17\x03\x03\0\x04abcd")],
            start_ns=1_700_000_000_000_000_000 + second * 1_000_000_000,
        )

    return write_pcap(
        tmp_path / "phone.pcap",
        [
            *flow(40_001, "203.0.113.7", "edge.chat.example", 0),
            *flow(40_002, "203.0.113.8", "unlisted.example", 1),
        ],
    )


def test_the_row_of_the_catalogue_is_named(phone: Path, tmp_path: Path) -> None:
    (tmp_path / "ours.csv").write_text("domain,app\nchat.example,Chat\n")
    found = list(apptell.explain(phone, catalogue=[tmp_path / "ours.csv"]))
    by_name = {each.verdict.server_name: each for each in found}
    step = by_name["edge.chat.example"].steps[-1]
    assert (step.kind, step.decided) == ("name", True)
    assert step.row is not None
    assert (step.row["domain"], step.row["match"], step.row["app"]) == (
        "chat.example",
        "suffix",
        "chat",
    )
    assert "chat.example and names below it belong to the app Chat" in step.words
    others = by_name["unlisted.example"]
    assert others.steps[0].kind == "name"
    assert "is not listed" in others.steps[0].words
    assert others.model is None


def test_one_flow_is_found_by_its_community_id(phone: Path) -> None:
    every = list(apptell.explain(phone))
    (one,) = apptell.explain(phone, flow=every[1].verdict.community_id)
    assert one.verdict.to_dict() == every[1].verdict.to_dict()
    with pytest.raises(UsageError, match="is no Community ID"):
        apptell.explain(phone, flow="8.8.8.8")


def test_verdicts_are_those_of_identify(linear: Model, tmp_path: Path) -> None:
    capture = write_pcap(tmp_path / "a.pcap", app_capture(APPS, 3, seed=9))
    said = [verdict.to_dict() for verdict in apptell.identify(capture, linear)]
    assert [found.verdict.to_dict() for found in apptell.explain(capture, linear)] == said


def test_what_an_address_is_known_for_is_said() -> None:
    from apptell.catalogue.rows import App, Domain
    from apptell.catalogue.tables import Tables
    from apptell.reasons.evidence_steps import evidence_steps

    row = Domain("signal.example", "suffix", "app", "chat", None)
    tables = Tables({"chat": App("chat", "Chat", "messaging")}, {("signal.example", "suffix"): row})
    evidence, flows = Evidence(Catalogue(tables)), flows_of("signal")
    (verdicts,) = identify_flows([flows], hand_made("lengths"))
    verdict = next(iter(verdicts))
    evidence.begin(flows)
    start, minutes = int(flows.numpy("start_ns")[0]), 60 * 1_000_000_000
    steps = evidence_steps(verdict, evidence, start + 5 * minutes)
    assert [step.kind for step in steps] == ["name", "dns", "address", "range"]
    assert steps[2].words.endswith("to 203.0.113.10 port 443 were those of Chat")
    early = evidence_steps(verdict, evidence, start)[2]
    assert "earlier flows" not in early.words.partition("of")[0]


def test_names_of_two_apps_at_one_address_are_said_to_decide_nothing() -> None:
    from apptell.catalogue.rows import App, Domain
    from apptell.catalogue.tables import Tables
    from apptell.reasons.evidence_steps import evidence_steps

    apps = {app: App(app, app.title(), "messaging") for app in ("chat", "tube")}
    rows = [Domain(f"{app}.example", "suffix", "app", app, None) for app in apps]
    tables = Tables(apps, {(row.domain, row.match): row for row in rows})
    evidence = Evidence(Catalogue(tables))
    flows = flows_of("signal").with_columns(server_name=[None])
    start = int(flows.numpy("start_ns")[0])
    for second, app in enumerate(apps):
        evidence.learn(
            pa.record_batch(
                {
                    "client": flows.column("client_address"),
                    "address": flows.column("server_address"),
                    "name": [f"api.{app}.example"],
                    "ttl_s": pa.array([60], pa.uint32()),
                    "place": [start - 10**9 * (2 - second)],
                }
            )
        )
    (verdicts,) = identify_flows([flows], evidence=evidence)
    verdict = next(iter(verdicts))
    steps = evidence_steps(verdict, evidence, start)
    said = "had asked for api.tube.example, api.chat.example; api.tube.example belongs to Tube and "
    said += "api.chat.example to Chat, so neither decides"
    assert verdict.app is None
    assert [step.words for step in steps[1:3]] == [f"the client {said}", f"a client {said}"]
