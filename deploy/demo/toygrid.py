"""Make a small grid for the demo and the tests: an authority, hosts, users, robots and their proxies.

Certificates are made here with `cryptography`; proxies are made by the field's own programs
(`grid-proxy-init`, `voms-proxy-fake`), so that what Pilotage is shown is what real grids show it.
Nothing of this is meant for anything but a demo on one machine.
"""

import datetime
import ipaddress
import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey

VOMS_PORT = 15000
BACKDATED = datetime.timedelta(hours=1)
POLICY = """\
# EACL of the toy grid: this authority may sign names below its own organisation, and nothing else.
access_id_CA   X509    '{ca}'
pos_rights     globus  CA:sign
cond_subjects  globus  '"/O={name}/*"'
"""


class ToyGridError(Exception):
    """A program of the field failed while the toy grid was being made."""


@dataclass(frozen=True)
class Identity:
    """An end-entity certificate and its unencrypted key (0600), both PEM."""

    dn: str
    cert_path: Path
    key_path: Path


def make_key(kind: str) -> PrivateKey:
    """Make a private key of the kind `rsa` (2048 bits) or `ec` (P-256)."""
    if kind == "rsa":
        return rsa.generate_private_key(public_exponent=65537, key_size=2048)
    if kind == "ec":
        return ec.generate_private_key(ec.SECP256R1())
    raise ValueError(f"unknown kind of key: {kind}")


def write_key(path: Path, key: PrivateKey) -> None:
    """Write a key so that nobody else could read it at any moment."""
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(pem)


def write_public(path: Path, text: bytes | str) -> None:
    """Replace a file that everybody may read, whatever the mask."""
    partial = path.with_name(path.name + ".new")
    partial.write_bytes(text.encode() if isinstance(text, str) else text)
    partial.chmod(0o644)
    partial.replace(path)


def pem(certificate: x509.Certificate) -> bytes:
    """Return a certificate as PEM."""
    return certificate.public_bytes(serialization.Encoding.PEM)


