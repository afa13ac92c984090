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
from outcrop.trust.policy.compile import Policy, compile_policy
from outcrop.trust.policy.decide import decide
from outcrop.trust.policy.document import size

__all__ = [
    "Decision",
    "Effect",
    "Layers",
    "MatchedStatement",
    "Policy",
    "PolicyRefused",
    "PolicyRole",
    "Reason",
    "Request",
    "Requester",
    "RequesterKind",
    "compile_policy",
    "decide",
    "size",
]
