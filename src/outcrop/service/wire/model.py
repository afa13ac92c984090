"""What a service model says of a service, an operation, an error and a structure, as frozen records.

The tables in ``generated/`` are made of these. Field meanings follow the Smithy traits of the same name
(https://smithy.io/2.0/spec/http-bindings.html) as botocore's ``service-2.json`` files carry them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import msgspec

from outcrop.service.wire.built import BUILT


@dataclass(frozen=True, slots=True)
class ErrorShape:
    """One modelled error: its name on the wire, HTTP status, and the members of its body.

    ``message`` is how this service spells the message member (``message`` or ``Message``).
    """

    code: str
    status: int
    fault: bool = False
    message: str = "message"
    members: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation of one service, built or not.

    ``errors`` are names of error shapes. ``token`` is the wire name of the idempotency token, empty where there is
    none. ``streaming`` and ``duplex`` mean an event stream in the response, and in the request too.
    ``stream_errors`` maps an error's code to the event-stream member that carries it. ``signed`` is false where a
    request proves its sender by its content (``AssumeRoleWithWebIdentity``). ``api_version`` tells operations of one
    name apart in the query protocol, ``target_prefix`` those of the json protocol.
    """

    service: str
    name: str
    protocol: str
    api_version: str
    target_prefix: str
    signing_name: str
    method: str
    uri: str
    success_status: int
    errors: tuple[str, ...]
    signed: bool
    bearer: bool
    idempotent: bool
    token: str
    streaming: bool
    duplex: bool
    stream_errors: Mapping[str, str]

    @property
    def built(self) -> bool:
        """Whether this release answers the operation with more than 501."""
        return self.name in BUILT[self.service]


@dataclass(frozen=True, slots=True)
class Service:
    """One service: how it is spoken to and the errors that it declares, by shape name."""

    id: str
    protocol: str
    api_version: str
    endpoint_prefix: str
    signing_name: str
    bearer: bool
    xml_namespace: str = ""
    target_prefix: str = ""
    errors: Mapping[str, ErrorShape] = field(default_factory=dict)

    def operation(
        self,
        name: str,
        method: str,
        uri: str,
        success_status: int,
        errors: str,
        *,
        signed: bool = True,
        idempotent: bool = False,
        token: str = "",
        streaming: bool = False,
        duplex: bool = False,
        stream_errors: Mapping[str, str] | None = None,
    ) -> Operation:
        """An operation of this service; ``errors`` is a space-separated list of error shapes.

        Bearer keys are refused on duplex streams (Bedrock user guide, "API keys").
        """
        return Operation(
            service=self.id,
            name=name,
            protocol=self.protocol,
            api_version=self.api_version,
            target_prefix=self.target_prefix,
            signing_name=self.signing_name,
            method=method,
            uri=uri,
            success_status=success_status,
            errors=tuple(errors.split()),
            signed=signed,
            bearer=self.bearer and signed and not duplex,
            idempotent=idempotent,
            token=token,
            streaming=streaming,
            duplex=duplex,
            stream_errors=stream_errors or {},
        )


Bound = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Bindings:
    """Which attributes of a structure travel outside the JSON body: pairs of attribute and name on the wire.

    ``prefixes`` pairs an attribute with the header-name prefix that it collects. ``status`` and ``payload`` are
    attributes, empty where there is none.
    """

    labels: Bound = ()
    query: Bound = ()
    headers: Bound = ()
    prefixes: Bound = ()
    status: str = ""
    payload: str = ""


@dataclass(frozen=True, slots=True)
class Shapes:
    """The typed input and output of one operation, and their bindings.

    ``wrapper`` is the element around the output in the query protocol, ``namespace`` that of its XML.
    """

    input: type[msgspec.Struct]
    output: type[msgspec.Struct]
    request: Bindings = Bindings()
    response: Bindings = Bindings()
    wrapper: str = ""
    namespace: str = ""


class Shape(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel"):
    """Base of every generated structure: immutable, absent members are ``None`` and are left out on the wire."""


class UnionShape(Shape, frozen=True, kw_only=True):
    """Base of every generated union: exactly one member is set, checked whenever a value is made or decoded."""

    def __post_init__(self) -> None:
        values = msgspec.structs.astuple(self)
        if values.count(None) != len(values) - 1:
            raise ValueError(ONE_MEMBER)


ONE_MEMBER = "exactly one member"
