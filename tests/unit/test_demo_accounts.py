"""The demo makes and removes its own accounts, and leaves everybody else's alone."""

import pwd
from pathlib import Path

import pytest
from journey import accounts
from journey.accounts import Accounts
from journey.steps import DemoError


def test_an_account_somebody_else_made_is_refused_and_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accounts, "EVERYBODY", ("pilotage-absent", "daemon"))
    with pytest.raises(DemoError, match="already has an account called daemon"):
        Accounts(tmp_path).make()
    with pytest.raises(KeyError):
        pwd.getpwnam("pilotage-absent")


def test_a_group_somebody_else_made_is_refused_and_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accounts, "EVERYBODY", ("shadow",))
    with pytest.raises(DemoError, match="already has a group called shadow"):
        Accounts(tmp_path).make()


def test_an_account_somebody_else_made_is_not_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accounts, "EVERYBODY", ("daemon",))
    assert Accounts(tmp_path).remove() == []
    assert pwd.getpwnam("daemon")


@pytest.mark.root
def test_accounts_are_made_once_with_empty_private_homes_and_removed_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "pilotage-t1"
    monkeypatch.setattr(accounts, "EVERYBODY", (name,))
    made = Accounts(tmp_path / "home")
    made.make()
    try:
        first = pwd.getpwnam(name)
        (tmp_path / "home" / name / "rubbish").write_text("x")
        made.make()
        assert pwd.getpwnam(name) == first
        assert list((tmp_path / "home" / name).iterdir()) == []
        assert (tmp_path / "home" / name).stat().st_mode & 0o777 == 0o700
        assert not Accounts(tmp_path / "elsewhere").is_ours(name)
    finally:
        assert made.remove() == [name]
    with pytest.raises(KeyError):
        pwd.getpwnam(name)
