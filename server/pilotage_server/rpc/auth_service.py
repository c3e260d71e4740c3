"""AuthService on the wire."""

from pilotage.errors import refuse
from pilotage.reasons import Reason
from pilotage.v1 import auth_pb2, auth_pb2_grpc
from pilotage_server import metrics
from pilotage_server.auth.current import principal
from pilotage_server.auth.login import LoginDesk, SignatureAlgorithm
from pilotage_server.auth.policy import Policy
from pilotage_server.principal import Principal
from pilotage_server.rpc.guard import Context
from pilotage_server.rpc.values import timestamp


class AuthServicer(auth_pb2_grpc.AuthServiceServicer):
    """BeginLogin, Login, WhoAmI."""

    def __init__(self, desk: LoginDesk, policy: Policy) -> None:
        self._desk = desk
        self._policy = policy

    async def BeginLogin(self, request: auth_pb2.BeginLoginRequest, context: Context) -> auth_pb2.BeginLoginResponse:
        """Return a challenge."""
        challenge, expire_time = self._desk.begin()
        return auth_pb2.BeginLoginResponse(
            challenge=challenge, audience=self._desk.audience, expire_time=timestamp(expire_time)
        )

    async def Login(self, request: auth_pb2.LoginRequest, context: Context) -> auth_pb2.LoginResponse:
        """Open a session."""
        with metrics.outcomes(metrics.LOGINS):
            try:
                algorithm = SignatureAlgorithm(request.algorithm)
            except ValueError as error:
                raise refuse(Reason.SIGNATURE_INVALID, "The signature algorithm is not one that is known.") from error
            session = await self._desk.login(request.chain, request.challenge, request.signature, algorithm)
        return auth_pb2.LoginResponse(
            session_token=session.token.reveal_text(),
            expire_time=timestamp(session.expire_time),
            principal=_message(session.principal),
        )

    async def WhoAmI(self, request: auth_pb2.WhoAmIRequest, context: Context) -> auth_pb2.WhoAmIResponse:
        """Return how the server sees the caller."""
        caller = principal()
        roles = sorted(role.value for role in self._policy.roles(caller))
        return auth_pb2.WhoAmIResponse(
            principal=_message(caller), roles=roles, expire_time=timestamp(caller.expire_time)
        )


def _message(caller: Principal) -> auth_pb2.Principal:
    return auth_pb2.Principal(
        dn=caller.dn,
        vo=caller.vo,
        fqans=caller.fqans,
        limited=caller.limited,
        thumbprint=caller.thumbprint,
        proof=auth_pb2.ProofKind.ValueType(caller.proof.value),
    )
