import numpy as np
import pyarrow as pa
import pytest

from apptell.dataset import Selection, Split, folds, method_of
from apptell.errors import DatasetError, UsageError
from apptell.experiments import trial_cache
from apptell.experiments.out_of_fold import ALWAYS, compare_models, models_of
from apptell.experiments.plan import Plan, plan_of
from apptell.experiments.trial_cache import run_trial
from apptell.learning.task import NEIGHBOUR, Task
from apptell.testing import app_messages, client_hello, flow_batch

CHEAP = ("paper-rf", NEIGHBOUR)


def two_apps(n=40, sources=4):
    labels = ["signal" if i % 2 else "zoom" for i in range(n)]
    groups = [{"source": f"s{i // 2 % sources}"} for i in range(n)]
    return flow_batch(labels, groups=groups), labels


def compared(tmp_path, flows, labels, splits, models=CHEAP, **settings):
    settings = {"epochs": 1, "device": "cpu", "cache": tmp_path / "cache", **settings}
    plans = splits if splits and isinstance(splits[0], Plan) else [Plan(0, tuple(splits))]
    return list(compare_models(flows, labels, plans, models, **settings))


def trial_of(outcome):
    (trial,) = outcome.seeds
    return trial


def test_every_flow_is_tested_once_by_every_model_names_on_and_masked(tmp_path):
    flows, labels = two_apps()
    found = compared(tmp_path, flows, labels, folds(flows, "source", 4))
    assert [(o.model, o.names) for o in found] == [
        (model, names) for model in CHEAP for names in ("on", "masked")
    ]
    for outcome in found:
        assert outcome.apps == ("signal", "zoom")
        trial = trial_of(outcome)
        np.testing.assert_array_equal(trial.rows, np.arange(40))
        right = np.array(outcome.apps)[trial.probabilities.argmax(axis=1)] == np.array(labels)
        assert right.mean() > 0.9


def test_no_fold_is_tested_by_a_model_that_saw_its_group(tmp_path):
    flows, labels = two_apps()
    trial = trial_of(compared(tmp_path, flows, labels, folds(flows, "source", 4))[0])
    sources = method_of("source").interval_groups(flows)[trial.rows]
    for number in range(4):
        assert len(set(sources[trial.fold == number])) == 1


def test_every_seed_has_its_own_folds_and_is_cached_apart(tmp_path):
    flows, labels = two_apps(60, sources=8)
    plans = [plan_of(flows, folds(flows, "source", 3, seed), seed, 0) for seed in (0, 1)]
    outcome = compared(tmp_path, flows, labels, plans)[0]
    assert [trial.seed for trial in outcome.seeds] == [0, 1]
    first, second = outcome.seeds
    assert (first.fold != second.fold).any()
    alone = compared(tmp_path, flows, labels, plans[1:])[0]
    np.testing.assert_array_equal(trial_of(alone).probabilities, second.probabilities)


@pytest.mark.parametrize("protocol", ["source", "paper", "time"])
def test_what_is_held_out_saw_nothing_of_the_test_side(tmp_path, protocol):
    flows, labels = two_apps(60, sources=8)
    splits = folds(flows, protocol, 3)
    plan = plan_of(flows, splits, 0, 2)
    sources = method_of("source").interval_groups(flows)
    for outer, inner in zip(plan.splits, plan.inner, strict=True):
        for part in inner:
            assert not set(part.train) & set(part.test)
            assert not (set(part.train) | set(part.test)) & set(outer.test)
            if protocol == "source":
                assert not set(sources[part.train]) & set(sources[part.test])
    trial = trial_of(compared(tmp_path, flows, labels, [plan])[0])
    assert len(trial.held) == len(splits)
    for outer, (rows, probabilities) in zip(plan.splits, trial.held, strict=True):
        assert len(rows) == len(probabilities) > 0
        assert set(rows) <= set(outer.train)


