"""IAM's operations on OpenID Connect providers.

The issuer's keys are given offline (``outcrop admin oidc add``): nothing is fetched, so a provider made here verifies
no token before that. Thumbprints are kept and shown, and count for nothing.
"""

from __future__ import annotations

from outcrop.service.operations.iam import render
from outcrop.service.operations.iam.asked import Asked
from outcrop.service.wire.generated import iam as shapes
from outcrop.service.wire.model import Shape


def create_provider(
    asked: Asked, request: shapes.CreateOpenIDConnectProviderRequest
) -> shapes.CreateOpenIDConnectProviderResponse:
    made = asked.identity.oidc.create(
        asked.account,
        request.url,
        client_ids=request.client_id_list or (),
        thumbprints=request.thumbprint_list or (),
        tags=render.tags_given(request.tags),
    )
    tags = render.tag_list(made.tags) or None
    return shapes.CreateOpenIDConnectProviderResponse(open_id_connect_provider_arn=str(made.arn), tags=tags)


def get_provider(
    asked: Asked, request: shapes.GetOpenIDConnectProviderRequest
) -> shapes.GetOpenIDConnectProviderResponse:
    found = asked.identity.oidc.get(asked.account, request.open_id_connect_provider_arn)
    return shapes.GetOpenIDConnectProviderResponse(
        url=found.url,
        client_id_list=list(found.client_ids),
        thumbprint_list=list(found.thumbprints),
        create_date=render.moment(found.created_at),
        tags=render.tag_list(found.tags),
    )


def list_providers(
    asked: Asked, request: shapes.ListOpenIDConnectProvidersRequest
) -> shapes.ListOpenIDConnectProvidersResponse:
    entries = [
        shapes.OpenIDConnectProviderListEntry(arn=str(provider.arn))
        for provider in asked.identity.oidc.all(asked.account)
    ]
    return shapes.ListOpenIDConnectProvidersResponse(open_id_connect_provider_list=entries)


def delete_provider(asked: Asked, request: shapes.DeleteOpenIDConnectProviderRequest) -> Shape:
    asked.identity.oidc.delete(asked.account, request.open_id_connect_provider_arn)
    return Shape()


def add_client(asked: Asked, request: shapes.AddClientIDToOpenIDConnectProviderRequest) -> Shape:
    asked.identity.oidc.add_client(asked.account, request.open_id_connect_provider_arn, request.client_id)
    return Shape()


def remove_client(asked: Asked, request: shapes.RemoveClientIDFromOpenIDConnectProviderRequest) -> Shape:
    asked.identity.oidc.remove_client(asked.account, request.open_id_connect_provider_arn, request.client_id)
    return Shape()


def update_thumbprint(asked: Asked, request: shapes.UpdateOpenIDConnectProviderThumbprintRequest) -> Shape:
    asked.identity.oidc.set_thumbprints(asked.account, request.open_id_connect_provider_arn, request.thumbprint_list)
    return Shape()
