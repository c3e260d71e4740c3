"""Reasons that lie where a chain was verified, and not with its owner."""

from pilotage.reasons import Reason

VERIFIER_FAULTS = (
    Reason.CRL_EXPIRED,
    Reason.CRL_MISSING,
    Reason.CRL_INVALID,
    Reason.SIGNING_POLICY_MISSING,
    Reason.SIGNING_POLICY_MALFORMED,
    Reason.NAMESPACES_MALFORMED,
    Reason.CA_DIRECTORY_UNUSABLE,
    Reason.VOMS_LSC_UNUSABLE,
    Reason.VERIFY_INTERNAL,
    Reason.CERTIFICATE_NOT_YET_VALID,
    Reason.VOMS_NOT_YET_VALID,
)
"""Causes in the files or the clock of the machine that verified: another may accept the same chain."""

SERVICE_FAULTS = (*VERIFIER_FAULTS, Reason.KEY_TOKEN_UNAVAILABLE)
"""Causes that lie in the service's own files, clock or key token, and hold jobs until they have passed.

Where a node is the cause, its pilot says so, and the job is offered elsewhere.
"""
