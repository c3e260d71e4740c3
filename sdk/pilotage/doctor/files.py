"""The files: authorities, the identity, retrieval keys."""

import datetime
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm

from pilotage.delegation import RETRIEVAL_KEY_BYTES
from pilotage.doctor.findings import Findings, error, until, warning, well
from pilotage.errors import PilotageError
from pilotage.jobs import Credential
from pilotage.trust import anchor_files, ca_bundle
from pilotage.voms.attribute import attributes_of
from pilotage.x509.files import MAKE_ONE, Ask, LocalIdentity, identity_places, load_place
from pilotage.x509.names import slash_form
from pilotage.x509.proxies import chain_end, end_entity, is_limited, is_proxy

SOON = datetime.timedelta(hours=2)
RENEW_CERTIFICATE = datetime.timedelta(days=14)


def look_at_authorities(ca_dir: Path, now: datetime.datetime) -> Findings:
    """Look at the trust anchors that prove servers."""
    subject = "authorities"
    try:
        ca_bundle(ca_dir)
    except PilotageError as refusal:
        yield error(subject, ca_dir, refusal.message, "install the CA files there, or give --certificates DIR")
        return
    count = 0
    for path in anchor_files(ca_dir):
        try:
            anchors = x509.load_pem_x509_certificates(path.read_bytes())
        except (OSError, ValueError, UnsupportedAlgorithm):
            yield warning(
                subject, path, "it cannot be read, so its authority is not trusted", f"openssl x509 -in {path}"
            )
            continue
        count += len(anchors)
        for anchor in anchors:
            if anchor.not_valid_after_utc <= now:
                name = slash_form(anchor.subject)
                yield warning(subject, path, f"{name} has expired", "update the CA files (fetch-crl does not)")
    yield well(subject, ca_dir, f"{count} trust anchors")


def look_at_identity(
    environ: Mapping[str, str], uid: int, ask: Ask | None, now: datetime.datetime, found: list[LocalIdentity]
) -> Findings:
    """Look at each place where an identity may be, and closely at the one that is used, which goes into `found`."""
    subject = "identity"
    used = False
    for place in identity_places(environ, uid):
        if not place.taken:
            continue
        name = f"{place.certificate} ({place.named})" if place.named else str(place.certificate)
        if used:
            yield well(subject, name, "not used: one before it in the search is")
            continue
        used = True
        try:
            identity = load_place(place, uid, ask)
        except PilotageError as refusal:
            what, _, to_do = refusal.message.rstrip(".").rpartition("; ")
            yield error(subject, name, what or refusal.message, to_do if what else MAKE_ONE)
            continue
        found.append(identity)
        yield from _look_closely(identity, name, now)
    if not used:
        yield error(subject, "none", "there is neither a proxy nor a certificate where grid tools look", MAKE_ONE)


def _look_closely(identity: LocalIdentity, name: str, now: datetime.datetime) -> Findings:
    subject = "identity"
    chain = identity.chain
    who = slash_form(end_entity(chain).subject)
    kind = ("a limited proxy" if is_limited(chain[0]) else "a proxy") if is_proxy(chain[0]) else "the certificate"
    end = chain_end(chain)
    what = f"{kind} of {who}, until {until(end, now)}"
    begin = max(certificate.not_valid_before_utc for certificate in chain)
    if begin > now:
        yield error(subject, name, f"{what}; it begins only {until(begin, now)}", "date -u   (is this clock right?)")
    elif end <= now:
        yield error(subject, name, what, MAKE_ONE)
    elif end - now < SOON:
        yield warning(subject, name, what, MAKE_ONE)
    else:
        yield well(subject, name, what)
    if is_limited(chain[0]):
        yield error(subject, name, "a limited proxy may neither submit nor delegate", f"{MAKE_ONE}, not limited")
    person = end_entity(chain).not_valid_after_utc
    if is_proxy(chain[0]) and end > now and person - now < RENEW_CERTIFICATE:
        text = f"the certificate behind it ends {until(person, now)}"
        yield warning(subject, name, text, "ask your certification authority for a new one")
    yield from _look_at_attributes(identity, name, now)


def _look_at_attributes(identity: LocalIdentity, name: str, now: datetime.datetime) -> Findings:
    subject = "attributes"
    make = "voms-proxy-init -rfc -voms VO[:/VO/Role=ROLE]"
    try:
        found = attributes_of(identity.chain)
    except PilotageError as refusal:
        yield error(subject, name, refusal.message, make)
        return
    if not found:
        yield warning(subject, name, "no VOMS attributes; most servers and sites want some", make)
    for one in found:
        what = f"{', '.join(one.fqans)}, until {until(one.not_after, now)}"
        if one.not_after <= now:
            yield error(subject, name, what, make)
        elif one.not_after - now < SOON:
            yield warning(subject, name, what, make)
        else:
            yield well(subject, name, what)


def look_at_keys(folder: Path | None, credentials: Sequence[Credential] | None) -> Findings:
    """Look at the retrieval keys kept here, against what the service has, if that is known."""
    subject = "retrieval keys"
    if folder is None:
        yield warning(subject, "none", "no home to keep them in; each submission delegates anew", "export HOME")
        return
    if not folder.exists():
        yield well(subject, folder, "none yet")
        return
    if folder.stat().st_mode & 0o077:
        yield warning(subject, folder, "others may look into it", f"chmod 700 {folder}")
    known = None if credentials is None else {one.credential_id for one in credentials}
    good = left = 0
    for path in sorted(folder.iterdir()):
        facts = path.lstat()
        if not stat.S_ISREG(facts.st_mode) or facts.st_size != RETRIEVAL_KEY_BYTES:
            yield warning(subject, path, "it is no retrieval key", f"rm {path}")
        elif facts.st_mode & 0o077:
            yield warning(subject, path, "others may read it, so it is not used", f"chmod 600 {path}")
        elif known is not None and path.name not in known:
            left += 1
        else:
            good += 1
    also = f", and {left} of credentials that are gone or another identity's; they do no harm" if left else ""
    yield well(subject, folder, f"{good} keys{also}")
