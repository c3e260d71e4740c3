"""Proxy, certificate and key files: found, checked and written as grid tools do.

PEM, with the key in the same file or in one of its own, encrypted or not; and PKCS#12. A key file must belong to its
user (or root) and be closed to everybody else. It is opened once and checked by its descriptor, so that nobody can swap
it in between.
"""

import contextlib
import os
import stat
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import msgspec
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import pkcs12

from pilotage.errors import PilotageError, refuse
from pilotage.reasons import Reason
from pilotage.secret import Secret
from pilotage.x509.keys import PrivateKey

LARGEST_FILE_BYTES = 1024 * 1024
PKCS12_SUFFIXES = (".p12", ".pfx")
MAKE_ONE = "make a proxy with voms-proxy-init -rfc (or grid-proxy-init -rfc)"


Ask = Callable[[Path], Secret]
"""Asks a person for the pass phrase of a file."""


class LocalIdentity(msgspec.Struct, frozen=True, repr_omit_defaults=True):
    """Who this process can prove to be: a chain (leaf first, no trust anchors) and the leaf's key."""

    chain: tuple[x509.Certificate, ...]
    key: PrivateKey
    source: str

    def __repr__(self) -> str:
        return f"LocalIdentity(source={self.source!r})"

    @property
    def chain_der(self) -> list[bytes]:
        """Return the chain in DER, as it travels."""
        return [certificate.public_bytes(serialization.Encoding.DER) for certificate in self.chain]


def load_identity(
    certificate_path: Path, key_path: Path | None = None, *, uid: int | None = None, ask: Ask | None = None
) -> LocalIdentity:
    """Load a proxy file, a certificate and its key, or a PKCS#12 file.

    A pass phrase is asked for with `ask`, and only where the key is encrypted. Raises IDENTITY_FILE_UNUSABLE with
    what to do next.
    """
    owner = os.geteuid() if uid is None else uid
    if key_path is None and certificate_path.suffix.lower() in PKCS12_SUFFIXES:
        return _load_pkcs12(certificate_path, _read(certificate_path, owner, private=True), ask)
    if key_path is None and b"PRIVATE KEY-----" not in _read(certificate_path, owner, private=False):
        # Before its mode is judged: a certificate alone is nobody's secret.
        raise _unusable(certificate_path, "it holds no private key", f"name the key's file as well, or {MAKE_ONE}")
    pem = _read(certificate_path, owner, private=key_path is None)
    key_pem = pem if key_path is None else _read(key_path, owner, private=True)
    chain = _load_chain(certificate_path, pem)
    key = _load_key(key_path or certificate_path, key_pem, ask)
    if key.public_key() != chain[0].public_key():
        raise _unusable(key_path or certificate_path, "the private key is not the certificate's", MAKE_ONE)
    return LocalIdentity(chain=chain, key=key, source=str(certificate_path))


class Place(msgspec.Struct, frozen=True):
    """One of the places where an identity may be: a file, or a certificate and its key; `named` by a variable."""

    named: str
    certificate: Path
    key: Path | None = None

    @property
    def taken(self) -> bool:
        """Return whether the search ends here, be the files usable or not."""
        return bool(self.named) or self.certificate.exists()


def identity_places(environ: Mapping[str, str], uid: int) -> list[Place]:
    """Return the places of an identity, in the order of grid tools; the first that is taken counts.

    X509_USER_PROXY; /tmp/x509up_u<uid>; X509_USER_CERT with X509_USER_KEY, or alone when it is PKCS#12;
    ~/.globus/usercert.pem with userkey.pem; ~/.globus/usercred.p12.
    """
    places = []
    if named := environ.get("X509_USER_PROXY"):
        places.append(Place("X509_USER_PROXY", Path(named)))
    places.append(Place("", proxy_path(uid)))
    certificate, key = environ.get("X509_USER_CERT"), environ.get("X509_USER_KEY")
    if certificate and not key and Path(certificate).suffix.lower() in PKCS12_SUFFIXES:
        places.append(Place("X509_USER_CERT", Path(certificate)))
    elif certificate or key:
        places.append(Place("X509_USER_CERT and X509_USER_KEY", Path(certificate or ""), Path(key or "")))
    if home := environ.get("HOME"):
        folder = Path(home) / ".globus"
        places.append(Place("", folder / "usercert.pem", folder / "userkey.pem"))
        places.append(Place("", folder / "usercred.p12"))
    return places


def find_identity(environ: Mapping[str, str], uid: int, ask: Ask | None = None) -> LocalIdentity:
    """Load the caller's identity from the first place that is taken.

    A place that is taken but unusable is an error: nobody is surprised by a fallback to another identity.
    """
    for place in identity_places(environ, uid):
        if place.taken:
            return load_place(place, uid, ask)
    raise refuse(
        Reason.IDENTITY_NOT_FOUND,
        f"No proxy or certificate found (X509_USER_PROXY, {proxy_path(uid)}, X509_USER_CERT, ~/.globus): {MAKE_ONE}.",
    )


def load_place(place: Place, uid: int, ask: Ask | None = None) -> LocalIdentity:
    """Load the identity of a place."""
    nothing = Path()
    if nothing in (place.certificate, place.key):
        raise refuse(
            Reason.IDENTITY_FILE_UNUSABLE, "X509_USER_CERT and X509_USER_KEY go together; one of them is not set."
        )
    return load_identity(place.certificate, place.key, uid=uid, ask=ask)


def proxy_path(uid: int) -> Path:
    """Return where every grid tool looks for a user's proxy."""
    return Path(f"/tmp/x509up_u{uid}")


