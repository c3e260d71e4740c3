"""Each rule for proxies and their attributes, by the installed helper, with its own reason (checklist C11, C12)."""

import concurrent.futures
import contextlib
import datetime
import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from support import acs
from support import vectors as v
from support.helper_rig import POOL, HelperRig, Outcome

pytestmark = pytest.mark.root
MD5_RSA = v.sequence(v.oid("1.2.840.113549.1.1.4"), b"\x05\x00")
PAST = {"start": v.NOW - 3 * v.HOUR, "end": v.NOW - v.HOUR}
FUTURE = {"start": v.NOW + v.DAY, "end": v.NOW + 2 * v.DAY}


@dataclass(frozen=True)
class Site:
    """A rig whose authorities are those of the vectors; alice is a member of its VO."""

    rig: HelperRig
    grid: v.Authority
    alice: v.Entity
    server: acs.Server
    folder: Path

    @property
    def good(self) -> acs.Ac:
        return acs.Ac(self.server, self.alice.certificate)

    def run(self, name: str, pem: bytes) -> Outcome:
        path = self.rig.prefix / "proxies" / f"rules-{name.replace(' ', '-').replace('/', '-')}"
        path.write_bytes(pem)
        return self.rig.run("/usr/bin/id", proxy=self.rig.give(path))


@contextlib.contextmanager
def trusting(rig: HelperRig) -> Iterator[Site]:
    folder = rig.prefix / "vectors"
    folder.mkdir()
    grid = v.grid_of(folder)
    site = Site(rig, grid, grid.user(), acs.server(grid, folder), folder)

    def change(text: str) -> str:
        old = f"{rig.prefix}/grid"
        return text.replace(f"{old}/certificates", str(grid.ca_dir)).replace(f"{old}/vomsdir", f"{folder}/vomsdir")

    try:
        with rig.configured(change=change):
            yield site
    finally:
        shutil.rmtree(folder)


@pytest.fixture(scope="module")
def site(rig: HelperRig) -> Iterator[Site]:
    with trusting(rig) as made:
        yield made
    rig.release_all()


def voms(site: Site, ac: acs.Ac | bytes, user: v.Entity | None = None) -> bytes:
    return acs.proxy(user or site.alice, acs.value(ac)).pem


def signed_with_md5(certificate: x509.Certificate, issuer: v.Key) -> bytes:
    tbs = certificate.tbs_certificate_bytes.replace(v.SHA256_RSA, MD5_RSA)
    return v.resign(tbs, issuer, hashes.MD5(), MD5_RSA)


def with_leaf(site: Site, leaf: bytes, proxy: v.Entity) -> bytes:
    """The proxy's file with another leaf."""
    return v.block("CERTIFICATE", leaf) + v.key_pem(proxy.key) + b"".join(map(v.pem, proxy.above))


def leaf_changed(change: Callable[[x509.Certificate, v.Key], bytes]) -> Callable[[Site], bytes]:
    def make(site: Site) -> bytes:
        proxy = v.proxy(site.alice)
        return with_leaf(site, change(proxy.certificate, site.alice.key), proxy)

    return make


def rsa_512(site: Site) -> bytes:
    """A number of 512 bits that nobody has to have factored: the leaf's key alone, signed by alice."""
    numbers = rsa.RSAPublicNumbers(65537, (1 << 511) + 187)
    proxy = v.proxy(site.alice)
    short = numbers.public_key()
    old = site_key_der(proxy.key)
    new = short.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    tbs = rebuilt(proxy.certificate.tbs_certificate_bytes, old, new)
    return with_leaf(site, v.resign(tbs, site.alice.key, hashes.SHA256(), v.SHA256_RSA), proxy)


def site_key_der(key: v.Key) -> bytes:
    return key.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def rebuilt(tbs: bytes, old: bytes, new: bytes) -> bytes:
    """Replace a part by one of another length: the outermost header is written anew."""
    assert tbs[:2] == b"\x30\x82"
    return v.sequence(tbs[4:].replace(old, new))


