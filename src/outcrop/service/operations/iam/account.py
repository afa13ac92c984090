"""IAM's operations on the account as a whole: its alias, its numbers, and everything in it at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from outcrop.service.operations.iam import render
from outcrop.service.operations.iam.asked import Asked
from outcrop.service.wire.generated import iam as shapes
from outcrop.service.wire.model import Shape
from outcrop.trust.identity import limits
from outcrop.trust.identity.records import Group, ManagedPolicy, Role, User

Detail = shapes.UserDetail | shapes.GroupDetail | shapes.RoleDetail | shapes.ManagedPolicyDetail


def create_alias(asked: Asked, request: shapes.CreateAccountAliasRequest) -> Shape:
    asked.identity.organisation.set_alias(asked.account, request.account_alias)
    return Shape()


def delete_alias(asked: Asked, request: shapes.DeleteAccountAliasRequest) -> Shape:
    asked.identity.organisation.delete_alias(asked.account, request.account_alias)
    return Shape()


def list_aliases(asked: Asked, request: shapes.ListAccountAliasesRequest) -> shapes.ListAccountAliasesResponse:
    alias = asked.identity.organisation.account(asked.account).alias
    return shapes.ListAccountAliasesResponse(account_aliases=[alias] if alias else [], is_truncated=False)


def get_summary(asked: Asked, request: Shape) -> shapes.GetAccountSummaryResponse:
    """Counts and quotas. What is not built (MFA devices, certificates, passwords) is counted as none."""
    identity, account = asked.identity, asked.account
    own = identity.policies.all(account, "Local")
    root_keys = [key for key in identity.keys.all(account) if not key.user_name]
    counts: dict[shapes.SummaryKeyType, int] = {
        "Users": len(identity.users.all(account)),
        "UsersQuota": limits.USERS,
        "Groups": len(identity.groups.all(account)),
        "GroupsQuota": limits.GROUPS,
        "Roles": len(identity.roles.all(account)),
        "RolesQuota": limits.ROLES,
        "Policies": len(own),
        "PoliciesQuota": limits.POLICIES,
        "PolicyVersionsInUse": sum(len(identity.policies.versions(account, str(policy.arn))) for policy in own),
        "VersionsPerPolicyQuota": limits.POLICY_VERSIONS,
        "PolicySizeQuota": limits.POLICY_CHARACTERS,
        "UserPolicySizeQuota": limits.INLINE_CHARACTERS["user"],
        "GroupPolicySizeQuota": limits.INLINE_CHARACTERS["group"],
        "RolePolicySizeQuota": limits.INLINE_CHARACTERS["role"],
        "AssumeRolePolicySizeQuota": limits.TRUST_POLICY_CHARACTERS,
        "GroupsPerUserQuota": limits.GROUPS_PER_USER,
        "AccessKeysPerUserQuota": limits.ACCESS_KEYS_PER_USER,
        "AttachedPoliciesPerUserQuota": limits.ATTACHED_POLICIES,
        "AttachedPoliciesPerGroupQuota": limits.ATTACHED_POLICIES,
        "AttachedPoliciesPerRoleQuota": limits.ATTACHED_POLICIES,
        "Providers": len(identity.oidc.all(account)),
        "AccountAccessKeysPresent": int(bool(root_keys)),
        "AccountPasswordPresent": 0,
        "AccountMFAEnabled": 0,
        "AccountSigningCertificatesPresent": 0,
        "MFADevices": 0,
        "MFADevicesInUse": 0,
        "ServerCertificates": 0,
        "InstanceProfiles": 0,
    }
    return shapes.GetAccountSummaryResponse(summary_map=counts)


def get_authorization_details(
    asked: Asked, request: shapes.GetAccountAuthorizationDetailsRequest
) -> shapes.GetAccountAuthorizationDetailsResponse:
    """Users, groups, roles and policies with all that they hold; of AWS's policies only those in use."""
    wanted = frozenset(request.filter or ("User", "Group", "Role", "LocalManagedPolicy", "AWSManagedPolicy"))
    shown = render.numbered([*_everything(asked, wanted)], request.max_items, request.marker)
    return shapes.GetAccountAuthorizationDetailsResponse(
        user_detail_list=[each for each in shown.entries if isinstance(each, shapes.UserDetail)],
        group_detail_list=[each for each in shown.entries if isinstance(each, shapes.GroupDetail)],
        role_detail_list=[each for each in shown.entries if isinstance(each, shapes.RoleDetail)],
        policies=[each for each in shown.entries if isinstance(each, shapes.ManagedPolicyDetail)],
        is_truncated=shown.truncated,
        marker=shown.marker,
    )


