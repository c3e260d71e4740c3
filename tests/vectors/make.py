"""Make the project's own set of vectors: proxies and attribute certificates, good and bad, each with the wanted answer.

    PYTHONPATH=tests python tests/vectors/make.py FOLDER

FOLDER then holds `NAME.pem` for each vector, `trust/NAME/{certificates,vomsdir}` for what is trusted, and `index.json`:
a list of `name`, `file`, `trust`, `time` (ISO 8601), `reason` (empty: accepted, else the code of docs/reasons.md) and
`why` in words. A file that holds a private key is judged with it. Keys and serial numbers are new each time, and all
are worthless: nothing outside FOLDER trusts them. Another verifier can be held against the same set.
"""

import datetime
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import hashes

from pilotage.reasons import Reason
from support import acs
from support import vectors as v

Pem = bytes
GONE = {"start": v.NOW - 3 * v.HOUR, "end": v.NOW - v.HOUR}
LATER = {"start": v.NOW + v.HOUR, "end": v.NOW + 2 * v.HOUR}
UNKNOWN = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\x00")
NAMES = [x509.DNSName("example.org")]


class Vector(msgspec.Struct, frozen=True):
    """One row of the index."""

    name: str
    file: str
    trust: str
    time: datetime.datetime
    reason: str
    why: str


