"""The access decision: ``decide(request, layers) -> Decision``, a pure function over compiled policies.

A policy document is compiled once (``compile_policy``); one that is not understood is refused there, and what could not
be read later counts as a denial, never as a permission. Nothing here reads a database, a clock or the network.
"""

from outcrop.trust.policy.base import (
    Decision,
    Effect,
    Layers,
    MatchedStatement,
    PolicyRefused,
    PolicyRole,
    Reason,
    Request,
    Requester,
    RequesterKind,
)

__all__ = [
    "Decision",
    "Effect",
    "Layers",
    "MatchedStatement",
    "PolicyRefused",
    "PolicyRole",
    "Reason",
    "Request",
    "Requester",
    "RequesterKind",
]
