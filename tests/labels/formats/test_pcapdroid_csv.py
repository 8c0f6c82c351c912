"""PCAPdroid's lists are read by columns: each line as a reader of single lines has it."""

from __future__ import annotations

import random
import re
from typing import TYPE_CHECKING

from apptell.labels import fields
from apptell.labels.formats import pcapdroid_csv
from apptell.labels.formats.pcapdroid_csv import packages_of, read_pcapdroid_csv
from apptell.labels.log import Lines
from apptell.labels.naming import label_of

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

HEAD = (
    "IPProto,SrcIP,SrcPort,DstIp,DstPort,UID,App,PackageName,Proto,Status,Info,"
    "BytesSent,BytesRcvd,PktsSent,PktsRcvd,FirstSeen,LastSeen"
)
PARTS = {
    "protocol": ["6", "17", " 6 ", "٦", "300", "x", ""],
    "port": ["443", "65535", "65536", "-1", "٤٤٣", "80.0", ""],
    "uid": ["10012", "-1", "0", "99999999999", "u0"],
    "app": ["Maps", "Karten, Wetter", "天気", "", " A ", "closed"],
    "package": ["org.maps", "android", "1.2", "", "org.maps, org.other"],
    "status": ["Closed", "new", "Geschlossen", ""],
    "info": ["host.example", "a, b", "Closed", "2024-05-01T10:09:56Z", ""],
    "counter": ["0", "12", "٣", "1" * 21, "-4", ""],
    "time": [
        "2024-05-01T10:09:56.853Z",
        "2024-05-01T12:09:56.853123+02:00",
        "2024-05-01T10:09:56+0000",
        "1714558196853",
        " 1714558196853 ",
        "٢٠٢٤-05-01T10:09:56Z",
        "2024-13-01T10:09:56Z",
        "1960-05-01T10:09:56Z",
        "2300-05-01T10:09:56Z",
        "9999999999999999",
        "2024-05-01 10:09:56",
        "",
    ],
    "later": ["", ",true", ",false,2", "," * 7, "," * 20],
}


def drawn(chance: random.Random) -> str:
    """A line, of which half are in order."""
    is_good = chance.random() < 0.5

    def pick(part: str) -> str:
        return PARTS[part][0] if is_good and chance.random() < 0.9 else chance.choice(PARTS[part])

    cells = [pick("protocol"), "10.0.0.2", pick("port"), "2001:DB8::1", pick("port"), pick("uid")]
    cells += [pick("app"), pick("package"), "TLS", pick("status"), pick("info")]
    cells += [pick("counter") for _ in range(4)] + [pick("time"), pick("time")]
    if chance.random() < 0.1:
        del cells[chance.randrange(1, len(cells)) :]
    return ",".join(cells) + pick("later")


TIME = re.compile(r"[0-9]{10,16}|[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:.]+(?:Z|[+-][0-9]{2}:?[0-9]{2})")


def read_alone(line: str) -> tuple[object, ...]:
    """What one line says, field by field.

    Raises:
        ValueError: it is none of the list.
    """
    left, right = line.split(",")[:6], line.split(",")[6:]
    if not right:
        raise ValueError("too few fields")
    for _ in range(8):
        if len(right) > 6 and not TIME.fullmatch(fields.ascii_digits(right[-1].strip())):
            right.pop()
    if len(right) < 6 or not TIME.fullmatch(fields.ascii_digits(right[-1].strip())):
        raise ValueError("no times")
    counters = [fields.ascii_digits(text.strip()) for text in right[-6:-2]]
    if not all(re.fullmatch("[0-9]{1,20}", text) for text in counters):
        raise ValueError("no counters")
    first, last = (fields.ascii_digits(text.strip()) for text in right[-2:])
    times = [
        fields.milliseconds_ns(text) if re.fullmatch("[0-9]{10,16}", text) else fields.iso_ns(text)
        for text in (first, last)
    ]
    title, package = pcapdroid_csv._app(",".join(right[:-6]), has_package=True)
    protocol = fields.integer(left[0], 0, 255)
    ports = [fields.integer(left[place], 0, 65_535) for place in (2, 4)]
    uid = fields.uid(left[5])
    label = label_of(uid=uid, package=package, name=title or None, rename=None)
    return times[0], max(times), protocol, left[1], ports[0], left[3], ports[1], label


def fault_of(line: str) -> str | None:
    try:
        read_alone(line)
    except ValueError as error:
        return str(error)
    return None


def test_a_list_is_read_as_its_lines_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chance = random.Random(3)
    drawn_lines = [drawn(chance) for _ in range(4000)]
    path = tmp_path / "list.csv"
    path.write_text("\n".join([HEAD, "", *drawn_lines]) + "\n", encoding="utf-8")
    said = [fault_of(line) for line in drawn_lines]
    wanted = [
        read_alone(line) for line, fault in zip(drawn_lines, said, strict=True) if fault is None
    ]
    faults = [f"line {number}: {fault}" for number, fault in enumerate(said, 3) if fault]
    assert min(len(wanted), len(faults)) > 500
    for most_chars in (1 << 21, 10_000, 2_000):
        monkeypatch.setattr(pcapdroid_csv, "_BLOCK_CHARS", most_chars)
        lines = Lines()
        read_pcapdroid_csv(path, lines)
        columns = (lines.first_ns, lines.last_ns, lines.protocol, lines.address_a, lines.port_a)
        read = list(zip(*columns, lines.address_b, lines.port_b, lines.app, strict=True))
        assert read == wanted
        assert (lines.n_bad, lines.first_bad) == (len(faults), faults[0])


def test_each_fault_of_a_line_is_said(tmp_path: Path) -> None:
    said = set()
    chance = random.Random(4)
    for line in {drawn(chance) for _ in range(200)}:
        path = tmp_path / "list.csv"
        path.write_text(f"{HEAD}\n{line}\n", encoding="utf-8")
        lines = Lines()
        read_pcapdroid_csv(path, lines)
        fault = fault_of(line)
        assert lines.first_bad == (f"line 2: {fault}" if fault else "")
        assert (len(lines), lines.n_bad) == ((0, 1) if fault else (1, 0))
        said.add(fault)
    assert {"too few fields", "no times", "no counters"} < said


def test_an_app_has_the_package_of_its_first_line(tmp_path: Path) -> None:
    line = "6,10.0.0.2,1,10.0.0.3,443,{},{},{},TLS,Closed,x,1,1,1,1,1714558196853,1714558196853"
    lines = [line.format(*row) for row in [(7, "A", "-"), (7, "B", "org.b"), (7, "C", "org.c")]]
    path = tmp_path / "list.csv"
    path.write_text("\n".join([HEAD, *lines]), encoding="utf-8")
    assert packages_of((path,)) == {7: ("B", "org.b")}
