"""The life of a request, readable on one screen.

    size cap -> route on the raw path -> verify the sender -> decode -> decide -> act -> encode -> record

The size cap is the application's, before the body is in memory; before a large one it asks for ``refusal``. A stage
that refuses raises; the error is told in the shape of the surface that was asked.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from outcrop.service.access import Access, Asking
from outcrop.service.admission import Visit
from outcrop.service.auditing import Auditor
from outcrop.service.endpoints import Endpoint
from outcrop.service.faults import client_gone, to_aws
from outcrop.service.http import RawRequest, Reply
from outcrop.service.invocations import Recording
from outcrop.service.operations.base import Caller, Context
from outcrop.service.routing import Routes
from outcrop.service.wire.errors import AwsError
from outcrop.service.wire.router import Match
from outcrop.trust.identity import Authenticator, Principal, SignedRequest
from outcrop.trust.policy import ContextValue

T = TypeVar("T")

LARGE_BODY_BYTES = 262_144
"""Bodies above this are hashed and decoded in a thread: 25 MB hashed on the event loop would stall every stream."""


@dataclass(slots=True)
class Call:
    """One request on its way through the stages; each stage fills in what it establishes."""

    request: RawRequest
    request_id: str
    started_s: float
    endpoint: Endpoint | None = None
    match: Match | None = None
    principal: Principal | None = None
    input: Any = None
    keys: Mapping[str, ContextValue] = field(default_factory=dict)
    """Condition keys: what is known of the request beside its input."""
    visit: Visit | None = None
    recording: Recording | None = None
    """Of an account that logs its invocations."""
    output: Any = None
    ended: asyncio.Task[Any] | None = None
    """The operation itself, where its client went away while it changed something: it was let come to its end."""
    reply: Reply | None = None

    def settle(self) -> None:
        """Give back what was reserved and not used."""
        if self.visit is not None:
            self.visit.close()


class Pipeline:
    """The stages over one set of routes, one authenticator, one set of policies and one audit trail."""

    def __init__(
        self, routes: Routes, authenticator: Authenticator, access: Access, auditor: Auditor, context: Context
    ) -> None:
        self._routes = routes
        self._authenticator = authenticator
        self._access = access
        self._auditor = auditor
        self._context = context
        self.stages = (self.route, self.verify, self.decode, self.decide, self.admit, self.act, self.encode)

    async def run(self, request: RawRequest, request_id: str) -> Reply:
        """The reply to ``request``; every failure becomes a typed one, and every call one event of the audit trail."""
        call = Call(request, request_id, self._context.clock.monotonic_s())
        failure: AwsError | None = None
        try:
            for stage in self.stages:
                await stage(call)
        except asyncio.CancelledError:
            call.settle()
            await self._record_forsaken(call)
            if call.recording is not None:
                call.recording.fail(client_gone())
            raise
        except Exception as error:  # noqa: BLE001 - the edge: nothing may reach the client untyped
            failure = self._told(call, error)
        try:
            await self._auditor.finish(call, failure)
        except Exception as unrecorded:  # noqa: BLE001 - as above: what was not recorded is not answered as done
            failure = self._told(call, unrecorded)
        if failure is not None or (call.reply is not None and isinstance(call.reply.body, bytes)):
            call.settle()  # a stream settles itself, at its end
        reply = call.reply if failure is None else self._fault(call)(failure, request_id)
        assert reply is not None
        return reply if call.recording is None else call.recording.end(reply, failure)

    async def _record_forsaken(self, call: Call) -> None:
        """Record a call whose client went away: as what became of it where it was at work on a change."""
        if call.ended is None:
            self._auditor.note(call, client_gone())
            return
        error = call.ended.exception()
        if error is None:
            call.output = call.ended.result()
        failure = self._told(call, error) if isinstance(error, Exception) else None
        with contextlib.suppress(AwsError):  # nobody is there to be told that it could not be recorded
            await self._auditor.finish(call, failure)

    def refusal(self, head: RawRequest, request_id: str) -> Reply | None:
        """The refusal that the head of a request earns whatever its body may be; ``None`` where the body is needed."""
        call = Call(head, request_id, self._context.clock.monotonic_s())
        try:
            endpoint, _ = self._routes.find(head)
            call.endpoint = endpoint
            if endpoint.signed:
                self._authenticator.check_head(
                    _signed(head), endpoint.signing_name, endpoint.bearer, endpoint.also_signed_for
                )
            else:
                self._authenticator.anonymous(_signed(head))
        except Exception as error:  # noqa: BLE001 - the edge, as above
            return self._refused(call, error)
        return None

    def unread(self, head: RawRequest, request_id: str, error: AwsError) -> Reply:
        """The reply to a request whose body was too large or did not come; recorded like any other."""
        call = Call(head, request_id, self._context.clock.monotonic_s())
        try:
            call.endpoint, _ = self._routes.find(head)
        except AwsError:
            call.endpoint = None  # the body's refusal is told, in the shape that the path asks for
        return self._refused(call, error)

    def _refused(self, call: Call, error: Exception) -> Reply:
        failure = self._told(call, error)
        self._auditor.note(call, failure)
        return self._fault(call)(failure, call.request_id)

    def _told(self, call: Call, error: Exception) -> AwsError:
        return to_aws(error, call.endpoint.service if call.endpoint else "", call.request_id)

    def _fault(self, call: Call) -> Callable[[AwsError, str], Reply]:
        return self._routes.fault(call.request) if call.endpoint is None else call.endpoint.fault

    async def route(self, call: Call) -> None:
        """Which operation is asked for; decided on the path as received."""
        call.endpoint, call.match = self._routes.find(call.request)

    async def verify(self, call: Call) -> None:
        """Who asks: a signature or an API key, before anything of the body is looked at.

        The few operations whose input is itself the proof (a token of an identity provider) have an anonymous sender,
        whatever signature came along.
        """
        endpoint = call.endpoint
        assert endpoint is not None
        signed = _signed(call.request)
        if not endpoint.signed:
            call.principal = self._authenticator.anonymous(signed)
            return
        call.principal = await _by_size(
            call.request,
            lambda: self._authenticator.authenticate(
                signed,
                endpoint.signing_name,
                endpoint.bearer,
                endpoint.also_signed_for,
                once=self._auditor.counts_once(call),
            ),
        )
        region = self._context.host.scope.region
        self._context.trust.identity.uses.note_request(call.principal, endpoint.signing_name, region)

    async def decode(self, call: Call) -> None:
        """The request as the operation's typed input."""
        endpoint = call.endpoint
        assert endpoint is not None
        call.input = await _by_size(call.request, lambda: endpoint.decode(call.request, call.match))

    async def decide(self, call: Call) -> None:
        """Whether the sender may do this, to what it names; an operation that is not built has nothing to decide."""
        endpoint = call.endpoint
        assert endpoint is not None
        assert call.principal is not None
        if endpoint.built:
            asking = Asking(call.principal, call.request, call.request_id, call.input)
            call.keys = self._access.decide(endpoint.name, asking)

    async def admit(self, call: Call) -> None:
        """Whether what the call does could be recorded: a full disk stops what changes something."""
        self._auditor.begin(call)

    async def act(self, call: Call) -> None:
        """The operation itself."""
        assert call.endpoint is not None
        assert call.principal is not None
        call.visit = Visit(self._context.gate, call.principal.account)
        call.recording = self._context.invocations.begin(
            call.endpoint.name, call.principal, call.request_id, call.input, call.request.body
        )
        caller = Caller(call.principal, call.request_id, call.started_s, call.visit, call.keys)
        work = call.endpoint.act(self._context, caller, call.input)
        if not self._auditor.changes(call):
            call.output = await work
            return
        # A thread cannot be called back: were this left with its client, the trail would tell a failure of what is
        # then done all the same.
        task = asyncio.ensure_future(work)
        try:
            call.output = await asyncio.shield(task)
        except asyncio.CancelledError:
            while not task.done():
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.wait([task])
            call.ended = task
            raise

    async def encode(self, call: Call) -> None:
        """The operation's output as bytes; streams are encoded as they go."""
        assert call.endpoint is not None
        call.reply = (
            call.output if isinstance(call.output, Reply) else call.endpoint.encode(call.output, call.request_id)
        )


def _signed(request: RawRequest) -> SignedRequest:
    return SignedRequest(request.method, request.raw_path, request.raw_query, request.headers, request.body)


async def _by_size(request: RawRequest, work: Callable[[], T]) -> T:
    if len(request.body) > LARGE_BODY_BYTES:
        return await asyncio.to_thread(work)
    return work()
