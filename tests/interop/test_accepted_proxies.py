"""RSA proxies that we sign, at every depth, full and limited: the field's own programs take and extend them."""

import datetime
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from toygrid import Identity, ToyGrid

import pilotage_helper
from pilotage.errors import PilotageError
from pilotage.voms.authority import VomsAuthority
from pilotage.voms.members import AuthorityConfig
from pilotage.x509.files import load_identity, write_proxy
from pilotage.x509.keys import KeyKind, make_key
from pilotage.x509.proxies import sign_proxy
from support.myproxy import Clients, RealServer

pytestmark = pytest.mark.interop

ANALYSIS = "/demo/Role=analysis"
DEPTHS = (1, 2, 3, 5)
PASS = "open-sesame-17"
POLICY = """\
accepted_credentials "/O=Toy Grid/*"
authorized_retrievers "*"
"""


class Case(msgspec.Struct, frozen=True):
    """One of our proxies: a file, its depth below the end entity, and whether it is limited."""

    path: Path
    depth: int
    limited: bool


Cases = dict[tuple[int, bool], Case]
ALL = [(depth, limited) for depth in DEPTHS for limited in (False, True)]


@pytest.fixture(scope="module")
def cases(grid: ToyGrid, alice: Identity, tmp_path_factory: pytest.TempPathFactory) -> Cases:
    """Proxies one below the other; a limited one is limited at its end, as those that the service issues are."""
    identity = load_identity(alice.cert_path, alice.key_path)
    folder, made = tmp_path_factory.mktemp("proxies"), {}
    chain, key = identity.chain, identity.key
    now, life = datetime.datetime.now(datetime.UTC), datetime.timedelta(hours=6)
    for depth in range(1, max(DEPTHS) + 1):
        new = make_key(KeyKind.RSA_2048)
        for limited in (True, False):
            proxy = sign_proxy(chain, key, new.public_key(), lifetime=life, limited=limited, now=now)
            made[depth, limited] = Case(folder / f"{depth}{limited}.pem", depth, limited)
            write_proxy(made[depth, limited].path, (proxy, *chain), new)
        chain, key = (proxy, *chain), new
    return made


@pytest.fixture(params=ALL, ids=str)
def case(request: pytest.FixtureRequest, cases: Cases) -> Case:
    """Each of them."""
    return cases[request.param]


@pytest.fixture(scope="module")
def vomses(grid: ToyGrid, host: Identity, alice: Identity) -> Iterator[Path]:
    """A VO of one member, and where its server is."""
    folder = grid.voms_dir / "demo"
    folder.mkdir(exist_ok=True)
    folder.chmod(0o755)
    (folder / "localhost.lsc").write_text(f"{host.dn}\n{grid.ca_dn}\n")
    (folder / "localhost.lsc").chmod(0o644)
    config = AuthorityConfig(
        vo="demo",
        certificate=host.cert_path,
        key=host.key_path,
        ca_dir=grid.ca_dir,
        host="localhost",
        listen="127.0.0.1:0",
        members={alice.dn: ("/demo", ANALYSIS)},
    )
    with VomsAuthority(config) as authority:
        file = grid.root / "vomses"
        file.write_text(f'"demo" "localhost" "{authority.port}" "{host.dn}" "demo"\n')
        file.chmod(0o644)
        yield file


@pytest.fixture(scope="module")
def old_server(grid: ToyGrid, host: Identity, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealServer]:
    with RealServer(grid, tmp_path_factory.mktemp("myproxy"), host, POLICY) as server:
        yield server


