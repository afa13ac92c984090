"""The control map: what public catalogues ask, what Outcrop claims for it, and the tests behind each claim, as data.

``claims.toml`` holds the claims, each one sentence with its tests; a file for each catalogue says which claims answer
which control, or why none does. ``ControlMap.load`` reads them and ``problems`` finds what is not there. Ids are the
catalogues'; titles are our own words, since their texts are theirs. Not covered: whether a claim satisfies a control.
That is an assessor's judgement; the map says what to look at.
"""

from __future__ import annotations

from outcrop.assurance.controls.table import Catalogue, Claim, Control, ControlMap, Status

__all__ = ["Catalogue", "Claim", "Control", "ControlMap", "Status"]
