"""Bedrock's catalogue operations, by the names of its service model; ``account`` has those of account settings."""

from __future__ import annotations

from outcrop.base.errors import UserError
from outcrop.service.faults import INVALID_MODEL, invalid
from outcrop.service.operations.base import Caller, Context, Handler
from outcrop.service.operations.bedrock import account, render
from outcrop.service.wire.errors import AwsError
from outcrop.service.wire.generated import bedrock as shapes


async def list_foundation_models(
    context: Context, caller: Caller, request: shapes.ListFoundationModelsRequest
) -> shapes.ListFoundationModelsResponse:
    """The models that can be invoked, filtered as asked."""
    rows = [render.summary(context.host, info) for info in context.host.models(caller.principal.account)]
    if request.by_provider is not None:
        wanted = request.by_provider.lower()
        rows = [row for row in rows if (row.provider_name or "").lower() == wanted]
    if request.by_customization_type is not None:
        rows = [row for row in rows if request.by_customization_type in (row.customizations_supported or ())]
    if request.by_output_modality is not None:
        rows = [row for row in rows if request.by_output_modality in (row.output_modalities or ())]
    if request.by_inference_type is not None:
        rows = [row for row in rows if request.by_inference_type in (row.inference_types_supported or ())]
    return shapes.ListFoundationModelsResponse(model_summaries=rows)


async def get_foundation_model(
    context: Context, caller: Caller, request: shapes.GetFoundationModelRequest
) -> shapes.GetFoundationModelResponse:
    """One model by id or ARN."""
    try:
        info = context.host.resolve(request.model_identifier, caller.principal.account)
    except UserError:
        raise invalid(INVALID_MODEL) from None
    return shapes.GetFoundationModelResponse(model_details=render.details(context.host, info))


async def list_inference_profiles(
    context: Context, caller: Caller, request: shapes.ListInferenceProfilesRequest
) -> shapes.ListInferenceProfilesResponse:
    """System-defined profiles, a page at a time; the token is the id that the next page starts with."""
    rows = [render.profile(context.host, info) for info in context.host.models()]
    if request.type_equals == "APPLICATION":
        rows = []
    rows.sort(key=lambda row: row.inference_profile_id)
    if request.next_token is not None:
        rows = [row for row in rows if row.inference_profile_id >= request.next_token]
    count = request.max_results or len(rows)
    following = rows[count].inference_profile_id if len(rows) > count else None
    return shapes.ListInferenceProfilesResponse(inference_profile_summaries=rows[:count], next_token=following)


async def get_inference_profile(
    context: Context, caller: Caller, request: shapes.GetInferenceProfileRequest
) -> shapes.GetInferenceProfileResponse:
    """One profile by id or ARN."""
    wanted = request.inference_profile_identifier
    for info in context.host.models():
        if wanted in (context.host.profile_id(info.model_id), context.host.profile_arn(info.model_id)):
            return render.profile_details(context.host, info)
    raise AwsError("ResourceNotFoundException", f"The inference profile {wanted} was not found.")


HANDLERS: dict[str, Handler] = {
    "ListFoundationModels": list_foundation_models,
    "GetFoundationModel": get_foundation_model,
    "ListInferenceProfiles": list_inference_profiles,
    "GetInferenceProfile": get_inference_profile,
    "PutModelInvocationLoggingConfiguration": account.put_logging,
    "GetModelInvocationLoggingConfiguration": account.get_logging,
    "DeleteModelInvocationLoggingConfiguration": account.delete_logging,
    "PutAccountDataRetention": account.put_retention,
    "GetAccountDataRetention": account.get_retention,
}
