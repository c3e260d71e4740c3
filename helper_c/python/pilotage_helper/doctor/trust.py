"""Authorities, their lists of revoked certificates, and VOMS servers."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509

from pilotage_helper.doctor.finding import Finding, broken, ok, weaker
from pilotage_helper.site import Site
from pilotage_helper.verify import namespaces_fault

SOON = timedelta(hours=24)
NAMESPACES_BYTES = 64 * 1024
"""The verifier refuses a longer file (FILE_CAP of namespaces.c)."""


def subject_of(path: Path) -> tuple[str, datetime]:
    """Return an authority's name and end."""
    certificate = x509.load_pem_x509_certificate(path.read_bytes())
    return certificate.subject.rfc4514_string(), certificate.not_valid_after_utc


def end_of_list(path: Path) -> datetime | None:
    """Return when a list of revoked certificates is due to be replaced."""
    data = path.read_bytes()
    load = x509.load_pem_x509_crl if data.lstrip().startswith(b"-----") else x509.load_der_x509_crl
    return load(data).next_update_utc


def wrong_with_namespaces(path: Path) -> tuple[str, str] | None:
    """Return what is wrong with a namespaces file and the verifier's reason for it; none has to be there."""
    try:
        data = path.read_bytes()
    except OSError as error:
        # A link that leads nowhere is refused: the rule is lost.
        missing = isinstance(error, FileNotFoundError) and not path.is_symlink()
        return None if missing else (f"cannot be read: {error.strerror}", "CA_DIRECTORY_UNUSABLE")
    if len(data) > NAMESPACES_BYTES:
        return f"is longer than {NAMESPACES_BYTES // 1024} KiB", "CA_DIRECTORY_UNUSABLE"
    line = namespaces_fault(data)
    return (f"line {line} is no statement", "NAMESPACES_MALFORMED") if line else None


def authority(path: Path, now: datetime, *, require_crl: bool) -> Finding:
    """Look at one authority with its list and its policy."""
    try:
        name, end = subject_of(path)
    except (OSError, ValueError) as error:
        return broken(path.name, f"cannot be read: {error}", "Its users are refused (CHAIN_UNKNOWN_CA).")
    if end <= now:
        return broken(name, f"ended at {end:%Y-%m-%d}", "Its users are refused (CERTIFICATE_EXPIRED).")
    if not path.with_suffix(".signing_policy").exists():
        return broken(name, f"no {path.stem}.signing_policy", "Its users are refused (SIGNING_POLICY_MISSING).")
    namespaces = path.with_suffix(".namespaces")
    if (wrong := wrong_with_namespaces(namespaces)) is not None:
        return broken(name, f"{namespaces.name}: {wrong[0]}", f"Its users are refused ({wrong[1]}).")
    number = path.suffix.removeprefix(".")
    crl = path.with_suffix(f".r{number}")
    try:
        due = end_of_list(crl)
    except FileNotFoundError:
        if require_crl:
            return broken(name, f"no {crl.name}", "Its users are refused (CRL_MISSING). Is fetch-crl running?")
        return weaker(name, f"no {crl.name}", "A revoked certificate of it is accepted: require_crl = no.")
    except (OSError, ValueError) as error:
        return broken(name, f"{crl.name} cannot be read: {error}", "Its users are refused (CRL_INVALID).")
    if due is not None and due <= now:
        age = (now - due).total_seconds() / 3600
        means = "Its users are refused (CRL_EXPIRED). Is fetch-crl running, and is this machine's clock right?"
        return broken(name, f"{crl.name} is overdue by {age:.0f} hours", means)
    if due is not None and due - now < SOON:
        means = "If it is not fetched anew before, its users are refused then (CRL_EXPIRED)."
        return weaker(name, f"{crl.name} is good until {due:%Y-%m-%dT%H:%MZ} only", means)
    return ok(name, f"{crl.name} is good until {due:%Y-%m-%dT%H:%MZ}" if due else f"{crl.name} has no end")


def authorities(site: Site, now: datetime | None = None) -> Iterator[Finding]:
    """Look at every authority, once for each certificate: directories hold them under several hashes."""
    now = now or datetime.now(UTC)
    paths = sorted(path for path in site.ca_dir.glob("????????.[0-9]") if path.is_file())
    if not paths:
        yield broken("authorities", f"{site.ca_dir} has none", "No proxy is believed (CHAIN_UNKNOWN_CA).")
    seen: dict[str, Finding] = {}
    for path in paths:
        finding = authority(path, now, require_crl=site.require_crl)
        known = seen.get(finding.subject)
        # Under another hash the same authority may have what it lacked under this one.
        if known is None or known.state.value == "broken":
            seen[finding.subject] = finding
    yield from seen.values()


def organisations(site: Site) -> Finding:
    """Look at the VOMS servers that attributes are believed from."""
    if site.voms_dir is None or not site.voms_dir.is_dir():
        return broken("VOMS", f"no directory {site.voms_dir}", "No attribute is believed, so no owner has a VO.")
    names = sorted({path.parent.name for path in site.voms_dir.glob("*/*.lsc")})
    if not names:
        return broken("VOMS", f"{site.voms_dir} has no <vo>/<host>.lsc", "No attribute is believed (VOMS_LSC_MISSING).")
    return ok("VOMS", f"{len(names)} organisations: {', '.join(names[:6])}")
