import json
from dataclasses import replace
from types import SimpleNamespace

import pytest

from lab import cost, plan, recording, serving


def sessions(path, app, n_good, n_bad):
    with path.open("a") as sink:
        for fault in [None] * n_good + ["TimeoutError: "] * n_bad:
            sink.write(json.dumps({"app": app, "fault": fault}) + "\n")
    return path


def test_a_recording_whose_sessions_mostly_failed_is_refused_by_name(tmp_path):
    path = sessions(tmp_path / "sessions.jsonl", "irc", 30, 2)
    recording.check_faults(path)
    sessions(path, "xmpp", 4, 6)
    with pytest.raises(RuntimeError, match="6 of 10 sessions of xmpp failed: TimeoutError"):
        recording.check_faults(path)


def test_two_faults_of_a_few_sessions_are_no_reason(tmp_path):
    recording.check_faults(sessions(tmp_path / "sessions.jsonl", "irc", 0, 2))


@pytest.mark.parametrize(
    ("command", "title"),
    [
        (["/x/python", "-m", "lab.worker", "irc", "spec.json", ""], "lab.worker irc"),
        (["/x/python3.11", "-m", "synapse.app.homeserver", "-c", "y"], "synapse.app.homeserver"),
        (["nginx: worker process", ""], "nginx"),
        (
            ["/usr/lib/chromium/chromium-headless-shell", "--type=renderer"],
            "chromium-headless-shell",
        ),
        ([""], "kernel"),
    ],
)
def test_processes_are_named_by_what_they_run(command, title):
    assert cost.title(command) == title


def test_no_two_apps_of_a_recording_share_a_server_name(tmp_path):
    settings = replace(plan.sample(1)[0], quotas={})
    world = SimpleNamespace(scratch=tmp_path, network=settings.network)
    servers = serving.Serving(settings, world)
    assert len({servers.new_name() for _ in range(5000)}) == 5000
