"""Runs a command in its own namespaces, which end with it."""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import stat
import subprocess
import sys
from pathlib import Path

INSIDE = "APPTELL_LAB_INSIDE"
PR_SET_PDEATHSIG = 1
CLONE_NEWNET = 0x40000000
NEEDED = (
    "unshare",
    "ip",
    "nsenter",
    "tcpdump",
    "haproxy",
    "nginx",
    "prosody",
    "mosquitto",
    "ngircd",
    "murmurd",
    "weechat-headless",
    "chromium-headless-shell",
)
DEVICES = {
    "null": (1, 3),
    "zero": (1, 5),
    "full": (1, 7),
    "random": (1, 8),
    "urandom": (1, 9),
    "tty": (5, 0),
    "net/tun": (10, 200),
}
libc = ctypes.CDLL(None, use_errno=True)


def root() -> Path:
    """The folder that holds ``lab/``."""
    return Path(__file__).resolve().parent.parent


def lab_python() -> Path:
    """The interpreter of the lab's own environment."""
    return root() / ".lab-venv/bin/python"


def missing() -> str | None:
    """One sentence that says why the lab cannot run here, or None."""
    if os.geteuid() != 0:
        return "the lab needs root: it makes network namespaces"
    path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    absent = [name for name in NEEDED if shutil.which(name, path=path) is None]
    if absent or not lab_python().exists():
        return f"lab/setup has not been run: {', '.join(absent) or '.lab-venv'} missing"
    if not Path("/dev/net/tun").exists():
        return "no /dev/net/tun: the link between the namespaces cannot be made"
    return None


def enter(arguments: list[str]) -> int:
    """Run ``python -m lab`` in new namespaces until it ends; returns its exit code.

    The process ids, mounts and network are new. The first process inside is the lab; when it ends,
    or when ``unshare`` is killed, the kernel kills every process inside, and interfaces and mounts
    go with them. ``unshare`` itself would ignore being asked to end, so it is killed for that; an
    interrupt from the keyboard reaches the lab by itself.
    """
    command = [
        "unshare",
        "--net",
        "--mount",
        "--pid",
        "--fork",
        "--kill-child=KILL",
        "--mount-proc",
    ]
    environment = dict(os.environ, **{INSIDE: "1"})
    environment["PATH"] = environment.get("PATH", "") + ":/usr/sbin:/sbin"
    inner = subprocess.Popen(
        [*command, str(lab_python()), "-m", "lab", *arguments],
        env=environment,
        cwd=root(),
        preexec_fn=lambda: libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0),
    )
    asked: list[int] = []

    def end(number: int, _frame: object) -> None:
        asked.append(number)
        inner.kill()

    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, end)
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, lambda *_: None)
    code = inner.wait()
    return 128 + asked[0] if asked else code if code >= 0 else 128 - code


def is_inside() -> bool:
    """Whether this process already runs in the lab's namespaces."""
    return os.environ.get(INSIDE) == "1"


def furnish() -> Path:
    """Private mounts for the lab.

    Returns its scratch folder, a tmpfs that ends with the namespaces.

    The interpreter may live under a home folder that other users cannot enter, and the lab's apps
    run under user ids of their own, as on a phone: so that folder is covered by one that holds the
    interpreter and nothing else.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    scratch = Path("/run/apptell-lab")
    subprocess.run(["mount", "--make-rprivate", "/"], check=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=755,size=6g", "tmpfs", "/run"], check=True)
    scratch.mkdir(mode=0o755)
    (scratch / "tmp").mkdir()
    (scratch / "tmp").chmod(0o1777)
    # what a killed client leaves behind must not stay on the machine
    os.environ["TMPDIR"] = str(scratch / "tmp")
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    _devices(Path("/dev"))
    _uncover(Path(os.path.realpath(lab_python())).parent.parent, scratch)
    return scratch


def _devices(folder: Path) -> None:
    """Creates the lab's own device files, which are independent of the machine's."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=755,size=64m", "tmpfs", folder], check=True)
    (folder / "net").mkdir()
    for name, (major, minor) in DEVICES.items():
        os.mknod(folder / name, stat.S_IFCHR | 0o666, os.makedev(major, minor))
        (folder / name).chmod(0o666)
    for name, target in {"fd": "", "stdin": "/0", "stdout": "/1", "stderr": "/2"}.items():
        (folder / name).symlink_to(f"/proc/self/fd{target}")
    (folder / "shm").mkdir()
    (folder / "shm").chmod(0o1777)


def _uncover(installation: Path, scratch: Path) -> None:
    closed = next((p for p in reversed(installation.parents) if not p.stat().st_mode & 0o001), None)
    if closed is None:
        return
    keep = scratch / "interpreter"
    keep.mkdir()
    subprocess.run(["mount", "--bind", str(installation), str(keep)], check=True)
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "mode=755,size=64m", "tmpfs", str(closed)], check=True
    )
    installation.mkdir(parents=True)
    subprocess.run(["mount", "--bind", str(keep), str(installation)], check=True)


def cover_hosts(scratch: Path, lines: list[str]) -> None:
    """Names to addresses for everything inside; the machine's own hosts file stays as it is."""
    hosts = scratch / "hosts"
    hosts.write_text("127.0.0.1 localhost\n::1 localhost\n" + "\n".join(lines) + "\n")
    for name in ("hosts", "resolv.conf"):
        source = scratch / name
        if name == "resolv.conf":
            source.write_text("# the lab asks no name server\n")
        subprocess.run(["mount", "--bind", str(source), f"/etc/{name}"], check=True)


def become(holder: int | None, uid: int) -> None:
    """In a child before exec: die with the parent, enter a network namespace, drop to ``uid``."""
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    os.setpgrp()
    if holder is not None:
        descriptor = os.open(f"/proc/{holder}/ns/net", os.O_RDONLY)
        if libc.setns(descriptor, CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "setns")
        os.close(descriptor)
    if uid:
        os.setgroups([])
        os.setgid(uid)
        os.setuid(uid)
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
