"""The layers together: AWS's order, one account and two, who is named how, and what is reported."""

from __future__ import annotations

import pytest
from trust_policies import (
    ANONYMOUS,
    FEDERATED,
    INVOKE,
    MODEL,
    OTHER,
    OWN,
    PROVIDER,
    ROLE_ARN,
    ROOT,
    SERVICE,
    SESSION,
    SESSION_ARN,
    USER,
    WEB,
    allow,
    ask,
    deny,
    policy,
    request,
    resource_policy,
    scp,
)

from outcrop.base.errors import InvariantError
from outcrop.trust.policy import Effect, Layers, PolicyRole, Reason, Request, Requester, RequesterKind, decide

ALL = policy(allow())
NOTHING = policy(allow("s3:*"))
BOUND = policy(allow(), role=PolicyRole.BOUNDARY)
BOUND_ELSEWHERE = policy(allow("s3:*"), role=PolicyRole.BOUNDARY)
FOR_SESSION = policy(allow(), role=PolicyRole.SESSION)
FOR_SESSION_ELSEWHERE = policy(allow("s3:*"), role=PolicyRole.SESSION)
SCP_ALL = scp(allow())
SCP_ELSEWHERE = scp(allow("s3:*"))
RCP_ALL = policy(allow(Principal="*"), role=PolicyRole.RCP)
RCP_DENY = policy(deny("bedrock:*", Principal="*"), role=PolicyRole.RCP)
ROOT_ARN = f"arn:aws:iam::{OWN}:root"


def open_to(principal, **elements):
    return resource_policy(allow(Principal=principal, **elements))


def outcome(layers: Layers, **asked) -> Reason:
    decision = ask(layers, **asked)
    assert decision.allowed is decision.reason.name.startswith("ALLOWED")
    return decision.reason


def test_nothing_is_allowed_by_default():
    assert outcome(Layers()) is Reason.IDENTITY
    assert outcome(Layers(identity=(NOTHING,))) is Reason.IDENTITY
    assert outcome(Layers(identity=(NOTHING, ALL))) is Reason.ALLOWED_IDENTITY


DENY = deny("bedrock:*")
LAYERS_WITH_A_DENY = {
    "identity": Layers(identity=(ALL, policy(DENY))),
    "boundary": Layers(identity=(ALL,), boundary=policy(allow(), DENY, role=PolicyRole.BOUNDARY)),
    "session": Layers(identity=(ALL,), session=(FOR_SESSION, policy(DENY, role=PolicyRole.SESSION))),
    "resource": Layers(identity=(ALL,), resource=resource_policy({**DENY, "Principal": {"AWS": OWN}})),
    "scp": Layers(identity=(ALL,), scps=((SCP_ALL,), (SCP_ALL, scp(DENY)))),
    "rcp": Layers(identity=(ALL,), rcps=((RCP_ALL,), (RCP_ALL, RCP_DENY))),
}


@pytest.mark.parametrize("layers", LAYERS_WITH_A_DENY.values(), ids=LAYERS_WITH_A_DENY.keys())
@pytest.mark.parametrize("requester", [USER, SESSION, ROOT], ids=str)
def test_an_explicit_deny_in_any_layer_ends_it(layers, requester):
    assert outcome(layers, requester=requester) is Reason.EXPLICIT_DENY
    assert outcome(layers, requester=requester, action="s3:GetObject").name.startswith("ALLOWED")


def test_every_level_of_the_organisation_must_allow():
    assert outcome(Layers((ALL,), scps=((SCP_ALL,), (SCP_ELSEWHERE, SCP_ALL)))) is Reason.ALLOWED_IDENTITY
    assert outcome(Layers((ALL,), scps=((SCP_ALL,), (SCP_ELSEWHERE,)))) is Reason.SCP
    assert outcome(Layers((ALL,), scps=((SCP_ELSEWHERE,), (SCP_ALL,)))) is Reason.SCP
    assert outcome(Layers((ALL,), scps=((SCP_ALL,), ()))) is Reason.SCP
    assert outcome(Layers((ALL,), rcps=((RCP_ALL,),))) is Reason.ALLOWED_IDENTITY
    assert outcome(Layers((ALL,), rcps=((RCP_ALL,), ()))) is Reason.RCP
    assert outcome(Layers((ALL,), rcps=((),), scps=((),))) is Reason.RCP


def test_no_level_grants_anything():
    assert outcome(Layers(scps=((SCP_ALL,),), rcps=((RCP_ALL,),))) is Reason.IDENTITY
    assert outcome(Layers(boundary=BOUND, session=(FOR_SESSION,))) is Reason.IDENTITY


