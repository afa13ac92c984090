"""What must hold for all policies and requests: what widens, what narrows, and what changes nothing."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st
from trust_policies import ANONYMOUS, MODEL, OTHER, OWN, ROLE_ARN, ROOT, SERVICE, SESSION, SESSION_ARN, USER, document

from outcrop.trust.policy import Layers, Policy, PolicyRefused, PolicyRole, Request, compile_policy, decide

SETTINGS = settings(derandomize=True, deadline=None, max_examples=80)

ACTIONS = ["bedrock:InvokeModel", "bedrock:CreateGuardrail", "s3:GetObject"]
RESOURCES = [MODEL, "arn:aws:s3:::b/bob/x", "*"]
KEYS = ["aws:username", "aws:PrincipalTag/team", "aws:TagKeys"]
VALUES = ["bob", "eve", "7"]

actions = st.lists(st.sampled_from([*ACTIONS, "*", "bedrock:*", "bedrock:I*", "s3:?etObject"]), min_size=1, max_size=3)
resources = st.lists(
    st.sampled_from([MODEL, "*", "arn:aws:s3:::b/*", "arn:aws:s3:::b/${aws:username}/x", "arn:aws:bedrock:*"]),
    min_size=1,
    max_size=2,
)
operators = st.sampled_from(
    [
        "StringEquals",
        "StringNotEquals",
        "StringLike",
        "StringNotLikeIfExists",
        "NumericNotEquals",
        "ForAllValues:StringEquals",
        "ForAnyValue:StringNotEquals",
    ]
)
tests = st.dictionaries(st.sampled_from(KEYS), st.sampled_from(VALUES), min_size=1, max_size=2)
conditions = st.dictionaries(operators, tests, max_size=2).map(
    lambda found: {name: dict.fromkeys(keys, "7") if "Numeric" in name else keys for name, keys in found.items()}
)
principals = st.sampled_from(["*", {"AWS": OWN}, {"AWS": [USER.arn, ROLE_ARN]}, {"AWS": SESSION_ARN}, {"AWS": OTHER}])


@st.composite
def statements(draw, effects=("Allow", "Deny")) -> dict:
    return {
        "Effect": draw(st.sampled_from(effects)),
        draw(st.sampled_from(["Action", "Action", "NotAction"])): draw(actions),
        draw(st.sampled_from(["Resource", "Resource", "NotResource"])): draw(resources),
        "Condition": draw(conditions),
    }


many = st.lists(statements(), min_size=1, max_size=4)
context = st.dictionaries(
    st.sampled_from(KEYS), st.one_of(st.sampled_from(VALUES), st.lists(st.sampled_from(VALUES), max_size=2)), max_size=3
)
requests = st.builds(
    Request,
    st.sampled_from([USER, SESSION, ROOT, SERVICE, ANONYMOUS]),
    st.sampled_from(ACTIONS),
    st.sampled_from(RESOURCES),
    st.sampled_from([OWN, OTHER, ""]),
    context,
)


def made(written: list[dict], role: PolicyRole = PolicyRole.IDENTITY) -> Policy:
    return compile_policy(document(*written), role, "p")


@st.composite
def resource_policies(draw) -> list[dict]:
    return [{**each, "Principal": draw(principals)} for each in draw(many)]


@st.composite
def layers(draw) -> Layers:
    def maybe(role: PolicyRole) -> tuple[Policy, ...] | None:
        return (made(draw(many), role),) if draw(st.booleans()) else None

    boundary = maybe(PolicyRole.BOUNDARY)
    return Layers(
        identity=(made(draw(many)),),
        boundary=boundary[0] if boundary else None,
        session=maybe(PolicyRole.SESSION),
        resource=made(draw(resource_policies()), PolicyRole.RESOURCE) if draw(st.booleans()) else None,
        resource_required=draw(st.booleans()),
        scps=((made(draw(many), PolicyRole.SCP),),) if draw(st.booleans()) else (),
    )


def allowed(request: Request, said: Layers) -> bool:
    return decide(request, said).allowed


@SETTINGS
@given(layers(), requests, statements(effects=("Deny",)))
def test_another_deny_never_widens(said, request, more):
    for role, place in ((PolicyRole.IDENTITY, "identity"), (PolicyRole.SCP, "scps")):
        added = made([more], role)
        here = getattr(said, place)
        with_it = replace(said, **{place: (*here, added) if place == "identity" else (*here, (added,))})
        assert allowed(request, said) or not allowed(request, with_it)


@SETTINGS
@given(layers(), requests, statements(effects=("Allow",)))
def test_another_allow_of_an_identity_never_narrows(said, request, more):
    with_it = replace(said, identity=(*said.identity, made([more])))
    assert allowed(request, with_it) or not allowed(request, said)


@SETTINGS
@given(layers(), requests, many)
def test_session_boundary_and_organisation_never_widen(said, request, more):
    for role in (PolicyRole.SESSION, PolicyRole.BOUNDARY, PolicyRole.SCP):
        added = made(more, role)
        narrowed = {
            PolicyRole.SESSION: replace(said, session=(added,)),
            PolicyRole.BOUNDARY: replace(said, boundary=added),
            PolicyRole.SCP: replace(said, scps=(*said.scps, (added,))),
        }[role]
        without = {
            PolicyRole.SESSION: replace(said, session=None),
            PolicyRole.BOUNDARY: replace(said, boundary=None),
            PolicyRole.SCP: said,
        }[role]
        assert allowed(request, without) or not allowed(request, narrowed)


@SETTINGS
@given(many, requests, st.randoms(use_true_random=False))
def test_the_order_of_statements_and_policies_does_not_matter(written, request, random):
    shuffled = random.sample(written, len(written))
    one = decide(request, Layers((made(written),)))
    other = decide(request, Layers((made(shuffled),)))
    apart = decide(request, Layers(tuple(made([each]) for each in shuffled)))
    assert one.reason is other.reason is apart.reason
    assert one.missing_keys == other.missing_keys == apart.missing_keys
    assert len(one.matched) == len(other.matched) == len(apart.matched)


@SETTINGS
@given(many, requests)
def test_a_statement_split_by_action_says_the_same(written, request):
    split = [{**each, "Action": action} for each in written if "Action" in each for action in each["Action"]]
    split += [each for each in written if "Action" not in each]
    assert allowed(request, Layers((made(written),))) is allowed(request, Layers((made(split),)))


@SETTINGS
@given(layers(), requests)
def test_the_case_of_keys_and_actions_does_not_matter(said, request):
    loud = replace(
        request, action=request.action.upper(), context={key.upper(): value for key, value in request.context.items()}
    )
    assert decide(loud, said) == decide(request, said)


@SETTINGS
@given(many, requests)
def test_the_normal_form_decides_the_same(written, request):
    one = made(written)
    again = compile_policy(one.normal, PolicyRole.IDENTITY, "p")
    assert again.normal == one.normal
    assert decide(request, Layers((one,))).reason is decide(request, Layers((again,))).reason


@SETTINGS
@given(layers(), requests)
def test_an_answer_explains_itself(said, request):
    decision = decide(request, said)
    if decision.allowed and request.requester is not ROOT:
        assert any(each.effect == "Allow" for each in decision.matched)
        assert not any(each.effect == "Deny" for each in decision.matched)
    assert decide(request, replace(said, unreadable=("x",))).allowed is False


@SETTINGS
@given(
    st.text(max_size=40)
    | st.binary(max_size=40)
    | st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.sampled_from(["Version", "Statement", "Effect", "Action", "x"]), inner, max_size=3)
        ),
        max_leaves=8,
    )
)
def test_any_document_is_taken_in_or_refused(written):
    if not isinstance(written, (str, bytes, dict)):
        written = {"Version": "2012-10-17", "Statement": written}
    for role in PolicyRole:
        with suppress(PolicyRefused):
            compile_policy(written, role, "p")
