"""A payload runs as its owner's account, and nothing of it is left."""

import pwd

import pytest

from support.helper_rig import HelperRig

pytestmark = pytest.mark.root


def test_a_payload_runs_as_the_mapped_account(rig: HelperRig) -> None:
    done = rig.run("/usr/bin/id", options=["--job-id", "job 1"])
    assert (done.code, done.err) == (0, "")
    start = done.line("start")
    entry = pwd.getpwnam(str(start["account"]))
    assert done.out.startswith(f"uid={entry.pw_uid}({entry.pw_name}) gid={entry.pw_gid}")
    assert start["dn"] == rig.owners[0].dn
    assert start["fqan"] == "/demo/Role=analysis"
    end = done.line("end")
    assert (end["exit_code"], end["signal"], end["reason"]) == (0, 0, "")
    assert (end["left_processes"], end["left_files"]) == (0, 0)
    assert rig.left() == []
