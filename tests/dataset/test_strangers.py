"""Datasets from strangers: a clear line or the right flows, and no file outside of the folder."""

import copy
import hashlib
import json
import random

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from apptell.dataset import Dataset, build
from apptell.dataset.change import validate
from apptell.dataset.dataset_card import card
from apptell.dataset.manifest import dataset_hash
from apptell.encoding import images, sequences, statistics
from apptell.errors import DatasetError
from apptell.flows.schema import GROUPS, SCHEMA
from apptell.testing import flow_batch
from tests.dataset.test_dataset_folder import Source


@pytest.fixture
def dataset(tmp_path):
    return build([Source("a"), Source("b", "mail")], tmp_path / "d").dataset


def rewrite(dataset, change):
    """Lets ``change`` spoil the content of ``dataset.json``."""
    info = json.loads((dataset.path / "dataset.json").read_text())
    changed = change(info)
    (dataset.path / "dataset.json").write_text(json.dumps(info if changed is None else changed))
    return dataset.path


def set_shard(key, value):
    return lambda info: info["shards"][0].__setitem__(key, value)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (set_shard("file", "../outside.parquet"), "'shards' is not a list of shards with plain names"),
        (set_shard("file", "/etc/passwd"), "plain names"),
        (set_shard("file", "flows-00000-aaaaaaaaaaaa.parquet/../x"), "plain names"),
        (set_shard("file", ["x"]), "plain names"),
        (set_shard("n_flows", -1), "plain names"),
        (set_shard("n_flows", 10**12), "plain names"),
        (set_shard("n_flows", 7), "its shards have 7 flows, and 'n_flows' is 8"),
        (set_shard("bytes", 1), "bytes, but it was written with 1"),
        (set_shard("sha256", "00" * 32), "the content hash is not that of its shards"),
        (lambda info: info["shards"].append(info["shards"][0]), "a shard is listed twice"),
        (lambda info: info["apps"].__setitem__("chat", 1), "its apps have 5 flows"),
        (lambda info: info["apps"].__setitem__("chat", "four"), "'apps' is not flows by app"),
        (lambda info: info.__setitem__("apps", ["chat"]), "'apps' is not flows by app"),
        (lambda info: info.__setitem__("done", "x"), "'done' is not a list of texts"),
        (lambda info: info.__setitem__("dataset_version", True), "dataset_version is true"),
        (lambda info: info.pop("sources") and None, "'sources' is missing"),
        (lambda info: info["sources"][0].__setitem__("sha256", 5), "'sources' is not a list of sources"),
        (lambda info: info.__setitem__("written_by", "\ud800"), "'written_by' is not text"),
        (lambda info: [], "is not an object"),
    ],
)  # fmt: skip
def test_a_manifest_that_is_wrong_is_refused_in_one_line(dataset, change, words):
    with pytest.raises(DatasetError, match=words) as found:
        Dataset.open(rewrite(dataset, change))
    assert "\n" not in str(found.value)


@pytest.mark.parametrize(
    "text", ["[" * 100_000, '{"a":' * 100_000, "", "\x00", "NaN", "1e999999999", "9" * 5000]
)
def test_a_manifest_that_is_no_manifest_is_refused_in_one_line(dataset, text):
    (dataset.path / "dataset.json").write_text(text)
    with pytest.raises(DatasetError, match=r"dataset.json"):
        Dataset.open(dataset.path)


def test_a_manifest_without_bound_is_not_read(dataset):
    with (dataset.path / "dataset.json").open("r+b") as file:
        file.truncate(1 << 34)
    with pytest.raises(DatasetError, match="at most 134217728 are read"):
        Dataset.open(dataset.path)


def test_links_and_other_kinds_of_files_are_not_followed(dataset, tmp_path):
    shard = dataset.path / dataset.info["shards"][0]["file"]
    elsewhere = tmp_path / "elsewhere"
    shard.rename(elsewhere)
    shard.symlink_to(elsewhere)
    with pytest.raises(DatasetError, match="is not a regular file"):
        Dataset.open(dataset.path)
    with pytest.raises(DatasetError, match="is not a regular file"):
        list(dataset.batches())  # it was replaced after the dataset was opened
    manifest = dataset.path / "dataset.json"
    manifest.rename(tmp_path / "m")
    manifest.symlink_to(tmp_path / "m")
    with pytest.raises(DatasetError, match="cannot be read"):
        Dataset.open(dataset.path)


def put_shard(dataset, table):
    """Replaces the shard by another table, with a manifest that fits it."""
    shard = dataset.path / dataset.info["shards"][0]["file"]
    pq.write_table(table, shard)
    digest = hashlib.sha256(shard.read_bytes()).hexdigest()

    def fit(info):
        info["shards"][0] |= {"bytes": shard.stat().st_size, "sha256": digest}
        info["hash"] = dataset_hash(info["shards"])

    return Dataset.open(rewrite(dataset, fit))


def table_of(dataset):
    return pq.read_table(dataset.path / dataset.info["shards"][0]["file"])


def spoiled(table, name, values):
    at = table.schema.get_field_index(name)
    kind = values.type if isinstance(values, pa.Array) else SCHEMA.field(name).type
    array = values if isinstance(values, pa.Array) else pa.array(values, kind)
    return table.set_column(at, pa.field(name, kind), array)