class Grid:
    """What the vectors are made of: one authority, one user, one VOMS server, and the folder they go to."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        base = folder / "trust" / "plain"
        self.authority = v.grid_of(base)
        self.alice = self.authority.user()
        self.voms = acs.server(self.authority, base)
        self.ac = acs.Ac(self.voms, self.alice.certificate)
        self.rows: list[Vector] = []

    def trust(self, name: str, change: Callable[[v.Authority, acs.Server], object]) -> str:
        """Make another trust folder: a copy of the plain one with one change."""
        target = self.folder / "trust" / name
        shutil.copytree(self.folder / "trust" / "plain", target)
        authority = v.Authority(target / "certificates", self.authority.entity)
        change(authority, acs.Server(self.voms.entity, self.voms.issuer, target / "vomsdir"))
        return name

    def add(self, name: str, reason: Reason | None, why: str, pem: Pem, *, trust: str = "plain") -> None:
        """Write one vector."""
        file = f"{name}.pem"
        (self.folder / file).write_bytes(pem)
        self.rows.append(Vector(name, file, trust, v.NOW, reason.name if reason else "", why))


def proxy(issuer: v.Entity, value: bytes | None = None, **changes: object) -> v.Entity:
    """Sign a proxy with a proxyCertInfo of its own."""
    return v.proxy(issuer, **({"extensions": v.proxy_extensions(value)} if value is not None else {}), **changes)


def good_chains(grid: Grid) -> None:
    """Add what every verifier must take."""
    entity = grid.alice
    for depth in range(5):
        grid.add(f"good-depth-{depth}", None, f"an end entity and {depth} full proxies below it", entity.pem)
        entity = v.proxy(entity)
    for kind in ("rsa3072", "ec", "ec384", "ec521"):
        made = v.proxy(grid.authority.user(key=v.key(kind, 3)), key=v.key(kind, 7))
        grid.add(f"good-key-{kind}", None, f"end entity and proxy with keys of kind {kind}", made.pem)
    limited = proxy(grid.alice, v.proxy_info(v.LIMITED))
    grid.add("good-limited", None, "a limited proxy", limited.pem)
    grid.add("good-limited-twice", None, "a limited proxy below one", proxy(limited, v.proxy_info(v.LIMITED)).pem)
    grid.add(
        "good-path-length-0", None, "a path length of 0 and nothing below", proxy(grid.alice, v.proxy_info(path=0)).pem
    )
    above = proxy(grid.alice, v.proxy_info(path=1))
    grid.add("good-path-length-1", None, "a path length of 1 and one proxy below", v.proxy(above).pem)
    host = grid.authority.user("host/node.example.org")
    grid.add("good-name-with-slash", None, "a host's name, whose slash cannot be mistaken", v.proxy(host).pem)
    foreign = grid.authority.user("José")
    grid.add("good-name-utf8", None, "a name beyond ASCII", v.proxy(foreign).pem)
    called = v.proxy(grid.alice, subject=v.below(grid.alice.certificate.subject, "proxy"))
    grid.add("good-rfc-called-proxy", None, "an RFC 3820 proxy whose common name is `proxy`", called.pem)
    grid.add(
        "good-key-first", None, "the private key before the chain", v.key_pem(called.key) + v.chain_pem(called.chain)
    )


def bad_trust(grid: Grid, folder: Path) -> None:
    """Add chains that do not lead to an authority that is trusted and current."""
    leaf = v.proxy(grid.alice)
    stranger = v.root(folder, grid="Other Grid").user()
    grid.add("unknown-authority", Reason.CHAIN_UNKNOWN_CA, "an authority that nobody installed", v.proxy(stranger).pem)
    headless = v.chain_pem(v.proxy(leaf).chain[:-1])
    grid.add("no-end-entity", Reason.CHAIN_UNKNOWN_CA, "proxies without their end entity", headless)
    forger = v.root(folder, key=v.key("rsa", 99)).user(key_ids=False)
    grid.add("forged-authority", Reason.CHAIN_SIGNATURE, "an authority's name with another key", v.proxy(forger).pem)
    thief = v.Entity(grid.alice.certificate, v.key("rsa", 99))
    forged = v.proxy(thief, key_ids=False)
    grid.add("forged-proxy", Reason.CHAIN_SIGNATURE, "a proxy that the user's key did not sign", forged.pem)
    subordinate = grid.authority.sub("Sub CA", folder)
    grid.add("authority-as-user", Reason.CA_AS_END_ENTITY, "an authority's own proxy", v.proxy(subordinate.entity).pem)
    shape = v.Shape(v.name("bob"), v.key("rsa", 4), extensions=v.USER_EXTENSIONS)
    bob = v.Entity(v.issue(shape, grid.alice), shape.key, grid.alice.chain)
    grid.add("user-as-authority", Reason.CA_INVALID, "a user's certificate signed by a user", v.proxy(bob).pem)
    for name, reason, why, made in (
        ("expired-proxy", Reason.PROXY_EXPIRED, "the proxy is over", v.proxy(grid.alice, **GONE)),
        ("expired-user", Reason.CERTIFICATE_EXPIRED, "the user is over", v.proxy(grid.authority.user(**GONE))),
        ("early-proxy", Reason.CERTIFICATE_NOT_YET_VALID, "the proxy begins later", v.proxy(grid.alice, **LATER)),
        (
            "early-user",
            Reason.CERTIFICATE_NOT_YET_VALID,
            "the user begins later",
            v.proxy(grid.authority.user(**LATER)),
        ),
    ):
        grid.add(name, reason, why, made.pem)

    def stale(authority: v.Authority, _: acs.Server) -> None:
        authority.write_crl(days=-1)

    def missing(authority: v.Authority, _: acs.Server) -> None:
        authority.file(".r0").unlink()

    def revoked(authority: v.Authority, _: acs.Server) -> None:
        authority.revoked.append(grid.alice.certificate.serial_number)
        authority.write_crl()

    def forged_list(authority: v.Authority, _: acs.Server) -> None:
        authority.write_crl(signer=v.key("rsa", 99))

    def narrow(authority: v.Authority, _: acs.Server) -> None:
        authority.write_policy("'\"/O=Test Grid/CN=b*\"'")

    def lawless(authority: v.Authority, _: acs.Server) -> None:
        authority.file(".signing_policy").unlink()

    def elsewhere(authority: v.Authority, _: acs.Server) -> None:
        authority.write_namespaces('SELF PERMIT Subject "/O=Test Grid/CN=b.*"')

    def glob(authority: v.Authority, _: acs.Server) -> None:
        authority.write_namespaces('SELF PERMIT Subject "/O=Test Grid/*"')

    def lawful(authority: v.Authority, _: acs.Server) -> None:
        authority.write_namespaces('SELF PERMIT Subject "/O=Test Grid/.*"')

    changes: tuple[tuple[str, Reason | None, str, Callable[[v.Authority, acs.Server], None]], ...] = (
        ("crl-stale", Reason.CRL_EXPIRED, "the revocation list is over", stale),
        ("crl-missing", Reason.CRL_MISSING, "there is no revocation list and one is wanted", missing),
        ("crl-revoked", Reason.CERTIFICATE_REVOKED, "the user is revoked", revoked),
        ("crl-forged", Reason.CRL_INVALID, "the revocation list is signed by another key", forged_list),
        ("policy-violated", Reason.SIGNING_POLICY_VIOLATION, "the authority may not sign this name", narrow),
        ("policy-missing", Reason.SIGNING_POLICY_MISSING, "the authority has no signing policy", lawless),
        ("namespaces-violated", Reason.NAMESPACES_VIOLATION, "its namespaces do not have this name", elsewhere),
        ("namespaces-malformed", Reason.NAMESPACES_MALFORMED, "its namespaces hold a pattern of another kind", glob),
        ("good-namespaces", None, "its namespaces permit this name", lawful),
    )
    for name, wanted, why, change in changes:
        grid.add(name, wanted, why, leaf.pem, trust=grid.trust(name, change))


def bad_proxies(grid: Grid) -> None:
    """Add proxies that break RFC 3820, and those of older kinds."""
    alice, own = grid.alice, grid.alice.certificate.subject
    limited = proxy(alice, v.proxy_info(v.LIMITED))
    info = v.proxy_extensions()[0]
    none = proxy(alice, v.proxy_info(path=0))
    draft = x509.UnrecognizedExtension(v.GT3_DRAFT, v.proxy_info())
    ca = x509.BasicConstraints(ca=True, path_length=None)

    def with_more(extension: x509.ExtensionType, *, critical: bool = False) -> v.Entity:
        return v.proxy(alice, extensions=v.proxy_extensions(more=((extension, critical),)))

    def old(cn: str) -> v.Entity:
        return v.proxy(alice, subject=v.below(own, cn), extensions=((v.PROXY_USAGE, True),))

    rows: tuple[tuple[str, Reason, str, v.Entity], ...] = (
        (
            "info-not-critical",
            Reason.PROXY_NOT_CRITICAL,
            "proxyCertInfo is not critical",
            v.proxy(alice, extensions=v.proxy_extensions(critical=False)),
        ),
        ("info-empty", Reason.PROXY_INFO_MALFORMED, "proxyCertInfo is empty", proxy(alice, b"")),
        ("info-null", Reason.PROXY_INFO_MALFORMED, "proxyCertInfo is NULL", proxy(alice, b"\x05\x00")),
        ("info-tail", Reason.PROXY_INFO_MALFORMED, "bytes behind proxyCertInfo", proxy(alice, v.proxy_info() + b"\0")),
        ("info-negative", Reason.PROXY_INFO_MALFORMED, "a path length of -1", proxy(alice, v.proxy_info(path=-1))),
        (
            "info-policy-text",
            Reason.PROXY_INFO_MALFORMED,
            "a policy where the language has none",
            proxy(alice, v.proxy_info(policy=b"text")),
        ),
        (
            "independent",
            Reason.PROXY_POLICY_UNSUPPORTED,
            "an independent proxy does not speak for its owner",
            proxy(alice, v.proxy_info(v.INDEPENDENT)),
        ),
        (
            "language-unknown",
            Reason.PROXY_POLICY_UNSUPPORTED,
            "a policy language that nobody knows",
            proxy(alice, v.proxy_info("1.2.3.4")),
        ),
        ("path-length-0", Reason.PROXY_PATH_LENGTH, "a proxy below one that allows none", v.proxy(none)),
        (
            "path-length-1",
            Reason.PROXY_PATH_LENGTH,
            "two proxies below one that allows one",
            v.proxy(v.proxy(proxy(alice, v.proxy_info(path=1)))),
        ),
        ("full-below-limited", Reason.PROXY_FULL_UNDER_LIMITED, "a full proxy below a limited one", v.proxy(limited)),
        ("name-two-more", Reason.PROXY_NAME, "two more names", v.proxy(alice, subject=v.below(own, "1", "2"))),
        ("name-none-more", Reason.PROXY_NAME, "the issuer's own name", v.proxy(alice, subject=own)),
        ("name-another", Reason.PROXY_NAME, "a name below another", v.proxy(alice, subject=v.name("mallory", "1"))),
        (
            "usage-no-signing",
            Reason.PROXY_KEY_USAGE,
            "a proxy that may not sign",
            v.proxy(alice, extensions=(info, (v.usage("key_encipherment"), True))),
        ),
        (
            "usage-certificates",
            Reason.PROXY_KEY_USAGE,
            "a proxy that may sign certificates",
            v.proxy(alice, extensions=(info, (v.usage("digital_signature", "key_cert_sign"), True))),
        ),
        (
            "alternative-name",
            Reason.PROXY_FORBIDDEN_EXTENSION,
            "a proxy with another name",
            with_more(x509.SubjectAlternativeName(NAMES)),
        ),
        ("authority-rights", Reason.PROXY_FORBIDDEN_EXTENSION, "a proxy with an authority's rights", with_more(ca)),
        (
            "critical-unknown",
            Reason.CRITICAL_EXTENSION,
            "a critical extension that nobody knows",
            with_more(UNKNOWN, critical=True),
        ),
        ("legacy-full", Reason.PROXY_LEGACY, "a proxy from before the RFC", old("proxy")),
        ("legacy-limited", Reason.PROXY_LEGACY, "a limited proxy from before the RFC", old("limited proxy")),
        ("below-legacy", Reason.PROXY_LEGACY, "an RFC proxy below an older one", v.proxy(old("proxy"))),
        (
            "draft",
            Reason.PROXY_LEGACY,
            "a proxy of the draft",
            v.proxy(alice, extensions=((draft, False), (v.PROXY_USAGE, True))),
        ),
        (
            "weak-rsa",
            Reason.KEY_TOO_WEAK,
            "a proxy with an RSA key of 1024 bits",
            v.proxy(alice, key=v.key("rsa1024", 7)),
        ),
        (
            "control-character",
            Reason.NAME_UNSUPPORTED,
            "a line break in a name",
            v.proxy(grid.authority.user("alice\n")),
        ),
        ("nul", Reason.NAME_UNSUPPORTED, "a NUL in a name", v.proxy(grid.authority.user("al\0ice"))),
        ("second-name", Reason.NAME_UNSUPPORTED, "a name inside a value", v.proxy(grid.authority.user("a/CN=root"))),
    )
    for name, reason, why, made in rows:
        grid.add(name, reason, why, made.pem)
    sha1 = v.signed_with_sha1(v.proxy(alice).certificate, alice.key)
    grid.add(
        "sha1",
        Reason.SIGNATURE_WEAK,
        "a proxy signed with SHA-1",
        v.block("CERTIFICATE", sha1) + v.chain_pem(alice.chain),
    )
    other = v.proxy(alice, key=v.key("rsa", 5))
    mixed = v.pem(v.proxy(alice).certificate) + v.key_pem(other.key) + v.chain_pem(alice.chain)
    grid.add("key-of-another", Reason.KEY_MISMATCH, "the private key is another proxy's", mixed)
    grid.add(
        "extra-certificate",
        Reason.PROXY_EXTRA_CERTIFICATE,
        "a certificate beside the chain",
        other.pem + v.pem(grid.voms.entity.certificate),
    )
    grid.add("empty", Reason.PROXY_EMPTY, "no certificate at all", b"\n")


def attributes(grid: Grid) -> None:
    """Add attribute certificates, each in a proxy of the user's."""
    ac, alice, voms = grid.ac, grid.alice, grid.voms
    bob = grid.authority.user("bob")
    null = acs.extension(acs.NO_REVOCATION, b"\x05\x00")
    good: tuple[tuple[str, str, acs.Ac], ...] = (
        ("ac-good", "a role and its group", ac),
        ("ac-good-sha512", "signed with SHA-512", ac.with_(algorithm=acs.SHA512_RSA, digest=hashes.SHA512())),
        (
            "ac-good-old-form",
            "FQANs with Role=NULL and Capability",
            ac.with_(fqans=("/demo/Role=NULL/Capability=NULL",)),
        ),
        (
            "ac-good-unknown-extension",
            "an unknown extension that is not critical",
            ac.with_(more=acs.extension("1.2.3.4", b"\x05\x00")),
        ),
    )
    for name, why, made in good:
        grid.add(name, None, why, acs.proxy(alice, acs.value(made)).pem)
    bad: tuple[tuple[str, Reason, str, acs.Ac | bytes], ...] = (
        ("ac-version", Reason.VOMS_VERSION, "version 1", ac.with_(version=0)),
        ("ac-sha1", Reason.VOMS_ALGORITHM, "signed with SHA-1", ac.with_(algorithm=v.SHA1_RSA)),
        ("ac-two-algorithms", Reason.VOMS_ALGORITHM, "two algorithms", ac.with_(outer_algorithm=acs.SHA512_RSA)),
        ("ac-holder", Reason.VOMS_HOLDER, "for another holder", ac.with_(holder=bob.certificate)),
        ("ac-holder-serial", Reason.VOMS_HOLDER, "for another serial number", ac.with_(holder_serial=1)),
        (
            "ac-issuer",
            Reason.VOMS_ISSUER,
            "issuer is not the one carried",
            ac.with_(issuer_name=acs.directory_name(bob.certificate.subject)),
        ),
        ("ac-expired", Reason.VOMS_EXPIRED, "over", ac.with_(end=v.NOW - v.HOUR / 2)),
        ("ac-early", Reason.VOMS_NOT_YET_VALID, "begins later", ac.with_(start=v.NOW + v.HOUR)),
        ("ac-long", Reason.VOMS_LIFETIME, "lives for nine days", ac.with_(end=v.NOW + 9 * v.DAY)),
        ("ac-backwards", Reason.VOMS_LIFETIME, "ends before it begins", ac.with_(end=ac.start - v.HOUR)),
        ("ac-forged", Reason.VOMS_SIGNATURE, "signed by another key", ac.with_(signer=v.key("rsa", 99))),
        ("ac-no-attributes", Reason.VOMS_ATTRIBUTES, "no FQAN", ac.with_(fqans=())),
        (
            "ac-uri",
            Reason.VOMS_URI,
            "a VO that climbs out of the directory",
            ac.with_(authority=acs.uri("../etc://voms.example.org:15000")),
        ),
        ("ac-fqan-foreign", Reason.VOMS_FQAN, "an FQAN of another VO", ac.with_(fqans=("/demo", "/demo2"))),
        ("ac-fqan-line", Reason.VOMS_FQAN, "a line break in an FQAN", ac.with_(fqans=("/demo/x\n/demo/Role=admin",))),
        (
            "ac-critical",
            Reason.VOMS_EXTENSION,
            "an unknown critical extension",
            ac.with_(more=acs.extension("1.2.3.4", b"\x05\x00", critical=True)),
        ),
        ("ac-extension-twice", Reason.VOMS_EXTENSION, "an extension that stands twice", ac.with_(more=null)),
        (
            "ac-target",
            Reason.VOMS_TARGET,
            "for another host",
            ac.with_(more=acs.extension(acs.TARGETS, acs.targets("wn.example.org"), critical=True)),
        ),
        (
            "ac-authority-key",
            Reason.VOMS_AUTHORITY_KEY,
            "without the server's key identifier",
            ac.with_(authority_key=b""),
        ),
        ("ac-tail", Reason.VOMS_MALFORMED, "bytes behind it", ac.der + b"\x05\x00"),
    )
    for name, reason, why, one in bad:
        grid.add(name, reason, why, acs.proxy(alice, acs.value(one)).pem)
    grid.add("ac-junk", Reason.VOMS_MALFORMED, "no attribute certificate at all", acs.proxy(alice, b"junk").pem)

    def without(_: v.Authority, server: acs.Server) -> None:
        server.lsc.unlink()

    def another(_: v.Authority, server: acs.Server) -> None:
        server.install(f"/O=x/CN=other\n{v.slash(voms.issuer)}\n")

    carried = acs.proxy(alice, acs.value(ac)).pem
    grid.add(
        "lsc-missing",
        Reason.VOMS_LSC_MISSING,
        "the VO has no file of this server",
        carried,
        trust=grid.trust("lsc-missing", without),
    )
    grid.add(
        "lsc-mismatch",
        Reason.VOMS_LSC_MISMATCH,
        "the file names another server",
        carried,
        trust=grid.trust("lsc-mismatch", another),
    )


def make(folder: Path) -> list[Vector]:
    """Write the whole set into an empty folder and return its index."""
    grid = Grid(folder)
    elsewhere = folder / "elsewhere"
    elsewhere.mkdir()
    good_chains(grid)
    bad_trust(grid, elsewhere)
    bad_proxies(grid)
    attributes(grid)
    elsewhere.rmdir()
    index = msgspec.json.format(msgspec.json.encode(grid.rows), indent=1)
    (folder / "index.json").write_bytes(index + b"\n")
    return grid.rows


def read(folder: Path) -> Iterator[Vector]:
    """Read a set's index."""
    yield from msgspec.json.decode((folder / "index.json").read_bytes(), type=list[Vector])


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    place = Path(sys.argv[1])
    place.mkdir(parents=True)
    print(f"{len(make(place))} vectors in {place}")
