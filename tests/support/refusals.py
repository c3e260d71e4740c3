"""What a call was refused with."""

from collections.abc import Callable
from typing import ParamSpec

import grpc
import pytest

from pilotage.reasons import Reason
from pilotage.wire_errors import reason_of

P = ParamSpec("P")


def reason(call: Callable[P, object], *args: P.args, **kwargs: P.kwargs) -> Reason:
    """Make a call that must be refused; return the reason the server gave."""
    with pytest.raises(grpc.RpcError) as caught:
        call(*args, **kwargs)
    found = reason_of(caught.value)
    assert found is not None, f"refused without a reason: {caught.value}"
    return found
