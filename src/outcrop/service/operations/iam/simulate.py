"""IAM's policy simulator: what policies would decide, by the decision that requests themselves go through.

One result for each action on each resource. ``SimulatePrincipalPolicy`` takes the policies that the user, group or role
has now (of a user's groups as well), its boundary and the control policies of its account, and adds what is given.
Condition keys are those given; for a user or role those of the principal (``aws:username``, ``aws:PrincipalTag/…``)
are known besides, and what is given goes before them.

Not covered: ``PolicyExclusionList`` and EC2's ``ResourceHandlingOption`` (both refused), resource control policies,
the time and the network of a request (``aws:CurrentTime``, ``aws:SourceIp``: told as missing unless given).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from outcrop.base.arn import Arn
from outcrop.base.errors import UserError
from outcrop.service.access.context import of_principal
from outcrop.service.operations.iam import render
from outcrop.service.operations.iam.asked import Asked
from outcrop.service.operations.iam.errors import invalid_input, no_such_entity
from outcrop.service.operations.iam.positions import position, statement_spans
from outcrop.service.wire.generated import iam as shapes
from outcrop.trust.identity import Principal
from outcrop.trust.identity.holdings import HolderKind
from outcrop.trust.policy import (
    ContextValue,
    Decision,
    Layers,
    Policy,
    PolicyRefused,
    PolicyRole,
    Reason,
    Request,
    Requester,
    RequesterKind,
    compile_policy,
    decide,
)

_ALL = compile_policy(
    '{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"*","Resource":"*"}}', PolicyRole.IDENTITY, "all"
)
_LISTS = ("stringList", "numericList", "booleanList", "ipList", "binaryList", "dateList")
SIMULATIONS_MAX = 1000
"""Actions times resources in one request: each is a whole decision."""

Simulation = shapes.SimulateCustomPolicyRequest | shapes.SimulatePrincipalPolicyRequest


@dataclass(slots=True)
class _Bench:
    """The policies of one simulation, and where each statement of theirs stands."""

    partition: str
    sources: dict[int, shapes.Statement] = field(default_factory=dict)
    """By the identity of the compiled statement's record, which a decision hands back as it is."""

    def compile(self, document: str, role: PolicyRole, name: str, kind: shapes.PolicySourceType) -> Policy:
        try:
            policy = compile_policy(document, role, name, self.partition)
        except PolicyRefused as error:
            raise invalid_input(f"The policy {name} cannot be simulated: {error}") from None
        for statement, (start, end) in zip(policy.statements, statement_spans(document), strict=True):
            self.sources[id(statement.record)] = shapes.Statement(
                source_policy_id=name,
                source_policy_type=kind,
                start_position=position(document, start),
                end_position=position(document, end),
            )
        return policy

    def given(self, documents: Iterable[str] | None, role: PolicyRole, member: str) -> tuple[Policy, ...]:
        """Policies that came with the request; IAM calls them by member and number."""
        return tuple(
            self.compile(document, role, f"{member}.{number}", "none")
            for number, document in enumerate(documents or (), 1)
        )


@dataclass(frozen=True, slots=True)
class _Setting:
    """Who would ask, under which policies, with which condition keys known."""

    requester: Requester
    layers: Layers
    keys: Mapping[str, ContextValue]
    bench: _Bench


def simulate_custom(asked: Asked, request: shapes.SimulateCustomPolicyRequest) -> shapes.SimulatePolicyResponse:
    bench = _Bench(asked.caller.principal.arn.partition)
    if request.resource_policy is not None and request.caller_arn is None:
        raise invalid_input("CallerArn is required with ResourcePolicy.")
    layers = Layers(
        identity=bench.given(request.policy_input_list, PolicyRole.IDENTITY, "PolicyInputList"),
        boundary=_boundary(bench, request.permissions_boundary_policy_input_list),
        scps=tuple(
            bench.given(
                level.service_control_policy_input_list, PolicyRole.SCP, f"OrderedOrganizationPolicyInputList.{number}"
            )
            for number, level in enumerate(request.ordered_organization_policy_input_list or (), 1)
        ),
    )
    requester = _caller(asked, request.caller_arn, Requester(RequesterKind.USER, asked.account, _nobody(asked)))
    return _simulate(asked, request, _Setting(requester, layers, {}, bench))