def wrong_chain(site: Site) -> bytes:
    """Alice's proxy with bob's certificate in alice's place."""
    proxy, bob = v.proxy(site.alice), site.grid.user("bob", key=v.key("rsa", 4))
    return v.pem(proxy.certificate) + v.key_pem(proxy.key) + v.pem(bob.certificate)


def legacy(site: Site) -> bytes:
    subject = v.below(site.alice.certificate.subject, "proxy")
    return v.proxy(site.alice, subject=subject, extensions=((v.PROXY_USAGE, True),)).pem


def path_length(site: Site) -> bytes:
    return v.proxy(v.proxy(site.alice, extensions=v.proxy_extensions(v.proxy_info(path=0)))).pem


def full_under_limited(site: Site) -> bytes:
    return v.proxy(v.proxy(site.alice, extensions=v.proxy_extensions(v.proxy_info(v.LIMITED)))).pem


def stranger(site: Site) -> bytes:
    return v.proxy(v.root(site.folder, grid="Other Grid", key=v.key("rsa", 5)).user()).pem


def unknown_issuer(site: Site) -> bytes:
    other = v.root(site.folder, grid="Other Grid", key=v.key("rsa", 5))
    server = acs.Server(
        other.user("voms.example.org", key=v.key("rsa", 8), extensions=acs.HOST_EXTENSIONS),
        other.entity.certificate.subject,
        site.server.voms_dir,
        host="voms2.example.org",
    )
    server.install()
    return voms(site, acs.Ac(server, site.alice.certificate))


def key_mismatch(site: Site) -> bytes:
    proxy = v.proxy(site.alice)
    return v.chain_pem(proxy.chain) + v.key_pem(v.key("rsa", 99))


RULES: dict[str, tuple[str, Callable[[Site], bytes]]] = {
    "expired": ("PROXY_EXPIRED", lambda s: v.proxy(s.alice, **PAST).pem),
    "not yet valid": ("CERTIFICATE_NOT_YET_VALID", lambda s: v.proxy(s.alice, **FUTURE).pem),
    "expired owner": ("CERTIFICATE_EXPIRED", lambda s: v.proxy(s.grid.user("old", **PAST)).pem),
    "wrong subject": ("PROXY_NAME", lambda s: v.proxy(s.alice, subject=v.name("mallory", "1")).pem),
    "wrong chain": ("PROXY_EXTRA_CERTIFICATE", wrong_chain),
    "CA as end entity": ("CA_AS_END_ENTITY", lambda s: v.proxy(s.grid.entity).pem),
    "path length": ("PROXY_PATH_LENGTH", path_length),
    "key mismatch": ("KEY_MISMATCH", key_mismatch),
    "no key": ("KEY_MISSING", lambda s: v.chain_pem(v.proxy(s.alice).chain)),
    "SHA-1": ("SIGNATURE_WEAK", leaf_changed(v.signed_with_sha1)),
    "MD5": ("SIGNATURE_WEAK", leaf_changed(signed_with_md5)),
    "RSA-512": ("KEY_TOO_WEAK", rsa_512),
    "legacy GT2": ("PROXY_LEGACY", legacy),
    "independent": (
        "PROXY_POLICY_UNSUPPORTED",
        lambda s: v.proxy(s.alice, extensions=v.proxy_extensions(v.proxy_info(v.INDEPENDENT))).pem,
    ),
    "full under limited": ("PROXY_FULL_UNDER_LIMITED", full_under_limited),
    "unknown authority": ("CHAIN_UNKNOWN_CA", stranger),
    "bare certificate": ("NOT_A_PROXY", lambda s: s.alice.pem),
    "AC of another holder": ("VOMS_HOLDER", lambda s: voms(s, acs.Ac(s.server, s.grid.user("bob").certificate))),
    "AC expired": ("VOMS_EXPIRED", lambda s: voms(s, s.good.with_(start=v.NOW - v.DAY, end=v.NOW - v.HOUR))),
    "AC not yet valid": (
        "VOMS_NOT_YET_VALID",
        lambda s: voms(s, s.good.with_(start=v.NOW + v.DAY, end=v.NOW + 2 * v.DAY)),
    ),
    "AC of an unknown issuer": ("VOMS_AA_CHAIN", unknown_issuer),
    "AC signed by another": ("VOMS_SIGNATURE", lambda s: voms(s, s.good.with_(signer=v.key("rsa", 99)))),
    "AC malformed": ("VOMS_MALFORMED", lambda s: acs.proxy(s.alice, b"\x30\x03abc").pem),
    "AC of the owner's own": ("VOMS_LSC_MISMATCH", lambda s: voms(s, own_attributes(s))),
    "no AC": ("CALLER_VO_BOUNDS", lambda s: v.proxy(s.alice).pem),
    "half a file": ("PROXY_MALFORMED", lambda s: v.proxy(s.alice).pem[:-20]),
    "revoked": ("CERTIFICATE_REVOKED", lambda s: v.proxy(s.grid.user("revoked", serial=4711)).pem),
}


