import csv
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from apptell.cli.dataset import app
from apptell.dataset import Dataset
from apptell.encoding import images
from apptell.labels.format import CAPTURE_FILES
from apptell.labels.formats import BUILT_IN
from apptell.labels.registry import format_names, formats
from apptell.testing import START_NS, conversation, write_pcap

TALK = [(True, b"hello there"), (False, b"general"), (True, b"more")]


def run(*arguments, code=0):
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert done.exit_code == code, done.output
    return done


def captures(folder):
    for source, port in (("home", 1000), ("work", 2000)):
        (folder / source).mkdir(parents=True)
        for i, name in enumerate(("Chat", "mail")):
            packets = [
                packet
                for n in range(3)
                for packet in conversation(
                    ("10.0.0.2", port + 100 * i + n),
                    ("192.0.2.1", 443),
                    TALK,
                    start_ns=START_NS + n,
                )
            ]
            write_pcap(folder / source / f"{name}.pcap", sorted(packets))
    return folder


def test_a_folder_of_captures_becomes_a_dataset_once(tmp_path):
    found = json.loads(run("build", captures(tmp_path / "c"), "-o", tmp_path / "d").stdout)
    assert found["apps"] == {"chat": 6, "mail": 6}
    again = json.loads(run("build", tmp_path / "c", "-o", tmp_path / "d").stdout)
    assert (again["added"], again["skipped"]) == (0, 4)
    about = json.loads(run("info", tmp_path / "d").stdout)
    assert about["groups"] == {"source": {"home": 6, "work": 6}}
    assert json.loads(run("validate", tmp_path / "d").stdout)["whole"] is True


def test_a_damaged_capture_gives_exit_code_1_and_what_precedes_it(tmp_path):
    path = captures(tmp_path / "c") / "home" / "Chat.pcap"
    path.write_bytes(path.read_bytes()[:-5])
    found = json.loads(run("build", tmp_path / "c", "-o", tmp_path / "d", code=1).stdout)
    assert found["damaged"] == 1
    assert found["flows"] == 12


def test_wrong_usage_is_said_in_one_line_with_code_2(tmp_path):
    folder = captures(tmp_path / "c")
    out = ("-o", tmp_path / "d")
    for wrong in (
        ("--labels", "luck"), ("--zone", "Mars/Base"), ("--group", "x"), ("--pattern", "("),
        ("--pattern", "x"), ("--map", "x"), ("--system", "x"), ("--anonymize", tmp_path / "none"),
    ):  # fmt: skip
        assert run("build", folder, *out, *wrong, code=2).stderr.startswith("apptell: ")
    assert "no such dataset" in run("info", tmp_path / "none", code=1).stderr


@pytest.mark.parametrize("kind", format_names())
def test_an_empty_folder_is_answered_with_the_files_that_the_labels_come_from(tmp_path, kind):
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "README.md").touch()
    said = run("build", tmp_path / "empty", "--labels", kind, "-o", tmp_path / "d", code=1).stderr
    (form,) = formats(kind)
    assert f"labels of the kind {kind} come from {form.files}" in said
    assert not (tmp_path / "d").exists()


def test_every_format_says_which_files_it_reads():
    own = {form.name for form in formats() if form.files != CAPTURE_FILES}
    assert own == {*BUILT_IN} - {"names"}  # which takes any capture


TABLE_COLUMNS = "time=ts,source=src,source_port=sport,target=dst,target_port=dport,app=package"


