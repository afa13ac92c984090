"""KMS's operations on aliases and grants."""

from __future__ import annotations

from outcrop.service.operations.kms.asked import Asked
from outcrop.service.operations.kms.render import alias_entry, grant_entry, page
from outcrop.service.operations.kms.use import refuse_dry_run
from outcrop.service.wire.generated import kms as shapes
from outcrop.service.wire.model import Shape
from outcrop.trust.keys import Grant, KeyRefused
from outcrop.trust.keys.grants import new_token
from outcrop.trust.keys.refusals import foreign_key, invalid, unsupported


def create_alias(asked: Asked, request: shapes.CreateAliasRequest) -> Shape:
    key = asked.key(request.target_key_id)
    asked.keys.aliases.create(asked.account, request.alias_name, key)
    return Shape()


def update_alias(asked: Asked, request: shapes.UpdateAliasRequest) -> Shape:
    key = asked.key(request.target_key_id)
    asked.keys.aliases.update(asked.account, request.alias_name, key)
    return Shape()


def delete_alias(asked: Asked, request: shapes.DeleteAliasRequest) -> Shape:
    asked.keys.aliases.delete(asked.account, request.alias_name)
    return Shape()


def list_aliases(asked: Asked, request: shapes.ListAliasesRequest) -> shapes.ListAliasesResponse:
    key_id = ""
    if request.key_id is not None:
        key = asked.key(request.key_id)
        if key.account != asked.account:
            raise foreign_key(request.key_id)  # as for one that is not there
        key_id = key.key_id
    every = asked.keys.rows.aliases(asked.account, key_id)
    shown = page(every, lambda alias: alias.name, request.limit, request.marker)
    entries = [alias_entry(alias) for alias in shown.entries]
    return shapes.ListAliasesResponse(aliases=entries, next_marker=shown.marker, truncated=shown.truncated)


def create_grant(asked: Asked, request: shapes.CreateGrantRequest) -> shapes.CreateGrantResponse:
    if request.grantee_service_principal or request.retiring_service_principal:
        raise unsupported("Service principals are no grantees here.", "Name a user, a role, a session or a root.")
    if request.grantee_principal is None:
        raise invalid("GranteePrincipal is required.")
    limits = request.constraints or shapes.GrantConstraints()
    if limits.source_arn is not None:
        raise unsupported("The constraint SourceArn is not supported.", "Use an encryption context.")
    conditions: dict[str, str | list[str]] = {
        "kms:GrantOperations": list(request.operations),
        "kms:GranteePrincipal": request.grantee_principal,
        "kms:GrantIsForAWSResource": "false",
    }
    if request.retiring_principal is not None:
        conditions["kms:RetiringPrincipal"] = request.retiring_principal
    for kind, given in (
        ("EncryptionContextEquals", limits.encryption_context_equals),
        ("EncryptionContextSubset", limits.encryption_context_subset),
    ):
        if given is not None:
            conditions["kms:GrantConstraintType"] = kind
    key = asked.key(request.key_id, tokens=request.grant_tokens)
    refuse_dry_run(request.dry_run)
    grant = asked.keys.grants.create(
        key,
        request.grantee_principal,
        request.operations,
        str(asked.caller.principal.arn),
        retiring=request.retiring_principal or "",
        name=request.name or "",
        subset=limits.encryption_context_subset,
        equals=limits.encryption_context_equals,
        within=asked.grant_needed(key, "CreateGrant", conditions),
    )
    return shapes.CreateGrantResponse(grant_token=new_token(grant), grant_id=grant.grant_id)


def list_grants(asked: Asked, request: shapes.ListGrantsRequest) -> shapes.ListGrantsResponse:
    key = asked.key(request.key_id)
    every = [
        grant
        for grant in asked.keys.grants.of_key(key.key_id)
        if request.grant_id in (None, grant.grant_id)
        and request.grantee_principal in (None, grant.grantee)
        and request.grantee_service_principal is None
    ]
    shown = page(every, lambda grant: grant.grant_id, request.limit, request.marker)
    entries = [grant_entry(grant, str(key.arn)) for grant in shown.entries]
    return shapes.ListGrantsResponse(grants=entries, next_marker=shown.marker, truncated=shown.truncated)


def list_retirable_grants(asked: Asked, request: shapes.ListRetirableGrantsRequest) -> shapes.ListGrantsResponse:
    if request.retiring_principal is None:
        raise invalid("RetiringPrincipal is required.")
    every = [
        grant
        for grant in asked.keys.grants.retirable(request.retiring_principal)
        if request.retiring_principal.split(":")[4] == asked.account
    ]
    shown = page(every, lambda grant: grant.grant_id, request.limit, request.marker)
    entries = [grant_entry(grant, _arn_of(asked, grant)) for grant in shown.entries]
    return shapes.ListGrantsResponse(grants=entries, next_marker=shown.marker, truncated=shown.truncated)


def retire_grant(asked: Asked, request: shapes.RetireGrantRequest) -> Shape:
    grants = asked.keys.grants
    if request.grant_token is not None:
        grant = grants.of_token(request.grant_token)
    elif request.key_id is not None and request.grant_id is not None:
        key = asked.key(request.key_id)
        try:
            grant = grants.get(key.key_id, request.grant_id)
        except KeyRefused:
            if key.account != asked.account:
                raise foreign_key(request.key_id) from None
            raise
    else:
        raise invalid("Give a GrantToken, or a KeyId with a GrantId.")
    if not grants.may_retire(grant, asked.requester):
        if request.key_id is not None and asked.key(request.key_id).account != asked.account:
            raise foreign_key(request.key_id)  # as for a grant, or a key, that is not there
        raise KeyRefused(
            "AccessDeniedException",
            f"User: {asked.caller.principal.arn} is not authorized to perform: kms:RetireGrant on resource: "
            f"{_arn_of(asked, grant)}",
        )
    refuse_dry_run(request.dry_run)
    grants.remove(grant)
    return Shape()


def revoke_grant(asked: Asked, request: shapes.RevokeGrantRequest) -> Shape:
    key = asked.key(request.key_id)
    grant = asked.keys.grants.get(key.key_id, request.grant_id)
    refuse_dry_run(request.dry_run)
    asked.keys.grants.remove(grant)
    return Shape()


def _arn_of(asked: Asked, grant: Grant) -> str:
    key = asked.keys.rows.peek(grant.key_id)
    return str(key.arn) if key is not None else grant.key_id