def test_test_labels_change_nothing_that_was_learned_or_held_out(tmp_path):
    """The apps of a tested fold are shuffled: its probabilities and thresholds stay as they were."""
    flows, labels = two_apps(60, sources=6)
    split = folds(flows, "source", 3)[0]
    plan = plan_of(flows, [split], 0, 2)
    changed = list(labels)
    for row in split.test:
        changed[row] = "zoom" if labels[row] == "signal" else "signal"
    one = trial_of(compared(tmp_path, flows, labels, [plan])[0])
    other = trial_of(compared(tmp_path, flows, changed, [plan])[0])
    np.testing.assert_array_equal(one.probabilities, other.probabilities)
    for mine, theirs in zip(one.held, other.held, strict=True):
        np.testing.assert_array_equal(mine[1], theirs[1])


def test_groups_too_few_to_be_parted_hold_nothing_out():
    flows, _ = two_apps(20, sources=2)
    assert plan_of(flows, folds(flows, "source", 2), 0, 3).inner == ()


def test_flows_of_lengths_alone_go_without_the_network_and_without_masking(tmp_path):
    flows, labels = two_apps(40)
    bare = flows.with_columns(
        server_address=pa.nulls(40, pa.string()),
        segment_bytes=pa.nulls(40, pa.list_(pa.binary())),
    )
    assert models_of(["lengths-rf"], Selection.of(bare)) == ("paper-rf", NEIGHBOUR, "lengths-rf")
    with pytest.raises(UsageError, match="reads payload bytes, and these flows have none"):
        models_of(["paper-cnn"], Selection.of(bare))
    found = compared(tmp_path, bare, labels, folds(bare, "source", 2), ("lengths-rf",), packets=3)
    assert [outcome.names for outcome in found] == ["on"]
    assert trial_of(found[0]).probabilities.shape == (40, 2)


def test_the_comparators_always_stand_beside_what_is_asked_for():
    assert models_of(["paper-rf"]) == ALWAYS
    with pytest.raises(UsageError, match="unknown model 'no-such'"):
        models_of(["no-such"])


def test_alone_stands_only_what_is_asked_for():
    assert models_of([NEIGHBOUR, "paper-rf"], only=True) == (NEIGHBOUR, "paper-rf")
    with pytest.raises(UsageError, match="needs at least one"):
        models_of([], only=True)


def test_what_was_trained_before_comes_from_the_cache_with_the_same_numbers(tmp_path, monkeypatch):
    flows, labels = two_apps()
    splits = folds(flows, "source", 2)
    first = compared(tmp_path, flows, labels, splits, ALWAYS)
    monkeypatch.setattr(trial_cache, "_learner", lambda *_: pytest.fail("trained again"))
    again = compared(tmp_path, flows, labels, splits, ALWAYS)
    for one, other in zip(first, again, strict=True):
        np.testing.assert_array_equal(trial_of(one).probabilities, trial_of(other).probabilities)
        assert one.train_s == other.train_s


def test_another_seed_epoch_label_or_split_is_another_run(tmp_path):
    inputs = np.arange(40, dtype=np.float32).reshape(20, 2)
    apps = np.array(["a", "b"] * 10)
    changed = np.array(["a", "b"] * 9 + ["b", "b"])
    for task, learned, names in (
        (Task("paper-rf"), inputs, apps),
        (Task("paper-rf", seed=1), inputs, apps),
        (Task("paper-rf", epochs=3), inputs, apps),
        (Task("paper-rf"), inputs, changed),
        (Task("paper-rf"), inputs[:18], apps[:18]),
    ):
        assert not run_trial(task, learned, names, inputs, tmp_path).cached
    assert run_trial(Task("paper-rf"), inputs, apps, inputs, tmp_path).cached
    assert len(list(tmp_path.glob("*.npz"))) == 5


def test_a_damaged_result_is_made_again(tmp_path):
    inputs = np.arange(40, dtype=np.float32).reshape(20, 2)
    apps = np.array(["a", "b"] * 10)
    first = run_trial(Task(NEIGHBOUR), inputs, apps, inputs, tmp_path)
    (file,) = tmp_path.glob("*.npz")
    file.write_bytes(file.read_bytes()[:100])
    again = run_trial(Task(NEIGHBOUR), inputs, apps, inputs, tmp_path)
    assert not again.cached
    np.testing.assert_array_equal(first.probabilities, again.probabilities)


