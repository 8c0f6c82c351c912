from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest

from apptell.encoding.name_keys import N_KEY_WORDS, keys_of_name
from apptell.encoding.structure import N_TOKENS
from apptell.learning.catalogue_names import catalogue_names
from apptell.learning.name_tables import NameLookup, learn_names
from apptell.learning.token_models import TokenFusion, TokenLinear

NONE = [0, 0, 0, 0]


def host(number: int, domain: int) -> list[int]:
    """Keys of a host and its domain, both with the low word 9."""
    return [1000 + number, 9, 2000 + domain, 9]


def named_flows(n: int, n_sources: int = 10):
    """Flows of two apps on many sources; domain 0 is alpha's, domain 1 is beta's, domain 2 serves both."""
    random = np.random.default_rng(0)
    target = random.integers(0, 2, n)
    shared = random.random(n) < 0.3
    keys = np.array(
        [host(random.integers(0, 5), 2 if s else t) for t, s in zip(target, shared, strict=True)],
        dtype=np.uint16,
    )
    keys[:, 0] += 100 * (keys[:, 2] - 2000)  # hosts belong to one domain
    return keys, target, np.arange(n) % n_sources


def test_a_name_of_one_app_decides_and_a_shared_name_says_half():
    keys, target, groups = named_flows(400)
    names = learn_names(keys, target, groups, 2, seed=0)
    asked = np.array([host(77, 0), host(77, 1), host(77, 2), host(77, 50), NONE], dtype=np.uint16)
    other = np.tile([0.1, 0.9], (5, 1))
    alpha, beta, shared, unknown, nameless = names.mixed_into(other, asked)
    assert alpha[0] > 0.8
    assert beta[1] > 0.95
    assert 0.2 < shared[0] < 0.5
    np.testing.assert_allclose(unknown, other[0])
    np.testing.assert_allclose(nameless, other[0])


def test_a_host_is_asked_before_its_domain():
    keys = np.array([host(1, 0)] * 20 + [host(2, 0)] * 20, dtype=np.uint16)
    target = np.repeat([0, 1], 20)
    names = learn_names(keys, target, np.arange(40) % 10, 2, seed=0)
    found = names.mixed_into(np.full((2, 2), 0.5), keys[[0, 20]])
    assert found.argmax(axis=1).tolist() == [0, 1]
    assert found.max(axis=1).min() > 0.8


def test_names_that_mislead_on_other_sources_are_hardly_relied_on():
    keys = np.array([host(0, 0)] * 200, dtype=np.uint16)
    groups = np.arange(200) % 20
    target = groups % 2  # the same name, another app on every other source
    names = learn_names(keys, target, groups, 2, seed=0)
    found = names.mixed_into(np.array([[0.9, 0.1]]), keys[:1])
    assert found[0, 0] == pytest.approx(0.7, abs=0.1)


def test_a_name_that_is_only_in_one_source_is_relied_on_less_than_one_in_many():
    keys = np.array([host(1, 0)] * 50 + [host(2, 1)] * 50, dtype=np.uint16)
    target = np.repeat([0, 1], 50)
    groups = np.concatenate([np.zeros(50), np.arange(50) % 10 + 1]).astype(int)
    names = learn_names(keys, target, groups, 2, seed=0)
    found = names.mixed_into(np.full((2, 2), 0.5), keys[[0, 50]])
    assert found[1, 1] > found[0, 0] > 0.5


def test_flows_without_names_teach_nothing():
    keys = np.zeros((30, N_KEY_WORDS), dtype=np.uint16)
    names = learn_names(keys, np.arange(30) % 2, None, 2, seed=0)
    assert len(names.check) == 1
    np.testing.assert_array_equal(names.mixed_into(np.full((30, 2), 0.5), keys), 0.5)


def test_two_names_whose_keys_share_a_high_word_are_never_taken_for_each_other():
    keys = np.array([[5, 1, 0, 0]] * 30 + [[5, 2, 0, 0]] * 10, dtype=np.uint16)
    target = np.repeat([0, 1], [30, 10])
    names = learn_names(keys, target, np.arange(40) % 8, 2, seed=0)
    found = names.mixed_into(np.full((2, 2), 0.5), keys[[0, 39]])
    assert found[0, 0] > 0.8 or found[1, 1] > 0.8
    assert max(found[0, 1], found[1, 0]) <= 0.5


@pytest.mark.parametrize("model", [TokenLinear(), TokenFusion(epochs=2, device="cpu")])
def test_a_known_name_overrules_misleading_tokens_also_in_onnx(model):
    keys, target, groups = named_flows(400)
    random = np.random.default_rng(1)
    X = np.zeros((400, 2, N_TOKENS + N_KEY_WORDS), dtype=np.uint16)
    X[:, :, 0] = 100 + np.where(random.random(400) < 0.8, target, 1 - target)[:, None]
    X[:, :, 1:9] = random.integers(500, 600, (400, 2, 8))
    X[:, 0, N_TOKENS:] = keys
    model.fit(X, np.array(["alpha", "beta"])[target], groups=groups)
    asked = X[:3, 0].copy()
    asked[:, 0] = 101  # what tells beta
    asked[0, N_TOKENS:] = host(77, 0)  # alpha's domain
    asked[1, N_TOKENS:] = NONE
    asked[2, N_TOKENS:] = host(77, 1)
    found = model.predict_proba(asked)
    assert model.classes_[found.argmax(axis=1)].tolist() == ["alpha", "beta", "beta"]
    session = onnxruntime.InferenceSession(model.to_onnx(), providers=["CPUExecutionProvider"])
    (exported,) = session.run(["probabilities"], {"inputs": asked})
    np.testing.assert_allclose(exported, found, atol=1e-4)