def simulate_principal(asked: Asked, request: shapes.SimulatePrincipalPolicyRequest) -> shapes.SimulatePolicyResponse:
    if request.policy_exclusion_list:
        raise invalid_input("PolicyExclusionList is not supported here: leave it out.")
    setting = _setting(asked, request.policy_source_arn)
    bench = setting.bench
    is_user = setting.requester.kind is RequesterKind.USER and ":group/" not in setting.requester.arn
    if request.resource_policy is not None and request.caller_arn is None and not is_user:
        raise invalid_input("CallerArn is required with ResourcePolicy where PolicySourceArn is no user.")
    added = bench.given(request.policy_input_list, PolicyRole.IDENTITY, "PolicyInputList")
    layers = replace(setting.layers, identity=(*setting.layers.identity, *added))
    if request.permissions_boundary_policy_input_list:
        layers = replace(layers, boundary=_boundary(bench, request.permissions_boundary_policy_input_list))
    requester = _caller(asked, request.caller_arn, setting.requester)
    return _simulate(asked, request, replace(setting, requester=requester, layers=layers))


def context_keys_of_custom(
    asked: Asked, request: shapes.GetContextKeysForCustomPolicyRequest
) -> shapes.GetContextKeysForPolicyResponse:
    bench = _Bench(asked.caller.principal.arn.partition)
    return _keys_of(bench.given(request.policy_input_list, PolicyRole.IDENTITY, "PolicyInputList"))


def context_keys_of_principal(
    asked: Asked, request: shapes.GetContextKeysForPrincipalPolicyRequest
) -> shapes.GetContextKeysForPolicyResponse:
    setting = _setting(asked, request.policy_source_arn)
    added = setting.bench.given(request.policy_input_list, PolicyRole.IDENTITY, "PolicyInputList")
    return _keys_of((*setting.layers.identity, *added))


# --- what is decided ----------------------------------------------------------------------------------------------


def _simulate(asked: Asked, request: Simulation, setting: _Setting) -> shapes.SimulatePolicyResponse:
    if request.resource_handling_option is not None:
        raise invalid_input("ResourceHandlingOption is for EC2, which is not here: leave it out.")
    resources = request.resource_arns or ["*"]
    if len(request.action_names) * len(resources) > SIMULATIONS_MAX:
        raise invalid_input(f"At most {SIMULATIONS_MAX} actions times resources can be simulated in one request.")
    layers = setting.layers
    if request.resource_policy is not None:
        policy = setting.bench.compile(request.resource_policy, PolicyRole.RESOURCE, "ResourcePolicy", "resource")
        layers = replace(layers, resource=policy)
    owner = _owner(asked, request.resource_owner)
    keys = _with_entries(setting.keys, request.context_entries)
    results = []
    for action in request.action_names:
        if ":" not in action.strip(":"):
            raise invalid_input(f"Invalid Action: {action}. An action is written as service:Name.")
        for resource in resources:
            wanted = Request(setting.requester, action, resource, _owner_of(resource, owner), keys)
            results.append(_result(wanted, layers, setting.bench, named=request.resource_arns is not None))
    shown = render.numbered(results, request.max_items, request.marker)
    return shapes.SimulatePolicyResponse(
        evaluation_results=shown.entries, is_truncated=shown.truncated, marker=shown.marker
    )