def test_an_interrupted_training_is_not_kept(tmp_path):
    flows, labels = two_apps(20)
    task = Task("paper-cnn", epochs=50, device="cpu")

    def stop(state):
        if state.epoch > 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_trial(task, task.encode(flows), np.array(labels), task.encode(flows), tmp_path, stop)
    assert not list(tmp_path.glob("*.npz"))


def test_an_interrupted_training_goes_on_from_its_checkpoint(tmp_path, monkeypatch):
    monkeypatch.setattr("apptell.learning.network_training.REPORT_S", 0)
    monkeypatch.setattr("apptell.learning.network_training.KEEP_S", 0)
    flows, labels = two_apps(20)
    task = Task("paper-cnn", epochs=3, device="cpu")
    inputs, apps = task.encode(flows), np.array(labels)

    def stop(state):
        if state.done > 0.5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_trial(task, inputs, apps, inputs, tmp_path, stop)
    assert [file.suffix for file in tmp_path.iterdir()] == [".part"]
    resumed = run_trial(task, inputs, apps, inputs, tmp_path)
    whole = run_trial(task, inputs, apps, inputs, tmp_path / "other")
    np.testing.assert_array_equal(resumed.probabilities, whole.probabilities)
    assert [file.suffix for file in tmp_path.glob("paper-*")] == [".npz"]


def test_an_app_that_a_fold_never_learned_gets_probability_zero(tmp_path):
    flows, labels = two_apps(20)
    labels = [*labels[:18], "late", "late"]
    split = Split(np.arange(16), np.arange(16, 20), "file", optimistic=False)
    outcome = compared(tmp_path, flows, labels, [split])[0]
    assert outcome.apps == ("late", "signal", "zoom")
    assert not trial_of(outcome).probabilities[:, 0].any()


def test_a_training_side_of_one_app_and_overlapping_folds_are_told(tmp_path):
    flows, labels = two_apps(8)
    one = Split(np.array([1, 3]), np.array([0, 2]), "file", optimistic=False)
    with pytest.raises(DatasetError, match="only one app, signal"):
        compared(tmp_path, flows, labels, [one])
    with pytest.raises(UsageError, match="overlap"):
        compared(tmp_path, flows, labels, [one, one])
    with pytest.raises(UsageError, match="no split"):
        compared(tmp_path, flows, labels, [])


def test_masking_takes_away_what_only_the_server_name_tells(tmp_path):
    """Both apps say the same but for the name in the hello: a byte model must fall to chance."""
    rng = np.random.default_rng(0)
    names = [("alpha" if i % 2 else "omega") for i in range(80)]
    tail = app_messages("same")[1:]
    messages = [
        [(True, client_hello(f"{name}.example", seed=int(rng.integers(2**31)))), *tail]
        for name in names
    ]
    flows = flow_batch(names, messages=messages)
    task = Task("paper-cnn")
    from apptell.dataset.masking import mask_server_names

    seen = task.encode(mask_server_names(flows)).astype(int)
    assert b"alpha" not in b"".join(b"".join(f.segment_bytes) for f in mask_server_names(flows))
    alpha, omega = (seen[np.array(names) == name] for name in ("alpha", "omega"))
    # what still differs is random from flow to flow: no pixel is constant in both and different
    still = (np.ptp(alpha, axis=0) == 0) & (np.ptp(omega, axis=0) == 0) & (alpha[0] != omega[0])
    assert not still.any()


def test_time_goes_forward_and_its_intervals_are_by_source(tmp_path):
    flows, labels = two_apps(48)
    splits = folds(flows, "time", 3)
    outcome = compared(tmp_path, flows, labels, splits)[0]
    assert trial_of(outcome).rows.min() == 12  # the first stretch only teaches
    assert set(method_of("time").interval_groups(flows)) == {"s0", "s1", "s2", "s3"}


def test_intervals_over_too_few_groups_are_drawn_from_captures():
    groups = [{"version": f"v{i % 2}"} for i in range(40)]
    flows = flow_batch(["a"] * 40, groups=groups)
    few = flows.with_columns(capture=[f"c{i % 4}" for i in range(40)])
    many = flows.with_columns(capture=[f"c{i % 10}" for i in range(40)])
    assert len(set(method_of("version").interval_groups(few))) == 2
    assert len(set(method_of("version").interval_groups(many))) == 10
