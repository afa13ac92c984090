"""Profiles: what a deployment of each kind is held to, as a table, and the checks that hold it to that.

``dev`` is for trying things out, ``standard`` for a service that others use, ``strict`` for regulated work, ``airgap``
for machines that must not reach anything. ``outbound`` makes the last one true and proves it.
"""

from outcrop.service.profiles.checks import Finding, Situation, examine, require

__all__ = ["Finding", "Situation", "examine", "require"]
