"""What a review tried on keys: an alias that moves while a call waits for its thread, a grant that grows under a
condition which says "not".
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from outcrop.service.operations.kms import handlers
from serving import Running
from trust_rig import allow, client, make_user, opened, refused, root_keys, user_arn


def test_a_call_uses_the_key_that_was_decided_on(service: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    kms = client(service, "kms", root_keys(service))
    mine, theirs = (kms.create_key()["KeyMetadata"]["Arn"] for _ in range(2))
    kms.create_alias(AliasName="alias/moving", TargetKeyId=mine)
    with opened(service.data) as trust:
        keys = make_user(trust, service.account, "mover", allow("kms:Encrypt", mine))
        real, moved = handlers.in_control_thread, []

        async def late(work: Callable[..., Any], *args: Any) -> Any:
            """All threads were busy, and meanwhile the alias was moved."""
            if work is handlers.use.encrypt and not moved:
                moved.append(theirs)
                trust.keys.aliases.update(service.account, "alias/moving", trust.keys.find(theirs, service.account))
            return await real(work, *args)

        monkeypatch.setattr(handlers, "in_control_thread", late)
        user = client(service, "kms", keys)
        assert user.encrypt(KeyId="alias/moving", Plaintext=b"x")["KeyId"] == mine
        assert moved
        with refused("AccessDeniedException"):
            user.encrypt(KeyId="alias/moving", Plaintext=b"x")


@pytest.mark.parametrize("environment", ["prod", "test"])
def test_a_grant_made_under_a_grant_stays_within_it(service: Running, environment: str) -> None:
    """A policy allows grants on keys that are not tagged prod; on one that is, only a grant does."""
    name = f"granter-{environment}"
    with opened(service.data) as trust:
        unless = {"StringNotEquals": {"aws:ResourceTag/env": "prod"}}
        keys = make_user(trust, service.account, name, allow("kms:CreateGrant", Condition=unless))
    root = client(service, "kms", root_keys(service))
    arn = root.create_key(Tags=[{"TagKey": "env", "TagValue": environment}])["KeyMetadata"]["Arn"]
    grantee = user_arn(service.account, name)
    root.create_grant(KeyId=arn, GranteePrincipal=grantee, Operations=["CreateGrant", "Encrypt"])
    user = client(service, "kms", keys)
    wider = {"KeyId": arn, "GranteePrincipal": grantee, "Operations": ["Decrypt"]}
    if environment == "prod":
        with refused("AccessDeniedException", "cannot allow more"):
            user.create_grant(**wider)
        user.create_grant(**{**wider, "Operations": ["Encrypt"]})
    else:
        user.create_grant(**wider)
