"""Attacks as data: requests that a deployment must refuse, each with the name of what it tries.

``signatures`` has forged, altered, replayed and misplaced proofs of who sent a request. Not covered: the answer's
text and timing, and every attack that needs no request.
"""

from outcrop.assurance.attack.signatures import Forgery, Keys, Target, forgeries, sign

__all__ = ["Forgery", "Keys", "Target", "forgeries", "sign"]
