"""The front-end lint: what the vendor's documentation rules out is refused, what it leaves out is advised on."""

from __future__ import annotations

import importlib.util
import sys
import warnings
from collections.abc import Callable, Collection
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from kernel_rig import core
from outcrop.silicon.device.rules import KernelRefused, KernelWarning
from outcrop.silicon.nki.frontend import check_arguments, check_kernel, lint
from outcrop.silicon.nki.launch import jit


def load(folder: Path, text: str, name: str = "kernels_under_test") -> ModuleType:
    path = folder / f"{name}.py"
    path.write_text(text, encoding="utf-8")
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    finally:
        del sys.modules[name]
    return module


def found(folder: Path, text: str) -> list[tuple[str, int]]:
    """Rules and lines of what the lint finds in ``kernel`` of a module."""
    return [(each.rule.name, each.source.line) for each in lint(load(folder, text).kernel)]


def check(kernel: Callable[..., Any], relaxed: bool | Collection[str] = False) -> None:
    with core(relaxed=relaxed):
        check_kernel(kernel)


ACCEPTED = """
import math
class Config:
    def __init__(self, tiles):
        self.tiles = tiles
    @staticmethod
    def make(n):
        return Config(n)
def helper(tile, scale=None, *rest, **more):
    if scale is not None and tile is not None:
        return math.ceil(scale)
    return [each for each in range(3)]
def kernel(a, b=(1, 2), flag: bool = True):
    '''A docstring.'''
    assert a == b, f"{a} != {b}"
    settings = {"one": 1}
    config = Config.make(2)
    def body(i):
        print(i)
    while flag == True:
        flag = False
    with nl.no_reorder():
        for i in range(3):
            if i == 2:
                break
            else:
                continue
    x, y = b if a is None else (None, helper(a))
    return None
"""


def test_what_the_guide_describes_is_accepted(tmp_path: Path) -> None:
    assert found(tmp_path, ACCEPTED) == []


@pytest.mark.parametrize(
    ("body", "rule", "words"),
    [
        ("    if a is True:\n        pass", "frontend-identity", "Write == instead of is"),
        ("    x = a is not b", "frontend-identity", "Write != instead of is not"),
        ("    return {1: 2}", "frontend-dictionary-key", "the key 1"),
    ],
)
def test_what_the_documentation_rules_out_is_refused(tmp_path: Path, body: str, rule: str, words: str) -> None:
    kernel = load(tmp_path, f"def kernel(a, b=1):\n{body}\n").kernel
    with pytest.raises(KernelRefused) as err:
        check(kernel)
    assert err.value.rule.name == rule
    assert words in str(err.value)
    assert "kernels_under_test.py:2 in kernel" in str(err.value)
    with pytest.warns(KernelWarning, match=rule):
        check(kernel, relaxed={rule})


def test_keyword_only_parameters_of_a_kernel_are_refused_and_of_a_helper_are_not(tmp_path: Path) -> None:
    module = load(tmp_path, "def helper(a, *, b=1):\n    return a\ndef kernel(a, *, b=1):\n    return helper(a, b=2)\n")
    with pytest.raises(KernelRefused) as err:
        check(module.kernel)
    assert err.value.rule.name == "frontend-keyword-only"
    assert "takes b by keyword only" in str(err.value)
    fine = load(tmp_path, "def helper(a, *, b=1):\n    return a\ndef kernel(a, b=1):\n    return helper(a, b=2)\n")
    check(fine.kernel)


@pytest.mark.parametrize(
    "statement",
    [
        "f = lambda x: x",
        "n = sum(x for x in range(3))",
        "n = {1, 2}",
        "n = {x for x in range(3)}",
        "n = {str(x): x for x in range(3)}",
        "n = (m := 3)",
        "global state",
        "with open('x') as f: pass",
    ],
)
def test_what_the_guide_does_not_mention_is_advised_against(tmp_path: Path, statement: str) -> None:
    text = f"def kernel(a):\n    {statement}\n"
    assert found(tmp_path, text) == [("frontend-unmentioned", 2)]
    kernel = load(tmp_path, text).kernel
    with pytest.warns(KernelWarning, match="frontend-unmentioned"):
        check(kernel)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check(kernel, relaxed={"frontend-unmentioned"})


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("def kernel(a):\n    try:\n        pass\n    except ValueError:\n        pass\n", 2),
        ("def kernel(a):\n    match a:\n        case 1:\n            pass\n", 2),
        ("def kernel(a):\n    def inner():\n        yield 1\n", 3),
        ("def kernel(*a):\n    return a\n", 1),
        ("def kernel(**a):\n    return a\n", 1),
        ("import functools\ndef kernel(a):\n    @functools.cache\n    def inner():\n        pass\n", 4),
        ("def kernel(a):\n    n = 1\n    def inner():\n        nonlocal n\n", 4),
    ],
)
def test_statements_that_the_guide_does_not_mention(tmp_path: Path, text: str, line: int) -> None:
    assert found(tmp_path, text) == [("frontend-unmentioned", line)]


HELPERS = """
import outcrop
from dataclasses import dataclass
def far(a):
    return a is True
def near(a):
    return far(a)
class Tiler:
    def __init__(self, a):
        self.a = a is False
    @classmethod
    def of(cls, a):
        return cls(a is 3)
@dataclass
class Plain:
    a: int
def unused(a):
    return a is True
class Space:
    pass
def kernel(a):
    Plain(1)
    return near(a), Tiler(a)
"""


def test_helpers_and_classes_that_a_kernel_reaches_are_read_too(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SyntaxWarning)
        lines = [line for rule, line in found(tmp_path, HELPERS) if rule == "frontend-identity"]
    assert sorted(lines) == [5, 10, 13]


def test_a_function_of_a_closure_is_read(tmp_path: Path) -> None:
    text = "def make():\n    def helper(a):\n        return a is True\n    def kernel(a):\n        return helper(a)\n"
    module = load(tmp_path, text + "    return kernel\nkernel = make()\n")
    assert [each.source.line for each in lint(module.kernel)] == [3]


def test_a_decorated_kernel_is_read_by_its_function(tmp_path: Path) -> None:
    module = load(tmp_path, "from outcrop.silicon.nki.launch import jit\n@jit\ndef kernel(a):\n    return a is True\n")
    assert [(each.source.line, each.source.function) for each in lint(module.kernel)] == [(4, "kernel")]
    assert [each.source.line for each in lint(jit(module.kernel))] == [4]


def test_what_has_no_source_is_left_alone() -> None:
    check(len)
    check(print)
    namespace: dict[str, Any] = {}
    exec("def kernel(a):\n    return a is True", namespace)
    check(namespace["kernel"])


def test_lists_as_arguments_are_refused() -> None:
    def kernel(a: Any, b: Any = None) -> None: ...

    with core():
        check_arguments(kernel, ((1, 2),), {"b": {"x": 1}})
        with pytest.raises(KernelRefused) as err:
            check_arguments(kernel, (1,), {"b": [1, 2]})
        assert err.value.rule.name == "frontend-list-argument"
        assert "kernel got a list of 2 as b" in str(err.value)
        with pytest.raises(KernelRefused, match="argument 0"):
            check_arguments(kernel, ([1],), {})


def test_the_source_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = load(tmp_path, "def kernel(a):\n    return a\n").kernel
    check(kernel)
    monkeypatch.setattr("outcrop.silicon.nki.frontend.lint", lambda function: pytest.fail("read again"))
    check(kernel)
