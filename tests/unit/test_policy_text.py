"""What the audit records as the policy: everything that decides who gets which credentials, and nothing else."""

import pytest

from pilotage_server import config

TEXT = """
[server]
state_dir = "/s"
listen = "127.0.0.1:0"
audience = "pilotage://x"
host_cert = "/c"
host_key = "/k"
ca_dir = "/ca"
voms_dir = "/voms"
[roles]
pilot = ["/vo/Role=pilot"]
owner = ["/vo"]
[credentials]
max_lifetime_seconds = 86400
[abuse]
pilot_strikes = 10
[gateway]
allow_unattended = false
"""


def policy(text: str) -> str:
    return config.parse(text.encode(), "server.toml").policy_text()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"/ca"', '"/other"'),
        ('voms_dir = "/voms"', ""),
        ("pilotage://x", "pilotage://y"),
        ('["/vo/Role=pilot"]', '["/vo"]'),
        ('owner = ["/vo"]', 'owner = ["/vo/Role=x"]'),
        ('owner = ["/vo"]', 'owner = ["/vo"]\nadmin = ["/CN=admin"]'),
        ("86400", "3600"),
        ("pilot_strikes = 10", "pilot_strikes = 11"),
        ("allow_unattended = false", "allow_unattended = true"),
    ],
)
def test_whatever_decides_who_gets_which_credentials_changes_it(old: str, new: str) -> None:
    changed = TEXT.replace(old, new)
    assert changed != TEXT
    assert policy(changed) != policy(TEXT)


@pytest.mark.parametrize(("old", "new"), [('"/s"', '"/t"'), ("127.0.0.1:0", "127.0.0.1:7643"), ('"/k"', '"/l"')])
def test_whatever_does_not_leaves_it(old: str, new: str) -> None:
    changed = TEXT.replace(old, new)
    assert changed != TEXT
    assert policy(changed) == policy(TEXT)