def test_the_lookup_alone_says_the_shares_where_it_knows_nothing_also_in_onnx():
    keys, target, groups = named_flows(300)
    model = NameLookup().fit(keys, np.array(["alpha", "beta"])[target], groups)
    asked = np.array([NONE, host(77, 1), host(77, 0)], dtype=np.uint16)
    found = model.predict_proba(asked)
    np.testing.assert_allclose(found[0], np.bincount(target) / 300, atol=1e-6)
    assert model.predict(asked[1:]).tolist() == ["beta", "alpha"]
    session = onnxruntime.InferenceSession(model.to_onnx(), providers=["CPUExecutionProvider"])
    (exported,) = session.run(["probabilities"], {"inputs": asked})
    np.testing.assert_allclose(exported, found, atol=1e-6)


def test_the_table_and_the_file_say_in_how_many_sources_a_name_was_seen():
    keys = np.array([host(1, 0)] * 6 + [host(2, 0)] * 3 + [NONE], dtype=np.uint16)
    groups = np.array([0, 0, 0, 1, 1, 2, 3, 3, 3, 4])
    model = NameLookup().fit(keys, np.repeat(["alpha", "beta"], [6, 4]), groups)
    names = model.names_
    assert names.sources[names.find(keys[[0, 6]], 0)].tolist() == [3, 1]
    assert names.sources[names.find(keys[[0]], 2)].tolist() == [4]
    (entry,) = onnx.load_from_string(model.to_onnx()).metadata_props
    assert (entry.key, entry.value) == ("name_sources", " ".join(map(str, names.sources)))


def test_the_catalogue_names_apps_that_no_flow_named_only_when_it_is_asked_also_in_onnx():
    """Training shows names of whatsapp and of an unlisted app, and none of zoom."""
    shown = ["web.whatsapp.com", "static.whatsapp.net", "mine.example", "other.example"] * 10
    apps = np.array(["whatsapp", "whatsapp", "mine", "zoom"] * 10)
    keys = np.array([keys_of_name(name) for name in shown], dtype=np.uint16)
    groups = np.arange(40) % 10
    asked = np.array(
        [keys_of_name(name) for name in ("us04web.zoom.us", "web.whatsapp.com", "new.example")],
        dtype=np.uint16,
    )
    plain = NameLookup().fit(keys, apps, groups)
    np.testing.assert_allclose(plain.predict_proba(asked)[0], [0.25, 0.5, 0.25])
    model = NameLookup(catalogue=1).fit(keys, apps, groups)
    found = model.predict_proba(asked)
    assert model.predict(asked).tolist()[:2] == ["zoom", "whatsapp"]
    np.testing.assert_allclose(found[2], plain.predict_proba(asked)[2])
    session = onnxruntime.InferenceSession(model.to_onnx(), providers=["CPUExecutionProvider"])
    (exported,) = session.run(["probabilities"], {"inputs": asked})
    np.testing.assert_allclose(exported, found, atol=1e-6)


@pytest.mark.parametrize(("app", "relied_on"), [("discord", True), ("zoom", False)])
def test_the_catalogue_is_relied_on_as_far_as_flows_of_other_sources_bear_it_out(app, relied_on):
    """Each source shows another of Discord's domains: as Discord's flows, or as another app's."""
    shown = ["discord.com", "discord.gg", "discord.media", "discordapp.com", "discordapp.net"]
    keys = np.array([keys_of_name(name) for name in shown * 4], dtype=np.uint16)
    keys = np.vstack([keys, np.tile(NONE, (4, 1))]).astype(np.uint16)
    apps = np.array([app] * 20 + ["discord", "zoom"] * 2)
    groups = np.concatenate([np.tile(np.arange(5), 4), [5, 6, 5, 6]])
    model = NameLookup(catalogue=1).fit(keys, apps, groups)
    new = np.array([keys_of_name("dis.gd")], dtype=np.uint16)
    assert (model.predict_proba(new)[0, 0] > 0.8) == relied_on


def test_rows_of_the_catalogue_that_stand_for_many_names_are_no_keys():
    names = catalogue_names(["whatsapp", "zoom/call", "no-such-app"])
    assert set(names.app.tolist()) == {0, 1}
    assert len(np.unique(names.keys)) == len(names.keys)
    words = keys_of_name("zoom.us")
    assert (words[2] << 16 | words[3]) in names.keys[names.is_domain]
