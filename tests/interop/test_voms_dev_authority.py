"""The field's own VOMS clients and verifiers accept our development authority and our attributes."""

import datetime
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from toygrid import Identity, ToyGrid

import pilotage_helper
from pilotage.errors import PilotageError
from pilotage.reasons import Reason
from pilotage.voms.attribute import attributes_of
from pilotage.voms.authority import VomsAuthority
from pilotage.voms.client import VomsClient
from pilotage.voms.issue import HolderForm
from pilotage.voms.members import AuthorityConfig
from pilotage.voms.requests import make_request
from pilotage.voms.vomses import read_vomses
from pilotage.x509.files import load_identity, write_proxy

pytestmark = pytest.mark.interop

ANALYSIS, PILOT = "/demo/Role=analysis", "/demo/sub/Role=pilot"
HELD = ("/demo", "/demo/sub", ANALYSIS, PILOT)
CPP, JAVA = "voms-proxy-init2", "voms-proxy-init3"
INFO = {CPP: "voms-proxy-info2", JAVA: "voms-proxy-info3"}


class Toys:
    """A toy grid with a VOMS host and one member, and the field's programs run with them."""

    def __init__(self, root: Path) -> None:
        self.grid = ToyGrid(root)
        self.alice = self.grid.user("Alice")
        self.host = self.grid.host("localhost")
        folder = self.grid.voms_dir / "demo"
        folder.mkdir()
        (folder / "localhost.lsc").write_text(f"{self.host.dn}\n{self.grid.ca_dn}\n")
        folder.chmod(0o755)
        (folder / "localhost.lsc").chmod(0o644)

    def authority(self, *protocols: str, holder: HolderForm = HolderForm.SUBJECT, **more: object) -> VomsAuthority:
        values: dict[str, object] = {
            "vo": "demo",
            "certificate": self.host.cert_path,
            "key": self.host.key_path,
            "ca_dir": self.grid.ca_dir,
            "host": "localhost",
            "listen": "127.0.0.1:0",
            "members": {self.alice.dn: HELD},
            "protocols": protocols or ("rest", "legacy"),
            "holder": holder,
            **more,
        }
        return VomsAuthority(AuthorityConfig(**values))  # type: ignore[arg-type]  # checked by the tests themselves

    def vomses(self, port: int) -> Path:
        file = self.grid.root / f"vomses-{port}"
        file.write_text(f'"demo" "localhost" "{port}" "{self.host.dn}" "demo"\n')
        file.chmod(0o644)
        return file

    def run(self, who: Identity, *command: str) -> subprocess.CompletedProcess[str]:
        if shutil.which(command[0]) is None:
            pytest.skip(f"{command[0]} is missing: apt-get install voms-clients voms-clients-java")
        environ = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.grid.root),
            "X509_CERT_DIR": str(self.grid.ca_dir),
            "X509_VOMS_DIR": str(self.grid.voms_dir),
            "X509_USER_CERT": str(who.cert_path),
            "X509_USER_KEY": str(who.key_path),
        }
        return subprocess.run(
            command, env=environ, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120, check=False
        )

    def attributes(self, program: str, proxy: Path) -> list[str]:
        """Return the FQANs that voms-proxy-info shows of a proxy it believes."""
        done = self.run(self.alice, program, "-file", str(proxy), "-all", "-acexists", "demo")
        assert done.returncode == 0, done.stdout + done.stderr
        assert "verification failed" not in (done.stdout + done.stderr).lower()
        lines = [line.partition(": ")[2] for line in done.stdout.splitlines() if line.startswith("attribute : /")]
        return [line.removesuffix("/Capability=NULL").removesuffix("/Role=NULL") for line in lines]

    def verify(self, proxy: Path) -> pilotage_helper.Identity:
        options = pilotage_helper.VerifyOptions(
            ca_dir=self.grid.ca_dir, voms_dir=self.grid.voms_dir, require_proxy=True, host="wn1.example.org"
        )
        return pilotage_helper.verify_pem(proxy.read_bytes(), options)


@pytest.fixture(scope="module")
def toys(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Toys]:
    root = tmp_path_factory.mktemp("grid")
    yield Toys(root)
    shutil.rmtree(root)


@pytest.mark.parametrize(
    ("program", "protocols"), [(CPP, ("rest", "legacy")), (CPP, ("legacy",)), (CPP, ("rest",)), (JAVA, ("rest",))]
)
def test_the_stock_clients_get_attributes(toys: Toys, tmp_path: Path, program: str, protocols: tuple[str, ...]) -> None:
    proxy = tmp_path / "proxy"
    with toys.authority(*protocols) as authority:
        vomses = str(toys.vomses(authority.port))
        done = toys.run(toys.alice, program, "-rfc", "-vomses", vomses, "-voms", f"demo:{ANALYSIS}", "-out", str(proxy))
    assert done.returncode == 0, done.stdout + done.stderr
    assert toys.attributes(INFO[program], proxy) == [ANALYSIS, "/demo", "/demo/sub"]
    who = toys.verify(proxy)
    assert (who.dn, who.vo) == (toys.alice.dn, "demo")
    assert who.fqans == (ANALYSIS, "/demo", "/demo/sub")