def _result(request: Request, layers: Layers, bench: _Bench, *, named: bool) -> shapes.EvaluationResult:
    decision = decide(request, layers)
    told = _told(decision)
    matched = [bench.sources[id(each)] for each in decision.matched if id(each) in bench.sources]
    missing = list(decision.missing_keys)
    bounded = None
    if layers.boundary is not None:
        alone = decide(request, Layers(identity=(_ALL,), boundary=layers.boundary))
        bounded = shapes.PermissionsBoundaryDecisionDetail(allowed_by_permissions_boundary=alone.allowed)
    organised = None
    if layers.scps:
        alone = decide(request, Layers(identity=(_ALL,), scps=layers.scps))
        organised = shapes.OrganizationsDecisionDetail(allowed_by_organizations=alone.allowed)
    each = shapes.ResourceSpecificResult(
        eval_resource_name=request.resource,
        eval_resource_decision=told,
        matched_statements=matched,
        missing_context_values=missing,
        permissions_boundary_decision_detail=bounded,
    )
    return shapes.EvaluationResult(
        eval_action_name=request.action,
        eval_decision=told,
        eval_resource_name=request.resource,
        matched_statements=matched,
        missing_context_values=missing,
        organizations_decision_detail=organised,
        permissions_boundary_decision_detail=bounded,
        resource_specific_results=[each] if named else None,
    )


def _told(decision: Decision) -> shapes.PolicyEvaluationDecisionType:
    if decision.allowed:
        return "allowed"
    return "explicitDeny" if decision.reason is Reason.EXPLICIT_DENY else "implicitDeny"


def _keys_of(policies: Iterable[Policy]) -> shapes.GetContextKeysForPolicyResponse:
    """Every condition key that the policies ask for, in conditions and in variables, once and as first written."""
    found: dict[str, str] = {}
    for policy in policies:
        for statement in policy.statements:
            for key, spelled in (*statement.resource_keys, *statement.condition_keys):
                found.setdefault(key, spelled)
    return shapes.GetContextKeysForPolicyResponse(context_key_names=sorted(found.values()))


# --- who would ask ------------------------------------------------------------------------------------------------


def _setting(asked: Asked, source: str) -> _Setting:
    """A user, group or role of the caller's account, with the policies that it has now."""
    kind, name, identifier, arn, bound = _source(asked, source)
    account, identity = asked.account, asked.identity
    bench = _Bench(arn.partition)
    holders: list[tuple[HolderKind, str]] = [(kind, name)]
    if kind == "user":
        holders += [("group", group.name) for group in identity.groups.of_user(account, name)]
    policies = [policy for holder in holders for policy in _held(asked, bench, *holder)]
    root = Principal(
        asked.caller.principal.account, Arn(arn.partition, "iam", "", account, "root"), account, "", "root", "none"
    )
    layers = Layers(
        identity=tuple(policies),
        boundary=None if bound is None else _managed(asked, bench, bound, PolicyRole.BOUNDARY),
        scps=identity.layers_of(root).scps,
    )
    if kind == "group":
        return _Setting(Requester(RequesterKind.USER, account, str(arn)), layers, {}, bench)
    if kind == "user":
        requester = Requester(RequesterKind.USER, account, str(arn))
    else:
        session = f"arn:{arn.partition}:sts::{account}:assumed-role/{name}/simulated"
        requester = Requester(RequesterKind.SESSION, account, session, str(arn))
    principal = Principal(asked.caller.principal.account, arn, identifier, "", kind, "none")
    keys = of_principal(principal, identity.principal_tags(principal), identity.organisation_path(account))
    return _Setting(requester, layers, keys, bench)


def _source(asked: Asked, source: str) -> tuple[HolderKind, str, str, Arn, str | None]:
    """Kind, name, id, ARN and boundary of what ``PolicySourceArn`` names, in the caller's own account."""
    identity, account = asked.identity, asked.account
    try:
        parsed = Arn.parse(source)
    except UserError:
        raise invalid_input(f"Invalid Entity Arn: {source}") from None
    kind, _, rest = parsed.resource.partition("/")
    name = rest.rpartition("/")[2]
    missing = no_such_entity(f"The entity {source} cannot be found in this account.")
    if parsed.service != "iam" or kind not in ("user", "group", "role") or not name:
        raise invalid_input(f"Invalid Entity Arn: {source} is not that of a user, group or role.")
    if parsed.account != account:
        raise missing
    if kind == "group":
        group = identity.groups.get(account, name)
        if str(group.arn) != source:
            raise missing
        return "group", group.name, group.id, group.arn, None
    found = identity.users.get(account, name) if kind == "user" else identity.roles.get(account, name)
    if str(found.arn) != source:
        raise missing
    return ("user" if kind == "user" else "role"), found.name, found.id, found.arn, found.boundary


