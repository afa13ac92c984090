"""How long one access decision takes: 50 statements in six layers, most with conditions, policies compiled beforehand.

    python bench/policy.py [--write]

Three figures: the mean over ten different requests, the same for a plain interpreter that walks the JSON documents
anew for every request (it agrees on every outcome, or the bench stops), and requests that all 50 statements bear on.
The limit is 100 us a decision. ``--write`` puts the result into bench/results, if the machine is quiet. Not covered:
building the request's context, loading policies from the database, and compiling them (told, without a target).
"""

from __future__ import annotations

import argparse
import ipaddress
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from outcrop.trust.policy import Layers, Policy, PolicyRole, Request, Requester, RequesterKind, compile_policy, decide

LIMIT_US = 100.0
QUIET_LOAD = 0.5
ROUNDS, ROUND_S = 15, 0.1
ROOT = Path(__file__).resolve().parents[1]

Statement = dict[str, Any]
Documents = dict[str, list[Statement]]

OWN = "111122223333"
USER_ARN = f"arn:aws:iam::{OWN}:user/bob"
MODEL = "arn:aws:bedrock:us-east-1::foundation-model/outcrop.small-v1:0"
GUARDED = {"StringNotEquals": {"bedrock:GuardrailIdentifier": ["g-1", "g-2"]}}
HERE = {"IpAddress": {"aws:SourceIp": ["10.0.0.0/8", "2001:db8::/32"]}}
TEAM = {"StringEquals": {"aws:ResourceTag/team": "${aws:PrincipalTag/team}"}, "Bool": {"aws:SecureTransport": "true"}}
SAFE = {"Bool": {"aws:SecureTransport": "false"}}
REGION = {"StringNotEquals": {"aws:RequestedRegion": ["us-east-1", "us-west-2"]}}


def documents() -> Documents:
    """The statements of each layer: 30 of identity policies, 4 of a boundary, 10 of SCPs, 6 of a resource policy."""
    jobs = [f"arn:aws:bedrock:*:{OWN}:model-customization-job/{name}-*" for name in ("a", "b", "c")]
    identity = [
        _says("Allow", ["bedrock:InvokeModel*", "bedrock:Converse*"], "arn:aws:bedrock:*::foundation-model/*", HERE),
        _says("Deny", ["bedrock:InvokeModel", "bedrock:Converse"], "*", GUARDED),
        *(_says("Allow", ["bedrock:Get*", "bedrock:List*", f"bedrock:Tag{i}"], jobs, TEAM) for i in range(10)),
        *(_says("Allow", f"s3:{verb}Object*", f"arn:aws:s3:::data-{i}/${{aws:username}}/*") for i, verb in _verbs(8)),
        *(_says("Allow", ["bedrock:CreateModel*"], f"arn:aws:bedrock:us-?ast-{i}:{OWN}:*", HERE) for i in range(5)),
        *(_says("Deny", "bedrock:Delete*", f"arn:aws:bedrock:*:{OWN}:*/keep-{i}*", TEAM) for i in range(5)),
    ]
    boundary = [_says("Allow", "bedrock:*", "*"), _says("Allow", "s3:*", "arn:aws:s3:::data-*")]
    boundary += [_says("Deny", "iam:*", "*"), _says("Deny", ["bedrock:Create*", "bedrock:Put*"], "*", REGION)]
    scp = [_says("Allow", "*", "*"), _says("Deny", "*", "*", SAFE), _says("Deny", "bedrock:*", "*", REGION)]
    scp += [_says("Deny", f"bedrock:Delete{name}", "*") for name in ("Guardrail", "CustomModel")]
    own = {"Principal": {"AWS": [USER_ARN, f"arn:aws:iam::{OWN}:root"]}}
    resource = [{**_says("Allow", "bedrock:Invoke*", "*"), **own}, {**_says("Deny", "*", "*", SAFE), "Principal": "*"}]
    resource += [{**_says("Deny", f"bedrock:Put{i}", "*", HERE), "Principal": "*"} for i in range(4)]
    return {"identity": identity, "boundary": boundary, "scp": scp, "scp 2": scp, "resource": resource}