@pytest.mark.parametrize("program", [CPP, JAVA])
def test_the_stock_clients_get_several_roles_and_an_order(toys: Toys, tmp_path: Path, program: str) -> None:
    proxy = tmp_path / "proxy"
    with toys.authority() as authority:
        command = [program, "-rfc", "-vomses", str(toys.vomses(authority.port)), "-out", str(proxy)]
        command += ["-voms", f"demo:{PILOT}", "-voms", f"demo:{ANALYSIS}"]
        done = toys.run(toys.alice, *command)
    assert done.returncode == 0, done.stdout + done.stderr
    assert set(toys.verify(proxy).fqans) == set(HELD)


@pytest.mark.parametrize("program", [CPP, JAVA])
def test_the_stock_clients_show_a_refusal(toys: Toys, tmp_path: Path, program: str) -> None:
    with toys.authority(suspended={toys.alice.dn: "did not sign"}) as authority:
        vomses = str(toys.vomses(authority.port))
        done = toys.run(
            toys.alice, program, "-rfc", "-vomses", vomses, "-voms", "demo", "-out", str(tmp_path / "proxy")
        )
    assert done.returncode != 0
    assert "suspended" in (done.stdout + done.stderr).lower()


def test_the_stock_client_lists_what_there_is(toys: Toys) -> None:
    with toys.authority() as authority:
        done = toys.run(toys.alice, CPP, "-vomses", str(toys.vomses(authority.port)), "-voms", "demo", "-list")
    assert all(f"{fqan}\n" in done.stdout or f"{fqan}/" in done.stdout for fqan in HELD), done.stdout


@pytest.mark.parametrize("holder", list(HolderForm))
@pytest.mark.parametrize("below", ["certificate", "proxy"])
def test_our_extended_proxies_are_believed(toys: Toys, tmp_path: Path, holder: HolderForm, below: str) -> None:
    identity = load_identity(toys.alice.cert_path, toys.alice.key_path)
    if below == "proxy":
        identity = load_identity(toys.grid.plain_proxy(toys.alice, tmp_path / "plain"))
    with toys.authority(holder=holder, generic={"nickname": "alice"}) as authority:
        client = VomsClient(toys.grid.ca_dir, read_vomses(toys.vomses(authority.port)))
        extended = client.extend(identity, make_request("demo", [PILOT, ANALYSIS]))
    proxy = tmp_path / "proxy"
    write_proxy(proxy, extended.chain, extended.key)
    expected = [PILOT, ANALYSIS, "/demo", "/demo/sub"]
    assert toys.attributes(INFO[CPP], proxy) == expected
    if holder is HolderForm.SUBJECT:
        # The Java library knows only this form.
        assert toys.attributes(INFO[JAVA], proxy) == expected
    who = toys.verify(proxy)
    assert who.fqans == tuple(expected)
    assert who.dn == toys.alice.dn
    assert who.voms_not_after is not None


@pytest.mark.parametrize(("target", "good"), [("wn1.example.org", True), ("wn2.example.org", False)])
def test_attributes_for_some_hosts_are_believed_there_only(toys: Toys, tmp_path: Path, target: str, good: bool) -> None:
    identity = load_identity(toys.alice.cert_path, toys.alice.key_path)
    with toys.authority() as authority:
        client = VomsClient(toys.grid.ca_dir, read_vomses(toys.vomses(authority.port)))
        extended = client.extend(identity, make_request("demo", targets=[target]))
    assert attributes_of(extended.chain)[0].targets == (target,)
    proxy = tmp_path / "proxy"
    write_proxy(proxy, extended.chain, extended.key)
    if good:
        assert toys.verify(proxy).fqans == ("/demo", "/demo/sub")
        return
    with pytest.raises(PilotageError) as caught:
        toys.verify(proxy)
    assert caught.value.reason is Reason.VOMS_TARGET


def test_the_authority_runs_from_its_configuration_file(toys: Toys, tmp_path: Path) -> None:
    file = tmp_path / "authority.toml"
    file.write_text(
        f'vo = "demo"\nhost = "localhost"\nlisten = "127.0.0.1:0"\nca_dir = "{toys.grid.ca_dir}"\n'
        f'certificate = "{toys.host.cert_path}"\nkey = "{toys.host.key_path}"\n'
        f'max_lifetime_seconds = 600\n[members]\n"{toys.alice.dn}" = ["/demo"]\n'
    )
    command = [sys.executable, "-m", "pilotage.voms.authority", str(file)]
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    with subprocess.Popen(
        command, env=environ, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line.startswith("serving on port ")
            client = VomsClient(toys.grid.ca_dir, read_vomses(toys.vomses(int(line.split()[-1]))))
            grant = client.ask(load_identity(toys.alice.cert_path, toys.alice.key_path), make_request("demo"))
        finally:
            process.kill()
    assert grant.attributes.fqans == ("/demo",)
    assert grant.attributes.not_after - grant.attributes.not_before <= datetime.timedelta(minutes=20)
    assert any("shortened" in warning for warning in grant.warnings)