def test_the_organisation_binds_root_and_grants_by_a_resource():
    assert outcome(Layers(scps=((SCP_ELSEWHERE,),)), requester=ROOT) is Reason.SCP
    assert outcome(Layers(resource=open_to("*"), scps=((SCP_ELSEWHERE,),))) is Reason.SCP
    assert outcome(Layers(resource=open_to("*"), rcps=((),)), requester=ANONYMOUS) is Reason.RCP


def test_boundary_and_session_intersect():
    assert outcome(Layers((ALL,), boundary=BOUND)) is Reason.ALLOWED_IDENTITY
    assert outcome(Layers((ALL,), boundary=BOUND_ELSEWHERE)) is Reason.BOUNDARY
    assert outcome(Layers((ALL,), session=(FOR_SESSION,)), requester=SESSION) is Reason.ALLOWED_IDENTITY
    assert outcome(Layers((ALL,), session=(FOR_SESSION_ELSEWHERE,)), requester=SESSION) is Reason.SESSION
    assert outcome(Layers((ALL,), session=()), requester=SESSION) is Reason.SESSION
    both = Layers((ALL,), boundary=BOUND_ELSEWHERE, session=(FOR_SESSION_ELSEWHERE,))
    assert outcome(both, requester=SESSION) is Reason.BOUNDARY


def test_root_may_do_everything_in_its_own_account():
    assert outcome(Layers(), requester=ROOT) is Reason.ALLOWED_ROOT
    assert outcome(Layers(), requester=ROOT, account="") is Reason.ALLOWED_ROOT
    assert outcome(Layers(), requester=ROOT, account=OTHER) is Reason.RESOURCE
    assert outcome(Layers(resource=open_to({"AWS": OWN})), requester=ROOT, account=OTHER) is Reason.ALLOWED_RESOURCE


# Who is named, for whom it is, and whether that is enough where identity, boundary or session do not allow.
SAME_ACCOUNT = {
    "everyone": ("*", {USER: True, SESSION: True, FEDERATED: True, ROOT: True}),
    "everyone in AWS": ({"AWS": "*"}, {USER: True, SESSION: True, FEDERATED: True, ROOT: True}),
    "the account": ({"AWS": OWN}, {USER: False, SESSION: False, FEDERATED: False, ROOT: True}),
    "the account's root": ({"AWS": ROOT_ARN}, {USER: False, SESSION: False, FEDERATED: False, ROOT: True}),
    "the user": ({"AWS": USER.arn}, {USER: True, SESSION: False, ROOT: True}),
    "the session": ({"AWS": SESSION_ARN}, {USER: False, SESSION: True, ROOT: True}),
    "the federated user": ({"AWS": FEDERATED.arn}, {USER: False, FEDERATED: True}),
    "another user": ({"AWS": f"{USER.arn}2"}, {USER: False, SESSION: False, FEDERATED: False}),
    "another account": ({"AWS": OTHER}, {USER: False, SESSION: False, FEDERATED: False}),
    "another partition's account": ({"AWS": ROOT_ARN.replace("aws", "aws-cn")}, {USER: False, SESSION: False}),
    "a service": ({"Service": "bedrock.amazonaws.com"}, {USER: False, SESSION: False}),
}


@pytest.mark.parametrize(("principal", "enough"), SAME_ACCOUNT.values(), ids=SAME_ACCOUNT.keys())
def test_who_is_granted_alone_in_one_account(principal, enough):
    limited = Layers(
        resource=open_to(principal), boundary=BOUND_ELSEWHERE, session=(FOR_SESSION_ELSEWHERE,), identity=(NOTHING,)
    )
    for requester, granted in enough.items():
        layers = Layers(resource=open_to(principal)) if requester is ROOT else limited
        assert ask(layers, requester=requester).allowed is granted, requester.kind


def test_the_role_behind_a_session_is_granted_within_boundary_and_session_policy():
    named = open_to({"AWS": ROLE_ARN})
    assert outcome(Layers(resource=named), requester=SESSION) is Reason.ALLOWED_RESOURCE
    assert outcome(Layers(resource=named, identity=(ALL,)), requester=SESSION) is Reason.ALLOWED_BOTH
    assert outcome(Layers(resource=named, boundary=BOUND_ELSEWHERE), requester=SESSION) is Reason.BOUNDARY
    assert outcome(Layers(resource=named, session=(FOR_SESSION_ELSEWHERE,)), requester=SESSION) is Reason.SESSION
    wide = Layers(resource=named, boundary=BOUND, session=(FOR_SESSION,))
    assert outcome(wide, requester=SESSION) is Reason.ALLOWED_RESOURCE
    assert outcome(Layers(resource=named), requester=USER) is Reason.IDENTITY


