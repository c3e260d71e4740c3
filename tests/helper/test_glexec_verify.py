"""GLEXEC_MODE=lcmaps_verify_account: does the proxy still map to the account that the caller names by its numbers?"""

import os
import pwd

import pytest

from support.glexec_rig import Done, GlexecRig
from support.helper_rig import ANALYSIS, PILOT, POOL

pytestmark = pytest.mark.root


def verify(glexec: GlexecRig, account: str, *command: str, owner: int = 0, **more: str) -> Done:
    entry = pwd.getpwnam(account)
    return numbers(glexec, entry.pw_uid, entry.pw_gid, *command, owner=owner, **more)


def numbers(glexec: GlexecRig, uid: int, gid: int, *command: str, owner: int = 0, **more: str) -> Done:
    proxy = str(glexec.rig.proxy(owner))
    target = more.pop("GLEXEC_TARGET_PROXY", "/dev/null")
    return glexec.run(
        str(uid),
        str(gid),
        *command,
        GLEXEC_CLIENT_CERT=proxy,
        GLEXEC_MODE="lcmaps_verify_account",
        GLEXEC_TARGET_PROXY=target,
        **more,
    )


def leased(glexec: GlexecRig) -> set[str]:
    return {path.name for path in glexec.rig.gridmapdir.iterdir() if path.name.startswith("%")}


def test_the_account_of_the_lease_is_verified_and_the_command_runs_as_it(glexec: GlexecRig) -> None:
    account = glexec.account().pw_name
    assert verify(glexec, account, "/usr/bin/id", "-un").said == (0, f"{account}\n", "")
    assert verify(glexec, account).said == (0, "", "")


def test_without_a_command_the_verified_accounts_proxy_is_written(glexec: GlexecRig) -> None:
    account = glexec.account()
    target = glexec.folder() / "proxy"
    assert verify(glexec, account.pw_name, GLEXEC_TARGET_PROXY=str(target)).said == (0, "", "")
    assert (target.stat().st_uid, target.read_bytes()) == (account.pw_uid, glexec.rig.proxy().read_bytes())


def test_another_account_runs_nothing(glexec: GlexecRig) -> None:
    account = glexec.account().pw_name
    other = next(name for name in glexec.rig.pools if name != account)
    before = leased(glexec)
    for done in (verify(glexec, other, "/usr/bin/id"), verify(glexec, account, "/usr/bin/id", owner=1)):
        assert (done.code, done.out) == (203, "")
        assert "ACCOUNT_CHANGED" in done.err
    assert leased(glexec) == before


def test_a_lease_that_is_gone_verifies_nothing(glexec: GlexecRig) -> None:
    account = glexec.account().pw_name
    glexec.rig.release_all()
    done = verify(glexec, account, "/usr/bin/id")
    assert (done.code, done.out, leased(glexec)) == (203, "", set())
    assert "ACCOUNT_CHANGED" in done.err


def test_another_pool_or_map_verifies_nothing(glexec: GlexecRig) -> None:
    account = glexec.account().pw_name
    for text in (f'"{ANALYSIS}" .{POOL}x\n', f'"{ANALYSIS}" {POOL}12\n', '"/other" .x\n'):
        with glexec.rig.mapped(text):
            done = verify(glexec, account, "/usr/bin/id")
        assert (done.code, done.out) == (203, "")
    with glexec.rig.mapped(f'"{ANALYSIS}" {POOL}12\n'):
        assert verify(glexec, f"{POOL}12", "/usr/bin/id", "-un").out == f"{POOL}12\n"


def test_numbers_that_mean_no_account_are_refused(glexec: GlexecRig) -> None:
    account = glexec.account()
    for uid, gid in ((account.pw_uid, account.pw_gid + 1), (4294967295, account.pw_gid), (3999999999, 1), (0, 0)):
        assert numbers(glexec, uid, gid, "/usr/bin/id").code == 203
    assert verify(glexec, PILOT, "/usr/bin/id").code == 203


@pytest.mark.parametrize(
    "words", [[], ["/usr/bin/id"], ["1000"], ["1000", "/usr/bin/id"], ["-1", "1"], ["1", "1 "], ["", ""]]
)
def test_the_command_line_begins_with_two_numbers(glexec: GlexecRig, words: list[str]) -> None:
    assert glexec.run(*words, GLEXEC_MODE="lcmaps_verify_account").code == 201


def test_numbers_without_the_mode_are_no_command(glexec: GlexecRig) -> None:
    account = glexec.account()
    assert glexec.run(str(account.pw_uid), str(account.pw_gid), os.path.realpath("/bin/true")).code == 201
