"""Answers without what must differ between two requests: ids of requests, times, and the names that were asked for."""

from __future__ import annotations

import re

from outcrop.assurance.attack.client import Answer

_REQUEST_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_CHANGING = ("date", "x-amzn-requestid", "content-length")


def masked(answer: Answer, *names: str) -> tuple[int, str, str]:
    """Status, headers and text of an answer, with every name in ``names`` (and its last part) as the same mark."""
    text = answer.text
    headers = "\n".join(f"{key}: {value}" for key, value in answer.headers if key not in _CHANGING)
    every = {*names, *(part for name in names for part in parts(name))}
    for known in sorted(every, key=len, reverse=True):
        text, headers = text.replace(known, "NAME"), headers.replace(known, "NAME")
    return answer.status, _REQUEST_ID.sub("ID", headers), _REQUEST_ID.sub("ID", text)


def parts(name: str) -> tuple[str, ...]:
    """The last part of an ARN or path, by which answers may name it too."""
    last = re.split(r"[:/]", name)[-1]
    return (last,) if len(last) >= 4 else ()