def _everything(asked: Asked, wanted: frozenset[str]) -> Iterator[Detail]:
    identity, account = asked.identity, asked.account
    if "User" in wanted:
        yield from (_user(asked, user) for user in identity.users.all(account))
    if "Group" in wanted:
        yield from (_group(asked, group) for group in identity.groups.all(account))
    if "Role" in wanted:
        yield from (_role(asked, role) for role in identity.roles.all(account))
    if "LocalManagedPolicy" in wanted:
        yield from (_policy(asked, policy) for policy in identity.policies.all(account, "Local"))
    if "AWSManagedPolicy" in wanted:
        used = [each for each in identity.policies.all(account, "AWS") if each.attachments or each.boundary_uses]
        yield from (_policy(asked, policy) for policy in used)


def _user(asked: Asked, user: User) -> shapes.UserDetail:
    holdings = asked.identity.holdings
    return shapes.UserDetail(
        path=user.path,
        user_name=user.name,
        user_id=user.id,
        arn=str(user.arn),
        create_date=render.moment(user.created_at),
        user_policy_list=render.details(holdings.inline(asked.account, "user", user.name)),
        group_list=[group.name for group in asked.identity.groups.of_user(asked.account, user.name)],
        attached_managed_policies=render.attached(holdings.attached(asked.account, "user", user.name)),
        permissions_boundary=render.boundary(user.boundary),
        tags=render.tag_list(user.tags),
    )


def _group(asked: Asked, group: Group) -> shapes.GroupDetail:
    holdings = asked.identity.holdings
    return shapes.GroupDetail(
        path=group.path,
        group_name=group.name,
        group_id=group.id,
        arn=str(group.arn),
        create_date=render.moment(group.created_at),
        group_policy_list=render.details(holdings.inline(asked.account, "group", group.name)),
        attached_managed_policies=render.attached(holdings.attached(asked.account, "group", group.name)),
    )


def _role(asked: Asked, role: Role) -> shapes.RoleDetail:
    holdings = asked.identity.holdings
    return shapes.RoleDetail(
        path=role.path,
        role_name=role.name,
        role_id=role.id,
        arn=str(role.arn),
        create_date=render.moment(role.created_at),
        assume_role_policy_document=render.encoded(role.trust_policy),
        instance_profile_list=[],
        role_policy_list=render.details(holdings.inline(asked.account, "role", role.name)),
        attached_managed_policies=render.attached(holdings.attached(asked.account, "role", role.name)),
        permissions_boundary=render.boundary(role.boundary),
        tags=render.tag_list(role.tags),
        role_last_used=render.role_last_used(asked.identity.uses.get(role.id)),
    )


def _policy(asked: Asked, policy: ManagedPolicy) -> shapes.ManagedPolicyDetail:
    versions: Sequence[shapes.PolicyVersion] = [
        render.version(version) for version in asked.identity.policies.versions(asked.account, str(policy.arn))
    ]
    return shapes.ManagedPolicyDetail(
        policy_name=policy.name,
        policy_id=policy.id,
        arn=str(policy.arn),
        path=policy.path,
        default_version_id=policy.default_version,
        attachment_count=policy.attachments,
        permissions_boundary_usage_count=policy.boundary_uses,
        is_attachable=True,
        description=policy.description or None,
        create_date=render.moment(policy.created_at),
        update_date=render.moment(policy.updated_at),
        policy_version_list=list(versions),
    )
