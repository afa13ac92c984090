"""IAM's operations, by the names of its service model.

Each is an ordinary function that reads and writes the database, so it runs in a thread of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from outcrop.base.errors import UserError
from outcrop.service.operations.base import Caller, Context, Handler
from outcrop.service.operations.iam import account, groups, holdings, keys, oidc, policies, roles, simulate, tags, users
from outcrop.service.operations.iam.asked import Asked
from outcrop.service.operations.iam.errors import told
from outcrop.service.operations.threads import in_control_thread
from outcrop.service.wire.model import Shape


def in_a_thread(operation: Callable[[Asked, Any], Shape]) -> Handler:
    """``operation`` as a handler, the store's refusals told as IAM's exceptions."""

    async def handler(context: Context, caller: Caller, request: Any) -> Shape:
        try:
            return await in_control_thread(operation, Asked(context, caller), request)
        except UserError as refused:
            answer = told(refused)
            if answer is None:
                raise
            raise answer from refused

    return handler


_OPERATIONS: dict[str, Callable[[Asked, Any], Shape]] = {
    "AddClientIDToOpenIDConnectProvider": oidc.add_client,
    "AddUserToGroup": groups.add_user_to_group,
    "AttachGroupPolicy": holdings.attach("group"),
    "AttachRolePolicy": holdings.attach("role"),
    "AttachUserPolicy": holdings.attach("user"),
    "CreateAccessKey": keys.create_access_key,
    "CreateAccountAlias": account.create_alias,
    "CreateGroup": groups.create_group,
    "CreateOpenIDConnectProvider": oidc.create_provider,
    "CreatePolicy": policies.create_policy,
    "CreatePolicyVersion": policies.create_policy_version,
    "CreateRole": roles.create_role,
    "CreateServiceSpecificCredential": keys.create_service_specific_credential,
    "CreateUser": users.create_user,
    "DeleteAccessKey": keys.delete_access_key,
    "DeleteAccountAlias": account.delete_alias,
    "DeleteGroup": groups.delete_group,
    "DeleteGroupPolicy": holdings.delete_inline("group"),
    "DeleteOpenIDConnectProvider": oidc.delete_provider,
    "DeletePolicy": policies.delete_policy,
    "DeletePolicyVersion": policies.delete_policy_version,
    "DeleteRole": roles.delete_role,
    "DeleteRolePermissionsBoundary": holdings.delete_boundary("role"),
    "DeleteRolePolicy": holdings.delete_inline("role"),
    "DeleteServiceSpecificCredential": keys.delete_service_specific_credential,
    "DeleteUser": users.delete_user,
    "DeleteUserPermissionsBoundary": holdings.delete_boundary("user"),
    "DeleteUserPolicy": holdings.delete_inline("user"),
    "DetachGroupPolicy": holdings.detach("group"),
    "DetachRolePolicy": holdings.detach("role"),
    "DetachUserPolicy": holdings.detach("user"),
    "GetAccessKeyLastUsed": keys.get_access_key_last_used,
    "GetAccountAuthorizationDetails": account.get_authorization_details,
    "GetAccountSummary": account.get_summary,
    "GetContextKeysForCustomPolicy": simulate.context_keys_of_custom,
    "GetContextKeysForPrincipalPolicy": simulate.context_keys_of_principal,
    "GetGroup": groups.get_group,
    "GetGroupPolicy": holdings.get_inline("group"),
    "GetLoginProfile": users.get_login_profile,
    "GetOpenIDConnectProvider": oidc.get_provider,
    "GetPolicy": policies.get_policy,
    "GetPolicyVersion": policies.get_policy_version,
    "GetRole": roles.get_role,
    "GetRolePolicy": holdings.get_inline("role"),
    "GetUser": users.get_user,
    "GetUserPolicy": holdings.get_inline("user"),
    "ListAccessKeys": keys.list_access_keys,
    "ListAccountAliases": account.list_aliases,
    "ListAttachedGroupPolicies": holdings.list_attached("group"),
    "ListAttachedRolePolicies": holdings.list_attached("role"),
    "ListAttachedUserPolicies": holdings.list_attached("user"),
    "ListEntitiesForPolicy": policies.list_entities_for_policy,
    "ListGroupPolicies": holdings.list_inline("group"),
    "ListGroups": groups.list_groups,
    "ListGroupsForUser": users.list_groups_for_user,
    "ListInstanceProfilesForRole": roles.list_instance_profiles_for_role,
    "ListMFADevices": users.list_mfa_devices,
    "ListOpenIDConnectProviderTags": tags.list_tags("provider"),
    "ListOpenIDConnectProviders": oidc.list_providers,
    "ListPolicies": policies.list_policies,
    "ListPolicyTags": tags.list_tags("policy"),
    "ListPolicyVersions": policies.list_policy_versions,
    "ListRolePolicies": holdings.list_inline("role"),
    "ListRoleTags": tags.list_tags("role"),
    "ListRoles": roles.list_roles,
    "ListSSHPublicKeys": users.list_ssh_public_keys,
    "ListServiceSpecificCredentials": keys.list_service_specific_credentials,
    "ListSigningCertificates": users.list_signing_certificates,
    "ListUserPolicies": holdings.list_inline("user"),
    "ListUserTags": tags.list_tags("user"),
    "ListUsers": users.list_users,
    "ListVirtualMFADevices": users.list_virtual_mfa_devices,
    "PutGroupPolicy": holdings.put_inline("group"),
    "PutRolePermissionsBoundary": holdings.put_boundary("role"),
    "PutRolePolicy": holdings.put_inline("role"),
    "PutUserPermissionsBoundary": holdings.put_boundary("user"),
    "PutUserPolicy": holdings.put_inline("user"),
    "RemoveClientIDFromOpenIDConnectProvider": oidc.remove_client,
    "RemoveUserFromGroup": groups.remove_user_from_group,
    "ResetServiceSpecificCredential": keys.reset_service_specific_credential,
    "SetDefaultPolicyVersion": policies.set_default_policy_version,
    "SimulateCustomPolicy": simulate.simulate_custom,
    "SimulatePrincipalPolicy": simulate.simulate_principal,
    "TagOpenIDConnectProvider": tags.tag("provider"),
    "TagPolicy": tags.tag("policy"),
    "TagRole": tags.tag("role"),
    "TagUser": tags.tag("user"),
    "UntagOpenIDConnectProvider": tags.untag("provider"),
    "UntagPolicy": tags.untag("policy"),
    "UntagRole": tags.untag("role"),
    "UntagUser": tags.untag("user"),
    "UpdateAccessKey": keys.update_access_key,
    "UpdateAssumeRolePolicy": roles.update_assume_role_policy,
    "UpdateGroup": groups.update_group,
    "UpdateOpenIDConnectProviderThumbprint": oidc.update_thumbprint,
    "UpdateRole": roles.update_role,
    "UpdateRoleDescription": roles.update_role_description,
    "UpdateServiceSpecificCredential": keys.update_service_specific_credential,
    "UpdateUser": users.update_user,
}

HANDLERS: dict[str, Handler] = {name: in_a_thread(operation) for name, operation in _OPERATIONS.items()}
