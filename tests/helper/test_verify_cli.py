"""`pilotage-helper` shows anybody the verifier's answer, and ends with the table's exit code."""

import json
from datetime import datetime
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from pilotage.reasons import Reason
from pilotage_helper import VerifyOptions
from pilotage_helper.cli import main
from support import acs
from support import vectors as v


@pytest.fixture
def proxy(alice: v.Entity, good: acs.Ac, tmp_path: Path) -> Path:
    path = tmp_path / "proxy.pem"
    path.write_bytes(acs.proxy(alice, acs.value(good)).pem)
    return path


def run(command: str, options: VerifyOptions, *more: str, data: bytes | None = None) -> Result:
    where = ["--certificates", str(options.ca_dir), "--vomsdir", str(options.voms_dir)]
    return CliRunner().invoke(main, [command, *where, *more], input=data, env={"X509_CERT_DIR": "/nowhere"})


def test_it_names_who_where_from_and_until_when(proxy: Path, options: VerifyOptions) -> None:
    done = run("verify", options, str(proxy))
    assert done.exit_code == 0, done.output
    lines = {line.split(":")[0]: line.split(":", 1)[1].strip() for line in reversed(done.stdout.splitlines())}
    assert lines["dn"] == "/O=Test Grid/CN=alice"
    assert lines["vo"] == "demo"
    assert lines["fqans"] == "/demo/Role=analysis"
    assert (lines["limited"], lines["proxies"], lines["has key"]) == ("no", "1", "yes")
    assert lines["not after"] == (v.NOW + 12 * v.HOUR).strftime("%Y-%m-%dT%H:%M:%SZ")


def test_json_is_one_object(proxy: Path, options: VerifyOptions) -> None:
    answer = json.loads(run("verify", options, "--json", str(proxy)).stdout)
    assert answer["ok"] is True
    assert answer["fqans"] == ["/demo/Role=analysis", "/demo"]
    assert answer["limited"] is False
    assert datetime.fromisoformat(answer["not_after"]) == v.NOW + 12 * v.HOUR
    assert datetime.fromisoformat(answer["voms_not_after"]) == v.NOW + 11 * v.HOUR


@pytest.mark.parametrize("form", ["%Y-%m-%dT%H:%M:%SZ", "%Y-%m-%d %H:%M:%S", "%s"])
def test_another_time_can_be_asked_about(form: str, proxy: Path, options: VerifyOptions) -> None:
    later = v.NOW + 20 * v.HOUR
    text = str(int(later.timestamp())) if form == "%s" else later.strftime(form)
    done = run("verify", options, "--at", text, str(proxy))
    assert done.exit_code == Reason.PROXY_EXPIRED.row.exit_code
    assert done.stdout == ""
    assert done.stderr.startswith("pilotage-helper: refused: PROXY_EXPIRED (208): ")


def test_a_refusal_in_json_has_name_number_and_words(options: VerifyOptions) -> None:
    done = run("verify", options, "--json", "-", data=b"junk")
    assert done.exit_code == Reason.PROXY_EMPTY.row.exit_code
    answer = json.loads(done.stdout)
    assert (answer["ok"], answer["reason"], answer["number"]) == (False, "PROXY_EMPTY", 202)
    assert answer["message"]


@pytest.mark.parametrize("text", ["yesterday", "0", "9" * 30, "1960-01-01"])
def test_a_time_that_is_none_is_a_usage_error(text: str, proxy: Path, options: VerifyOptions) -> None:
    done = run("verify", options, "--at", text, str(proxy))
    assert done.exit_code == 2
    assert "--at" in done.stderr


def test_options_ask_for_more(alice: v.Entity, options: VerifyOptions, grid: v.Authority) -> None:
    bare = v.chain_pem(alice.chain)
    assert "KEY_MISSING" in run("verify", options, "--require-key", "-", data=bare).stderr
    assert "NOT_A_PROXY" in run("verify", options, "--require-proxy", "-", data=bare).stderr
    grid.file(".r0").unlink()
    assert "CRL_MISSING" in run("verify", options, "-", data=bare).stderr
    assert run("verify", options, "--no-require-crl", "-", data=bare).exit_code == 0


def test_the_grids_variables_name_the_directories(proxy: Path, options: VerifyOptions) -> None:
    environ = {"X509_CERT_DIR": str(options.ca_dir), "X509_VOMS_DIR": str(options.voms_dir)}
    done = CliRunner().invoke(main, ["verify", str(proxy)], env=environ)
    assert "/demo/Role=analysis" in done.stdout


def test_a_folder_is_not_a_proxy(tmp_path: Path, options: VerifyOptions) -> None:
    assert run("verify", options, str(tmp_path)).exit_code == 2
    assert run("verify", options, str(tmp_path / "nothing")).exit_code == 2