def proxy_pem(chain: Sequence[x509.Certificate], key: PrivateKey) -> bytes:
    """Return a proxy file's bytes: certificate, key (PKCS#1 or SEC 1), issuers. Secret."""
    encoding = serialization.Encoding.PEM
    parts = [
        chain[0].public_bytes(encoding),
        key.private_bytes(encoding, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()),
        *(certificate.public_bytes(encoding) for certificate in chain[1:]),
    ]
    return b"".join(parts)


def write_proxy(path: Path, chain: Sequence[x509.Certificate], key: PrivateKey) -> None:
    """Write a proxy file so that it is 0600 from its first byte and whole at every moment."""
    write_private(path, proxy_pem(chain, key))


def write_private(path: Path, content: bytes) -> None:
    """Replace a file that only its owner may read: new file beside it (O_EXCL, 0600), sync, rename."""
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with open(descriptor, "wb") as file:
            os.fchmod(descriptor, 0o600)
            file.write(content)
            file.flush()
            os.fsync(descriptor)
        os.rename(name, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)
        raise


def read_private(path: Path, *, uid: int | None = None) -> bytes:
    """Read a file that must belong to its user and be closed to everybody else."""
    return _read(path, os.geteuid() if uid is None else uid, private=True)


def _read(path: Path, owner: int, *, private: bool) -> bytes:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    except FileNotFoundError as error:
        raise _unusable(path, "it does not exist", MAKE_ONE) from error
    except OSError as error:
        raise _unusable(path, f"it cannot be opened ({error.strerror})", "check its owner and mode") from error
    # A directory opens too, but makes no file object; so its descriptor is wrapped after the checks.
    try:
        facts = os.fstat(descriptor)
        if not stat.S_ISREG(facts.st_mode):
            raise _unusable(path, "it is not a regular file", MAKE_ONE)
        if private and facts.st_uid not in (owner, 0):
            raise _unusable(path, f"it belongs to uid {facts.st_uid}, not to {owner}", MAKE_ONE)
        if private and facts.st_mode & 0o077:
            raise _unusable(path, f"others may use it (mode {facts.st_mode & 0o777:04o})", f"chmod 600 {path}")
        with open(descriptor, "rb", closefd=False) as file:
            content = file.read(LARGEST_FILE_BYTES + 1)
    finally:
        os.close(descriptor)
    if len(content) > LARGEST_FILE_BYTES:
        raise _unusable(path, "it is larger than any proxy", MAKE_ONE)
    return content


def _load_chain(path: Path, pem: bytes) -> tuple[x509.Certificate, ...]:
    try:
        certificates = x509.load_pem_x509_certificates(pem)
        # Trust anchors are the server's own business; some files carry one at the end.
        chain = tuple(c for i, c in enumerate(certificates) if i == 0 or c.subject != c.issuer)
        for certificate in chain:
            certificate.public_key()
            _ = certificate.extensions
    except (ValueError, UnsupportedAlgorithm, x509.DuplicateExtension) as error:
        raise _unusable(path, "it holds no certificate that can be read", MAKE_ONE) from error
    return chain


def _load_key(path: Path, pem: bytes, ask: Ask | None) -> PrivateKey:
    passphrase = None
    try:
        try:
            key = serialization.load_pem_private_key(pem, None, unsafe_skip_rsa_key_validation=True)
        except TypeError as error:
            passphrase = _passphrase(path, ask, error)
            key = serialization.load_pem_private_key(pem, passphrase.reveal(), unsafe_skip_rsa_key_validation=True)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise _unreadable_key(path, asked=passphrase is not None) from error
    return _usable_key(path, key)


def _load_pkcs12(path: Path, content: bytes, ask: Ask | None) -> LocalIdentity:
    """Load a certificate, its key and what lies between it and its authority, from one file as browsers write it."""
    passphrase = None
    try:
        try:
            bundle = pkcs12.load_pkcs12(content, None)
        except ValueError as error:
            # A wrong pass phrase and a file that is something else look alike; so an empty one is tried, then a person.
            passphrase = _passphrase(path, ask, error)
            bundle = pkcs12.load_pkcs12(content, passphrase.reveal())
    except (ValueError, UnsupportedAlgorithm) as error:
        raise _unreadable_key(path, asked=passphrase is not None) from error
    if bundle.cert is None or bundle.key is None:
        raise _unusable(path, "it holds no certificate with its key", "export both into it")
    chain = [bundle.cert.certificate]
    others = {one.certificate.subject: one.certificate for one in bundle.additional_certs}
    while (issuer := others.pop(chain[-1].issuer, None)) is not None and issuer.subject != issuer.issuer:
        chain.append(issuer)
    key = _usable_key(path, bundle.key)
    if key.public_key() != chain[0].public_key():
        raise _unusable(path, "the private key is not the certificate's", MAKE_ONE)
    return LocalIdentity(chain=tuple(chain), key=key, source=str(path))


def _passphrase(path: Path, ask: Ask | None, error: Exception) -> Secret:
    if ask is None:
        raise _unusable(path, "its private key is encrypted, and nobody can be asked here", MAKE_ONE) from error
    return ask(path)


def _unreadable_key(path: Path, *, asked: bool) -> PilotageError:
    if asked:
        return _unusable(path, "the pass phrase does not open it", "try again")
    return _unusable(path, "it holds no private key that can be read", MAKE_ONE)


def _usable_key(path: Path, key: object) -> PrivateKey:
    if not isinstance(key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey):
        raise _unusable(path, "its key is neither RSA nor elliptic-curve", MAKE_ONE)
    return key


def _unusable(path: Path, why: str, what_next: str) -> PilotageError:
    return refuse(Reason.IDENTITY_FILE_UNUSABLE, f"{path}: {why}; {what_next}.")
