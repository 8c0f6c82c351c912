"""Files are written whole or not at all, and never through somebody else's link."""

import os
import re
import stat
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from apptell.errors import CaptureError, OutputError
from apptell.files import (
    PRIVATE,
    NewFile,
    new_file,
    new_folder,
    open_append,
    write_file,
    write_files,
)


def test_a_file_takes_its_place_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_text("old")
    with new_file(path) as file:
        file.write(b"new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert [each.name for each in tmp_path.iterdir()] == ["a"]


@pytest.mark.parametrize("error", [OutputError("full"), KeyboardInterrupt(), ValueError("ours")])
def test_on_an_error_the_old_file_stays(tmp_path: Path, error: BaseException) -> None:
    path = tmp_path / "a"
    path.write_text("old")

    def spoiled() -> None:
        with new_file(path, keeps_on=(CaptureError,)) as file:
            file.write(b"new")
            raise error

    with pytest.raises(type(error)):
        spoiled()
    assert path.read_text() == "old"
    assert [each.name for each in tmp_path.iterdir()] == ["a"]


def test_what_was_written_before_damaged_input_counts_where_that_is_asked_for(
    tmp_path: Path,
) -> None:
    def damaged(**more: tuple[type[Exception], ...]) -> None:
        with new_file(tmp_path / "a", **more) as file:
            file.write(b"before")
            raise CaptureError("cut")

    with pytest.raises(CaptureError):
        damaged()
    assert not (tmp_path / "a").exists()
    with pytest.raises(CaptureError):
        damaged(keeps_on=(CaptureError,))
    assert (tmp_path / "a").read_bytes() == b"before"


def test_a_full_disk_leaves_the_old_file_and_is_one_line(tmp_path: Path) -> None:
    """The limit on a file's size stands for the disk: RLIMIT_FSIZE needs no root."""
    old = tmp_path / "a"
    old.write_text("old")
    program = textwrap.dedent("""
        import resource, sys
        from pathlib import Path
        from apptell.errors import OutputError
        from apptell.files import write_file, write_files, new_folder
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
        path, folder = Path(sys.argv[1]), Path(sys.argv[2])
        for write in (
            lambda: write_file(path, b"x" * 2000),
            lambda: write_files(path.parent, {"first": b"x", "a": b"x" * 2000}),
        ):
            try:
                write()
            except OutputError as error:
                print(error)
        try:
            with new_folder(folder) as fresh:
                (fresh / "b").write_bytes(b"x" * 2000)
        except OutputError as error:
            print(error)
    """)
    done = subprocess.run(
        [sys.executable, "-B", "-c", program, old, tmp_path / "f"], capture_output=True, text=True
    )
    assert done.stderr == ""
    assert done.stdout.splitlines() == [f"{old}: File too large"] * 2 + [
        f"{tmp_path / 'f'}: File too large"
    ]
    assert [each.name for each in tmp_path.iterdir()] == ["a"]
    assert old.read_text() == "old"


@pytest.mark.parametrize("target", ["there", "nowhere"])
def test_a_symbolic_link_is_refused_and_its_target_stays(tmp_path: Path, target: str) -> None:
    (tmp_path / "there").write_text("theirs")
    link = tmp_path / "a"
    link.symlink_to(tmp_path / target)
    with pytest.raises(OutputError, match=r"a: is a symbolic link; name its target"):
        write_file(link, "mine")
    with pytest.raises(OutputError, match=r"a: is a symbolic link"):
        open_append(link)
    assert (tmp_path / "there").read_text() == "theirs"
    assert not (tmp_path / "nowhere").exists()
    assert link.is_symlink()


def test_a_link_in_a_folder_s_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "a").symlink_to(tmp_path / "there")
    with (
        pytest.raises(OutputError, match="a: already exists"),
        new_folder(tmp_path / "a", may_replace=lambda _: True),
    ):
        pass


