"""The control map, with what the tests said, as an OSCAL component definition (JSON, version 1.1.3 of NIST's schema).

One component, the software; one control implementation for each catalogue; one implemented requirement for each control
that the software has something to say to. Ids are UUIDs of version 5 from the names, so that two exports of the same
state are the same. Not covered: system security plans and assessment results, which are the operator's and an
assessor's; schema validation, which needs NIST's schema file (its rules for what is written here are in a test).
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from typing import Any

from outcrop.assurance.controls import Catalogue
from outcrop.assurance.evidence.statement import ControlResult, Statement

OSCAL_VERSION = "1.1.3"
NAMESPACE = "https://outcrop.invalid/ns/oscal"
_ROOT = uuid.uuid5(uuid.NAMESPACE_URL, NAMESPACE)

IMPLEMENTATION_STATUS = {"tested": "implemented", "documented": "partial", "not applicable": "not-applicable"}
"""Our statuses in the words of OSCAL's property ``implementation-status``. A tested control with a gap is partial.

What is the operator's, or not met, has no such property: OSCAL's words for it (``planned``, ``alternative``) would
promise something. Our own property ``status`` says it.
"""


def component_definition(catalogues: Iterable[Catalogue], statement: Statement) -> dict[str, Any]:
    """The whole document as JSON data."""
    names = {catalogue.name: catalogue for catalogue in catalogues}
    used = dict.fromkeys(result.catalogue for result in statement.controls)
    implementations = [
        _implementation(names[name], [one for one in statement.controls if one.catalogue == name]) for name in used
    ]
    commit = str(statement.checkout.get("commit", "unknown"))
    return {
        "component-definition": {
            "uuid": _id("document", commit, statement.at),
            "metadata": {
                "title": "Outcrop: controls and the tests behind them",
                "last-modified": statement.at,
                "version": f"{statement.version} at {commit}",
                "oscal-version": OSCAL_VERSION,
            },
            "components": [
                {
                    "uuid": _id("component"),
                    "type": "software",
                    "title": "Outcrop",
                    "description": "A self-hosted service that answers the interfaces of Amazon Bedrock.",
                    "control-implementations": implementations,
                }
            ],
        }
    }


def _implementation(catalogue: Catalogue, results: Sequence[ControlResult]) -> dict[str, Any]:
    return {
        "uuid": _id("implementation", catalogue.name),
        "source": catalogue.source.split()[0],
        "description": f"{catalogue.title}. {catalogue.scope}",
        "implemented-requirements": [_requirement(result) for result in results],
    }


def _requirement(result: ControlResult) -> dict[str, Any]:
    properties = [{"name": "status", "ns": NAMESPACE, "value": result.status}]
    if status := IMPLEMENTATION_STATUS.get(result.status):
        whole = result.status != "tested" or (not result.gap and result.outcome == "holds")
        properties.append({"name": "implementation-status", "value": status if whole else "partial"})
    if result.outcome:
        properties.append({"name": "test-outcome", "ns": NAMESPACE, "value": result.outcome})
    properties += [{"name": "test", "ns": NAMESPACE, "value": test} for test in result.tests]
    told = (result.why, f"Described in {result.doc}." if result.doc else "", result.gap and f"Gap: {result.gap}.")
    return {
        "uuid": _id("requirement", result.catalogue, result.id),
        "control-id": result.id.lower().removeprefix("nist-"),  # NIST's catalogue has them without
        "description": " ".join((f"{result.title}.", *filter(None, told))),
        "props": properties,
    }


def _id(*names: str) -> str:
    return str(uuid.uuid5(_ROOT, "/".join(names)))
