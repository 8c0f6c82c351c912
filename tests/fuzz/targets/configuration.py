"""Settings files, the environment, catalogue files and public lists: lines, keys and values of them.

Settings are applied to a verb as the command line does it; the rows of a catalogue are looked up.
"""

from __future__ import annotations

import io
import os
import zlib
from contextlib import redirect_stderr
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar

import typer
import typer.main

from apptell.catalogue.lookup import Catalogue
from apptell.catalogue.public_lists import FORMS, import_list
from apptell.catalogue.tables import Tables, add_file
from apptell.cli import settings
from apptell.cli.app import app
from apptell.errors import ApptellError
from tests.fuzz.mutators import spoil
from tests.fuzz.target import Files, Target

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Sequence
    from pathlib import Path

VERBS = ("identify", "live", "top", "flows", "train", "dataset build", "compare", "config show")
SETTINGS = b"""\
[identify]
model = "model"
threshold = 0.9
context = "30s"
catalogue = ["own.csv"]
format = "csv"
raw-csv = true

[live]
interface = "eth0"
decide-after = 2
metrics = "127.0.0.1:9109"
out = ["eve:eve.json", "jsonl:-"]
workers = 2

[dataset.build]
labels = "folders"
jobs = 2
transport = "tcp,udp"
"""
ENVIRONMENT = b"""\
identify
APPTELL_IDENTIFY_THRESHOLD=0.9
APPTELL_IDENTIFY_CATALOGUE=a.csv b.csv
APPTELL_LIVE_WORKERS=2
APPTELL_LIVE_EARLY=yes
APPTELL_DATASET_BUILD_JOBS=2
"""
TABLE = """\
domain,app,category,match,kind,service
chat.example.com,Chat,messaging,suffix,,
*.cdn.example.net,,,exact,cdn,Example CDN
192.0.2.0/24,Chat,,,,
2001:db8::/32,Chat,,,,
"na\u00efve.example.org","Mail, the app",mail,,,
r1.*.play.example.org,Video,,,,
"""
SERVICES = (
    b'{"blocked_services": [{"id": "chat", "name": "Chat", "rules": ["||chat.example.com^", '
    b'"||a.example.org^$important", "/x/"]}, {"id": "b", "name": "B", "rules": []}]}'
)
GOOD: dict[str, bytes] = {
    "settings": SETTINGS,
    "environment": ENVIRONMENT,
    "catalogue": TABLE.encode(),
    "domain-list-community": b"chat.example.com @ads\nfull:a.example.com\ninclude:x\nregexp:^x$\nkeyword:y\n",
    "hosts": b"0.0.0.0 a.example.com b.example.com # x\n::1 localhost\nfe80::1%lo0 c.example.com\n",
    "adguard": SERVICES,
    "adguard-yaml": b"blocked_services:\n- id: chat\n  name: Chat\n  rules:\n  - '||chat.example.com^'\n",
    "plain": b"domain,app\nchat.example.com,Chat\n*.b.example.org, B B # x\n",
}
TOKENS = (
    b"", b"[", b"]", b"[[", b"{", b"}", b"=", b'"', b"'''", b'"""', b",", b"#", b"\r", b"\x00", b"\x1b[2J",
    b"\xff", b"[identify.x]", b"[identify]", b"identify = 1", b"a.b.c = {}", b"x = [[[[",
    b"threshold = nan", b"threshold = inf", b"threshold = 1e999", b"jobs = -1",
    b"jobs = 0x7fffffffffffffffff", b"out = [1, 'a', []]", b"out = 'x'", b"model = 1979-05-27",
    b"early = 'maybe'", b"context = '9' ", b"=", b"APPTELL_CONFIG=/dev/zero", b"xn--", b"xn--a.example",
    b"*.*", b"*", b".", b"..", b"a..b", b"co.uk", b"*.co.uk", b"a" * 300, b"0.0.0.0/0", b"::/0",
    b"1.2.3.4/33", b"1.2.3.4", b"\xe2\x80\x8b", b"\xe2\x80\xae", b"\xed\xa0\xbd", b"\xef\xbb\xbf", b"=1+1",
    b"!!python/object/apply:os.system [x]", b"&a [*a]", b"<<: *a", b"? ", b"- - - - -", b"1" * 5000,
)  # fmt: skip
"""Words that went wrong somewhere, or might."""
DEEP = (b"x = " + b"[" * 5000, b"[" * 5000, b'{"a":' * 5000, b"- " * 2000, b"a." * 3000 + b"a = 1")