def test_permissions_follow_the_umask_and_an_old_file_s_are_kept(tmp_path: Path) -> None:
    def mode(name: str) -> int:
        return stat.S_IMODE((tmp_path / name).stat().st_mode)

    before = os.umask(0o022)
    try:
        write_file(tmp_path / "shared", "x")
        write_file(tmp_path / "private", "x", mode=PRIVATE)
        os.close(open_append(tmp_path / "appended"))
        (tmp_path / "shared").chmod(0o600)
        write_file(tmp_path / "shared", "y")
    finally:
        os.umask(before)
    assert (mode("shared"), mode("private"), mode("appended")) == (0o600, 0o640, 0o640)


def test_a_device_is_written_where_it_is_and_stays(tmp_path: Path) -> None:
    write_file(Path("/dev/null"), "x")
    assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)
    with pytest.raises(OutputError, match="/dev/full: No space left on device"):
        write_file(Path("/dev/full"), "x")


def test_a_stream_of_this_process_may_be_named(tmp_path: Path) -> None:
    with (tmp_path / "a").open("w") as file:
        write_file(Path(f"/dev/fd/{file.fileno()}"), "x")
    assert (tmp_path / "a").read_text() == "x"


def test_after_an_error_a_file_takes_no_more_and_leaves_nothing(tmp_path: Path) -> None:
    """Writers that others wrote flush once more when they are collected."""
    file = NewFile(tmp_path / "a")
    file.write(b"x")
    file.abandon()
    assert file.write(b"more") == 4
    file.place()
    assert list(tmp_path.iterdir()) == []


def test_a_long_name_has_a_temporary_name_that_fits(tmp_path: Path) -> None:
    write_file(tmp_path / ("é" * 127), "x")
    assert len(list(tmp_path.iterdir())) == 1


def test_a_folder_that_is_not_there_or_a_folder_in_the_way_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="none/a: No such file or directory"):
        write_file(tmp_path / "none" / "a", "x")
    with pytest.raises(OutputError, match="Is a directory"):
        write_file(tmp_path, "x")


def test_a_new_folder_replaces_an_old_one_only_where_it_may(tmp_path: Path) -> None:
    path = tmp_path / "f"
    with new_folder(path) as fresh:
        (fresh / "x").write_text("1")
    with pytest.raises(OutputError, match="already exists"), new_folder(path):
        pass
    with new_folder(path, may_replace=lambda old: (old / "x").exists()) as fresh:
        (fresh / "x").write_text("2")
        assert (path / "x").read_text() == "1"
    assert (path / "x").read_text() == "2"

    def spoiled() -> None:
        with new_folder(path, may_replace=lambda _: True):
            raise ValueError("ours")

    with pytest.raises(ValueError, match="ours"):
        spoiled()
    assert (path / "x").read_text() == "2"
    assert [each.name for each in tmp_path.iterdir()] == ["f"]


def test_none_of_several_files_is_placed_before_all_are_written(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    with pytest.raises(OutputError, match="b: Is a directory"):
        write_files(tmp_path, {"a": "1", "b": "2"})
    assert [each.name for each in tmp_path.iterdir()] == ["b"]


WRITES = re.compile(
    r"""open\([^)]*["'][wax]b?\+?["']|write_text\(|write_bytes\(|mkstemp|mkdtemp|np\.save|torch\.save"""
    r"""|open_memmap|["'][wax]b["']|\.rename\("""
)
ELSEWHERE = {
    "files.py": "this is the place",
    "testing.py": "captures for tests",
    "service/prepare.py": "captures in a temporary folder",
    "models/model_folder.py": "inside new_folder",
    "models/model_shelf.py": "inside new_folder",
    "experiments/write_dataset.py": "inside the new_folder of cli/dataset_export.py",
    "cli/dataset_export.py": "inside new_folder",
    "learning/network_training.py": "into memory, then write_file",
    "experiments/trial_cache.py": "into memory, then write_file",
}


def test_nothing_is_written_but_through_this_module() -> None:
    source = Path(__file__).parents[1] / "src/apptell"
    found = {
        path.relative_to(source).as_posix()
        for path in source.rglob("*.py")
        if WRITES.search(path.read_text(encoding="utf-8"))
    }
    assert found == ELSEWHERE.keys()
