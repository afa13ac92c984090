"""Policy documents as they are written: measured as IAM measures them, and understood in full or refused."""

from __future__ import annotations

from outcrop.trust.identity.entities import within
from outcrop.trust.policy import PolicyRole, compile_policy, size


def checked(document: str, role: PolicyRole, name: str, quota: tuple[str, int], partition: str = "aws") -> str:
    """``document`` as it came; ``QuotaReached`` when it is larger than ``quota`` (its name, and characters other than
    white space), ``PolicyRefused`` when it is not understood.
    """
    within(size(document), quota[1], quota[0])
    compile_policy(document, role, name, partition)
    return document
