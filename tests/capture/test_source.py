import io
import os
import subprocess
import sys
import threading
import time

import pytest

from apptell.capture import open_capture
from apptell.errors import CaptureError, UsageError
from tests.capture import crafted
from tests.capture.crafted import COMPRESSORS, FRAMES, START_S
from tests.capture.test_pcap import frames_of


def one_packet(frame, seconds):
    return crafted.pcap_header() + crafted.pcap_record(frame, seconds=seconds)


def frames(source, **options):
    with open_capture(source, **options) as reader:
        return [batch.frame(row) for batch in reader for row in range(len(batch))]


def test_a_path_is_read_and_its_name_is_the_file_s(tmp_path):
    path = tmp_path / "home.pcap"
    path.write_bytes(crafted.pcap())
    assert frames(path) == frames(str(path)) == FRAMES
    with open_capture(path) as reader:
        assert reader.name == reader.current_name == "home.pcap"
        assert sum(map(len, reader)) == len(FRAMES)
        assert reader.stats.names == ["home.pcap"]


def test_errors_name_the_file_what_and_where(tmp_path):
    path = tmp_path / "home.pcapng"
    good = crafted.section() + crafted.interface()
    path.write_bytes(good + b"\6\0\0\0\7\0\0\0" + bytes(32))
    with pytest.raises(CaptureError) as caught:
        frames(path)
    assert str(caught.value) == (
        f"home.pcapng: block length 7 is not a multiple of 4 at byte {len(good)}"
    )


def test_of_several_named_files_those_that_are_no_captures_are_the_damage(tmp_path):
    good, empty, text = (tmp_path / name for name in ("a.pcap", "empty.pcap", "text.pcap"))
    good.write_bytes(crafted.pcap())
    empty.write_bytes(b"")
    text.write_text("not a capture")
    for sources, message in (
        ([good, empty], "empty.pcap: empty, not a capture"),
        ([empty, good, text], "empty.pcap: empty, not a capture (and 1 more damaged)"),
    ):
        read, damage = [], None
        with open_capture(sources) as reader:
            try:
                for batch in reader:
                    read += [batch.frame(row) for row in range(len(batch))]
            except CaptureError as error:
                damage = str(error)
        assert (read, damage) == (FRAMES, message)
    with pytest.raises(CaptureError, match=r"gone\.pcap: no such file"):
        frames([good, tmp_path / "gone.pcap"])


def test_what_is_missing_or_no_capture_is_an_error(tmp_path):
    (tmp_path / "notes.txt").write_text("not a capture")
    (tmp_path / "empty.pcap").write_bytes(b"")
    for name, message in (
        ("gone.pcap", "gone.pcap: no such file"),
        ("notes.txt", "notes.txt: not a known capture format, it begins with 6e6f7420"),
        ("empty.pcap", "empty.pcap: empty, not a capture"),
    ):
        with pytest.raises(CaptureError) as caught:
            frames(tmp_path / name)
        assert str(caught.value) == message
    with pytest.raises(CaptureError, match="no capture in this folder, 2 other files"):
        frames(tmp_path)


def test_a_folder_is_read_in_time_order_and_others_are_counted(tmp_path):
    (tmp_path / "deep" / "er").mkdir(parents=True)
    (tmp_path / "a.pcap").write_bytes(one_packet(b"3" * 60, START_S + 30))
    (tmp_path / "deep" / "b").write_bytes(one_packet(b"1" * 60, START_S + 10))
    packed = COMPRESSORS["zstd"](one_packet(b"2" * 60, START_S + 20))
    (tmp_path / "deep" / "er" / "c.dat").write_bytes(packed)
    (tmp_path / "readme.md").write_text("text")
    with open_capture(tmp_path) as reader:
        found = [batch.frame(0)[:1] for batch in reader]
        assert found == [b"1", b"2", b"3"]
        assert reader.stats.names == ["deep/b", "deep/er/c.dat", "a.pcap"]
        assert (reader.stats.files_read, reader.stats.files_skipped) == (3, 1)
        assert reader.stats.format == "pcap; pcap, zstd"


def test_files_and_folders_in_a_list_are_one_stream_in_time_order(tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "x.pcap").write_bytes(one_packet(b"1" * 60, START_S))
    later, latest = tmp_path / "1.pcap", tmp_path / "0.pcap"
    later.write_bytes(one_packet(b"2" * 60, START_S + 1))
    latest.write_bytes(one_packet(b"3" * 60, START_S + 2))
    assert [frame[:1] for frame in frames([latest, folder, later])] == [b"1", b"2", b"3"]


