"""The access decision: ``decide(request, layers) -> Decision``, a pure function over compiled policies.

A policy document is compiled once (``compile_policy``); one that is not understood is refused there, and what could not
be read later counts as a denial, never as a permission. Nothing here reads a database, a clock or the network.

The rules are those of the IAM User Guide. Where it leaves a case open, or calls a whole statement invalid, the reading
here permits less; those places are told in ``conditions`` and ``compile``. Not covered: which actions, resources and
condition keys a service knows, size quotas (``size`` counts for them), canonical user ids, unique ids of principals,
VPC endpoint policies and access control lists.
"""

from outcrop.base.errors import PolicyRefused
from outcrop.trust.policy.base import (
    ContextValue,
    Decision,
    Effect,
    Layers,
    MatchedStatement,
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
    "ContextValue",
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
