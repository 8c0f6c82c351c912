"""The flows of a training set that are most like a flow, in the rows that a model keeps."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from apptell.encoding.structure import N_TOKENS
from apptell.encoding.tokens import N_BUCKETS
from apptell.errors import ModelError, UsageError
from apptell.models import load_model
from apptell.models.model_folder import ROWS_FILE
from apptell.reasons import Explainer, KeptFlows
from apptell.testing import flow_batch
from apptell.verdicts import identify_flows

if TYPE_CHECKING:
    import apptell
    from apptell.models import Model

APPS = ("signal", "zoom", "maps")
LABELS = [app for app in APPS for _ in range(10)]


def flows_of(*apps: str, seed: int) -> apptell.FlowBatch:
    """Flows with names, each app's from sources of their own."""
    flows = flow_batch(list(apps), seed=seed)
    nothing = [None] * len(apps)
    names = [f"{app}.example" for app in apps]
    return flows.with_columns(server_name=names, http_host=nothing, dns_name=nothing)


def trained(place: Path, name: str) -> Model:
    pytest.importorskip("sklearn")
    from apptell.learning import train_model

    train_model(flows_of(*LABELS, seed=0), LABELS, model=name, out=place, keep_rows=True)
    return load_model(place)


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return trained(tmp_path_factory.mktemp("tokens") / "model", "fast")


@pytest.fixture(scope="module")
def numbers(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return trained(tmp_path_factory.mktemp("numbers") / "model", "paper-rf")


def kept(model: Model) -> KeptFlows:
    found = KeptFlows.of(model)
    assert found is not None
    return found


@pytest.mark.parametrize("kind", ["tokens", "numbers"])
def test_a_flow_of_the_training_set_is_most_like_itself(
    kind: str, request: pytest.FixtureRequest
) -> None:
    model: Model = request.getfixturevalue(kind)
    flows = flows_of(*LABELS, seed=0)
    for row in (0, 14, 29):
        found = kept(model).like(flows.take([row]), 3)
        first = found.nearest[0]
        assert first.similarity == pytest.approx(1.0, abs=1e-6)
        assert first.app == LABELS[row]
        assert first.n_shared == found.n_parts
        assert 0 < len(first.shared) <= 5
        values = [each.similarity for each in found.nearest]
        assert values == sorted(values, reverse=True)
        assert found.n_rows == 30


def test_the_similarity_is_the_cosine_of_weights_that_rare_fields_have_most_of(
    tokens: Model,
) -> None:
    pairwise = pytest.importorskip("sklearn.metrics.pairwise")
    rows = tokens.kept_rows()
    assert rows is not None
    flow = flows_of("zoom", seed=5)

    def there(inputs: np.ndarray) -> np.ndarray:
        found = np.zeros((len(inputs), N_BUCKETS))
        for at, row in enumerate(inputs[:, :N_TOKENS]):
            found[at, row[row > 0]] = 1
        return found

    inputs = rows.inputs[:, 0] if rows.encoded.views else rows.inputs
    training = there(inputs)
    weight = np.log((1 + len(training)) / (1 + training.sum(axis=0)))
    asked = there(tokens.encode(flow)) * weight
    expected = pairwise.cosine_similarity(asked, training * weight)[0]
    found = kept(tokens).like(flow, 100)
    best: dict[tuple[str, int], float] = {}
    for app, group, value in zip(rows.apps, rows.groups, expected, strict=True):
        key = (str(app), int(group))
        best[key] = max(best.get(key, 0.0), float(value))
    assert {(each.app, each.group): each.similarity for each in found.nearest} == {
        key: pytest.approx(value) for key, value in best.items() if value > 0
    }
    assert sum(n for _, n in found.apps) == int((expected > 0).sum())


def test_what_both_flows_have_is_said_in_the_words_of_the_flow(tokens: Model) -> None:
    found = kept(tokens).like(flows_of("zoom", seed=5), 100)
    words: dict[str, list[str]] = {app: [] for app in APPS}
    for each in found.nearest:
        words[each.app] += each.shared
    assert "domain zoom.example" in words["zoom"]
    assert "domain zoom.example" not in words["signal"]
    assert found.apps[0][0] == "zoom"


def test_explanations_have_similar_flows_where_they_are_asked_for(tokens: Model) -> None:
    flows = flows_of("maps", seed=9)
    (verdicts,) = identify_flows([flows], tokens, threshold=0.0)
    (verdict,) = verdicts
    assert Explainer(tokens).explain(flows, verdict).similar is None
    similar = Explainer(tokens, similar=2).explain(flows, verdict).similar
    assert similar is not None
    assert len(similar.nearest) == 2
    found = json.loads(json.dumps(similar.to_dict()))
    assert found["nearest"][0]["app"] == "maps"
    assert found["rows"] == 30


def test_a_model_without_rows_cannot_be_asked_for_similar_flows() -> None:
    model = load_model()
    assert KeptFlows.of(model) is None
    with pytest.raises(UsageError, match="keeps no flows of its training set"):
        Explainer(model, similar=3)
    with pytest.raises(UsageError, match="no model is used"):
        Explainer(similar=3)


def test_rows_of_another_model_are_refused(tokens: Model, numbers: Model, tmp_path: Path) -> None:
    place = tmp_path / "model"
    shutil.copytree(tokens._place, place)
    strange = Path(numbers._place, ROWS_FILE).read_bytes()
    (place / ROWS_FILE).write_bytes(strange)
    with pytest.raises(ModelError, match="SHA-256"):
        KeptFlows.of(load_model(place))
    info = json.loads((place / "model.json").read_text())
    info["rows"]["sha256"] = hashlib.sha256(strange).hexdigest()
    (place / "model.json").write_text(json.dumps(info))
    with pytest.raises(ModelError, match="rows of other inputs"):
        KeptFlows.of(load_model(place))
