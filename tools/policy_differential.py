"""Compare the policy engine with another evaluator on generated cases.

    python tools/policy_differential.py --cases 100000 --seed 1 -- node tools/policy_adapters/iam_simulate.cjs DIR

The other evaluator runs as a process of its own, started by the command after ``--``: one JSON case a line in, one
JSON answer a line out (``{"id": 7, "answer": "Allowed"}``, any other answer being a denial; ``{"id": 7, "refused":
"why"}`` when it does not take the case). Every disagreement is put into a class by a counter-experiment: the feature
that the class is about is rewritten into its meaning as we read it, and both evaluators are asked again; the class
explains the disagreement when our decision stays and the other's becomes the same. What no class explains is printed
and makes the exit status 1.

Not covered: what ``policy_cases`` does not draw; whether the classes' rulings are right, which is what
docs/reference/policy-evaluation.md argues from AWS's documentation.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from outcrop.trust.policy import (
    Layers,
    Policy,
    PolicyRefused,
    PolicyRole,
    Request,
    Requester,
    RequesterKind,
    compile_policy,
    decide,
)
from policy_cases import Case, Cases, Document
from policy_differences import CLASSES, rewritten

BATCH = 64
"""Cases on their way at once: their answers fit in a pipe, so neither side waits for the other."""


def layers_of(case: Case) -> Layers:
    """The case's policies compiled; ``PolicyRefused`` when one is not understood."""

    def all_of(documents: Iterable[Document], role: PolicyRole) -> tuple[Policy, ...]:
        return tuple(compile_policy(document, role, f"{role}") for document in documents)

    def one(document: Document | None, role: PolicyRole) -> Policy | None:
        return None if document is None else compile_policy(document, role, f"{role}")

    trust = case["action"].startswith("sts:")
    return Layers(
        identity=all_of(case["identity"], PolicyRole.IDENTITY),
        boundary=one(case["boundary"], PolicyRole.BOUNDARY),
        session=None if case["session"] is None else all_of([case["session"]], PolicyRole.SESSION),
        resource=one(case["resource_policy"], PolicyRole.TRUST if trust else PolicyRole.RESOURCE),
        resource_required=case["resource_required"],
        scps=tuple(all_of(level, PolicyRole.SCP) for level in case["scps"]),
        rcps=tuple(all_of(level, PolicyRole.RCP) for level in case["rcps"]),
    )


def ours(case: Case) -> bool:
    """Our decision on the case."""
    who = dict(case["requester"])
    requester = Requester(RequesterKind(who.pop("kind")), **who)
    request = Request(requester, case["action"], case["resource"], case["resource_account"], case["context"])
    return decide(request, layers_of(case)).allowed


@dataclass(frozen=True, slots=True)
class Told:
    """Another evaluator's answer: ``allowed`` is ``None`` when it refused the case."""

    allowed: bool | None
    refused: str


class Evaluator:
    """The other evaluator: a process that answers line by line."""

    def __init__(self, command: Sequence[str]) -> None:
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(self, cases: Sequence[Case]) -> list[Told]:
        """The answers in the order of ``cases``; ``RuntimeError`` when the process does not keep to the protocol."""
        stdin, stdout = self._process.stdin, self._process.stdout
        if stdin is None or stdout is None:
            raise RuntimeError("the evaluator has no pipes")
        stdin.writelines(json.dumps(case) + "\n" for case in cases)
        stdin.flush()
        return [self._answer(stdout.readline(), case) for case in cases]

    def _answer(self, line: str, case: Case) -> Told:
        if not line:
            raise RuntimeError(f"the evaluator ended (status {self._process.wait()}) at case {case['id']}")
        answer = json.loads(line)
        if answer["id"] != case["id"]:
            raise RuntimeError(f"the evaluator answered case {answer['id']} when case {case['id']} was asked")
        if "refused" in answer:
            return Told(None, str(answer["refused"]))
        return Told(answer["answer"] == "Allowed", "")

    def close(self) -> None:
        if self._process.stdin is not None:
            self._process.stdin.close()
        self._process.wait(timeout=30)


def explain(case: Case, allowed: bool, evaluator: Evaluator) -> str | None:
    """The class whose feature the disagreement hangs on, or ``None``; several features at once are told together."""
    singles = [(name, made) for name in CLASSES if (made := rewritten(case, [name])) is not None]
    for name, made in singles:
        if _agree(made, allowed, evaluator):
            return name
    names = [name for name, _ in singles]
    together = rewritten(case, names) if len(names) > 1 else None
    if together is not None and _agree(together, allowed, evaluator):
        return "several: " + " + ".join(_needed(case, names, allowed, evaluator))
    return None


def _needed(case: Case, names: list[str], allowed: bool, evaluator: Evaluator) -> list[str]:
    """``names`` without those that the agreement does not hang on."""
    kept = list(names)
    for name in names:
        fewer = [each for each in kept if each != name]
        made = rewritten(case, fewer) if fewer else None
        if made is not None and _agree(made, allowed, evaluator):
            kept = fewer
    return kept


def _agree(case: Case, allowed: bool, evaluator: Evaluator) -> bool:
    (told,) = evaluator.ask([case])
    try:
        return told.allowed is allowed and ours(case) is allowed
    except PolicyRefused:
        return False


def batches(cases: Iterator[Case], size: int) -> Iterator[list[Case]]:
    while batch := list(islice(cases, size)):
        yield batch


def compare(cases: Iterator[Case], evaluator: Evaluator, report: Callable[[str], None], show: int) -> Counter[str]:
    """Counts of agreements, refusals and classes of disagreement; ``show`` unexplained cases go to ``report``."""
    counts: Counter[str] = Counter()
    for batch in batches(cases, BATCH):
        for case, told in zip(batch, evaluator.ask(batch), strict=True):
            try:
                allowed = ours(case)
            except PolicyRefused as error:
                counts["refused by us"] += 1
                if counts["refused by us"] <= show:
                    report(f"refused by us: {error}")
                continue
            if told.allowed is None:
                counts["refused by the other"] += 1
                if counts["refused by the other"] <= show:
                    report(f"refused by the other: {told.refused}")
                continue
            if allowed is told.allowed:
                counts["agree: allowed" if allowed else "agree: denied"] += 1
                continue
            name = explain(case, allowed, evaluator)
            side = "we allow" if allowed else "we deny"
            counts[f"differ, {side}: {name or 'UNEXPLAINED'}"] += 1
            if name is None:
                counts["unexplained"] += 1
                if counts["unexplained"] <= show:
                    report(f"UNEXPLAINED, {side}: {json.dumps(case)}")
    return counts


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--show", type=int, default=5, help="how many unexplained and refused cases to print")
    parser.add_argument("command", nargs="+", help="the command that starts the other evaluator, after --")
    asked = parser.parse_args()
    source = Cases(asked.seed)
    evaluator = Evaluator(asked.command)
    began = time.monotonic()
    try:
        drawn = (source.draw(number) for number in range(asked.cases))
        counts = compare(drawn, evaluator, print, asked.show)
    finally:
        evaluator.close()
    for name, count in sorted(counts.items(), key=lambda pair: -pair[1]):
        print(f"{count:8d}  {name}")
    print(f"seed {asked.seed}, {asked.cases} cases, {time.monotonic() - began:.0f} s")
    return 1 if counts["unexplained"] else 0


if __name__ == "__main__":
    sys.exit(main())
