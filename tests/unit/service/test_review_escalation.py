"""Ways up that a review found: one policy under two spellings, tags without the permission to tag, denials as large
as a body, providers named with a slash more.
"""

from __future__ import annotations

import pytest
from botocore.exceptions import ClientError

from serving import Running
from trust_rig import allow, client, deny, document, make_user, opened, refused, trusting, user_arn

ADMIN = "arn:aws:iam::aws:policy/AdministratorAccess"


@pytest.mark.parametrize(
    ("number", "spelling"),
    list(
        enumerate(
            [
                "arn:aws:iam::{account}:policy/everything",
                "arn:aws:iam::{account}:policy/EVERYTHING",
                "arn:aws-cn:iam::{account}:policy/Everything",
                "arn:aws-cn:iam::aws:policy/AdministratorAccess",
                "arn:anything:iam::aws:policy/AdministratorAccess",
                "arn:aws:iam::aws:/AdministratorAccess",
            ]
        )
    ),
)
def test_a_policy_that_may_not_be_attached_has_no_second_name(service: Running, number: int, spelling: str) -> None:
    account, own = service.account, f"arn:aws:iam::{service.account}:policy/Everything"
    name = f"climber{number}"
    kept_off = {"ArnLike": {"iam:PolicyARN": [own, ADMIN]}}
    with opened(service.data) as trust:
        if own not in [str(policy.arn) for policy in trust.identity.policies.all(account, "Local")]:
            trust.identity.policies.create(account, "Everything", document(allow("*")))
        keys = make_user(
            trust, account, name, allow("iam:AttachUserPolicy"), deny("iam:AttachUserPolicy", Condition=kept_off)
        )
        iam = client(service, "iam", keys)
        with refused("AccessDenied"):
            iam.attach_user_policy(UserName=name, PolicyArn=own)
        with pytest.raises(ClientError):
            iam.attach_user_policy(UserName=name, PolicyArn=spelling.format(account=account))
        assert trust.identity.holdings.attached(account, "user", name) == []


def test_its_own_name_attaches(service: Running) -> None:
    with opened(service.data) as trust:
        keys = make_user(trust, service.account, "attacher", allow("iam:AttachUserPolicy"))
        client(service, "iam", keys).attach_user_policy(UserName="attacher", PolicyArn=ADMIN)
        assert trust.identity.holdings.attached(service.account, "user", "attacher") == [ADMIN]


def test_tags_at_creation_take_the_permission_to_tag(service: Running) -> None:
    made = ["iam:CreateUser", "iam:CreateRole", "iam:CreatePolicy", "iam:CreateOpenIDConnectProvider"]
    with opened(service.data) as trust:
        keys = make_user(trust, service.account, "tagger", allow(made), deny("iam:Tag*"))
    iam, tags = client(service, "iam", keys), [{"Key": "team", "Value": "admin"}]
    trust_policy = trusting({"AWS": user_arn(service.account, "tagger")})
    with refused("AccessDenied", "iam:TagUser"):
        iam.create_user(UserName="tagged", Tags=tags)
    with refused("AccessDenied", "iam:TagRole"):
        iam.create_role(RoleName="tagged", AssumeRolePolicyDocument=trust_policy, Tags=tags)
    with refused("AccessDenied", "iam:TagPolicy"):
        iam.create_policy(PolicyName="tagged", PolicyDocument=document(allow("*")), Tags=tags)
    with refused("AccessDenied", "iam:TagOpenIDConnectProvider"):
        iam.create_open_id_connect_provider(Url="https://tagged.example.org", Tags=tags)
    iam.create_user(UserName="untagged")  # the twin
    iam.create_role(RoleName="untagged", AssumeRolePolicyDocument=trust_policy, Tags=[])


def test_a_provider_is_decided_on_under_the_name_that_it_gets(service: Running) -> None:
    arn = f"arn:aws:iam::{service.account}:oidc-provider/issuer.example.org"
    with opened(service.data) as trust:
        keys = make_user(
            trust,
            service.account,
            "federator",
            allow("iam:CreateOpenIDConnectProvider"),
            deny("iam:CreateOpenIDConnectProvider", arn),
        )
    iam = client(service, "iam", keys)
    for url in ("https://issuer.example.org", "https://issuer.example.org/"):
        with refused("AccessDenied"):
            iam.create_open_id_connect_provider(Url=url)
    iam.create_open_id_connect_provider(Url="https://other.example.org/")  # the twin


def test_a_denial_takes_bounded_room(service: Running) -> None:
    with opened(service.data) as trust:
        keys = make_user(trust, service.account, "flooder")
    file = service.data / "denials.jsonl"
    before = file.stat().st_size if file.exists() else 0
    kms, context = client(service, "kms", keys), {f"name{number:05}": "v" * 100 for number in range(5000)}
    with refused("AccessDeniedException"):
        kms.encrypt(KeyId="alias/any", Plaintext=b"x", EncryptionContext=context)
    assert 0 < file.stat().st_size - before < 100_000
