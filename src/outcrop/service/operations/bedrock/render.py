"""Models of this deployment as foundation models and inference profiles."""

from __future__ import annotations

import re

from outcrop.models.registry import ModelInfo
from outcrop.service.hosting import ModelHost
from outcrop.service.wire.generated import bedrock as shapes

_NOT_BRANDED = re.compile(r"[^0-9a-zA-Z _-]+")


def _branded(text: str) -> str | None:
    """At most 20 characters, as the service model bounds a branded name."""
    return text[:20] or None


def summary(host: ModelHost, info: ModelInfo) -> shapes.FoundationModelSummary:
    """A row of ``ListFoundationModels``."""
    return shapes.FoundationModelSummary(
        model_arn=str(host.model_arn(info)),
        model_id=info.model_id,
        model_name=_branded(info.name),
        provider_name=_branded(info.provider),
        input_modalities=["TEXT"],
        output_modalities=["TEXT"],
        response_streaming_supported=True,
        customizations_supported=[],
        inference_types_supported=["ON_DEMAND"],
        model_lifecycle=shapes.FoundationModelLifecycle(status="ACTIVE"),
    )


def details(host: ModelHost, info: ModelInfo) -> shapes.FoundationModelDetails:
    """The answer of ``GetFoundationModel``."""
    row = summary(host, info)
    return shapes.FoundationModelDetails(**{name: getattr(row, name) for name in row.__struct_fields__})


def profile(host: ModelHost, info: ModelInfo) -> shapes.InferenceProfileSummary:
    """The system-defined inference profile of a model: one model, in this deployment's own region."""
    name = _NOT_BRANDED.sub(" ", f"{host.scope.region} {info.name}")
    return shapes.InferenceProfileSummary(
        inference_profile_name=" ".join(name.split())[:64],
        description=" ".join(f"Routes requests to {_NOT_BRANDED.sub(' ', info.name)} in {host.scope.region}.".split()),
        inference_profile_arn=host.profile_arn(info.model_id),
        models=[shapes.InferenceProfileModel(model_arn=str(host.scope.foundation_model_arn(info.model_id)))],
        inference_profile_id=host.profile_id(info.model_id),
        status="ACTIVE",
        type="SYSTEM_DEFINED",
    )


def profile_details(host: ModelHost, info: ModelInfo) -> shapes.GetInferenceProfileResponse:
    """The answer of ``GetInferenceProfile``."""
    row = profile(host, info)
    return shapes.GetInferenceProfileResponse(**{name: getattr(row, name) for name in row.__struct_fields__})