class ToyGrid:
    """One authority with everything it signed, below one folder; an existing folder is opened again."""

    def __init__(self, root: Path, name: str = "Toy Grid") -> None:
        self.root = root
        self.name = name
        self.ca_dir = root / "certificates"
        self.voms_dir = root / "vomsdir"
        self.ca_dn = f"/O={name}/CN={name} CA"
        for folder in (root, self.ca_dir, self.voms_dir, root / "entities"):
            folder.mkdir(parents=True, exist_ok=True)
            folder.chmod(0o755)
        self._revoked: dict[int, datetime.datetime] = {}
        self._crl_number = 0
        self._voms_hosts: dict[str, Identity] = {}
        if (root / "ca.key").exists():
            self._open_authority()
        else:
            self._make_authority()

    # identities

    def host(self, fqdn: str, *, addresses: Sequence[str] = ("127.0.0.1",), key: str = "rsa") -> Identity:
        """Make a host certificate whose names are the DNS name and the addresses."""
        names: list[x509.GeneralName] = [x509.DNSName(fqdn)]
        names += [x509.IPAddress(ipaddress.ip_address(a)) for a in addresses]
        usage = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        return self._issue(fqdn, key, 30, usage, x509.SubjectAlternativeName(names))

    def user(self, cn: str, *, key: str = "rsa", days: int = 30) -> Identity:
        """Make a user certificate; a negative number of days makes one that has ended."""
        return self._issue(cn, key, days, [ExtendedKeyUsageOID.CLIENT_AUTH], None)

    def robot(self, cn: str) -> Identity:
        """Make a robot's certificate, as a pilot factory carries one."""
        return self._issue(cn, "rsa", 30, [ExtendedKeyUsageOID.CLIENT_AUTH], None)

    # proxies

    def plain_proxy(self, who: Identity, out: Path, *, hours: int = 12, limited: bool = False) -> Path:
        """Make a proxy without attributes with `grid-proxy-init`."""
        command = ["grid-proxy-init", "-rfc", "-q", "-bits", "2048", "-valid", f"{hours}:00"]
        command += ["-cert", str(who.cert_path), "-key", str(who.key_path), "-out", str(out)]
        command += ["-limited"] if limited else []
        self._run(command)
        return out

    def voms_proxy(
        self,
        who: Identity,
        out: Path,
        *,
        vo: str = "demo",
        fqans: Sequence[str] = (),
        hours: int = 12,
        voms_hours: int = 0,
        limited: bool = False,
    ) -> Path:
        """Make a proxy with VOMS attributes with `voms-proxy-fake`, and the .lsc file that lets it be believed.

        The attributes end with the proxy unless `voms_hours` says otherwise.
        """
        server = self.voms_host(vo)
        command = ["voms-proxy-fake", "-rfc", "-q", "-bits", "2048", "-hours", str(hours)]
        command += ["-vomslife", str(voms_hours or hours)]
        command += ["-voms", vo, "-uri", f"voms.{vo}.example.org:{VOMS_PORT}"]
        command += ["-hostcert", str(server.cert_path), "-hostkey", str(server.key_path)]
        command += ["-cert", str(who.cert_path), "-key", str(who.key_path), "-out", str(out)]
        # The program's own default is a path length of 1, on which no delegation and no job's proxy can stand;
        # voms-proxy-init, which it plays, sets none.
        command += ["-certdir", str(self.ca_dir), "-path-length", "-1"]
        command += ["-limited"] if limited else []
        for fqan in fqans or (f"/{vo}",):
            command += ["-fqan", fqan]
        self._run(command)
        return out

    def voms_host(self, vo: str) -> Identity:
        """Return the VO's attribute authority, made on first use together with its .lsc file."""
        if vo not in self._voms_hosts:
            fqdn = f"voms.{vo}.example.org"
            server = self.host(fqdn, addresses=())
            folder = self.voms_dir / vo
            folder.mkdir(exist_ok=True)
            folder.chmod(0o755)
            write_public(folder / f"{fqdn}.lsc", f"{server.dn}\n{self.ca_dn}\n")
            self._voms_hosts[vo] = server
        return self._voms_hosts[vo]

    # revocation

    def revoke(self, who: Identity) -> None:
        """Revoke a certificate and issue the revocation list again."""
        certificate = x509.load_pem_x509_certificate(who.cert_path.read_bytes())
        self._revoked[certificate.serial_number] = datetime.datetime.now(datetime.UTC)
        self.write_crl()

    def write_crl(self, *, days: float = 30) -> None:
        """Issue the revocation list; a negative number of days makes one that is out of date."""
        now = datetime.datetime.now(datetime.UTC)
        until = now + datetime.timedelta(days=days)
        self._crl_number += 1
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self._certificate.subject)
            .last_update(min(now, until) - BACKDATED)
            .next_update(until)
            .add_extension(x509.CRLNumber(self._crl_number), critical=False)
            .add_extension(self._authority_key_identifier(), critical=False)
        )
        for serial, when in self._revoked.items():
            entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(when).build()
            builder = builder.add_revoked_certificate(entry)
        text = builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
        for digest in self._digests:
            write_public(self.ca_dir / f"{digest}.r0", text)

    # inside

    def _make_authority(self) -> None:
        self._key = make_key("rsa")
        subject = self._name(f"{self.name} CA")
        now = datetime.datetime.now(datetime.UTC)
        public = self._key.public_key()
        usage = x509.KeyUsage(
            digital_signature=False,
            content_commitment=False,
            key_encipherment=False,
            data_encipherment=False,
            key_agreement=False,
            key_cert_sign=True,
            crl_sign=True,
            encipher_only=False,
            decipher_only=False,
        )
        self._certificate = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(subject)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=365))
            .not_valid_after(now + datetime.timedelta(days=365))
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(usage, critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(public), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        write_public(self.root / "ca.pem", pem(self._certificate))
        self._digests = self._subject_digests()
        for digest in self._digests:
            write_public(self.ca_dir / f"{digest}.0", pem(self._certificate))
            policy = POLICY.format(ca=self.ca_dn, name=self.name)
            write_public(self.ca_dir / f"{digest}.signing_policy", policy)
        self.write_crl()
        # The key comes last: a folder that has it is complete.
        write_key(self.root / "ca.key", self._key)

    def _open_authority(self) -> None:
        key = serialization.load_pem_private_key((self.root / "ca.key").read_bytes(), None)
        assert isinstance(key, rsa.RSAPrivateKey)
        self._key = key
        self._certificate = x509.load_pem_x509_certificate((self.root / "ca.pem").read_bytes())
        self._digests = self._subject_digests()
        crl = x509.load_pem_x509_crl((self.ca_dir / f"{self._digests[0]}.r0").read_bytes())
        self._revoked = {entry.serial_number: entry.revocation_date_utc for entry in crl}
        self._crl_number = crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number

    def _issue(
        self,
        cn: str,
        kind: str,
        days: int,
        extended: list[x509.ObjectIdentifier],
        alternative: x509.SubjectAlternativeName | None,
    ) -> Identity:
        key = make_key(kind)
        now = datetime.datetime.now(datetime.UTC)
        until = now + datetime.timedelta(days=days)
        usage = x509.KeyUsage(
            digital_signature=True,
            content_commitment=False,
            key_encipherment=kind == "rsa",
            data_encipherment=False,
            key_agreement=False,
            key_cert_sign=False,
            crl_sign=False,
            encipher_only=False,
            decipher_only=False,
        )
        builder = (
            x509.CertificateBuilder()
            .subject_name(self._name(cn))
            .issuer_name(self._certificate.subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(min(now, until) - BACKDATED)
            .not_valid_after(until)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(usage, critical=True)
            .add_extension(x509.ExtendedKeyUsage(extended), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(self._authority_key_identifier(), critical=False)
        )
        if alternative is not None:
            builder = builder.add_extension(alternative, critical=False)
        certificate = builder.sign(self._key, hashes.SHA256())
        folder = self._entity_folder(cn)
        identity = Identity(f"/O={self.name}/CN={cn}", folder / "cert.pem", folder / "key.pem")
        write_public(identity.cert_path, pem(certificate))
        write_key(identity.key_path, key)
        return identity

    def _entity_folder(self, cn: str) -> Path:
        """Make a new folder for an entity; a second one of the same name gets a number."""
        slug = re.sub(r"[^A-Za-z0-9.-]+", "-", cn).strip("-.") or "entity"
        for number in range(1, 10_000):
            folder = self.root / "entities" / (slug if number == 1 else f"{slug}-{number}")
            try:
                folder.mkdir(mode=0o755)
            except FileExistsError:
                continue
            return folder
        raise ToyGridError(f"too many entities are called {cn}")

    def _name(self, cn: str) -> x509.Name:
        return x509.Name(
            [x509.NameAttribute(NameOID.ORGANIZATION_NAME, self.name), x509.NameAttribute(NameOID.COMMON_NAME, cn)]
        )

    def _authority_key_identifier(self) -> x509.AuthorityKeyIdentifier:
        subject = self._certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
        return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(subject)

    def _subject_digests(self) -> tuple[str, str]:
        """Return the names that OpenSSL and its older relatives look the authority up by."""
        command = ["openssl", "x509", "-noout", "-subject_hash", "-subject_hash_old", "-in", str(self.root / "ca.pem")]
        new, old = self._run(command).split()
        return new, old

    def _run(self, command: list[str]) -> str:
        """Run a program of the field with the toy grid's trust and nothing of the caller's."""
        if shutil.which(command[0]) is None:
            raise ToyGridError(f"{command[0]} is not installed: see deploy/packages.txt")
        environ = {
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "HOME": str(self.root),
            "LC_ALL": "C",
            "X509_CERT_DIR": str(self.ca_dir),
            "X509_VOMS_DIR": str(self.voms_dir),
        }
        done = subprocess.run(
            command, env=environ, cwd=self.root, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60
        )
        if done.returncode:
            raise ToyGridError(f"{command[0]} ended with {done.returncode}: {(done.stderr or done.stdout).strip()}")
        return done.stdout