def test_the_user_behind_a_federated_session_likewise():
    named = open_to({"AWS": USER.arn})
    assert outcome(Layers(resource=named), requester=FEDERATED) is Reason.ALLOWED_RESOURCE
    assert outcome(Layers(resource=named, boundary=BOUND_ELSEWHERE), requester=FEDERATED) is Reason.BOUNDARY
    assert outcome(Layers(resource=named, session=(FOR_SESSION_ELSEWHERE,)), requester=FEDERATED) is Reason.SESSION


def test_a_federated_user_has_what_identity_and_session_policy_share():
    assert outcome(Layers((ALL,), session=(FOR_SESSION,)), requester=FEDERATED) is Reason.ALLOWED_IDENTITY
    assert outcome(Layers((ALL,)), requester=FEDERATED) is Reason.IDENTITY
    assert outcome(Layers((NOTHING,), session=(FOR_SESSION,)), requester=FEDERATED) is Reason.IDENTITY


def test_naming_the_account_hands_the_matter_to_its_identity_policies():
    named = open_to({"AWS": OWN})
    assert outcome(Layers(resource=named)) is Reason.IDENTITY
    assert outcome(Layers((ALL,), resource=named)) is Reason.ALLOWED_BOTH
    assert outcome(Layers((ALL,), resource=named, boundary=BOUND_ELSEWHERE)) is Reason.BOUNDARY


def test_the_reason_tells_whether_both_sides_allow():
    named = open_to({"AWS": USER.arn})
    assert outcome(Layers((ALL,), resource=named)) is Reason.ALLOWED_BOTH
    assert outcome(Layers((NOTHING,), resource=named)) is Reason.ALLOWED_RESOURCE
    assert outcome(Layers((ALL,), resource=named, boundary=BOUND)) is Reason.ALLOWED_BOTH
    assert outcome(Layers((ALL,), resource=named, boundary=BOUND_ELSEWHERE)) is Reason.ALLOWED_RESOURCE
    assert outcome(Layers(resource=named), requester=ROOT) is Reason.ALLOWED_ROOT
    assert outcome(Layers(resource=open_to("*")), requester=ROOT) is Reason.ALLOWED_RESOURCE


def test_the_farthest_reach_of_a_policy_counts():
    both = resource_policy(allow(Principal={"AWS": OWN}), allow(Principal={"AWS": USER.arn}))
    assert outcome(Layers(resource=both)) is Reason.ALLOWED_RESOURCE
    assert (
        outcome(
            Layers(
                resource=resource_policy(*reversed([allow(Principal={"AWS": OWN}), allow(Principal={"AWS": USER.arn})]))
            )
        )
        is Reason.ALLOWED_RESOURCE
    )


@pytest.mark.parametrize("principal", ["*", {"AWS": OWN}, {"AWS": USER.arn}], ids=str)
def test_across_accounts_both_sides_must_allow(principal):
    named = open_to(principal)
    assert outcome(Layers((ALL,), resource=named), account=OTHER) is Reason.ALLOWED_BOTH
    assert outcome(Layers(resource=named), account=OTHER) is Reason.IDENTITY
    assert outcome(Layers((ALL,)), account=OTHER) is Reason.RESOURCE
    assert outcome(Layers((ALL,), resource=open_to({"AWS": OTHER})), account=OTHER) is Reason.RESOURCE
    assert outcome(Layers((ALL,), resource=named, boundary=BOUND_ELSEWHERE), account=OTHER) is Reason.BOUNDARY
    assert outcome(Layers((ALL,), resource=named, session=()), account=OTHER) is Reason.SESSION


def test_naming_a_session_does_not_replace_its_identity_policy_across_accounts():
    named = open_to({"AWS": SESSION_ARN})
    assert outcome(Layers(resource=named), requester=SESSION, account=OTHER) is Reason.IDENTITY
    assert outcome(Layers((ALL,), resource=named), requester=SESSION, account=OTHER) is Reason.ALLOWED_BOTH


def test_a_resource_that_is_nobodys_is_the_requesters_accounts_matter():
    assert outcome(Layers((ALL,)), account="") is Reason.ALLOWED_IDENTITY
    assert outcome(Layers(), account="") is Reason.IDENTITY


