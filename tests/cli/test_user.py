"""A sensor that is started as root gives its privileges up once its source is open."""

import json
import os
import subprocess
import sys

import pytest

from apptell.cli.live_source import drop_privileges
from apptell.errors import UsageError

PROGRAM = """
import json, os
from apptell.cli.live_source import drop_privileges
drop_privileges("nobody")
try:
    os.setuid(0)
    back = True
except PermissionError:
    back = False
print(json.dumps([os.getuid(), os.geteuid(), os.getgid(), 0 in os.getgroups(), back]))
"""


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="needs root")
def test_root_becomes_another_user_with_no_way_back():
    import pwd

    nobody = pwd.getpwnam("nobody")
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout) == [nobody.pw_uid, nobody.pw_uid, nobody.pw_gid, False, False]


def test_a_user_that_does_not_exist_is_refused():
    with pytest.raises(UsageError, match="no user 'nobody-of-that-name'"):
        drop_privileges("nobody-of-that-name")