@pytest.fixture
def table(tmp_path):
    """A capture of one flow, and a table that names its app beside it."""
    client, server = ("10.0.0.2", 1000), ("192.0.2.1", 443)
    write_pcap(tmp_path / "c.pcap", conversation(client, server, TALK, start_ns=START_NS))
    row = (START_NS // 10**9, *client, *server, "chat")
    lines = ["ts,src,sport,dst,dport,package", ",".join(map(str, row))]
    (tmp_path / "truth.csv").write_text("\n".join(lines) + "\n")
    return tmp_path / "truth.csv"


def test_a_table_that_was_picked_is_named(tmp_path, table):
    capture, out = tmp_path / "c.pcap", ("-o", tmp_path / "d", "--map", TABLE_COLUMNS)
    said = run("build", capture, *out).stderr
    assert "c.pcap: labels by table in truth.csv, which lies beside it" in said
    named = run("build", capture, table, *out, "--replace")
    assert "c.pcap: labels by table\n" in named.stderr
    assert json.loads(named.stdout)["apps"] == {"chat": 1}


def test_a_table_on_the_command_line_is_used_or_refused_with_the_option_that_helps(tmp_path, table):
    capture, out = tmp_path / "c.pcap", ("-o", tmp_path / "d")
    said = run("build", capture, table, *out, code=1).stderr
    assert said.endswith(
        "truth.csv: not a label log in a known format; for a table of your own, say what its "
        "columns mean (--map COLUMNS)\n"
    )
    assert "truth.csv: no column 'app'" in run(
        "build", capture, table, *out, "--map", TABLE_COLUMNS.replace("app=package", "end=ts"),
        code=1,
    ).stderr  # fmt: skip


def test_what_is_there_is_refused_with_the_option_that_replaces_it(tmp_path):
    folder = captures(tmp_path / "c")
    run("build", folder, "-o", tmp_path / "d")
    run("sample", tmp_path / "d", "-o", tmp_path / "s")
    said = run("sample", tmp_path / "d", "-o", tmp_path / "s", code=1).stderr
    assert said.endswith("a dataset already exists and is not replaced (--replace)\n")


def test_options_of_a_build_reach_the_flows(tmp_path):
    (tmp_path / "key").write_bytes(bytes(range(32)))
    (tmp_path / "key").chmod(0o600)
    (tmp_path / "names").write_text("# old,new\nchat,Talk/Text\n")
    run(
        "build", captures(tmp_path / "c"), "-o", tmp_path / "d", "--anonymize", tmp_path / "key",
        "--mask-names", "--rename", tmp_path / "names", "--group", "network=lab",
    )  # fmt: skip
    data = Dataset.open(tmp_path / "d")
    assert data.apps == ["mail", "talk"]
    assert data.info["groups"]["network"] == {"lab": 12}
    assert len(data.info["done"]) == 3
    assert all(source["done"] == data.info["done"] for source in data.info["sources"])
    assert "10.0.0.2" not in data.read().column("client_address").to_pylist()


def test_sample_merge_and_services(tmp_path):
    run("build", captures(tmp_path / "c"), "-o", tmp_path / "d")
    run("sample", tmp_path / "d", "-n", 2, "-o", tmp_path / "s")
    assert len(Dataset.open(tmp_path / "s")) == 4
    run("merge", tmp_path / "d", tmp_path / "s", "-o", tmp_path / "m")
    assert len(Dataset.open(tmp_path / "m")) == 12
    rows = [json.loads(line) for line in run("services", tmp_path / "d").stdout.splitlines()]
    assert {(row["app"], row["server"], row["flows"]) for row in rows} == {
        ("chat", "192.0.2.1", 6),
        ("mail", "192.0.2.1", 6),
    }
    run("services", tmp_path / "d", "--least", 2, "--shared", "other", "-o", tmp_path / "o")
    assert Dataset.open(tmp_path / "o").apps == ["other"]


def test_exports_are_what_the_encodings_give(tmp_path):
    run("build", captures(tmp_path / "c"), "-o", tmp_path / "d")
    flows = Dataset.open(tmp_path / "d").read()
    run("export", tmp_path / "d", "--to", "csv", "-o", tmp_path / "csv")
    with (tmp_path / "csv" / "flows.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["label"] for row in rows] == flows.column("label").to_pylist()
    run("export", tmp_path / "d", "--to", "arrays", "-o", tmp_path / "arrays")
    assert np.array_equal(np.load(tmp_path / "arrays" / "images.npy", mmap_mode="r"), images(flows))
    about = json.loads((tmp_path / "arrays" / "arrays.json").read_text())
    numbers = np.load(tmp_path / "arrays" / "labels.npy")
    assert [about["labels"][i] for i in numbers] == flows.column("label").to_pylist()
    run("export", tmp_path / "d", "--to", "images", "-o", tmp_path / "images")
    assert len(list((tmp_path / "images" / "chat").glob("*.png"))) == 6
    assert (
        "is there already" in run("export", tmp_path / "d", "-o", tmp_path / "csv", code=1).stderr
    )
    run("export", tmp_path / "d", "--to", "gold", "-o", tmp_path / "x", code=2)


def test_arrays_are_read_by_pytorch_without_copying(tmp_path):
    torch = pytest.importorskip("torch")
    run("build", captures(tmp_path / "c"), "-o", tmp_path / "d")
    run("export", tmp_path / "d", "--to", "arrays", "-o", tmp_path / "arrays")
    arrays = {
        name: torch.from_numpy(np.load(tmp_path / "arrays" / f"{name}.npy", mmap_mode="c"))
        for name in ("images", "statistics", "sequences", "labels")
    }
    loader = torch.utils.data.DataLoader(
        torch.utils.data.TensorDataset(*arrays.values()), batch_size=5
    )
    picture, numbers, steps, label = next(iter(loader))
    assert (picture.shape, picture.dtype) == ((5, 87, 87), torch.uint8)
    assert (numbers.dtype, steps.shape[2], label.dtype) == (torch.float32, 3, torch.int64)
    assert sum(len(batch[0]) for batch in loader) == 12
    assert picture.float().div(255).max() > 0.5


def test_flows_without_payload_have_arrays_but_no_pictures(tmp_path):
    table = {
        "period": ["D1"] * 4, "app": ["a", "a", "b", "b"], "app_version": ["1"] * 4,
        "session": list("1234"), "start_ns": [START_NS] * 4,
        "packet_length": pa.array([[100, -200]] * 4, pa.list_(pa.int16())),
        "gap_us": pa.array([[0, 10]] * 4, pa.list_(pa.int32())),
    }  # fmt: skip
    pq.write_table(pa.table(table), tmp_path / "month.parquet")
    run("build", tmp_path / "month.parquet", "-o", tmp_path / "d")
    run("export", tmp_path / "d", "--to", "arrays", "-o", tmp_path / "arrays")
    names = {file.name for file in (tmp_path / "arrays").iterdir()}
    assert names == {"statistics.npy", "sequences.npy", "labels.npy", "arrays.json"}
    assert np.load(tmp_path / "arrays" / "sequences.npy").shape == (4, 32, 3)
    said = run("export", tmp_path / "d", "--to", "images", "-o", tmp_path / "i", code=2).stderr
    assert "have no payload" in said


def test_a_build_by_two_processes_is_the_same_dataset(tmp_path):
    (tmp_path / "key").write_bytes(bytes(range(32)))
    (tmp_path / "key").chmod(0o600)
    words = ("--anonymize", tmp_path / "key", "--mask-names", "--system", "drop")
    run("build", captures(tmp_path / "c"), "-o", tmp_path / "d", *words)
    run("build", tmp_path / "c", "-o", tmp_path / "e", "--jobs", 2, *words)
    assert Dataset.open(tmp_path / "d").info == Dataset.open(tmp_path / "e").info


def test_processes_and_a_cluster_are_not_asked_for_together(tmp_path):
    words = ("--jobs", 2, "--cluster", "local")
    said = run("build", captures(tmp_path / "c"), "-o", tmp_path / "d", *words, code=2).stderr
    assert "leave out --jobs" in said
    assert not (tmp_path / "d").exists()


def test_flows_as_they_are_do_not_join_anonymised_ones(tmp_path):
    (tmp_path / "key").write_bytes(bytes(range(32)))
    (tmp_path / "key").chmod(0o600)
    folder, key = captures(tmp_path / "c"), ("--anonymize", tmp_path / "key")
    run("build", folder / "home", "-o", tmp_path / "d", *key)
    said = run("build", folder / "work", "-o", tmp_path / "d", code=2).stderr
    assert "was built with: addresses replaced" in said
    assert len(Dataset.open(tmp_path / "d")) == 6
    run("build", folder / "work", "-o", tmp_path / "d", *key)
    run("build", folder / "home", "-o", tmp_path / "e")
    said = run("merge", tmp_path / "d", tmp_path / "e", "-o", tmp_path / "m", code=2).stderr
    assert "lack an edit that the others have: addresses replaced" in said
