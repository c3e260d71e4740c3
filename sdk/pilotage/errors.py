"""The one exception tree.

    PilotageError
    ├── RequestError          the request itself is wrong
    ├── NotFoundError         the thing named is not there (or not the caller's)
    ├── AuthenticationError   who the caller is was not proven
    │   └── VerifyError       a certificate chain or its VOMS attributes are not genuine
    ├── AuthorizationError    the caller is known and may not do this
    ├── CredentialFileError   a proxy or key file on this machine is unusable
    ├── CredentialError       a stored credential, its token or its key
    ├── StateError            the thing is in a state that forbids this
    ├── LeaseError            the lease is not (any more) the caller's
    ├── SandboxError          an archive is unsafe, cut off or not what was announced
    ├── ConfigError           a configuration file is wrong
    ├── ServiceError          the service cannot answer now, or at all
    ├── PilotError            an attempt failed on the worker node
    └── HelperError           the privileged helper refused or failed
        ├── HelperUsageError      gLExec's 201: the caller's mistake
        ├── HelperSystemError     gLExec's 202: the machine's or the site's fault
        └── HelperDenied          gLExec's 203: not authorised

Every error has one reason of `pilotage.reasons`, which fixes its class, its gRPC code, its
exit code and whether trying again can help. Raise with `refuse(Reason.X, "what happened")`.
"""

from pilotage.reasons import Reason


class PilotageError(Exception):
    """Carry one reason and one sentence for the person who must act.

    The sentence never holds a secret: it reaches logs, peers and terminals.
    """

    def __init__(self, reason: Reason, message: str = "") -> None:
        self.reason = reason
        self.message = message or reason.row.text
        super().__init__(f"{reason.name}: {self.message}")

    @property
    def exit_code(self) -> int:
        """Return the exit code of a command that ends with this error."""
        return self.reason.row.exit_code

    @property
    def retry(self) -> bool:
        """Return whether the same request can succeed later."""
        return self.reason.row.retry


class RequestError(PilotageError):
    """The request itself is wrong."""


class NotFoundError(PilotageError):
    """The thing named is not there, or not the caller's."""


class AuthenticationError(PilotageError):
    """Who the caller is was not proven."""


class VerifyError(AuthenticationError):
    """A certificate chain or its VOMS attributes are not genuine."""


class AuthorizationError(PilotageError):
    """The caller is known and may not do this."""


class CredentialFileError(PilotageError):
    """A proxy, certificate or key file on this machine is unusable."""


class CredentialError(PilotageError):
    """A stored credential, its token or its retrieval key is refused."""


class StateError(PilotageError):
    """The thing is in a state that forbids this."""


class LeaseError(PilotageError):
    """The lease is not, or not any more, the caller's."""


class SandboxError(PilotageError):
    """An archive is unsafe, cut off or not what was announced."""


class ConfigError(PilotageError):
    """A configuration file is wrong."""


class ServiceError(PilotageError):
    """The service cannot answer now, or at all."""


class PilotError(PilotageError):
    """An attempt failed on the worker node."""


class HelperError(PilotageError):
    """The privileged helper refused or failed."""


class HelperUsageError(HelperError):
    """The helper was called wrongly (gLExec's 201)."""


class HelperSystemError(HelperError):
    """The machine or the site's set-up is at fault (gLExec's 202)."""


class HelperDenied(HelperError):
    """The helper did not authorise the payload (gLExec's 203)."""


FAMILIES: dict[str, type[PilotageError]] = {
    cls.__name__: cls
    for cls in (
        RequestError,
        NotFoundError,
        AuthenticationError,
        VerifyError,
        AuthorizationError,
        CredentialFileError,
        CredentialError,
        StateError,
        LeaseError,
        SandboxError,
        ConfigError,
        ServiceError,
        PilotError,
        HelperUsageError,
        HelperSystemError,
        HelperDenied,
    )
}


def refuse(reason: Reason, message: str = "") -> PilotageError:
    """Make the error of a reason, of the class the table says: `raise refuse(Reason.X, "...")`."""
    return FAMILIES[reason.row.family](reason, message)