def test_damage_in_one_of_several_files_is_raised_when_all_are_read(tmp_path):
    (tmp_path / "1.pcap").write_bytes(crafted.pcap(FRAMES[:2])[:-1])
    (tmp_path / "2.pcap").write_bytes(one_packet(b"2" * 60, START_S + 99))
    reader = open_capture(tmp_path)
    got = []
    with pytest.raises(CaptureError, match=r"^1\.pcap: cut short"):
        got.extend(batch.frame(row) for batch in reader for row in range(len(batch)))
    assert got == [FRAMES[0], b"2" * 60]
    assert reader.stats.damage is not None


def test_standard_input_is_read_as_it_comes():
    code = (
        "from apptell.capture import open_capture\n"
        "with open_capture('-') as reader: print(reader.name, sum(map(len, reader)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], input=crafted.pcap(), capture_output=True, check=True
    )
    assert done.stdout.decode().split() == ["-", str(len(FRAMES))]


def test_a_file_is_followed_until_told_to_stop(tmp_path):
    path = tmp_path / "live.pcap"
    data = crafted.pcap()
    path.write_bytes(data[:100])
    stop = threading.Event()

    def write():
        with path.open("ab", buffering=0) as file:
            for at in range(100, len(data) - 10, 97):
                file.write(data[at : min(at + 97, len(data) - 10)])
                time.sleep(0.001)
        time.sleep(0.1)
        stop.set()

    writer = threading.Thread(target=write)
    writer.start()
    got = frames(path, follow=True, stop=stop)  # the cut record at the end is no damage
    writer.join()
    assert got == FRAMES[:-1]


def test_the_end_of_a_pipe_is_one_also_when_followed():
    to_read, to_write = os.pipe()
    with os.fdopen(to_write, "wb") as pipe:
        pipe.write(crafted.pcap())
    with os.fdopen(to_read, "rb") as pipe:
        assert frames(pipe, follow=True) == FRAMES


def test_a_file_that_grows_while_it_is_read_is_read_to_its_new_end(tmp_path):
    path = tmp_path / "grows.pcap"
    frame = bytes(60_000)
    path.write_bytes(crafted.pcap([frame] * 100))
    with open_capture(path) as reader:
        n_packets = len(next(reader))
        with path.open("ab") as file:
            file.write(crafted.pcap([frame] * 10)[24:])
        n_packets += sum(map(len, reader))
    assert n_packets == 110


def test_a_callable_may_stop_and_the_keyboard_ends_a_follow_quietly(tmp_path, monkeypatch):
    path = tmp_path / "live.pcap"
    path.write_bytes(crafted.pcap())
    assert frames(path, follow=True, stop=lambda: True) == FRAMES

    def interrupt(_seconds):
        raise KeyboardInterrupt

    monkeypatch.setattr(time, "sleep", interrupt)
    assert frames(path, follow=True) == FRAMES


def test_a_file_that_shrinks_while_it_is_read_only_ends(tmp_path):
    path = tmp_path / "shrinks.pcap"
    frame = bytes(60_000)
    path.write_bytes(crafted.pcap([frame] * 100))
    with open_capture(path) as reader:
        n_packets = len(next(reader))
        os.truncate(path, 1000)
        with pytest.raises(CaptureError, match="cut short"):
            n_packets += sum(map(len, reader))
    assert 0 < n_packets < 100


def test_what_does_not_go_together_is_wrong_usage(tmp_path):
    for call, message in (
        (lambda: open_capture([]), "no capture is given"),
        (lambda: open_capture([tmp_path, tmp_path], follow=True), "only a single file"),
        (lambda: open_capture(tmp_path, follow=True), "not a folder"),
        (lambda: open_capture(io.StringIO("text")), "binary mode"),
        (lambda: open_capture(7), "not from int"),
        (lambda: open_capture("x", batch_packets=0), "batch_packets=0 is not 1"),
    ):
        with pytest.raises(UsageError, match=message):
            call()


def test_a_reader_that_is_closed_early_closes_its_file(tmp_path):
    path = tmp_path / "home.pcap"
    path.write_bytes(crafted.pcap())
    reader = open_capture(path, batch_packets=1)
    assert frames_of([next(reader)]) == FRAMES[:1]
    reader.close()
    reader.close()
    assert list(reader) == []
    assert reader.stats.packets == 1
    assert reader.stats.link_types["ETHERNET"] >= 1