@cache
def _root() -> Any:
    return typer.main.get_command(app)


class Configuration(Target):
    """One file, or variables a line each; the name says which."""

    name: ClassVar[str] = "configuration"
    refusals: ClassVar[tuple[type[Exception], ...]] = (ApptellError, typer.Exit)
    together: ClassVar[int] = 8

    def seeds(self) -> dict[str, Files]:
        """One good file of each kind."""
        return {name: {name: data} for name, data in GOOD.items()}

    def mutate(self, files: Files, rng: random.Random) -> Files:
        """A line or a part of one moved, removed or replaced, or bytes as of any file."""
        ((name, data),) = files.items()
        if rng.random() < 0.25:
            return {name: spoil(data, rng)}
        lines = data.split(b"\n")
        at = rng.randrange(len(lines))
        kind = rng.randrange(6)
        if kind == 0:
            lines.insert(at, lines[rng.randrange(len(lines))])
        elif kind == 1:
            del lines[at]
        elif kind == 2 and rng.random() < 0.2:
            lines.insert(at, rng.choice(DEEP))
        elif kind == 2:
            lines.insert(at, rng.choice(TOKENS))
        else:
            mark = rng.choice((b" ", b",", b"=", b".", b":", b'"'))
            cells = lines[at].split(mark)
            cells[rng.randrange(len(cells))] = rng.choice(TOKENS)
            lines[at] = mark.join(cells)
        return {name: b"\n".join(lines)}

    def run(self, inputs: Sequence[Files], scratch: Path) -> None:
        """Reads every file; the first refusal is raised when all were read."""
        refusal: Exception | None = None
        with redirect_stderr(io.StringIO()):
            for number, files in enumerate(inputs):
                ((name, data),) = files.items()
                try:
                    READERS[name](data, scratch / f"{number}")
                except self.refusals as error:
                    refusal = error
        if refusal is not None:
            raise refusal


def _read_settings(data: bytes, path: Path) -> None:
    path.write_bytes(data)
    for verb in ("identify", VERBS[zlib.crc32(data) % len(VERBS)]):
        _apply(verb, ["--config", str(path)])


def _read_environment(data: bytes, path: Path) -> None:
    first, *lines = data.split(b"\n")
    before = dict(os.environ)
    try:
        for line in lines:
            name, _, value = line.partition(b"=")
            if name and name != b"APPTELL_CONFIG" and b"\0" not in line:
                os.environb[name] = value
        verb = first.decode("latin-1")
        _apply(verb if verb in VERBS else "identify", [])
        settings.unknown_variables(_root())
    finally:
        os.environ.clear()
        os.environ.update(before)


def _apply(verb: str, arguments: list[str]) -> None:
    """Makes a verb's options of settings, as ``apptell VERB`` does before the verb runs."""
    context = _root().make_context("apptell", [*arguments, *verb.split()])
    command = context.command
    for word in verb.split():
        command = command.commands[word]
        context = command.context_class(command, info_name=word, parent=context)
    command.make_context(word, [], parent=context.parent, resilient_parsing=True)


def _read_catalogue(data: bytes, path: Path) -> None:
    path.write_bytes(data)
    tables = Tables()
    add_file(tables, path)
    catalogue = Catalogue(tables)
    for row in list(tables.domains.values())[:20]:
        catalogue.lookup(row.domain)
    catalogue.owner_of("192.0.2.9")
    catalogue.find_app("chat")


def _reader_of(form: str, suffix: str) -> Callable[[bytes, Path], None]:
    def read(data: bytes, path: Path) -> None:
        path = path.with_suffix(suffix)
        path.write_bytes(data)
        import_list(form, path).to_arrow().validate(full=True)

    return read


READERS: dict[str, Callable[[bytes, Path], None]] = {
    "settings": _read_settings,
    "environment": _read_environment,
    "catalogue": _read_catalogue,
    "adguard-yaml": _reader_of("adguard", ".yaml"),
    **{form: _reader_of(form, ".json" if form == "adguard" else "") for form in FORMS},
}
TARGET = Configuration()