def _held(asked: Asked, bench: _Bench, kind: HolderKind, name: str) -> list[Policy]:
    holdings = asked.identity.holdings
    found = [
        bench.compile(document, PolicyRole.IDENTITY, f"{kind}_{name}_{policy}", kind)
        for policy, document in holdings.inline(asked.account, kind, name).items()
    ]
    attached = holdings.attached(asked.account, kind, name)
    return found + [_managed(asked, bench, arn, PolicyRole.IDENTITY) for arn in attached]


def _managed(asked: Asked, bench: _Bench, arn: str, role: PolicyRole) -> Policy:
    found = asked.identity.policies.get(asked.account, arn)
    document = asked.identity.policies.version(asked.account, arn, found.default_version).document
    return bench.compile(document, role, arn, "aws-managed" if found.aws_managed else "user-managed")


def _boundary(bench: _Bench, documents: Sequence[str] | None) -> Policy | None:
    given = bench.given(documents, PolicyRole.BOUNDARY, "PermissionsBoundaryPolicyInputList")
    if len(given) > 1:
        raise invalid_input("PermissionsBoundaryPolicyInputList takes one policy.")
    return given[0] if given else None


def _caller(asked: Asked, arn: str | None, default: Requester) -> Requester:
    if arn is None:
        return default
    try:
        parsed = Arn.parse(arn)
    except UserError:
        raise invalid_input(f"Invalid CallerArn: {arn}") from None
    if parsed.service != "iam" or not parsed.resource.startswith("user/") or not parsed.account:
        raise invalid_input(f"Invalid CallerArn: {arn}. Give the ARN of a user.")
    return Requester(RequesterKind.USER, parsed.account, arn)


def _nobody(asked: Asked) -> str:
    """A user of the caller's account whom no policy names: IAM's names have no colon."""
    return f"arn:{asked.caller.principal.arn.partition}:iam::{asked.account}:user/:simulated"


# --- on what, with which keys -------------------------------------------------------------------------------------


def _owner(asked: Asked, given: str | None) -> str:
    """The account of resources that name none: an id, or the ARN of an account's root."""
    if given is None:
        return asked.account
    account = given.split(":")[4] if given.count(":") == 5 else given
    if len(account) != 12 or not account.isdecimal():
        raise invalid_input(f"Invalid ResourceOwner: {given}. Give an account's id or the ARN of its root.")
    return account


def _owner_of(resource: str, owner: str) -> str:
    parts = resource.split(":", 5)
    return parts[4] if len(parts) == 6 and parts[4].isdecimal() else owner


def _with_entries(
    known: Mapping[str, ContextValue], entries: Sequence[shapes.ContextEntry] | None
) -> Mapping[str, ContextValue]:
    """The known keys with those given in their place, whatever their case."""
    given: dict[str, ContextValue] = {}
    for entry in entries or ():
        values = entry.context_key_values or []
        if not entry.context_key_name or entry.context_key_type is None:
            raise invalid_input("A context entry needs ContextKeyName, ContextKeyValues and ContextKeyType.")
        if entry.context_key_type in _LISTS:
            given[entry.context_key_name] = tuple(values)
        elif len(values) == 1:
            given[entry.context_key_name] = values[0]
        else:
            raise invalid_input(
                f"The context key {entry.context_key_name} of type {entry.context_key_type} takes one value; "
                f"{len(values)} were given."
            )
    names = {name.lower() for name in given}
    return {**{key: value for key, value in known.items() if key.lower() not in names}, **given}
