"""The server: reached, proven, logged in at; and what it has of the caller's."""

import collections
import datetime
import socket
import ssl
from pathlib import Path

from pilotage.client import Client
from pilotage.doctor.findings import Finding, Findings, error, until, warning, well
from pilotage.errors import PilotageError
from pilotage.holding import SERVICE_FAULTS
from pilotage.jobs import Credential
from pilotage.login import LONGEST_SESSION_SECONDS
from pilotage.reasons import Reason
from pilotage.states import JobState
from pilotage.transport import Target
from pilotage.trust import ca_bundle
from pilotage.x509.files import MAKE_ONE, LocalIdentity
from pilotage.x509.proxies import chain_end

CONNECT_SECONDS = 10.0
SKEW_SECONDS = 120
ENDS_SOON = datetime.timedelta(hours=12)
HOST_ENDS_SOON = datetime.timedelta(days=7)
DELEGATE = "pilotage credential delegate"
LONGER = "voms-proxy-init -rfc -valid 96:00"
"""What comes first where the identity here lives no longer than a credential that ends soon."""


def look_at_server(place: Target, ca_dir: Path, now: datetime.datetime) -> Finding:
    """Connect as gRPC would, and check the host certificate, with better words for what fails."""
    subject, name = "server", place.address
    try:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.set_alpn_protocols(["h2"])
        context.load_verify_locations(cadata=ca_bundle(ca_dir).decode("ascii"))
        with (
            socket.create_connection((place.host, place.port), CONNECT_SECONDS) as plain,
            context.wrap_socket(plain, server_hostname=place.host) as secure,
        ):
            facts = secure.getpeercert() or {}
    except PilotageError as refusal:
        return error(subject, name, refusal.message, "see `authorities` above")
    except socket.gaierror:
        return error(subject, name, f"no address is known for {place.host}", f"getent hosts {place.host}")
    except ssl.SSLCertVerificationError as refusal:
        text = f"its host certificate is not to be believed: {refusal.verify_message}"
        return error(subject, name, text, f"openssl s_client -connect {name} -showcerts")
    except ssl.SSLError as refusal:
        text = f"it does not speak TLS 1.3 as Pilotage does ({refusal.reason or 'no handshake'})"
        return error(subject, name, text, "check host and port")
    except OSError as refusal:
        text = f"it cannot be reached ({refusal.strerror or 'no answer in time'})"
        return error(subject, name, text, "check host and port, and that the server runs")
    ends = datetime.datetime.fromtimestamp(ssl.cert_time_to_seconds(str(facts["notAfter"])), datetime.UTC)
    text = f"answers; its host certificate is good until {until(ends, now)}"
    if ends - now < HOST_ENDS_SOON:
        return warning(subject, name, text, "tell who runs the server")
    return well(subject, name, text)


def look_at_login(client: Client, identity: LocalIdentity, now: datetime.datetime) -> Findings:
    """Log in, and look at what the server makes of the caller and of the time."""
    subject = "login"
    try:
        caller = client.whoami()
    except PilotageError as refusal:
        help_ = MAKE_ONE if refusal.reason is not Reason.UNAVAILABLE else "see `server` above"
        if refusal.reason in SERVICE_FAULTS:
            help_ = "tell the operators of the service: it is there, not here"
        yield error(subject, identity.source, f"{refusal.reason.name}: {refusal.message}", help_)
        return
    if "owner" in caller.roles:
        yield well(subject, caller.dn, f"roles: {', '.join(caller.roles)}")
    else:
        shown = ", ".join(caller.fqans) or "none"
        text = f"the server gives no role to submit with (attributes shown: {shown})"
        yield error(subject, caller.dn, text, "voms-proxy-init -rfc -voms VO[:/VO/Role=ROLE], with a role it knows")
    session = datetime.timedelta(seconds=LONGEST_SESSION_SECONDS)
    if chain_end(identity.chain) - now > 2 * session:
        ahead = (now + session - caller.expire_time).total_seconds()
        if abs(ahead) > SKEW_SECONDS:
            text = f"this machine is {abs(ahead):.0f} s {'ahead of' if ahead > 0 else 'behind'} the server"
            yield warning("clock", f"{now:%Y-%m-%d %H:%M:%S} UTC", text, "timedatectl status")


def look_at_credentials(credentials: list[Credential], identity: LocalIdentity, now: datetime.datetime) -> Findings:
    """Look at what the service keeps for the caller."""
    subject = "credential"
    usable = [one for one in credentials if one.revoke_time is None and one.expire_time > now]
    # A newer one of the same kind is used in the place of those that end before it.
    order = sorted(usable, key=lambda one: (one.expire_time, one.create_time))
    longest = {(one.name, one.fqans[:1]): one for one in order}.values()
    longer = chain_end(identity.chain) - now >= ENDS_SOON
    for one in credentials:
        attribute = one.fqans[0] if one.fqans else "no attributes"
        text = f"{f'{one.name!r}, ' if one.name else ''}{attribute}, until {until(one.expire_time, now)}"
        if one.revoke_time is not None:
            yield error(subject, one.credential_id, f"revoked; {text}", f"ask your authority; then {DELEGATE}")
        elif one in longest and one.expire_time - now < ENDS_SOON:
            yield warning(subject, one.credential_id, text, DELEGATE if longer else f"{LONGER}; then {DELEGATE}")
        elif one.expire_time > now:
            yield well(subject, one.credential_id, text)
    if not usable:
        yield well(subject, "none", "none that can be used; `pilotage submit` will delegate one")


def look_at_jobs(client: Client) -> Findings:
    """Look for jobs that wait for the caller to do something."""
    held = collections.Counter(job.reason for job in client.list([JobState.HELD]))
    for reason, count in sorted(held.items()):
        text = f"{count} job{'s are' if count > 1 else ' is'} held: {reason}"
        if reason in {fault.name for fault in SERVICE_FAULTS}:
            text = f"{text}: {Reason[reason].row.text} The service offers them again once it is well."
            yield warning("jobs", "held", text, "tell the operators of the service")
        else:
            yield warning("jobs", "held", text, f"{DELEGATE}, with an identity that lives long enough")
