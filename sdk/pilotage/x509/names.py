"""Distinguished names in slash form, `/DC=ch/O=Grid/CN=Alice`, as grids write them.

The text is that of OpenSSL's `X509_NAME_oneline`, which grid-mapfiles, .lsc files and the C
verifier use: attributes in the certificate's order, every byte outside printable ASCII as `\\xHH`.
It is for showing and comparing; nobody cuts it apart.
"""

from cryptography import x509
from cryptography.x509.name import _ASN1Type
from cryptography.x509.oid import NameOID

_SHORT_NAMES = {
    NameOID.COMMON_NAME: "CN",
    NameOID.COUNTRY_NAME: "C",
    NameOID.LOCALITY_NAME: "L",
    NameOID.STATE_OR_PROVINCE_NAME: "ST",
    NameOID.STREET_ADDRESS: "street",
    NameOID.ORGANIZATION_NAME: "O",
    NameOID.ORGANIZATIONAL_UNIT_NAME: "OU",
    NameOID.SERIAL_NUMBER: "serialNumber",
    NameOID.SURNAME: "SN",
    NameOID.GIVEN_NAME: "GN",
    NameOID.TITLE: "title",
    NameOID.INITIALS: "initials",
    NameOID.GENERATION_QUALIFIER: "generationQualifier",
    NameOID.DN_QUALIFIER: "dnQualifier",
    NameOID.PSEUDONYM: "pseudonym",
    NameOID.USER_ID: "UID",
    NameOID.DOMAIN_COMPONENT: "DC",
    NameOID.EMAIL_ADDRESS: "emailAddress",
    NameOID.POSTAL_CODE: "postalCode",
    NameOID.UNSTRUCTURED_NAME: "unstructuredName",
}
_ENCODINGS = {_ASN1Type.BMPString: "utf-16-be", _ASN1Type.UniversalString: "utf-32-be", _ASN1Type.T61String: "latin-1"}


def slash_form(name: x509.Name) -> str:
    """Return a name as `/O=Grid/CN=Alice`."""
    return "".join(f"/{_short(attribute.oid)}={_value(attribute)}" for attribute in name)


def _short(oid: x509.ObjectIdentifier) -> str:
    return _SHORT_NAMES.get(oid, oid.dotted_string)


def _value(attribute: x509.NameAttribute[str | bytes]) -> str:
    raw = attribute.value
    if isinstance(raw, str):
        raw = raw.encode(_ENCODINGS.get(attribute._type, "utf-8"))
    return "".join(chr(byte) if 0x20 <= byte <= 0x7E else f"\\x{byte:02X}" for byte in raw)