def test_some_resources_must_allow_by_themselves():
    for requester in (USER, SESSION, ROOT):
        assert outcome(Layers((ALL,), resource_required=True), requester=requester) is Reason.RESOURCE
        closed = Layers((ALL,), resource=open_to({"AWS": OTHER}), resource_required=True)
        assert outcome(closed, requester=requester) is Reason.RESOURCE
    handed = Layers((ALL,), resource=open_to({"AWS": OWN}), resource_required=True)
    assert outcome(handed) is Reason.ALLOWED_BOTH
    assert outcome(Layers(resource=open_to({"AWS": OWN}), resource_required=True)) is Reason.IDENTITY
    assert outcome(Layers(resource=open_to({"AWS": USER.arn}), resource_required=True)) is Reason.ALLOWED_RESOURCE


OUTSIDERS = {
    SERVICE: {"Service": "bedrock.amazonaws.com"},
    WEB: {"Federated": PROVIDER},
}


def test_outsiders_are_allowed_by_the_resource_only():
    for requester in (SERVICE, WEB, ANONYMOUS):
        assert outcome(Layers((ALL,)), requester=requester) is Reason.RESOURCE
        assert outcome(Layers((ALL,)), requester=requester, account="") is Reason.RESOURCE
        assert outcome(Layers(resource=open_to("*")), requester=requester) is Reason.ALLOWED_RESOURCE
        assert outcome(Layers(resource=open_to({"AWS": OWN})), requester=requester) is Reason.RESOURCE
        for named, principal in OUTSIDERS.items():
            said = outcome(Layers(resource=open_to(principal)), requester=requester)
            assert (said is Reason.ALLOWED_RESOURCE) is (requester is named)
    crossed = {"Federated": "accounts.google.com", "Service": "s3.amazonaws.com"}
    assert outcome(Layers(resource=open_to(crossed)), requester=WEB) is Reason.RESOURCE
    name = Requester(RequesterKind.WEB_IDENTITY, name="accounts.google.com")
    assert outcome(Layers(resource=open_to(crossed)), requester=name) is Reason.ALLOWED_RESOURCE


def test_a_trust_policy_stands_in_the_resources_place():
    trust = {"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": {"AWS": USER.arn}}
    layers = Layers(resource=policy(trust, role=PolicyRole.TRUST), resource_required=True)
    assert outcome(layers, action="sts:AssumeRole", resource=ROLE_ARN) is Reason.ALLOWED_RESOURCE
    assert outcome(layers, action="sts:TagSession", resource=ROLE_ARN) is Reason.RESOURCE
    assert outcome(layers, requester=WEB, action="sts:AssumeRole", resource=ROLE_ARN) is Reason.RESOURCE


def excepting(*names) -> Layers:
    return Layers((ALL,), resource=resource_policy(deny(None, NotPrincipal={"AWS": list(names)}, Action="*")))


def test_not_principal_spares_those_whose_every_name_is_listed():
    assert outcome(excepting(USER.arn, OWN)) is Reason.ALLOWED_IDENTITY
    assert outcome(excepting(USER.arn, ROOT_ARN)) is Reason.ALLOWED_IDENTITY
    assert outcome(excepting(USER.arn)) is Reason.EXPLICIT_DENY
    assert outcome(excepting(OWN)) is Reason.EXPLICIT_DENY
    assert outcome(excepting(USER.arn, OTHER)) is Reason.EXPLICIT_DENY
    assert outcome(excepting(SESSION_ARN, ROLE_ARN, OWN), requester=SESSION) is Reason.ALLOWED_IDENTITY
    assert outcome(excepting(ROLE_ARN, OWN), requester=SESSION) is Reason.EXPLICIT_DENY
    assert outcome(excepting(SESSION_ARN, OWN), requester=SESSION) is Reason.EXPLICIT_DENY
    assert outcome(excepting(SESSION_ARN, ROLE_ARN), requester=SESSION) is Reason.EXPLICIT_DENY
    assert outcome(excepting(OWN), requester=ROOT) is Reason.ALLOWED_ROOT
    assert outcome(excepting(USER.arn), requester=ROOT) is Reason.EXPLICIT_DENY


def test_not_principal_spares_nobody_with_a_boundary_and_no_stranger():
    layers = excepting(USER.arn, OWN)
    assert outcome(Layers((ALL,), boundary=BOUND, resource=layers.resource)) is Reason.EXPLICIT_DENY
    for requester in (ANONYMOUS, SERVICE, WEB):
        assert outcome(layers, requester=requester) is Reason.EXPLICIT_DENY
    deny_others = deny(NotPrincipal={"Service": "bedrock.amazonaws.com", "Federated": PROVIDER})
    spared = Layers(resource=resource_policy(allow(Principal="*"), deny_others))
    for requester in (SERVICE, WEB):
        assert outcome(spared, requester=requester) is Reason.ALLOWED_RESOURCE
    assert outcome(spared, requester=ANONYMOUS) is Reason.EXPLICIT_DENY