def start(grid: ToyGrid, home: Path, proxy: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """Run a program to its end with a proxy as its user's."""
    if shutil.which(command[0]) is None:
        pytest.fail(f"{command[0]} is not installed: see deploy/packages.txt")
    environ = {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "LC_ALL": "C",
        "X509_CERT_DIR": str(grid.ca_dir),
        "X509_VOMS_DIR": str(grid.voms_dir),
        "X509_USER_PROXY": str(proxy),
    }
    return subprocess.run(
        command,
        env=environ,
        cwd=home,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def run(grid: ToyGrid, home: Path, proxy: Path, *command: str) -> str:
    """Run a program that must end well; return what it said."""
    done = start(grid, home, proxy, *command)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def facts(said: str) -> dict[str, str]:
    """Read the lines `name : value` that the programs print of a proxy."""
    pairs = (line.partition(" : ") for line in said.splitlines() if " : " in line)
    return {name.strip(): value for name, _, value in pairs}


def test_openssl_takes_it_with_all_it_can_check(grid: ToyGrid, case: Case, tmp_path: Path) -> None:
    leaf, rest = tmp_path / "leaf.pem", tmp_path / "rest.pem"
    first, *others = load_identity(case.path).chain
    leaf.write_bytes(first.public_bytes(Encoding.PEM))
    rest.write_bytes(b"".join(one.public_bytes(Encoding.PEM) for one in others))
    command = ["openssl", "verify", "-allow_proxy_certs", "-x509_strict", "-crl_check_all"]
    command += ["-CApath", str(grid.ca_dir), "-untrusted", str(rest), str(leaf)]
    assert run(grid, tmp_path, case.path, *command).endswith("leaf.pem: OK\n")


def test_grid_proxy_info_takes_it_and_names_its_kind(
    grid: ToyGrid, alice: Identity, case: Case, tmp_path: Path
) -> None:
    run(grid, tmp_path, case.path, "grid-proxy-info", "-exists", "-valid", "5:00", "-bits", "2048")
    said = facts(run(grid, tmp_path, case.path, "grid-proxy-info"))
    assert said["identity"] == alice.dn
    assert said["type"] == f"RFC 3820 compliant {'limited' if case.limited else 'impersonation'} proxy"


@pytest.mark.parametrize("program", ["voms-proxy-info2", "voms-proxy-info3"])
def test_voms_proxy_info_takes_it_and_names_its_kind(
    grid: ToyGrid, alice: Identity, case: Case, tmp_path: Path, program: str
) -> None:
    run(grid, tmp_path, case.path, program, "-exists", "-valid", "5:00")
    said = facts(run(grid, tmp_path, case.path, program, "-all"))
    assert said["strength"].startswith("2048")
    if program == "voms-proxy-info3":
        assert said["type"] == f"RFC3820 compliant {'limited' if case.limited else 'impersonation'} proxy"
        assert said["identity"] == alice.dn
    else:
        # The one in C++ knows no limited ones, and names the issuer, which below the first proxy is another proxy.
        assert said["type"] == "RFC compliant proxy"
        assert case.depth > 1 or said["identity"] == alice.dn


def test_the_real_myproxy_takes_a_delegation_from_it_and_gives_one_back(
    grid: ToyGrid, alice: Identity, case: Case, old_server: RealServer, tmp_path: Path
) -> None:
    clients = Clients(grid, tmp_path, old_server.port)
    name, proxy = f"d{case.depth}{case.limited}", str(case.path)
    clients.ok(case.path, "init", "-S", "-l", name, "-c", "2", "-C", proxy, "-y", proxy, typed=[PASS])
    out = tmp_path / "out.pem"
    clients.ok(None, "logon", "-S", "-l", name, "-o", str(out), typed=[PASS])
    who = verify(grid, out)
    assert (who.dn, who.limited, who.depth > case.depth) == (alice.dn, case.limited, True)


VOMS_PROXY_INIT = ["-rfc", "-noregen", "-valid", "2:00", "-vomses", "{vomses}", "-voms", "demo:{fqan}", "-out", "{out}"]
EXTENDERS = {
    "voms-proxy-init2": VOMS_PROXY_INIT,
    "voms-proxy-init3": VOMS_PROXY_INIT,
    "arcproxy": ["-B", "-C", "{proxy}", "-K", "{proxy}", "-V", "{vomses}", "-S", "demo:{fqan}", "-P", "{out}"],
}


def extend(grid: ToyGrid, proxy: Path, vomses: Path, out: Path, program: str) -> subprocess.CompletedProcess[str]:
    """Have a program add attributes to a proxy."""
    words = {"vomses": vomses, "fqan": ANALYSIS, "out": out, "proxy": proxy}
    return start(grid, out.parent, proxy, program, *(word.format(**words) for word in EXTENDERS[program]))


@pytest.mark.parametrize(
    ("program", "limited"),
    [*((program, False) for program in EXTENDERS), ("voms-proxy-init3", True)],
)
@pytest.mark.parametrize("depth", DEPTHS)
def test_attributes_are_added_to_it_by_the_usual_programs(
    grid: ToyGrid, alice: Identity, cases: Cases, vomses: Path, tmp_path: Path, program: str, depth: int, limited: bool
) -> None:
    case = cases[depth, limited]
    out = tmp_path / "out.pem"
    done = extend(grid, case.path, vomses, out, program)
    assert done.returncode == 0, done.stdout + done.stderr
    who = verify(grid, out)
    assert (who.dn, who.vo, who.fqans) == (alice.dn, "demo", (ANALYSIS, "/demo"))
    assert (who.depth, who.limited) == (case.depth + 1, case.limited)


@pytest.mark.parametrize("depth", DEPTHS)
def test_programs_that_know_no_limited_proxies_make_nothing_of_ours_or_of_globus_that_is_taken(
    grid: ToyGrid, alice: Identity, cases: Cases, vomses: Path, tmp_path: Path, depth: int
) -> None:
    """Both sign a full proxy below the limited one; the one of VOMS sees it afterwards, ARC's does not."""
    for proxy in (cases[depth, True].path, grid.plain_proxy(alice, tmp_path / "globus.pem", limited=True)):
        seen = extend(grid, proxy, vomses, tmp_path / "voms.pem", "voms-proxy-init2")
        assert (seen.returncode, "certificate validation error" in seen.stdout + seen.stderr) == (1, True)
        assert extend(grid, proxy, vomses, tmp_path / "arc.pem", "arcproxy").returncode == 0
        with pytest.raises(PilotageError, match="PROXY_FULL_UNDER_LIMITED"):
            verify(grid, tmp_path / "arc.pem")


def verify(grid: ToyGrid, proxy: Path) -> pilotage_helper.Identity:
    """Return what our own verifier says of a file, its key and its attributes included."""
    options = pilotage_helper.VerifyOptions(
        ca_dir=grid.ca_dir, voms_dir=grid.voms_dir, require_proxy=True, require_key=True
    )
    return pilotage_helper.verify_pem(proxy.read_bytes(), options)
