"""CloudTrail's operations, by the names of its service model: the trail as its reader sees it.

There is one trail. It belongs to the deployment's account, cannot be stopped or changed through the API, and records
every account's calls; each account looks up its own. Not covered: insight events (there are none), event data stores.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from outcrop.service.operations.base import Caller, Context, Handler
from outcrop.service.operations.threads import in_control_thread
from outcrop.service.wire.errors import AwsError
from outcrop.service.wire.generated import cloudtrail as shapes
from outcrop.service.wire.model import Shape
from outcrop.trust.audit.digests import TRAIL_NAME
from outcrop.trust.audit.event import iso_time
from outcrop.trust.audit.index import RESULTS_MAX, BadToken, Query
from outcrop.trust.audit.keys import PublicKey
from outcrop.trust.audit.states import State

SERVICE = "cloudtrail"


def lookup_events(context: Context, caller: Caller, request: shapes.LookupEventsRequest) -> shapes.LookupEventsResponse:
    """The caller's account's management events of the last 90 days, newest first."""
    attributes = request.lookup_attributes or []
    if len(attributes) > 1:
        raise AwsError("InvalidLookupAttributesException", "At most one lookup attribute may be given.", SERVICE)
    _check_range(request.start_time, request.end_time)
    if request.event_category is not None:
        return shapes.LookupEventsResponse(events=[])  # insight events, of which none are made
    first = attributes[0] if attributes else None
    query = Query(
        caller.principal.account,
        (first.attribute_key, first.attribute_value) if first else None,
        request.start_time,
        request.end_time,
    )
    context.audit.follow()
    try:
        found, token = context.audit.index.lookup(query, request.max_results or RESULTS_MAX, request.next_token)
    except BadToken:
        raise AwsError("InvalidNextTokenException", "The NextToken does not belong to this lookup.", SERVICE) from None
    events = [
        shapes.Event(
            event_id=one.event_id,
            event_name=one.name,
            read_only=one.read_only,
            access_key_id=one.access_key_id or None,
            event_time=one.happened_at,
            event_source=one.source,
            username=one.username or None,
            resources=[shapes.Resource(resource_type=kind, resource_name=name) for kind, name in one.resources],
            cloud_trail_event=one.record,
        )
        for one in found
    ]
    return shapes.LookupEventsResponse(events=events, next_token=token or None)


def list_public_keys(
    context: Context, caller: Caller, request: shapes.ListPublicKeysRequest
) -> shapes.ListPublicKeysResponse:
    """The digests' public keys whose time meets the range asked for; by default the last day and all before it."""
    if request.next_token is not None:
        raise AwsError("InvalidTokenException", "There is one page of public keys.", SERVICE)
    _check_range(request.start_time, request.end_time)
    keys = context.audit.trail.public_keys.digest_keys()
    ends: list[datetime | None] = [datetime.fromisoformat(key.from_time) for key in keys[1:]]
    listed = [
        _public_key(key, end, context.clock.now())
        for key, end in zip(keys, [*ends, None], strict=True)
        if (request.start_time is None or end is None or end >= request.start_time)
        and (request.end_time is None or datetime.fromisoformat(key.from_time) <= request.end_time)
    ]
    return shapes.ListPublicKeysResponse(public_key_list=listed)


def describe_trails(
    context: Context, caller: Caller, request: shapes.DescribeTrailsRequest
) -> shapes.DescribeTrailsResponse:
    """The one trail, for the account that owns it."""
    destination = context.audit.delivery.destination
    names = {TRAIL_NAME, destination.trail_arn}
    wanted = not request.trail_name_list or bool(names & set(request.trail_name_list))
    if caller.principal.account != destination.account or not wanted:
        return shapes.DescribeTrailsResponse(trail_list=[])
    trail = shapes.Trail(
        name=TRAIL_NAME,
        s3_bucket_name=destination.bucket,
        include_global_service_events=True,
        is_multi_region_trail=False,
        home_region=destination.region,
        trail_arn=destination.trail_arn,
        log_file_validation_enabled=True,
        has_custom_event_selectors=False,
        has_insight_selectors=False,
        is_organization_trail=False,
    )
    return shapes.DescribeTrailsResponse(trail_list=[trail])


def get_trail_status(
    context: Context, caller: Caller, request: shapes.GetTrailStatusRequest
) -> shapes.GetTrailStatusResponse:
    """Whether the trail takes everything, and when it was last delivered by this process."""
    audit = context.audit
    destination = audit.delivery.destination
    known = request.name in (TRAIL_NAME, destination.trail_arn)
    if caller.principal.account != destination.account or not known:
        raise AwsError(
            "TrailNotFoundException",
            f"Unknown trail: {request.name} for the user: {caller.principal.account}",
            SERVICE,
        )
    return shapes.GetTrailStatusResponse(
        is_logging=audit.trail.state in (State.OPEN, State.FULL),
        latest_delivery_error=audit.last_error or None,
        latest_delivery_time=audit.last_delivery_at,
        latest_digest_delivery_time=audit.last_digest_at,
        start_logging_time=audit.since,
        time_logging_started=iso_time(audit.since),
    )


def _public_key(key: PublicKey, end: datetime | None, now: datetime) -> shapes.PublicKey:
    return shapes.PublicKey(
        value=key.cloudtrail_value,
        validity_start_time=datetime.fromisoformat(key.from_time),
        validity_end_time=end or now + timedelta(days=1),  # the newest has no end; CloudTrail always names one
        fingerprint=key.cloudtrail_fingerprint,
    )


def _check_range(begin: datetime | None, end: datetime | None) -> None:
    if begin is not None and end is not None and begin > end:
        raise AwsError("InvalidTimeRangeException", "The start time is after the end time.", SERVICE)


def _in_a_thread(operation: Callable[[Context, Caller, Any], Shape]) -> Handler:
    """``operation`` as a handler: it reads the database and the log."""

    async def handler(context: Context, caller: Caller, request: Any) -> Shape:
        return await in_control_thread(operation, context, caller, request)

    return handler


HANDLERS: dict[str, Handler] = {
    "DescribeTrails": _in_a_thread(describe_trails),
    "GetTrailStatus": _in_a_thread(get_trail_status),
    "ListPublicKeys": _in_a_thread(list_public_keys),
    "LookupEvents": _in_a_thread(lookup_events),
}
