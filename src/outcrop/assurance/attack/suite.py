"""Every family, in the order in which they run, with what would be a success and the controls that it is evidence for.

Ids: ``AISVS-`` of the OWASP AI Security Verification Standard 1.0, ``NIST-`` of NIST SP 800-53 revision 5. A family is
evidence for a part of a control at most, never for the whole of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from outcrop.assurance.attack import (
    bearers,
    canaries,
    deputy,
    documents,
    escalation,
    exhaustion,
    foreign,
    forged,
    headers,
    paths,
    prompts,
    quotas,
    smuggling,
    tampering,
)
from outcrop.assurance.attack.base import Family, Result, Scene, results

FAMILIES: tuple[Family, ...] = (
    Family(
        "signatures",
        "forged, altered, stale and replayed proofs of sender",
        "an answer to a request whose proof does not hold",
        ("NIST-IA-2", "NIST-IA-9", "NIST-SC-23"),
        forged.run,
    ),
    Family(
        "paths",
        "paths and names that two readers understand differently",
        "an answer that the policy denies by the plain name",
        ("NIST-AC-3", "NIST-SI-10", "AISVS-5.2.1"),
        paths.run,
    ),
    Family(
        "smuggling",
        "a request hidden behind another's end; malformed HTTP/1.1 and HTTP/2",
        "an answer to the hidden request, or to a message that the standards call malformed",
        ("NIST-SC-23", "NIST-SI-10"),
        smuggling.run,
    ),
    Family(
        "headers",
        "claims in headers, doubled headers, headers without measure",
        "an answer that only the claim explains, or a service that does not go on",
        ("NIST-AC-3", "NIST-SC-5", "NIST-SI-10"),
        headers.run,
    ),
    Family(
        "documents",
        "broken JSON, doubled members, two operations in one request",
        "a broken document taken, or another operation done than the one allowed",
        ("NIST-SC-5", "NIST-SI-10", "AISVS-2.1.2"),
        documents.run,
    ),
    Family(
        "foreign",
        "every operation on every resource of another tenant",
        "an answer, or one that tells whether the resource is there",
        ("NIST-AC-3", "NIST-AC-4", "NIST-SC-4", "AISVS-5.2.1", "AISVS-5.3.1"),
        foreign.run,
    ),
    Family(
        "deputy",
        "roles of another account without what their trust asks for",
        "credentials, or an answer that tells whether the role is there",
        ("NIST-AC-3", "NIST-AC-6", "AISVS-5.2.1"),
        deputy.run,
    ),
    Family(
        "escalation",
        "rising above session policies, boundaries and denials",
        "an answer to what is denied",
        ("NIST-AC-3", "NIST-AC-6", "AISVS-5.2.6"),
        escalation.run,
    ),
    Family(
        "tags",
        "rising by tags of resources, requests and sessions",
        "an answer to what the tag's condition does not allow",
        ("NIST-AC-3", "NIST-AC-16"),
        escalation.run_tags,
    ),
    Family(
        "idempotency",
        "two tenants with one token",
        "one tenant's result given to another",
        ("NIST-SC-4",),
        quotas.run_idempotency,
    ),
    Family(
        "cache",
        "another tenant's prompt in the prefix cache",
        "cached tokens or a time that tell of it",
        ("NIST-SC-4", "NIST-SC-31", "AISVS-5.3.1"),
        prompts.run_cache,
    ),
    Family(
        "audit",
        "an audit trail that was changed",
        "a change that verifying does not find",
        ("NIST-AU-9", "NIST-AU-10", "AISVS-12.5.3"),
        tampering.run,
    ),
    Family(
        "exhaustion",
        "a full disk, no descriptors left, clients that trickle",
        "an unrecorded change, or a service that does not recover",
        ("NIST-AU-5", "NIST-CP-10", "NIST-SC-5"),
        exhaustion.run,
    ),
    Family(
        "canaries",
        "secrets in output, logs, files and memory dumps",
        "a secret that is found",
        ("NIST-AU-9", "NIST-SC-28", "NIST-SI-11"),
        canaries.run,
    ),
    Family(
        "tokens",
        "names of special tokens in what users write",
        "a name that becomes the special token",
        ("NIST-SI-10", "AISVS-2.1.7"),
        prompts.run_special_tokens,
    ),
    Family(
        "bearers",
        "API keys where, or when, they must not count",
        "an answer to such a key",
        ("NIST-AC-12", "NIST-IA-5", "NIST-SC-23"),
        bearers.run,
    ),
    Family(
        "quotas",
        "many requests at once, half of them abandoned",
        "a quota that is evaded, or a service that breaks",
        ("NIST-SC-5", "NIST-SC-6", "AISVS-11.2.2"),
        quotas.run_quotas,
    ),
)


def chosen(names: Sequence[str] = (), controls: Sequence[str] = ()) -> list[Family]:
    """The families of these names, and that are evidence for one of these controls; all where nothing is given."""
    return [
        family
        for family in FAMILIES
        if (not names or family.name in names) and (not controls or set(controls) & set(family.controls))
    ]


def attack(scene: Scene, families: Sequence[Family] = FAMILIES) -> Iterator[tuple[Family, list[Result]]]:
    """Run families one after another; each with its results."""
    for family in families:
        yield family, list(results(family, scene))
