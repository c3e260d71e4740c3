"""Refusals on the wire: a gRPC status with `google.rpc.ErrorInfo` (AIP-193)."""

import grpc
from google.protobuf import any_pb2
from google.rpc import error_details_pb2, status_pb2  # type: ignore[import-untyped]
from grpc_status import rpc_status

from pilotage.errors import PilotageError
from pilotage.reasons import Code

DOMAIN = "pilotage"
LONGEST_MESSAGE = 1000
CODES = {Code(code.value[0]): code for code in grpc.StatusCode if code is not grpc.StatusCode.OK}


class WireStatus:
    """What `context.abort` takes, made from one refusal."""

    def __init__(self, error: PilotageError) -> None:
        message = error.message[:LONGEST_MESSAGE]
        info = error_details_pb2.ErrorInfo(
            reason=error.reason.name,
            domain=DOMAIN,
            metadata={"retry": "true" if error.retry else "false", "message": message},
        )
        detail = any_pb2.Any()
        detail.Pack(info)
        rich = status_pb2.Status(code=error.reason.row.code.value, message=message, details=[detail])
        status = rpc_status.to_status(rich)
        self.code: grpc.StatusCode = CODES[error.reason.row.code]
        self.details = message
        self.trailing_metadata = tuple(status.trailing_metadata or ())
