import re

import pyarrow as pa
import pytest

import apptell
from apptell.errors import DatasetError, OutputError, UsageError
from apptell.models import load_model
from apptell.testing import flow_batch


def flows(n=40, sources=4):
    groups = [{"source": f"s{i // 2 % sources}"} for i in range(n)]
    return flow_batch(["signal" if i % 2 else "zoom" for i in range(n)], groups=groups)


def without_payload(batch):
    """As a capture with a short snap length gives them: lengths, and no bytes."""
    empty = [[b""] * len(kept) for kept in batch.column("segment_length").to_pylist()]
    return batch.with_columns(segment_bytes=pa.array(empty, pa.list_(pa.binary())))


def test_a_model_needs_no_folder_and_can_be_saved_later(tmp_path):
    trained = apptell.train(flows(), "paper-rf", split="source")
    assert trained.test.accuracy > 0.9
    trained.save(tmp_path / "m")
    assert load_model(tmp_path / "m").hash == trained.model.hash
    assert (tmp_path / "m" / "split.jsonl").is_file()
    with pytest.raises(OutputError, match="already holds a model"):
        trained.save(tmp_path / "m")


def test_a_trained_model_is_shown_in_a_line():
    trained = apptell.train(flows(), "paper-rf", split="source", hyperparameters={"n_trees": 2})
    assert re.fullmatch(
        r"<TrainedModel paper-rf@\w+ of \d+ apps, accuracy [\d.]+% on \d+ flows>", repr(trained)
    )
    assert re.fullmatch(
        r"<EvaluatedModel paper-rf@\w+: accuracy [\d.]+% on \d+ flows>", repr(trained.test)
    )
    assert repr(trained.split).startswith("<Split source: ")


def test_what_cannot_be_is_refused_before_a_flow_is_read(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    nowhere = tmp_path / "no-dataset"
    for settings, kind, message in (
        ({"model": "gpt"}, UsageError, "unknown model 'gpt'"),
        ({"precision": 1.5}, UsageError, "precision 1.5 is not between 0 and 1"),
        ({"hyperparameters": {"lr": 1}}, UsageError, "has no hyperparameter 'lr'"),
        ({"level": "word"}, UsageError, "word"),
        ({"out": tmp_path}, OutputError, "holds something other than a model"),
    ):
        with pytest.raises(kind, match=message):
            apptell.train(nowhere, **{"model": "paper-rf", **settings})


def test_a_model_on_payload_is_refused_where_no_flow_has_any(tmp_path):
    bare = without_payload(flows())
    with pytest.raises(DatasetError, match="model fast reads payload bytes, and these flows have"):
        apptell.train(bare, "fast", split="source")
    trained = apptell.train(flows(), "fast", split="source")
    with pytest.raises(DatasetError, match="reads payload bytes"):
        apptell.evaluate(trained.model, bare)
    assert apptell.train(bare, "sequence", split="source").test.accuracy > 0.5


def test_a_precision_is_promised_or_changes_nothing():
    many = flows(120, sources=30)
    kept = apptell.train(many, "paper-rf", split="source", precision=0.9)
    assert kept.promise.threshold == kept.model.threshold
    assert kept.promise.coverage > 0
    few = flows(40, sources=6)
    without = apptell.train(few, "paper-rf", split="source")
    dead = apptell.train(few, "paper-rf", split="source", precision=0.999)
    assert dead.promise.threshold is None
    assert (
        "cannot promise 100%" in dead.promise.sentence or "cannot promise" in dead.promise.sentence
    )
    assert dead.model.hash == without.model.hash