def own_attributes(site: Site) -> acs.Ac:
    return acs.Ac(acs.Server(site.alice, site.server.issuer, site.server.voms_dir), site.alice.certificate)


def test_every_rule_refuses_with_its_own_reason(site: Site) -> None:
    site.grid.revoked.append(4711)
    site.grid.write_crl()
    assert site.run("good", voms(site, site.good)).code == 0
    before = len(site.rig.audit())
    files = {name: make(site) for name, (_, make) in RULES.items()}
    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        done = dict(zip(files, pool.map(lambda name: site.run(name, files[name]), files), strict=True))
    assert {name: outcome.reason for name, outcome in done.items()} == {name: RULES[name][0] for name in RULES}
    assert {(outcome.code, outcome.out) for outcome in done.values()} == {(203, "")}
    lines = site.rig.since(before)
    assert sorted(str(line["reason"]) for line in lines) == sorted(reason for reason, _ in RULES.values())
    assert {line["event"] for line in lines} == {"REFUSED"}


def test_a_namespaces_file_binds_an_authority_as_its_signing_policy_does(site: Site) -> None:
    pem = voms(site, site.good)
    try:
        site.grid.write_namespaces(f'"{site.grid.slash}" \\\n  PERMIT Subject "/O=Test Grid/.*"')
        assert site.run("namespaces permit", pem).code == 0
        site.grid.write_namespaces('SELF PERMIT Subject ".*"', 'SELF DENY Subject "/O=Test Grid/CN=alice"')
        denied = site.run("namespaces deny", pem)
        site.grid.write_namespaces('SELF PERMIT Subject "/O=*"')
        malformed = site.run("namespaces malformed", pem)
    finally:
        site.grid.file(".namespaces").unlink()
    assert (denied.code, denied.reason, denied.out) == (203, "NAMESPACES_VIOLATION", "")
    assert (malformed.code, malformed.reason, malformed.out) == (203, "NAMESPACES_MALFORMED", "")


def test_a_limited_proxy_is_refused_where_the_site_says_so(site: Site) -> None:
    rig = site.rig
    info = x509.UnrecognizedExtension(acs.EXTENSION, acs.value(site.good))
    shape = v.proxy_extensions(v.proxy_info(v.LIMITED), more=((info, False),))
    pem = v.proxy(site.alice, extensions=shape).pem
    assert site.run("limited", pem).code == 0
    with rig.configured(change=lambda text: strict(rig, site, text)):
        done = site.run("limited", pem)
    assert (done.code, done.reason) == (203, "PROXY_LIMITED")


def strict(rig: HelperRig, site: Site, text: str) -> str:
    old = f"{rig.prefix}/grid"
    text = text.replace(f"{old}/certificates", str(site.grid.ca_dir)).replace(
        f"{old}/vomsdir", f"{site.folder}/vomsdir"
    )
    return text.replace("[helper]\n", "[helper]\nlimited_proxies = refuse\n")


NAMES = {
    "line feed": "alice\n{event}",
    "NUL": "al\0ice",
    "escape": "alice\x1b[31m",
    "slash and type": "alice/CN=root",
    "quote": 'alice","event":"END',
    "backslash": "alice\\x41",
    "UTF-8": "\u0410\u043b\u0438\u0441\u0430 \u2028 \u202e",
    "delete": "alice\x7f",
    "long": "a" * 64,
}


