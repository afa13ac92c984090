"""Random policies and requests for comparing policy evaluators; the same seed gives the same cases.

A case is a JSON object: who asks (``requester``), ``action``, ``resource``, its owner (``resource_account``), the
request's ``context``, and the policies of each layer as documents. Statements are drawn from the request they are to
judge, so that most of them come close to matching it. Not covered: the account's root, web identities, canonical ids,
documents that are refused, several session policies.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

Case = dict[str, Any]
Document = dict[str, Any]
T = TypeVar("T")

OWN, OTHER, THIRD = "111122223333", "444455556666", "777788889999"
FULL_RCP: Document = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Principal": "*", "Action": "*", "Resource": "*"}],
}

# action, ARN of its resource in an account
TARGETS = [
    ("bedrock:InvokeModel", "arn:aws:bedrock:us-east-1::foundation-model/outcrop.small-v1:0"),
    ("bedrock:GetGuardrail", "arn:aws:bedrock:us-east-1:{}:guardrail/g1"),
    ("s3:GetObject", "arn:aws:s3:::bucket/bob/x.txt"),
    ("s3:GetObject", "arn:aws:s3:::bucket/red/a:b"),
    ("s3:ListBucket", "arn:aws:s3:::bucket"),
    ("sqs:SendMessage", "arn:aws:sqs:us-east-1:{}:queue1"),
    ("kms:Decrypt", "arn:aws:kms:us-east-1:{}:key/1234abcd-12ab-34cd-56ef-1234567890ab"),
    ("sts:AssumeRole", "arn:aws:iam::{}:role/target"),
]

KINDS: dict[str, list[str]] = {
    "text": ["bob", "eve", "Bob", "b?b", "b*", "*b", "red", "", "x.txt", "${aws:username}", "bob eve"],
    "number": ["0", "60", "60.0", "59.5", "-5", "3600", "060"],
    "date": ["2026-11-22T10:00:00Z", "2026-11-22", "2026-11-22T09:59:59Z", "2026-11-22T11:00:00+01:00", "2027-01-01"],
    "truth": ["true", "false", "True"],
    "address": ["10.1.2.3", "10.1.2.4", "192.0.2.1", "2001:db8::1", "2001:db8:1::1"],
    "arn": [
        "arn:aws:s3:::bucket",
        "arn:aws:sns:us-east-1:111122223333:t1",
        "arn:aws:sns:us-east-1:111122223333:a:t1",
        "arn:aws:lambda:us-east-1:444455556666:function:f",
    ],
    "bytes": ["AQID", "AQI=", "AAAA"],
    "list": ["a", "b", "Env", "team"],
}
BLOB = "lambda:Blob"
"""Of all keys the one that is not AWS-wide; left out where the other evaluator may look keys up."""
KEYS = {
    "aws:username": "text",
    "aws:PrincipalTag/team": "text",
    "aws:RequestTag/env": "text",
    "aws:UserAgent": "text",
    "aws:MultiFactorAuthAge": "number",
    "aws:CurrentTime": "date",
    "aws:TokenIssueTime": "date",
    "aws:SecureTransport": "truth",
    "aws:MultiFactorAuthPresent": "truth",
    "aws:SourceIp": "address",
    "aws:SourceArn": "arn",
    "aws:PrincipalArn": "arn",
    "aws:TagKeys": "list",
    "aws:CalledVia": "list",
    BLOB: "bytes",
}
_TEXTS = ["StringEquals", "StringNotEquals", "StringEqualsIgnoreCase", "StringNotEqualsIgnoreCase", "StringLike"]
_ORDERS = ["Equals", "NotEquals", "LessThan", "LessThanEquals", "GreaterThan", "GreaterThanEquals"]
OPERATORS: dict[str, list[str]] = {
    "text": [*_TEXTS, "StringNotLike"],
    "list": [*_TEXTS, "StringNotLike"],
    "number": [f"Numeric{order}" for order in _ORDERS],
    "date": [f"Date{order}" for order in _ORDERS],
    "truth": ["Bool"],
    "address": ["IpAddress", "NotIpAddress"],
    "arn": ["ArnEquals", "ArnNotEquals", "ArnLike", "ArnNotLike"],
    "bytes": ["BinaryEquals"],
}


class Cases:
    """Draws cases one after the other."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self._keys = list(KEYS)
        self._spellings: dict[str, str] = {}

    def draw(self, number: int) -> Case:
        """The next case, numbered ``number``."""
        action, template = self._one(TARGETS)
        owner = OWN if self._chance(0.7) else OTHER
        resource = template.format(owner)
        requester = self._requester()
        trust = action.startswith("sts:")
        outsider = requester["kind"] in ("service", "anonymous")
        has_resource_policy = trust or outsider or owner != OWN or self._chance(0.4)
        has_session = requester["kind"] == "federated-user" or (
            requester["kind"] == "assumed-role" and self._chance(0.3)
        )
        self._keys = [key for key in KEYS if key != BLOB or not (has_resource_policy or has_session)]
        self._spellings = {key: key if self._chance(0.9) else key.upper() for key in KEYS}
        case: Case = {
            "id": number,
            "requester": requester,
            "action": action,
            "resource": resource,
            "resource_account": owner,
            "resource_required": action.startswith(("kms:", "sts:")),
            "context": self._context(),
            "identity": [],
            "boundary": None,
            "session": None,
            "resource_policy": None,
            "scps": [],
            "rcps": [],
        }
        if has_resource_policy:
            case["resource_policy"] = self._document(case, "trust" if trust else "resource", self.random.randint(1, 3))
        if not outsider:
            case["identity"] = [self._document(case, "identity", self.random.randint(1, 3)) for _ in range(2)]
            if self._chance(0.25):
                case["boundary"] = self._document(case, "identity", 2)
            if has_session:
                case["session"] = self._document(case, "identity", 2)
            if self._chance(0.25):
                case["scps"] = [[self._document(case, "scp", 2)] for _ in range(self.random.randint(1, 2))]
        if self._chance(0.15):
            case["rcps"] = [[FULL_RCP, *self._denials(case)] for _ in range(self.random.randint(1, 2))]
        return case

    def _denials(self, case: Case) -> list[Document]:
        written = self._document(case, "rcp", 1)
        return [written] if self._chance(0.7) else []

    def _requester(self) -> dict[str, str]:
        kind = self.random.choices(
            ["user", "assumed-role", "federated-user", "service", "anonymous"], [10, 6, 1, 1, 1]
        )[0]
        if kind == "user":
            return {"kind": kind, "account": OWN, "arn": f"arn:aws:iam::{OWN}:user/bob", "role_arn": "", "name": ""}
        if kind == "assumed-role":
            arn, role = f"arn:aws:sts::{OWN}:assumed-role/worker/s1", f"arn:aws:iam::{OWN}:role/worker"
            return {"kind": kind, "account": OWN, "arn": arn, "role_arn": role, "name": ""}
        if kind == "federated-user":
            arn, user = f"arn:aws:sts::{OWN}:federated-user/bob", f"arn:aws:iam::{OWN}:user/bob"
            return {"kind": kind, "account": OWN, "arn": arn, "role_arn": user, "name": ""}
        name = "bedrock.amazonaws.com" if kind == "service" else ""
        return {"kind": kind, "account": "", "arn": "", "role_arn": "", "name": name}

    def _context(self) -> dict[str, str | list[str]]:
        context: dict[str, str | list[str]] = {}
        for key in self._keys:
            if self._chance(0.6):
                pool = KINDS[KEYS[key]]
                several = KEYS[key] == "list"
                context[key] = self.random.choices(pool, k=self.random.randint(0, 3)) if several else self._one(pool)
        return context

    def _document(self, case: Case, role: str, count: int) -> Document:
        version = "2012-10-17" if role in ("scp", "rcp") or self._chance(0.95) else "2008-10-17"
        return {"Version": version, "Statement": [self._statement(case, role) for _ in range(count)]}

    def _statement(self, case: Case, role: str) -> Document:
        said: Document = {"Effect": "Allow" if role != "rcp" and self._chance(0.75) else "Deny"}
        negates = role not in ("trust", "rcp")
        said["NotAction" if negates and self._chance(0.1) else "Action"] = self._some(lambda: self._action(case, role))
        if role != "trust":
            element = "NotResource" if self._chance(0.12) else "Resource"
            said[element] = self._some(lambda: self._resource(case["resource"]))
        if role in ("trust", "resource"):
            element = "NotPrincipal" if said["Effect"] == "Deny" and self._chance(0.15) else "Principal"
            said[element] = self._principal(case, element == "NotPrincipal")
        elif role == "rcp":
            said["Principal"] = "*"
        conditions: dict[str, dict[str, Any]] = {}
        for _ in range(self.random.choices([0, 1, 2], [5, 5, 2])[0]):
            operator, key, values = self._condition(case)
            conditions.setdefault(operator, {})[key] = values
        if conditions:
            said["Condition"] = conditions
        return said

    def _action(self, case: Case, role: str) -> str:
        action: str = case["action"]
        prefix, name = action.split(":")
        shapes = [
            action,
            action,
            f"{prefix}:*",
            f"{prefix}:{name[:3]}*",
            f"{prefix}:*{name[-4:]}",
            f"{prefix}:?{name[1:]}",
            f"{prefix}:{name}?",
            action.upper(),
            f"{prefix}:Tag{name}",
        ]
        if role not in ("trust", "rcp"):
            shapes += ["*", "s3:*", "iam:PassRole"]
        return action if self._chance(0.3) else self._one(shapes)

    def _resource(self, resource: str) -> str:
        pieces = resource.split(":", 5)
        last = pieces[5]
        shapes: list[Callable[[], str]] = [
            lambda: "*",
            lambda: resource,
            lambda: resource[:-1] + "?",
            lambda: resource[:-1] + "*",
            lambda: resource + "?",
            lambda: resource.swapcase().replace("ARN:AWS:", "arn:aws:", 1),
            lambda: ":".join([*pieces[:5], "*"]),
            lambda: ":".join([*pieces[:3], "*", "*", last]),
            lambda: ":".join([*pieces[:3], pieces[3][:-1] + "?" if pieces[3] else "", *pieces[4:]]),
            lambda: ":".join([*pieces[:4], "*", last[: len(last) // 2] + "*"]),
            lambda: f"arn:aws:{pieces[2]}:*",
            lambda: resource.replace("bob", "${aws:username}").replace("red", "${aws:PrincipalTag/team}"),
            lambda: ":".join([*pieces[:5], "*" + last[3:]]),
            lambda: ":".join([*pieces[:5], "${aws:username}" + last[3:]]),
            lambda: ":".join([*pieces[:5], last.replace("bob", "${aws:RequestTag/env, 'bob'}")]),
            lambda: "arn:aws:s3:::other/*",
            lambda: ":".join([*pieces[:5], last.replace("/", "?").replace(".", "x")]),
        ]
        return "*" if self._chance(0.2) else self._one(shapes)()

    def _principal(self, case: Case, negated: bool) -> Any:
        requester = case["requester"]
        root = f"arn:aws:iam::{OWN}:root"
        names = [OWN, root, OTHER, f"arn:aws:iam::{OWN}:user/bob", f"arn:aws:iam::{OWN}:user/eve"]
        names += [f"arn:aws:iam::{OWN}:role/worker", f"arn:aws:sts::{OWN}:assumed-role/worker/s1"]
        names += [f"arn:aws:sts::{OWN}:assumed-role/worker/s2", f"arn:aws:sts::{OWN}:federated-user/bob"]
        if requester["kind"] == "service" and self._chance(0.6):
            return {"Service": self._some(lambda: self._one(["bedrock.amazonaws.com", "s3.amazonaws.com"]))}
        if negated:
            own = [each for each in (requester["arn"], requester["role_arn"], root) if each]
            kept = [each for each in own if self._chance(0.8)]
            return {"AWS": kept or [root]}
        if self._chance(0.2):
            return self._one(["*", {"AWS": "*"}])
        return {"AWS": self._some(lambda: self._one(names))}

    def _condition(self, case: Case) -> tuple[str, str, Any]:
        key = self._one(self._keys)
        kind = KEYS[key]
        if self._chance(0.08):
            return "Null", self._spellings[key], self._one(["true", "false"])
        if kind not in ("text", "list") and self._chance(0.05):
            kind = "text"  # any key may be compared as a text
        operator = self._one(OPERATORS[kind])
        values = self._some(lambda: self._value(case, key, kind, operator))
        if self._chance(0.75 if KEYS[key] == "list" else 0.05):
            operator = self._one(["ForAllValues:", "ForAnyValue:"]) + operator
        if self._chance(0.15):
            operator += "IfExists"
        return operator, self._spellings[key], values

    def _value(self, case: Case, key: str, kind: str, operator: str) -> str:
        seen = case["context"].get(key)
        pool = KINDS[kind]
        near = isinstance(seen, str) and seen and self._chance(0.4) and (kind == "text" or seen in pool)
        value = str(seen) if near else self._one(pool)
        if kind == "address" and self._chance(0.6):
            return self._one(["10.0.0.0/8", "10.1.2.0/24", "10.1.2.3/32", "192.0.2.0/24", "2001:db8::/32", "0.0.0.0/0"])
        if kind == "arn" and self._chance(0.6):
            pieces = value.split(":", 5)
            place = self.random.randint(2, 5)
            pieces[place] = self._one(["*", "?" + pieces[place][1:], pieces[place][:2] + "*", "${aws:username}"])
            return ":".join(pieces)
        if kind in ("text", "list") and value and "${" not in value:
            drawn = self.random.random()
            if drawn < 0.1:
                return self._one(["${aws:username}", "${aws:PrincipalTag/team, 'red'}", "${aws:UserAgent}*", "${*}b"])
            if drawn < 0.35:
                return self._one([value[0] + "*", "?" + value[1:], value + "?", "*", value.upper()])
        return value

    def _some(self, make: Callable[[], str]) -> str | list[str]:
        count = self.random.choices([1, 2, 3], [6, 3, 1])[0]
        return make() if count == 1 else [make() for _ in range(count)]

    def _one(self, choices: Sequence[T]) -> T:
        return self.random.choice(choices)

    def _chance(self, probability: float) -> bool:
        return self.random.random() < probability
