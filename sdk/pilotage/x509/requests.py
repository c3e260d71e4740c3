"""Certificate requests (PKCS#10): how a public key asks for a proxy.

Only the public key of a request counts. Its subject and extensions are ignored by whoever signs.
"""

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509.oid import NameOID

from pilotage.errors import refuse
from pilotage.reasons import Reason
from pilotage.x509.keys import PrivateKey, PublicKey, check_public_key

LARGEST_REQUEST_BYTES = 16 * 1024
SUBJECT = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "pilotage request")])


def make_request(key: PrivateKey) -> bytes:
    """Make a request for a key, DER."""
    request = x509.CertificateSigningRequestBuilder().subject_name(SUBJECT).sign(key, hashes.SHA256())
    return request.public_bytes(serialization.Encoding.DER)


def check_request(der: bytes) -> PublicKey:
    """Return the public key of a request that is signed by its own key and of an accepted kind.

    Raises CSR_INVALID or KEY_KIND_REFUSED.
    """
    if len(der) > LARGEST_REQUEST_BYTES:
        raise refuse(Reason.CSR_INVALID, f"The certificate request has more than {LARGEST_REQUEST_BYTES} bytes.")
    try:
        request = x509.load_der_x509_csr(der)
        key = request.public_key()
    except UnsupportedAlgorithm as error:
        raise refuse(Reason.KEY_KIND_REFUSED) from error
    except ValueError as error:
        raise refuse(Reason.CSR_INVALID, "The certificate request is not PKCS#10 in DER.") from error
    accepted = check_public_key(key)
    try:
        genuine = request.is_signature_valid
    except (ValueError, UnsupportedAlgorithm) as error:
        raise refuse(
            Reason.CSR_INVALID, "The certificate request is signed with an algorithm that is not known."
        ) from error
    if not genuine:
        raise refuse(Reason.CSR_INVALID, "The certificate request is not signed by its own key.")
    return accepted