def test_no_name_of_an_owner_breaks_a_line_of_the_log_or_finds_anothers_mapping(site: Site) -> None:
    """Alice alone is mapped, to an account of her own; whoever pretends by a spelling gets nothing of it."""
    rig = site.rig
    entry = f'"/O=Test Grid/CN=alice" {rig.pools[-1]}\n"/O=Test Grid/CN=alice/CN=root" {rig.pools[-1]}\n'
    users = {name: site.grid.user(cn) for name, cn in NAMES.items()}
    # One organisation whose name holds the rest of alice's.
    nested = x509.Name([x509.NameAttribute(x509.NameOID.ORGANIZATION_NAME, "Test Grid/CN=alice")])
    users["nested"] = site.grid.user(subject=nested)
    before = len(rig.audit())
    with rig.mapped(entry + f'"/demo" .{POOL}\n'):
        done = {name: site.run(f"name {name}", named(site, user)) for name, user in users.items()}
    for name, outcome in done.items():
        if outcome.code != 0:
            assert (outcome.code, outcome.reason) == (203, "NAME_UNSUPPORTED"), name
        else:
            assert outcome.line("start")["account"] != rig.pools[-1], name
    assert {name for name, outcome in done.items() if outcome.code == 203} >= {
        "line feed",
        "NUL",
        "escape",
        "slash and type",
        "nested",
    }
    raw = rig.log.read_bytes().splitlines()[before:]
    assert all(json.loads(line) for line in raw)
    assert all(32 <= byte < 127 for line in raw for byte in line)
    assert len(raw) == sum(2 if outcome.code == 0 else 1 for outcome in done.values())
    with rig.mapped(entry):
        assert site.run("alice", voms(site, site.good)).line("start")["account"] == rig.pools[-1]
    rig.release_all()


def named(site: Site, user: v.Entity) -> bytes:
    return voms(site, acs.Ac(site.server, user.certificate), user)


FQANS = [
    b"/demo\n/Role=x",
    b"/demo\0/Role=analysis",
    b"/demo/Role=analysis\x1b[0m",
    b"/demo/../other",
    b"/other/Role=analysis",
    "/demo/Röle=x".encode(),
    b"/demo/Role=analysis/Role=production",
    b"/demo/CN=root",
    b"demo",
    b"",
]


def test_no_fqan_breaks_a_line_of_the_log_or_leads_out_of_its_vo(site: Site) -> None:
    before = len(site.rig.audit())
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        files = [voms(site, site.good.with_(fqans=(fqan,))) for fqan in FQANS]
        done = list(pool.map(lambda n: site.run(f"fqan {n}", files[n]), range(len(FQANS))))
    for fqan, outcome in zip(FQANS, done, strict=True):
        if outcome.code == 0:
            assert str(outcome.line("start")["fqan"]).startswith("/demo/"), fqan
            assert fqan == b"/demo/CN=root", fqan
        else:
            assert outcome.code == 203, fqan
            assert outcome.reason.startswith("VOMS_"), (fqan, outcome.reason)
    raw = site.rig.log.read_bytes().splitlines()[before:]
    assert all(json.loads(line) and all(32 <= byte < 127 for byte in line) for line in raw)


def test_a_proxy_that_ends_while_the_clock_is_read_twice_is_judged_once(site: Site) -> None:
    """The verifier's and the monitor's clock are one request's: an end within the skew is refused by both or none."""
    now, skew = datetime.datetime.now(datetime.UTC), datetime.timedelta(seconds=300)
    assert site.run("in skew", voms_until(site, now - skew + datetime.timedelta(seconds=200))).code == 0
    assert (
        site.run("out of skew", voms_until(site, now - skew - datetime.timedelta(seconds=60))).reason == "PROXY_EXPIRED"
    )


def voms_until(site: Site, end: datetime.datetime) -> bytes:
    info = x509.UnrecognizedExtension(acs.EXTENSION, acs.value(site.good))
    return v.proxy(
        site.alice, start=v.NOW - v.DAY / 4, end=end, extensions=v.proxy_extensions(more=((info, False),))
    ).pem
