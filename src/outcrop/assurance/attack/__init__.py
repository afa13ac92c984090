"""What an outsider, another tenant and one's own people may try against a deployment; all of it must fail.

``suite`` has the families in their order, ``attack`` runs them on a ``Scene``; ``victims`` makes two throw-away
tenants, ``child`` a private deployment that may be broken. Each family knows its cases and judges what came of them;
the client is a socket, and nothing of the service's own code takes part. ``signatures`` has forged proofs of sender as
data.

Not covered: whatever needs a stolen secret, a page in a browser, or the machine's administrator; batch jobs, documents
and model uploads, which this release does not have; and an attacker with more patience than the cases here.
"""

from outcrop.assurance.attack.base import Family, Found, Outcome, Result, Scene
from outcrop.assurance.attack.child import Child, private_deployment
from outcrop.assurance.attack.client import Client
from outcrop.assurance.attack.signatures import Forgery, Keys, Target, forgeries, sign
from outcrop.assurance.attack.suite import FAMILIES, attack, chosen
from outcrop.assurance.attack.victims import Tenant, Victims, load, throw_away

__all__ = [
    "FAMILIES",
    "Child",
    "Client",
    "Family",
    "Forgery",
    "Found",
    "Keys",
    "Outcome",
    "Result",
    "Scene",
    "Target",
    "Tenant",
    "Victims",
    "attack",
    "chosen",
    "forgeries",
    "load",
    "private_deployment",
    "sign",
    "throw_away",
]