def _says(effect: str, action: str | list[str], resource: str | list[str], condition: Any = None) -> Statement:
    said: Statement = {"Effect": effect, "Action": action, "Resource": resource}
    return said if condition is None else {**said, "Condition": condition}


def _verbs(count: int) -> list[tuple[int, str]]:
    return [(i, ("Get", "Put", "Delete", "List")[i % 4]) for i in range(count)]


def requests() -> list[Request]:
    """Ten requests of one user: allowed and denied, with and without the keys that are asked for."""
    user = Requester(RequesterKind.USER, OWN, USER_ARN)
    whole = {
        "aws:username": "bob",
        "aws:SourceIp": "10.1.2.3",
        "aws:SecureTransport": "true",
        "aws:RequestedRegion": "us-east-1",
        "aws:PrincipalTag/team": "red",
        "aws:ResourceTag/team": "red",
        "aws:CurrentTime": "2026-11-22T10:00:00Z",
        "aws:PrincipalArn": USER_ARN,
        "aws:userid": "AIDAEXAMPLE",
        "aws:PrincipalAccount": OWN,
        "aws:PrincipalType": "User",
        "aws:UserAgent": "Boto3/1.44.5",
        "bedrock:GuardrailIdentifier": "g-1",
    }
    job = f"arn:aws:bedrock:us-east-1:{OWN}:model-customization-job/b-17"
    asked = [
        ("bedrock:InvokeModel", MODEL, whole),
        ("bedrock:InvokeModel", MODEL, {**whole, "bedrock:GuardrailIdentifier": "g-9"}),
        ("bedrock:Converse", MODEL, {key: whole[key] for key in whole if key != "bedrock:GuardrailIdentifier"}),
        ("bedrock:ConverseStream", MODEL, {**whole, "aws:SourceIp": "192.0.2.1"}),
        ("bedrock:GetModelCustomizationJob", job, whole),
        ("bedrock:GetModelCustomizationJob", job, {**whole, "aws:ResourceTag/team": "blue"}),
        ("bedrock:CreateModelCustomizationJob", job, {**whole, "aws:RequestedRegion": "eu-west-1"}),
        ("s3:GetObject", "arn:aws:s3:::data-4/bob/x", whole),
        ("s3:GetObject", "arn:aws:s3:::data-4/eve/x", whole),
        ("bedrock:DeleteImportedModel", f"arn:aws:bedrock:us-east-1:{OWN}:imported-model/keep-3", whole),
    ]
    return [Request(user, action, resource, OWN, context) for action, resource, context in asked]


def compiled(said: Documents) -> Layers:
    """``said`` as layers."""

    def one(layer: str, role: PolicyRole) -> Policy:
        return compile_policy({"Version": "2012-10-17", "Statement": said[layer]}, role, layer)

    return Layers(
        identity=(one("identity", PolicyRole.IDENTITY),),
        boundary=one("boundary", PolicyRole.BOUNDARY),
        scps=((one("scp", PolicyRole.SCP),), (one("scp 2", PolicyRole.SCP),)),
        resource=one("resource", PolicyRole.RESOURCE),
    )


def interpret(said: Documents, request: Request) -> bool:
    """The plain interpreter: only what these documents use, with Python's own cache of regular expressions."""
    context = {key.lower(): value for key, value in request.context.items()}
    allows = dict.fromkeys(said, False)
    for layer, statements in said.items():
        for statement in statements:
            if _applies(statement, request, context):
                if statement["Effect"] == "Deny":
                    return False
                allows[layer] = True
    within = allows["scp"] and allows["scp 2"]
    return within and (allows["resource"] or (allows["identity"] and allows["boundary"]))