@pytest.mark.parametrize(
    ("name", "values", "words"),
    [
        ("label", [None] * 8, "'label' lacks a value"),
        ("start_ns", [None] * 8, "'start_ns' lacks a value"),
        ("label", pa.array(range(8)), "column 'label' is not of the flow schema"),
        ("segment_bytes", [[b"x"]] * 8, "'segment_bytes' differs from 'segment_length' in length"),
        ("segment_bytes", [None] * 8, "'segment_bytes' differs"),
        ("segment_length", [[2**30] * 2000] * 8, "more than 1024 elements"),
        ("segment_length", [[None]] * 8, r"differs|lacks a value"),
        ("segment_length", -1, "more bytes of a segment than it may have"),
        ("segment_bytes", b"x" * 5000, "more bytes of a segment than it may have"),
        ("sequence_gap_us", [[1]] * 8, "'sequence_gap_us' differs from 'sequence_length'"),
    ],
)  # fmt: skip
def test_a_shard_that_compiled_code_must_not_see_is_refused(dataset, name, values, words):
    table = table_of(dataset)
    if not isinstance(values, list | pa.Array):  # every element of every list
        values = [[values] * len(row) for row in table.column(name).to_pylist()]
    data = put_shard(dataset, spoiled(table, name, values))
    with pytest.raises(DatasetError, match=words):
        list(data.batches(tuple(GROUPS)))


def test_text_that_is_not_utf_8_is_a_damaged_shard(dataset):
    table = table_of(dataset)
    raw = pa.array([b"\xff\xfe"] * 8, pa.binary())
    wrong = pa.StringArray.from_buffers(8, raw.buffers()[1], raw.buffers()[2])
    data = put_shard(dataset, spoiled(table, "label", wrong))
    with pytest.raises(DatasetError, match="damaged shard"):
        list(data.batches(("labels",)))


def test_a_shard_with_more_or_fewer_flows_than_said_is_refused(dataset):
    for table in (table_of(dataset).slice(0, 7), pa.concat_tables([table_of(dataset)] * 2)):
        data = put_shard(dataset, table)
        with pytest.raises(DatasetError, match=r"flows, but dataset.json says 8"):
            list(data.batches())


VALUES = (
    None,
    True,
    -1,
    0,
    1.5,
    10**30,
    "",
    "x",
    "../x",
    "\ud800",
    [],
    [1],
    {},
    {"a": 1},
    {"a": "b"},
    [[]],
    [{}],
)


def places(value, path=()):
    """Every place of a JSON value."""
    yield path
    items = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value)
        if isinstance(value, list)
        else ()
    )
    for key, inside in items:
        yield from places(inside, (*path, key))


def test_every_value_of_a_manifest_may_be_any_other_value(dataset):
    """Either it is refused by one line, or the dataset is read and described."""
    good = json.loads((dataset.path / "dataset.json").read_text())
    noise = random.Random(1)
    refused = []
    for path in places(good):
        for value in noise.sample(VALUES, 6):
            info = copy.deepcopy(good)
            inside = info
            for key in path[:-1]:
                inside = inside[key]
            if path:
                inside[path[-1]] = value
            else:
                info = value
            (dataset.path / "dataset.json").write_text(json.dumps(info))
            try:
                data = Dataset.open(dataset.path)
            except DatasetError as error:
                refused.append(str(error))
                continue
            assert card(data.info)
            assert len(data.read()) == len(data)
            assert isinstance(validate(data), list)
    assert len(refused) > 100
    assert not any("\n" in line for line in refused)


def test_flipped_bytes_of_a_shard_are_an_error_or_give_flows_that_can_be_encoded(dataset):
    shard = dataset.path / dataset.info["shards"][0]["file"]
    good = shard.read_bytes()
    noise = np.random.default_rng(1)
    errors = []
    for _ in range(150):
        raw = bytearray(good)
        for at in noise.integers(0, len(raw), int(noise.integers(1, 5))):
            raw[at] = noise.integers(0, 256)
        shard.write_bytes(raw)
        try:
            flows = dataset.read(tuple(GROUPS))
        except DatasetError as error:
            errors.append(str(error))
            continue
        assert len(images(flows)) == len(statistics(flows)) == len(sequences(flows, 8)) == 8
    assert all(str(shard) in line for line in errors)


def test_flows_in_the_tests_have_every_column(dataset):
    """Otherwise the fuzzing above would pass columns by."""
    assert set(table_of(dataset).column_names) == set(SCHEMA.names)
    assert flow_batch(["chat"]).column("segment_bytes").null_count == 0


def test_a_shard_that_is_laid_out_otherwise_is_refused(dataset):
    """Arrow ends the process on a map whose entries may be absent."""
    table = table_of(dataset)
    texts = pa.array(["x"] * 8)
    for name in ("capture", "groups", "sequence_length"):
        data = put_shard(dataset, table.set_column(table.schema.get_field_index(name), name, texts))
        if name == "capture":
            assert len(data.read(("labels",))) == 8
            continue
        with pytest.raises(DatasetError, match="is not of the flow schema"):
            data.read(("labels",))


def test_a_folder_in_the_place_of_dataset_json_is_one_line(dataset):
    manifest = dataset.path / "dataset.json"
    manifest.unlink()
    manifest.mkdir()
    with pytest.raises(DatasetError, match="is not a regular file"):
        Dataset.open(dataset.path)
