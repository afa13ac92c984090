"""Bedrock's settings of an account: model invocation logging and data retention, by the names of its service model.

Refusals follow the real service where its text is known ("Failed to validate permissions for bucket"). As there,
putting a configuration writes an empty object, ``amazon-bedrock-logs-permission-check``, where the logs will go: so a
bucket whose key may not be used is refused at once.
"""

from __future__ import annotations

import asyncio

from outcrop.base.arn import AccountId
from outcrop.base.errors import KeyRefused, NotFound, UserError
from outcrop.service.accounts import LogBucket, LoggingSettings, RetentionMode
from outcrop.service.faults import invalid
from outcrop.service.invocations import layout
from outcrop.service.objects import check_bucket_name, check_key
from outcrop.service.operations.base import Caller, Context
from outcrop.service.wire.errors import AwsError
from outcrop.service.wire.generated import bedrock as shapes

PERMISSION_CHECK = "amazon-bedrock-logs-permission-check"
LONGEST_NAME = "/YYYY/MM/DD/HH/data/01234567-89ab-cdef-0123-456789abcdef_output.json.gz"
"""The longest that stands behind the layout's root: with it a key must still be one."""


async def put_logging(
    context: Context, caller: Caller, request: shapes.PutModelInvocationLoggingConfigurationRequest
) -> shapes.PutModelInvocationLoggingConfigurationResponse:
    """Log the account's invocations from now on, into a bucket of the same account."""
    config, account = request.logging_config, caller.principal.account
    context.accounts.retention.require(account, "no invocation may be logged")
    if config.cloud_watch_config is not None:
        raise invalid("CloudWatch Logs is not built here as a target of invocation logs. Configure s3Config alone.")
    if config.s3_config is None:
        raise invalid("The logging configuration names no destination. Configure s3Config.")
    wanted = LoggingSettings(
        LogBucket(config.s3_config.bucket_name, config.s3_config.key_prefix),
        config.text_data_delivery_enabled,
        config.image_data_delivery_enabled,
        config.embedding_data_delivery_enabled,
        config.video_data_delivery_enabled,
        config.audio_data_delivery_enabled,
    )
    await asyncio.to_thread(_check_bucket, context, wanted.bucket, account)
    await asyncio.to_thread(context.accounts.logging.put, account, wanted)
    return shapes.PutModelInvocationLoggingConfigurationResponse()


async def get_logging(
    context: Context, caller: Caller, request: shapes.GetModelInvocationLoggingConfigurationRequest
) -> shapes.GetModelInvocationLoggingConfigurationResponse:
    """The configuration, also while the data retention mode holds it off; without one, nothing."""
    found = context.accounts.logging.get(caller.principal.account)
    if found is None:
        return shapes.GetModelInvocationLoggingConfigurationResponse()
    return shapes.GetModelInvocationLoggingConfigurationResponse(
        logging_config=shapes.LoggingConfig(
            s3_config=shapes.S3Config(bucket_name=found.bucket.name, key_prefix=found.bucket.prefix),
            text_data_delivery_enabled=found.text,
            image_data_delivery_enabled=found.image,
            embedding_data_delivery_enabled=found.embedding,
            video_data_delivery_enabled=found.video,
            audio_data_delivery_enabled=found.audio,
        )
    )


async def delete_logging(
    context: Context, caller: Caller, request: shapes.DeleteModelInvocationLoggingConfigurationRequest
) -> shapes.DeleteModelInvocationLoggingConfigurationResponse:
    """Log no more; calls under way are logged to their end."""
    await asyncio.to_thread(context.accounts.logging.delete, caller.principal.account)
    return shapes.DeleteModelInvocationLoggingConfigurationResponse()


async def put_retention(
    context: Context, caller: Caller, request: shapes.PutAccountDataRetentionRequest
) -> shapes.PutAccountDataRetentionResponse:
    """Set the account's mode; with ``none``, records that wait to be written are dropped before it is answered."""
    try:
        mode = RetentionMode(request.mode)
    except ValueError:
        raise invalid(
            f"The data retention mode {request.mode} is not available: nobody is here to share data with. "
            f"Use {', '.join(RetentionMode)}."
        ) from None
    account = caller.principal.account
    set_at = await asyncio.to_thread(context.accounts.retention.set, account, mode)
    if mode is RetentionMode.NONE:
        await asyncio.to_thread(context.invocations.delivery.forget, account)
    return shapes.PutAccountDataRetentionResponse(mode=mode.value, updated_at=set_at)


async def get_retention(
    context: Context, caller: Caller, request: shapes.GetAccountDataRetentionRequest
) -> shapes.GetAccountDataRetentionResponse:
    """The account's mode: ``inherit`` until it sets one."""
    mode, set_at = context.accounts.retention.mode(caller.principal.account)
    return shapes.GetAccountDataRetentionResponse(mode=mode.value, updated_at=set_at)


def _check_bucket(context: Context, bucket: LogBucket, account: AccountId) -> None:
    """Raise unless records could be written there now. A bucket of somebody else is told as one that is not there."""
    root = layout(bucket.prefix, account, context.host.scope.region)
    try:
        check_bucket_name(bucket.name)
        check_key(root + LONGEST_NAME)
        context.objects.bucket(bucket.name, account)
        context.objects.put(bucket.name, f"{root.rpartition('/')[0]}/{PERMISSION_CHECK}", b"", account)
    except NotFound:
        raise _refused(bucket, "Verify that it exists in this account and Region.") from None
    except KeyRefused as error:
        raise _refused(bucket, f"Its KMS key cannot be used: {error}") from None
    except UserError as error:
        raise _refused(bucket, str(error)) from None


def _refused(bucket: LogBucket, why: str) -> AwsError:
    return invalid(f"Failed to validate permissions for bucket: {bucket.name}. {why}")
