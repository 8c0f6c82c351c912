from __future__ import annotations

import hashlib
import json
import re

import pytest

from apptell.errors import ModelError, OutputError
from apptell.models import read_model, write_model
from tests.models.tiny import info


@pytest.fixture
def folder(tmp_path):
    write_model(tmp_path / "model", b"weights", info(), "# A card\n")
    return tmp_path / "model"


def edit(folder, **changes):
    text = json.loads((folder / "model.json").read_text())
    text |= changes
    text = {key: value for key, value in text.items() if value is not ...}
    (folder / "model.json").write_text(json.dumps(text))


def test_what_is_written_is_read_back(folder):
    found, onnx_bytes = read_model(folder)
    assert onnx_bytes == b"weights"
    digest = hashlib.sha256(b"weights").hexdigest()
    assert found == {"format": 1, **info(), "onnx_sha256": digest}
    names = sorted(path.name for path in folder.iterdir())
    assert names == [
        "README.md",
        "model.json",
        "model.onnx",
    ]
    assert (folder / "README.md").read_text() == "# A card\n"


def test_a_model_is_replaced_by_the_next_and_nothing_is_left_beside_it(folder):
    write_model(folder, b"others", info(seed=7), "", replace=True)
    assert read_model(folder)[0]["seed"] == 7
    assert [path.name for path in folder.parent.iterdir()] == ["model"]


def test_a_folder_with_other_things_is_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(OutputError, match=r"holds something other than a model"):
        write_model(tmp_path, b"", info(), "", replace=True)
    assert (tmp_path / "thesis.tex").exists()


def test_a_model_is_kept_unless_its_replacement_is_asked_for(folder):
    with pytest.raises(OutputError, match=r"model: already holds a model; choose another folder"):
        write_model(folder, b"others", info(seed=7), "")
    assert read_model(folder)[1] == b"weights"


def test_a_users_own_file_beside_a_model_keeps_the_model_from_being_replaced(folder):
    (folder / "notes.txt").write_text("what I found")
    with pytest.raises(OutputError, match=r"model: notes.txt does not belong to a model"):
        write_model(folder, b"others", info(seed=7), "", replace=True)
    assert (folder / "notes.txt").read_text() == "what I found"
    assert read_model(folder)[1] == b"weights"


def test_a_link_is_not_followed(folder, tmp_path):
    (tmp_path / "link").symlink_to(folder)
    with pytest.raises(OutputError, match=r"link: not a folder"):
        write_model(tmp_path / "link", b"others", info(), "", replace=True)


def test_a_place_that_cannot_be_written_is_said(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"Not a directory|File exists"):
        write_model(tmp_path / "file" / "model", b"", info(), "")


def test_a_failed_write_leaves_the_model_that_was_there(folder):
    with pytest.raises(ModelError, match=r"'apps' is"):
        write_model(folder, b"others", info(apps=["alone"]), "", replace=True)
    assert read_model(folder)[1] == b"weights"


def test_no_folder_is_said(tmp_path):
    with pytest.raises(ModelError, match=r"nothing: no such model folder$"):
        read_model(tmp_path / "nothing")


def test_a_missing_file_is_said(folder):
    (folder / "model.onnx").unlink()
    with pytest.raises(ModelError, match=r"model\.onnx: the file is missing$"):
        read_model(folder)


def test_a_folder_that_is_no_model_is_named_in_full(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    message = f"^{re.escape(str(tmp_path))}: not a model folder: it has no model\\.json$"
    with pytest.raises(ModelError, match=message):
        read_model(".")


def test_a_file_that_cannot_be_read_is_said(folder):
    (folder / "model.onnx").unlink()
    (folder / "model.onnx").mkdir()
    with pytest.raises(ModelError, match=r"model.onnx: cannot be read: "):
        read_model(folder)


@pytest.mark.parametrize("text", [b"", b'{"format": 1,', b"\xff\xfe\x00", b"\x80\x81"])
def test_broken_json_is_said(folder, text):
    (folder / "model.json").write_bytes(text)
    with pytest.raises(ModelError, match=r"model.json: not valid JSON: "):
        read_model(folder)


def test_another_version_is_said(folder):
    edit(folder, format=2)
    with pytest.raises(ModelError, match=r"format 2, this version of apptell reads 1$"):
        read_model(folder)


def test_changed_weights_are_said(folder):
    (folder / "model.onnx").write_bytes(b"Weights")
    with pytest.raises(ModelError, match=r"its SHA-256 is not the one in model\.json$"):
        read_model(folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"apps": ...}, "'apps' is missing"),
        ({"apps": "alpha"}, "'apps' is 'alpha'"),
        ({"apps": ["alpha"]}, r"'apps' is \['alpha'\], not two or more names in lower case"),
        ({"apps": ["Alpha", "beta"]}, "not two or more names in lower case"),
        ({"apps": ["beta", "alpha"]}, "not sorted or not unique"),
        ({"apps": ["beta", "beta"]}, "not sorted or not unique"),
        ({"encoding": "1"}, "'encoding' is '1'"),
        ({"seed": True}, "'seed' is True"),
        ({"threshold": 85}, "'threshold' is 85, not between 0 and 1"),
        ({"calibration": {}}, "'temperature' is None, not from 1e-6 to 1e6"),
        ({"calibration": {"temperature": 0}}, "'temperature' is 0, not from 1e-6 to 1e6"),
        (
            {"calibration": {"temperature": 1, "early": [1, 2, 3]}},
            r"'early' is \[1, 2, 3\], not 4 numbers from 1e-6 to 1e6",
        ),
        (
            {"calibration": {"temperature": 1, "early": [1, 2, 3, 0]}},
            r"'early' is \[1, 2, 3, 0\], not 4 numbers from 1e-6 to 1e6",
        ),
    ],
)
def test_a_wrong_entry_is_said(folder, changes, message):
    edit(folder, **changes)
    with pytest.raises(ModelError, match=f"model.json: .*{message}$"):
        read_model(folder)


def test_json_that_is_no_object_is_said(folder):
    (folder / "model.json").write_text("[1]")
    with pytest.raises(ModelError, match=r"not an object$"):
        read_model(folder)
