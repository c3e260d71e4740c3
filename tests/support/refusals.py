"""What a call was refused with."""

from collections.abc import Callable
from typing import ParamSpec

import grpc
import pytest

from pilotage.reasons import Reason
from pilotage.wire_errors import reason_of

P = ParamSpec("P")


def refused(call: Callable[P, object], *args: P.args, **kwargs: P.kwargs) -> grpc.RpcError:
    """Make a call that must be refused; return its error."""
    with pytest.raises(grpc.RpcError) as caught:
        call(*args, **kwargs)
    return caught.value


def reason(call: Callable[P, object], *args: P.args, **kwargs: P.kwargs) -> Reason:
    """Make a call that must be refused; return the reason the server gave."""
    error = refused(call, *args, **kwargs)
    found = reason_of(error)
    assert found is not None, f"refused without a reason: {error}"
    return found
