"""Key policies: the one that a key has at first, the ones that are accepted later, and what bears on a request.

A key's policy must allow by itself (``Layers.resource_required``); naming the account's root lets the account's
identity policies allow as well. A grant that fits a request is put beside the policy as one more statement, so that an
explicit denial anywhere still wins, and boundaries and session policies limit sessions of a role as they do elsewhere.

Not covered: the identity side of a decision, which the service brings; ``Principal`` elements that are not understood
are refused when the policy is put.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache

from outcrop.base.errors import KeyRefused, check
from outcrop.base.faultpoints import point
from outcrop.trust.keys.grants import Grants
from outcrop.trust.keys.records import Context, Grant, Key, KeyManager
from outcrop.trust.keys.rows import KeyRows
from outcrop.trust.keys.states import KeyState, unusable
from outcrop.trust.policy import (
    Layers,
    Policy,
    PolicyRefused,
    PolicyRole,
    Request,
    Requester,
    compile_policy,
    decide,
)

POLICY_NAME = "default"  # the only name that a key policy may have (KMS API reference, PutKeyPolicy)
POLICY_BYTES_MAX = 32_768  # the same place

_EVERYTHING = compile_policy(
    {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]},
    PolicyRole.IDENTITY,
    "whatever the identity may do",
)


class KeyPolicies:
    """The policies of every key."""

    def __init__(self, rows: KeyRows, grants: Grants) -> None:
        self._rows = rows
        self._grants = grants

    def initial(self, account: str) -> str:
        """The policy of a key that is made without one: the account's root may do everything, and pass it on."""
        return _written(
            {
                "Sid": "EnableIAMUserPermissions",
                "Effect": "Allow",
                "Principal": {"AWS": f"arn:{self._rows.partition}:iam::{account}:root"},
                "Action": "kms:*",
                "Resource": "*",
            }
        )

    def of_default_key(self, account: str) -> str:
        """The policy of the service's own key for an account: use through Bedrock only, and looking at it."""
        root = {"AWS": f"arn:{self._rows.partition}:iam::{account}:root"}
        service = f"bedrock.{self._rows.region}.amazonaws.com"
        return _written(
            {
                "Sid": "UseThroughBedrock",
                "Effect": "Allow",
                "Principal": {"AWS": "*"},
                "Action": ["kms:Encrypt", "kms:Decrypt", "kms:ReEncrypt*", "kms:GenerateDataKey*", "kms:DescribeKey"],
                "Resource": "*",
                "Condition": {"StringEquals": {"kms:CallerAccount": account, "kms:ViaService": service}},
            },
            {
                "Sid": "LookAt",
                "Effect": "Allow",
                "Principal": root,
                "Action": ["kms:Describe*", "kms:Get*", "kms:List*"],
                "Resource": "*",
            },
        )

    def accept(self, text: str, account: str, key_arn: str, author: Requester | None) -> str:
        """``text`` as a key's policy, if it is understood and lets ``author`` change it again later.

        Without ``author`` nobody is looked out for (``BypassPolicyLockoutSafetyCheck``).
        """
        if len(text.encode()) > POLICY_BYTES_MAX:
            raise KeyRefused("LimitExceededException", f"A key policy has at most {POLICY_BYTES_MAX} bytes.")
        try:
            policy = compile_policy(text, PolicyRole.RESOURCE, "key policy", self._rows.partition)
        except PolicyRefused as error:
            raise KeyRefused("MalformedPolicyDocumentException", str(error)) from None
        if author is not None:
            request = Request(author, "kms:PutKeyPolicy", key_arn, account, {"kms:CallerAccount": author.account})
            layers = Layers(identity=(_EVERYTHING,), resource=policy, resource_required=True)
            if not decide(request, layers).allowed:
                raise KeyRefused(
                    "MalformedPolicyDocumentException",
                    "The new key policy will not allow you to update the key policy in the future.",
                )
        return text

    def put(self, key: Key, text: str, author: Requester | None) -> None:
        """Replace a key's policy by one that ``accept`` accepts."""
        accepted = self.accept(text, key.account, str(key.arn), author)
        with self._rows.database.transaction() as transaction:
            held = self._rows.read(transaction, key.key_id)
            if held.manager is KeyManager.AWS:
                raise KeyRefused("UnsupportedOperationException", f"The policy of {held.arn} is the service's.")
            if held.state not in (KeyState.ENABLED, KeyState.DISABLED):
                raise unusable(str(held.arn), held.state)
            point("kms.policy.begun")
            self._rows.update(transaction, key.key_id, policy=accepted)
            point("kms.policy.written")
        point("kms.policy.committed")

    def bearing_on(self, key: Key, requester: Requester | None, action: str, context: Context | None) -> Policy:
        """The key's policy for one request, with the grant that fits it as a further statement.

        Without ``requester`` it is the policy alone. ``action`` is ``kms:Name``; ``context`` the encryption context
        where the operation has one. Use it with ``resource_required``.
        """
        grant = None
        if requester is not None:
            grant = self._grants.allowing(key, requester, action.removeprefix("kms:"), context)
        text = key.policy if grant is None else _with_grant(key.policy, grant, action)
        return _compiled(text, str(key.arn), self._rows.partition)


def require_policy_name(name: str) -> None:
    """Raise ``NotFoundException`` for a policy name other than the only one."""
    if name != POLICY_NAME:
        raise KeyRefused("NotFoundException", f"No such policy exists: a key's only policy is named {POLICY_NAME}.")


@lru_cache(maxsize=1024)
def _compiled(text: str, name: str, partition: str) -> Policy:
    return compile_policy(text, PolicyRole.RESOURCE, name, partition)


def _with_grant(text: str, grant: Grant, action: str) -> str:
    document = json.loads(text)
    statements = document["Statement"]
    check(isinstance(statements, list | dict), "a stored policy was accepted")
    added = {
        "Sid": f"Grant{grant.grant_id}",
        "Effect": "Allow",
        "Principal": {"AWS": grant.grantee},
        "Action": action,
        "Resource": "*",
    }
    document["Statement"] = [*(statements if isinstance(statements, list) else [statements]), added]
    return json.dumps(document)


def _written(*statements: Mapping[str, object]) -> str:
    return json.dumps({"Version": "2012-10-17", "Id": "key-default", "Statement": statements}, indent=2)
