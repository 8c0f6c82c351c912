"""The container image: what it is made of, and, where it is wanted, that it is built and runs."""

import json
import lzma
import os
import shlex
import shutil
import subprocess
from itertools import chain
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SAMPLES = ROOT / "src/apptell/samples/named"
ASKED = "APPTELL_TEST_IMAGE"
"""Set by ``make test-image``, because it takes minutes and downloads a base image and packages."""
TOOL = shlex.split(os.environ.get("APPTELL_IMAGE_TOOL") or shutil.which("podman") or "docker")
BUILD_FLAGS = shlex.split(os.environ.get("APPTELL_IMAGE_BUILD_FLAGS", ""))
RUN_FLAGS = shlex.split(os.environ.get("APPTELL_IMAGE_RUN_FLAGS", ""))
"""What a machine needs besides: ``--isolation chroot`` or ``--network host``, for example."""
MOST_BYTES = 500_000_000


def test_the_image_does_not_run_as_root_and_its_context_holds_what_is_copied() -> None:
    lines = (ROOT / "Containerfile").read_text().splitlines()
    assert [line.split()[1] for line in lines if line.startswith("USER ")] == ["apptell"]
    copied = [
        line.split()[1:-1] for line in lines if line.startswith("COPY ") and "--from" not in line
    ]
    assert ["src"] in copied
    for name in chain.from_iterable(copied):
        assert (ROOT / name).exists()
        assert f"!{name}" in (ROOT / ".containerignore").read_text().splitlines()
    assert (ROOT / ".containerignore").read_text() == (ROOT / ".dockerignore").read_text()


@pytest.fixture(scope="module")
def image() -> str:
    """The name of the image, which is built."""
    if ASKED not in os.environ:
        pytest.skip(f"takes minutes and downloads packages: set {ASKED}=1 (make test-image)")
    if shutil.which(TOOL[0]) is None:
        pytest.skip("needs podman or docker")
    name = "apptell-test"
    command = [*TOOL, "build", *BUILD_FLAGS, "-f", "Containerfile", "-t", name, "."]
    subprocess.run(command, cwd=ROOT, check=True)
    return name


def _run(
    image: str, *words: str, flags: tuple[str, ...] = (), packets: bytes | None = None
) -> subprocess.CompletedProcess[bytes]:
    """Runs a command in a container that has the samples in its working directory."""
    given = ["-i"] if packets is not None else []
    place = f"{SAMPLES}:/data:ro"
    command = [*TOOL, "run", "--rm", *given, *RUN_FLAGS, *flags, "-v", place, image, *words]
    return subprocess.run(command, input=packets, capture_output=True, check=False)


def _python(image: str, code: str, *flags: str) -> subprocess.CompletedProcess[bytes]:
    return _run(image, "-c", code, flags=("--entrypoint", "python3", *flags))


def test_the_image_is_under_500_mb(image: str) -> None:
    command = [*TOOL, "image", "inspect", image, "--format", "{{.Size}}"]
    size = int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert size < MOST_BYTES


@pytest.mark.parametrize("evidence", ["name,dns,address,range", "all"])
def test_it_identifies_a_capture_without_rights_a_network_or_a_place_to_write(
    image: str, evidence: str
) -> None:
    """By names, and by the embedded model; no kernel is compiled."""
    flags = ("--cap-drop", "all", "--read-only", "--tmpfs", "/tmp")
    done = _run(image, "identify", ".", "--evidence", evidence, flags=flags)
    assert done.returncode == 0, done.stderr
    apps = {json.loads(line)["app"] for line in done.stdout.splitlines()}
    assert {"whatsapp", "signal"} <= apps
    assert b"compiling" not in done.stderr


def test_it_reads_a_live_pipe(image: str) -> None:
    packets = lzma.decompress((SAMPLES / "named.pcap.xz").read_bytes())
    done = _run(image, "live", "-", "--out", "jsonl:-", packets=packets)
    assert done.returncode == 0, done.stderr
    records = [json.loads(line) for line in done.stdout.splitlines()]
    assert {"verdict", "end"} == {record["event"] for record in records}


def test_a_user_other_than_root_opens_an_interface_where_the_container_may(image: str) -> None:
    code = (
        "import os; from apptell.capture.live import LiveCapture; "
        "LiveCapture('lo', expression='tcp port 443').close(); print(os.getuid())"
    )
    done = _python(image, code, "--cap-add", "NET_RAW")
    assert (done.returncode, done.stdout) == (0, b"10001\n"), done.stderr
    refused = _run(image, "live", "-i", "lo", flags=("--cap-drop", "all"))
    assert refused.returncode == 3
    assert b"capturing needs the capability CAP_NET_RAW" in refused.stderr


def test_what_outputs_and_object_stores_need_was_not_trimmed(image: str) -> None:
    code = (
        "import ssl, zoneinfo, pyarrow.csv, pyarrow.dataset, pyarrow.parquet, zstandard, lz4.frame\n"
        "from pyarrow.fs import GcsFileSystem, S3FileSystem\n"
        "zoneinfo.ZoneInfo('Europe/Berlin')\n"
        "print(len(ssl.create_default_context().get_ca_certs()) > 50)"
    )
    done = _python(image, code)
    assert done.stdout == b"True\n", done.stderr
