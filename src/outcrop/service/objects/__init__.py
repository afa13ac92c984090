"""Objects in buckets: what tenants keep as files, each sealed under the key of its bucket.

``ObjectStore`` (``base``) is the port; ``SealedObjects`` keeps names in the database and contents in sealed files,
``MemoryObjects`` is its twin. A bucket has one owner, and is to every other account a name that nobody has.

Not covered: HTTP. S3's own surface, with policies of buckets, versions, multipart uploads and conditions, is not built.
"""

from outcrop.service.objects.base import Bucket, ObjectInfo, ObjectReader, ObjectStore
from outcrop.service.objects.memory import MemoryObjects
from outcrop.service.objects.names import check_bucket_name, check_key, object_arn
from outcrop.service.objects.sealed import SealedObjects

__all__ = [
    "Bucket",
    "MemoryObjects",
    "ObjectInfo",
    "ObjectReader",
    "ObjectStore",
    "SealedObjects",
    "check_bucket_name",
    "check_key",
    "object_arn",
]
