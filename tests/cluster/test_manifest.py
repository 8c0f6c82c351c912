"""The RayJob of docs/how-to/cluster.md has only fields that KubeRay declares, and all that it requires."""

import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from apptell.cli.app import app

yaml = pytest.importorskip("yaml")
PAGE = Path(__file__).parents[2] / "docs/how-to/cluster.md"

# ray.io/v1 as KubeRay 1.4 declares it, with the fields that a manifest must have
JOB = {
    "activeDeadlineSeconds", "backoffLimit", "clusterSelector", "deletionStrategy", "entrypoint",
    "entrypointNumCpus", "entrypointNumGpus", "entrypointResources", "jobId", "managedBy", "metadata",
    "rayClusterSpec", "runtimeEnvYAML", "shutdownAfterJobFinishes", "submissionMode", "submitterConfig",
    "submitterPodTemplate", "suspend", "ttlSecondsAfterFinished",
}  # fmt: skip
CLUSTER = {
    "autoscalerOptions", "enableInTreeAutoscaling", "gcsFaultToleranceOptions", "headGroupSpec",
    "headServiceAnnotations", "managedBy", "rayVersion", "suspend", "workerGroupSpecs",
}  # fmt: skip
HEAD = {"enableIngress", "headService", "rayStartParams", "serviceType", "template"}
GROUP = {
    "groupName", "idleTimeoutSeconds", "maxReplicas", "minReplicas", "numOfHosts", "rayStartParams", "replicas",
    "scaleStrategy", "suspend", "template",
}  # fmt: skip
CONTAINER = {"name", "image", "env", "envFrom", "resources", "volumeMounts", "command", "args"}


@pytest.fixture
def job():
    (text,) = re.findall(r"```yaml\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    return yaml.safe_load(text)


def test_its_fields_are_those_of_the_schema(job):
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    assert re.fullmatch(
        r"[a-z0-9-]{1,47}", job["metadata"]["name"]
    )  # KubeRay makes longer names of it
    cluster = job["spec"]["rayClusterSpec"]
    head, (group,) = cluster["headGroupSpec"], cluster["workerGroupSpecs"]
    for found, known, required in (
        (job["spec"], JOB, {"entrypoint", "rayClusterSpec"}),
        (cluster, CLUSTER, {"headGroupSpec"}),
        (head, HEAD, {"rayStartParams", "template"}),
        (group, GROUP, {"groupName", "minReplicas", "maxReplicas", "rayStartParams", "template"}),
    ):
        assert required <= set(found) <= known
    assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]
    for pod in (head["template"], group["template"]):
        (container,) = pod["spec"]["containers"]
        assert {"name", "image"} <= set(container) <= CONTAINER
        assert all(isinstance(each, str) for each in container["resources"]["limits"].values())


def test_its_command_is_one_that_apptell_has(job):
    program, verb, *words = shlex.split(job["spec"]["entrypoint"])
    assert (program, verb) == ("apptell", "archive")
    shown = CliRunner().invoke(app, [verb, "--help"], env={"COLUMNS": "200"}).output
    options = [word for word in words if word.startswith("-")]
    assert options
    assert all(option in shown for option in options)


def test_its_version_of_ray_is_the_tested_one(job):
    constraints = (PAGE.parents[2] / "constraints.txt").read_text("utf-8")
    assert f"ray=={job['spec']['rayClusterSpec']['rayVersion']}\n" in constraints