def _applies(statement: Statement, request: Request, context: dict[str, Any]) -> bool:
    principal = statement.get("Principal", "*")
    if principal != "*" and request.requester.arn not in principal["AWS"]:
        return False
    if not any(_like(action.lower(), request.action.lower()) for action in _list(statement["Action"])):
        return False
    if not any(_like(_filled(each, context), request.resource) for each in _list(statement["Resource"])):
        return False
    for operator, keys in statement.get("Condition", {}).items():
        for key, values in keys.items():
            value = context.get(key.lower())
            wanted = [_filled(each, context) for each in _list(values)]
            if value is None:
                found = False
            elif operator == "IpAddress":
                found = any(ipaddress.ip_address(value) in ipaddress.ip_network(each) for each in wanted)
            else:
                found = value in wanted
            if found is (operator == "StringNotEquals"):
                return False
    return True


def _list(value: Any) -> list[str]:
    return value if isinstance(value, list) else [value]


def _filled(text: str, context: dict[str, Any]) -> str:
    return re.sub(r"\$\{(.*?)\}", lambda match: str(context.get(match[1].lower(), "\0")), text)


def _like(pattern: str, text: str) -> bool:
    expression = re.escape(pattern).replace(r"\*", ".*").replace(r"\?", ".")
    return re.fullmatch(expression, text, re.DOTALL) is not None


def measure(decision: Callable[[Request], object], asked: Sequence[Request]) -> float:
    """Microseconds of processor time a decision, the median of several rounds over all of ``asked``."""
    found = []
    for _ in range(ROUNDS):
        began, count = time.process_time(), 0
        while time.process_time() - began < ROUND_S:
            for request in asked:
                decision(request)
            count += len(asked)
        found.append((time.process_time() - began) / count * 1e6)
    return statistics.median(found)


def figures() -> dict[str, float]:
    """Everything that is measured; stops where the two evaluators disagree."""
    said, asked = documents(), requests()
    layers = compiled(said)
    for request in asked:
        if decide(request, layers).allowed is not interpret(said, request):
            raise SystemExit(f"The interpreter disagrees on {request}.")
    everywhere = {layer: [_says("Allow", "bedrock:Inv*", [MODEL[:-1] + "?"], HERE)] * 10 for layer in said}
    everywhere["resource"] = [{**each, "Principal": {"AWS": USER_ARN}} for each in everywhere["resource"]]
    all_match = compiled(everywhere)
    began = time.process_time()
    compiled(said)
    compile_ms = (time.process_time() - began) * 1e3
    mean = measure(lambda request: decide(request, layers), asked)
    naive = measure(lambda request: interpret(said, request), asked)
    return {
        "statements": sum(len(statements) for statements in said.values()),
        "decision_us": mean,
        "of_limit": mean / LIMIT_US,
        "interpreter_us": naive,
        "times_faster": naive / mean,
        "all_50_match_us": measure(lambda request: decide(request, all_match), asked[:1]),
        "compile_all_ms": compile_ms,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="write bench/results/DATE-policy.json")
    write = parser.parse_args().write
    load = os.getloadavg()[0]
    found = {name: round(value, 3) for name, value in figures().items()}
    for name, value in found.items():
        print(f"{name:<18} {value:10.3f}")
    print(
        f"limit {LIMIT_US:.0f} us: {'kept' if found['decision_us'] <= LIMIT_US else 'MISSED'}; load {load:.2f} before"
    )
    if write:
        if load > QUIET_LOAD:
            print("Nothing written: the machine is busy with other things.")
            return 1
        result = {
            "bench": "policy",
            "when": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "commit": _git("rev-parse", "--short=12", "HEAD")
            + ("+changes" if _git("status", "--porcelain", "src") else ""),
            "machine": {"cores": os.cpu_count(), "kernel": platform.release(), "load_before": round(load, 2)},
            "versions": {"python": platform.python_version()},
            "figures": found,
            "targets": {"decision_us": {"limit": LIMIT_US, "kept": found["decision_us"] <= LIMIT_US}},
        }
        path = ROOT / "bench" / "results" / f"{result['when']:.10}-policy.json"
        path.write_text(json.dumps(result, indent=2) + "\n")
        print(f"wrote {path.relative_to(ROOT)}")
    return 0 if found["decision_us"] <= LIMIT_US else 1


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip()


if __name__ == "__main__":
    sys.exit(main())
