"""Asks tshark about each packet of a capture, once for each file, and keeps its answers.

tshark reads each file once: its own preferences (segments of TCP put together, so that it sees hellos that
span several), but no fragments of IP put together.
"""

from __future__ import annotations

import gzip
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FOLDERS: Final = ("messengers", "android", "ndpi", "edge")
PREFERENCES: Final = (
    "ip.defragment:FALSE",
    "ipv6.defragment:FALSE",
    "ipv6.tso_support:TRUE",
    "gtp.dissect_tpdu_as:TPDU heuristic",
)
FIELDS: Final = (
    "frame.encap_type", "frame.time_epoch", "frame.protocols",
    "ip.src", "ip.dst", "ip.len", "ip.hdr_len", "ip.flags.mf", "ip.frag_offset",
    "ipv6.src", "ipv6.dst", "ipv6.plen", "ipv6.fraghdr.more", "ipv6.fraghdr.offset",
    "tcp.srcport", "tcp.dstport", "tcp.len", "tcp.hdr_len", "udp.srcport", "udp.dstport",
    "tls.handshake.type", "tls.handshake.extensions_server_name", "tls.handshake.extensions_alpn_str",
    "tls.handshake.ja4", "dtls.handshake.type", "dtls.handshake.extensions_server_name",
    "dtls.handshake.extensions_alpn_str", "gquic.tag.sni", "_ws.malformed",
)  # fmt: skip
_MIME: Final = "134"
"""The encapsulation of the single frame that tshark shows for a file that is not a capture."""
_TIMEOUT_S: Final = 600


@dataclass(frozen=True, slots=True)
class Answer:
    """The output of tshark for one file."""

    said: str
    """Its errors and warnings."""
    fields: list[str]
    lines: list[str]
    """A line for each record, fields by tabs."""

    def records(self) -> Iterator[dict[str, list[str]]]:
        """Fields of each record of the file, several values where a field occurs several times."""
        for line in self.lines:
            values = line.split("\t")
            if len(values) == len(self.fields):
                yield {field: [] for field in FIELDS} | {
                    field: value.split("|") if value else []
                    for field, value in zip(self.fields, values, strict=True)
                }

    def packets(self) -> Iterator[dict[str, list[str]]]:
        """The records that are packets.

        The others are blocks of pcapng that hold none (custom, journal), which tshark numbers too, and the
        single frame as which it shows a file that it takes for no capture.
        """
        for record in self.records():
            if record["frame.encap_type"] and record["frame.encap_type"] != [_MIME]:
                yield record


class Tshark:
    """A tshark to ask.

    Args:
        command: the program.
        kept: the folder where answers are kept.
    """

    def __init__(self, command: str, kept: Path) -> None:
        self.command = command
        done = subprocess.run([command, "--version"], capture_output=True, text=True, check=True)
        self.version = (
            done.stdout.split("\n", 1)[0].split("(Wireshark) ")[-1].split()[0].rstrip(".")
        )
        self._folder = kept / f"tshark-{self.version}"
        self._folder.mkdir(parents=True, exist_ok=True)
        known = subprocess.run(
            [command, "-G", "fields"], capture_output=True, text=True, errors="replace", check=True
        )
        names = {line.split("\t")[2] for line in known.stdout.splitlines() if line[:1] in "FP"}
        self._fields = [field for field in FIELDS if field in names]
        """Those that this version has: the fingerprint exists since 4.2."""

    def __call__(self, path: Path, name: str) -> Answer:
        """Returns tshark's output for a file; ``name`` is the name that the answer is kept under."""
        kept = self._folder / (name.replace("/", "~") + ".gz")
        if not kept.exists():
            said, out = self._ask(path)
            part = kept.with_suffix(".part")
            with gzip.open(part, "wt", compresslevel=4) as file:
                file.write(said.replace("\n", " ").strip() + "\n" + out)
            part.rename(kept)
        with gzip.open(kept, "rt") as file:
            said, _, out = file.read().partition("\n")
        return Answer(said, list(self._fields), out.splitlines())

    def _ask(self, path: Path) -> tuple[str, str]:
        command = [self.command, "-n", "-r", str(path), "-T", "fields"]
        command += ["-E", "separator=/t", "-E", "occurrence=a", "-E", "aggregator=|"]
        for preference in PREFERENCES:
            command += ["-o", preference]
        for field in self._fields:
            command += ["-e", field]
        try:
            run = subprocess.run(
                command,
                capture_output=True,
                check=False,
                timeout=_TIMEOUT_S,
                text=True,
                errors="replace",
            )
        except subprocess.TimeoutExpired:
            return "timeout", ""
        said = [line for line in run.stderr.splitlines() if "running as user" not in line.lower()]
        return " ".join(said), run.stdout


def captures_in(folder: Path) -> list[tuple[str, Path]]:
    """Name and path of every file of the shared captures."""
    return [
        (str(path.relative_to(folder)), path)
        for part in FOLDERS
        for path in sorted((folder / part).rglob("*"))
        if path.is_file()
    ]


def main() -> None:
    """Asks about every file, so that the comparisons need not."""
    import argparse
    from pathlib import Path

    parser = argparse.ArgumentParser(
        description="Ask tshark about every capture and keep its answers"
    )
    parser.add_argument("captures", type=Path)
    parser.add_argument("--tshark", default="tshark")
    parser.add_argument("--kept", type=Path, default=Path("out"))
    arguments = parser.parse_args()
    ask = Tshark(arguments.tshark, arguments.kept)
    for name, path in captures_in(arguments.captures):
        ask(path, name)


if __name__ == "__main__":
    main()