def test_a_deny_of_an_account_hits_everyone_in_it():
    refused = Layers((ALL,), resource=resource_policy(deny(Principal={"AWS": OWN})))
    for requester in (USER, SESSION, ROOT):
        assert outcome(refused, requester=requester) is Reason.EXPLICIT_DENY
    role = Layers((ALL,), resource=resource_policy(deny(Principal={"AWS": ROLE_ARN})))
    assert outcome(role, requester=SESSION) is Reason.EXPLICIT_DENY
    assert outcome(role, requester=USER) is Reason.ALLOWED_IDENTITY


def test_what_cannot_be_read_denies():
    assert outcome(Layers((ALL,), unreadable=("old",))) is Reason.UNREADABLE
    assert outcome(Layers(unreadable=("old",)), requester=ROOT) is Reason.UNREADABLE
    assert outcome(Layers((ALL, policy(deny())), unreadable=("old",))) is Reason.EXPLICIT_DENY


def test_a_policy_in_the_wrong_place_is_a_bug_and_no_permission():
    for layers in (
        Layers(resource=ALL),
        Layers((open_to("*"),)),
        Layers((ALL,), boundary=ALL),
        Layers((ALL,), session=(ALL,)),
        Layers((ALL,), scps=((ALL,),)),
        Layers((ALL,), rcps=((SCP_ALL,),)),
    ):
        with pytest.raises(InvariantError):
            ask(layers)


@pytest.mark.parametrize(
    "fields",
    [
        {"kind": RequesterKind.USER},
        {"kind": RequesterKind.ROOT, "account": OWN},
        {"kind": RequesterKind.ROOT, "arn": ROOT_ARN},
        {"kind": RequesterKind.SESSION, "account": OWN, "arn": SESSION_ARN},
        {"kind": RequesterKind.SERVICE},
        {"kind": RequesterKind.WEB_IDENTITY},
    ],
    ids=str,
)
def test_a_requester_without_a_name_cannot_be_made(fields):
    with pytest.raises(InvariantError):
        Requester(**fields)


def test_a_request_names_an_action_and_a_resource():
    for action, resource in (("InvokeModel", "*"), (INVOKE, "")):
        with pytest.raises(InvariantError):
            Request(USER, action, resource)


def test_an_action_without_a_resource_is_matched_by_a_star_only():
    assert outcome(Layers((policy(allow(resource=MODEL)),)), resource="*") is Reason.IDENTITY
    assert outcome(Layers((ALL,)), resource="*") is Reason.ALLOWED_IDENTITY


def test_every_statement_that_bore_on_it_is_told_layer_by_layer():
    layers = Layers(
        identity=(policy(allow(Sid="Mine"), allow("s3:*"), deny(INVOKE), name="inline"),),
        boundary=policy(allow("bedrock:*"), role=PolicyRole.BOUNDARY, name="edge"),
        session=(policy(allow(Sid="S"), role=PolicyRole.SESSION, name="passed"),),
        resource=open_to({"AWS": OWN}),
        scps=((scp(allow(Sid="Full")),), (SCP_ELSEWHERE,)),
        rcps=((RCP_ALL,),),
    )
    decision = decide(request(SESSION), layers)
    assert (decision.effect, decision.reason) == (Effect.DENY, Reason.EXPLICIT_DENY)
    told = {(each.policy, each.role, each.statement, each.effect) for each in decision.matched}
    assert len(told) == len(decision.matched)
    assert told == {
        ("inline", PolicyRole.IDENTITY, "Mine", Effect.ALLOW),
        ("inline", PolicyRole.IDENTITY, "Statement[2]", Effect.DENY),
        ("edge", PolicyRole.BOUNDARY, "Statement[0]", Effect.ALLOW),
        ("passed", PolicyRole.SESSION, "S", Effect.ALLOW),
        ("resource", PolicyRole.RESOURCE, "Statement[0]", Effect.ALLOW),
        ("scp", PolicyRole.SCP, "Full", Effect.ALLOW),
        ("p", PolicyRole.RCP, "Statement[0]", Effect.ALLOW),
    }


def test_more_actions_than_a_policy_remembers_are_decided_alike():
    said = Layers((policy(allow("bedrock:Get*"), deny("bedrock:*9")),))
    for number in range(1100):
        assert ask(said, action=f"bedrock:Get{number}").allowed is (number % 10 != 9)
        assert not ask(said, action=f"bedrock:Put{number}").allowed
