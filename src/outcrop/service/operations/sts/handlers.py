"""STS's operations, by the names of its service model."""

from __future__ import annotations

from outcrop.service.operations.base import Caller, Context, Handler
from outcrop.service.wire.generated import sts as shapes


async def get_caller_identity(
    context: Context, caller: Caller, request: shapes.GetCallerIdentityRequest
) -> shapes.GetCallerIdentityResponse:
    """The principal that signed the request."""
    who = caller.principal
    return shapes.GetCallerIdentityResponse(user_id=who.user_id, account=who.account, arn=str(who.arn))


HANDLERS: dict[str, Handler] = {"GetCallerIdentity": get_caller_identity}
