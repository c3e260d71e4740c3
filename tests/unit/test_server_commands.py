"""`pilotage-server` before, beside and without a server that runs: each mistake of an operator is one line."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from toygrid import ToyGrid

from pilotage_server.commands import main

Run = Callable[..., tuple[int, str, str]]

TEXT = """
[server]
state_dir = "{root}/state"
listen = "127.0.0.1:0"
audience = "pilotage://localhost:7643"
host_cert = "{root}/hostcert.pem"
host_key = "{root}/hostkey.pem"
ca_dir = "{root}"
[roles]
pilot = ["/demo/Role=pilot"]
owner = ["/demo"]
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "server.toml"
    path.write_text(TEXT.format(root=tmp_path))
    return path


@pytest.fixture
def run(config: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    def command(*words: str) -> tuple[int, str, str]:
        code = main([*words, "--config", str(config)])
        told = capsys.readouterr()
        return code, told.out, told.err

    return command


def line(told: tuple[int, str, str], code: int, reason: str) -> str:
    """Return the one line that a refused command says."""
    assert told[:2] == (code, "")
    assert re.fullmatch(rf"pilotage-server: {reason}: .*\.\n", told[2])
    return told[2]


def test_its_version_is_the_packages(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    assert re.fullmatch(r"pilotage-server \d+\.\d+\S*\n", capsys.readouterr().out)


@pytest.mark.parametrize("words", [("keys", "rotate"), ("keys", "list"), ("audit", "verify"), ("audit", "show")])
def test_what_needs_a_first_start_says_so(words: tuple[str, ...], run: Run, tmp_path: Path) -> None:
    code, reason = (2, "CONFIG_INVALID") if words[0] == "keys" else (5, "STORE_UNAVAILABLE")
    told = line(run(*words), code, reason)
    assert str(tmp_path / "state") in told
    assert "`pilotage-server init`" in told if words[0] == "keys" else "`pilotage-server run`" in told


def test_keys_come_by_init_and_are_listed_before_there_is_a_database(run: Run) -> None:
    assert run("init")[0] == 0
    code, out, _ = run("keys", "list")
    assert code == 0
    assert "seals 0 credentials" in out
    line(run("audit", "verify"), 5, "STORE_UNAVAILABLE")


def test_a_missing_host_certificate_is_named(run: Run, tmp_path: Path) -> None:
    assert str(tmp_path / "hostcert.pem") in line(run("check-config"), 2, "CONFIG_INVALID")


def test_a_list_that_is_out_of_date_is_warned_of(run: Run, config: Path, tmp_path: Path) -> None:
    grid = ToyGrid(tmp_path / "grid")
    host = grid.host("localhost")
    text = config.read_text().replace(f'ca_dir = "{tmp_path}"', f'ca_dir = "{grid.ca_dir}"')
    text = text.replace(f"{tmp_path}/hostcert.pem", str(host.cert_path)).replace(
        f"{tmp_path}/hostkey.pem", str(host.key_path)
    )
    config.write_text(text)
    fine = run("check-config")
    assert (fine[0], fine[2]) == (0, "")
    grid.write_crl(days=-1)
    code, out, err = run("check-config")
    assert (code, out) == (0, fine[1])
    assert err.count("is out of date since") == len(list(grid.ca_dir.glob("*.r0")))
    assert "run fetch-crl" in err


def test_a_state_directory_that_cannot_be_made_is_named(run: Run, tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file")
    for verb in ("init", "run"):
        assert str(tmp_path / "state") in line(run(verb), 2, "CONFIG_INVALID")


def test_another_accounts_state_directory_says_whom_to_be(run: Run, tmp_path: Path) -> None:
    (tmp_path / "state").mkdir(mode=0o777)
    (tmp_path / "state").chmod(0o777)
    assert "chmod go-w" in line(run("init"), 2, "CONFIG_INVALID")
