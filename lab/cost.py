"""Sums the processor seconds of the lab's processes by kind."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterable

TICKS_PER_S = os.sysconf("SC_CLK_TCK")


def title(command: list[str]) -> str:
    """A process's kind: its program, or the lab's module and app."""
    program = Path(command[0].split()[0].rstrip(":")).name if command and command[0] else "kernel"
    if program.startswith("python") and "-m" in command:
        at = command.index("-m") + 1
        return " ".join(command[at : at + 2] if command[at] == "lab.worker" else command[at:][:1])
    return program


def processor_s(children: Iterable[subprocess.Popen[bytes]] = ()) -> dict[str, float]:
    """Kind of process → processor seconds, with those of its ended children, most first.

    ``children`` names those of ours that have ended and were not waited for.

    The lab has its own process namespace, so every visible process belongs to it.
    """
    sums: dict[str, float] = {}
    known = {child.pid: list(map(str, child.args)) for child in children}  # type: ignore[arg-type]
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
            command = (folder / "cmdline").read_bytes().decode(errors="replace").split("\0")
            command = command if command[0] else known.get(int(folder.name), command)
        except OSError:
            continue  # ended meanwhile
        spent = sum(map(int, fields[11:15])) / TICKS_PER_S
        sums[title(command)] = sums.get(title(command), 0.0) + spent
    ranked = sorted(sums.items(), key=lambda item: -item[1])
    return {name: round(spent, 1) for name, spent in ranked if spent >= 0.1}
