"""What happened, provably: CloudTrail-shaped events in an append-only log with signed tree heads, and its digests.

``Trail`` (``writer``) takes events and makes them durable; ``event`` shapes them; ``merkle``, ``nodes``, ``heads`` and
``keys`` make the log provable; ``digests`` delivers it in CloudTrail's own files; ``index`` answers LookupEvents;
``verify`` reads the whole of it without a server. Not covered: hiding what is in it. A record names principals, key
ids, addresses and resources, and whoever may read the directory reads them all.
"""

from outcrop.trust.audit.event import Happened, Identity, Issuer, Resource, cloudtrail_event
from outcrop.trust.audit.heads import TreeHead
from outcrop.trust.audit.states import State, TrailConfig
from outcrop.trust.audit.writer import Trail

__all__ = [
    "Happened",
    "Identity",
    "Issuer",
    "Resource",
    "State",
    "Trail",
    "TrailConfig",
    "TreeHead",
    "cloudtrail_event",
]
