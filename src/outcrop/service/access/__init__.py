"""The decide stage: which permissions an operation takes, what is known about the request, and the answer.

``operations.toml`` says of every built operation which IAM actions on which resources it needs and where condition keys
come from; ``table`` reads it, ``resources`` turns members of the input into ARNs, ``context`` gathers condition keys,
``decide`` asks ``trust.policy`` and tells a denial in AWS's words. ``denials`` keeps what was denied, for
administrators to have it explained.

Not covered: permissions that an operation needs beside its own (a role that it passes on, a key that it seals with, the
trust policy of a role that it assumes). Its handler asks for those with ``Access.require``.
"""

from outcrop.service.access.base import LayerSource, MemoryLayers, Resource, RootOnly
from outcrop.service.access.decide import Access, Asking
from outcrop.service.access.denials import Denials

__all__ = ["Access", "Asking", "Denials", "LayerSource", "MemoryLayers", "Resource", "RootOnly"]
