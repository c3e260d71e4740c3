"""The principal of the call being handled.

The interceptor sets it before a handler runs and only for methods whose rule it has checked; a
handler that asks where none is set gets UNAUTHENTICATED, never a default.
"""

import contextvars

from pilotage.errors import refuse
from pilotage.reasons import Reason
from pilotage_server.principal import Principal

_current: contextvars.ContextVar[Principal | None] = contextvars.ContextVar("principal", default=None)


def principal() -> Principal:
    """Return the caller of this call."""
    found = _current.get()
    if found is None:
        raise refuse(Reason.UNAUTHENTICATED)
    return found


def set_principal(value: Principal | None) -> None:
    """Set the caller of this call; None when it is over."""
    _current.set(value)
