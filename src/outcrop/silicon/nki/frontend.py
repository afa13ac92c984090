"""Python that runs here and that the vendor's front end does not compile: told before a kernel starts.

A kernel runs here as the Python function that it is. The vendor compiles its source, of which Python is the larger
language. ``check_kernel`` reads the source of a kernel and of the functions and classes that it reaches by name, and
applies two kinds of rules: what the documentation says is refused (``frontend-identity``, ``frontend-keyword-only``,
``frontend-dictionary-key``, ``frontend-list-argument``), and what it only leaves unmentioned, and none of the vendor's
own kernels uses, is advised against (``frontend-unmentioned``).

Not covered: functions that are reached through values only (stored in lists, returned by calls), what ``getattr`` and
``exec`` do, and whether a function that is called only on the host would be compiled at all.
"""

from __future__ import annotations

import ast
import inspect
import linecache
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any

from outcrop.silicon.device import rules
from outcrop.silicon.device.refusal import advise, refuse
from outcrop.silicon.device.rules import Rule
from outcrop.silicon.device.source import Source, is_own

_UPDATE_GUIDE = "AWS Neuron, NKI 0.3.0 update guide: language restrictions"

IDENTITY = rules.rule("frontend-identity", "Kernels compare with == and !=, not with is, but for None.", _UPDATE_GUIDE)
KEYWORD_ONLY = rules.rule(
    "frontend-keyword-only", "The signature of a kernel has no keyword-only separator.", _UPDATE_GUIDE
)
LIST_ARGUMENT = rules.rule("frontend-list-argument", "No argument of a kernel is a list.", _UPDATE_GUIDE)
DICTIONARY_KEY = rules.rule(
    "frontend-dictionary-key",
    "Keys of dictionaries in a kernel are strings.",
    "AWS Neuron, NKI Language Guide: NKI values",
)
UNMENTIONED = rules.rule(
    "frontend-unmentioned",
    "Kernels use the statements and expressions that the language guide mentions.",
    "AWS Neuron, NKI Language Guide; inferred: the guide does not list what is missing, and the vendor's published "
    "kernels do without",
    advisory=True,
)

RULES = frozenset(each.name for each in (IDENTITY, KEYWORD_ONLY, LIST_ARGUMENT, DICTIONARY_KEY))

_MOST_FUNCTIONS = 2000


@dataclass(frozen=True)
class Finding:
    """One place in the source of a kernel, or of what it calls, that the vendor's front end would stop at."""

    rule: Rule
    message: str
    remedy: str
    source: Source


def check_kernel(function: Callable[..., Any]) -> None:
    """Refuse what the documentation rules out and advise on the rest; the source is read once for each function."""
    code = getattr(inspect.unwrap(function), "__code__", None)
    if code is None:
        return
    found = _known.get(code)
    if found is None:
        found = _known[code] = tuple(lint(function))
    for each in found:
        if each.rule.advisory:
            advise(each.rule, each.message, each.remedy, each.source)
        else:
            refuse(each.rule, each.message, each.remedy, each.source)


def check_arguments(function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
    """Refuse lists among the arguments of a launch."""
    for name, value in [*((f"argument {at}", value) for at, value in enumerate(args)), *kwargs.items()]:
        if isinstance(value, list):
            told = getattr(function, "__name__", "The kernel")
            refuse(
                LIST_ARGUMENT,
                f"{told} got a list of {len(value)} as {name}.",
                "Pass a tuple: it cannot change after the kernel was compiled for it.",
            )


_known: dict[CodeType, tuple[Finding, ...]] = {}


def preload(files: Iterable[str]) -> None:
    """Read kernels' files now: for a process that forks others, which then need not."""
    for file in files:
        if not _foreign_file(file):
            _definitions(file, _version(file))


def lint(function: Callable[..., Any]) -> Iterator[Finding]:
    """Everything found in a kernel and in what it reaches, in the order of reaching."""
    kernel = inspect.unwrap(function)
    if not isinstance(kernel, FunctionType):
        return
    waiting = [kernel]
    seen = {kernel.__code__}
    while waiting and len(seen) < _MOST_FUNCTIONS:
        each = waiting.pop(0)
        tree = _definition(each.__code__)
        if tree is None:
            continue
        nodes = [node for statement in tree.body for node in ast.walk(statement) if type(node) in _LOOKED_AT]
        yield from _findings(tree, nodes, each.__code__, entry=each is kernel)
        for other in _reached(nodes, each):
            if other.__code__ not in seen:
                seen.add(other.__code__)
                waiting.append(other)


# -- one function -----------------------------------------------------------------------------------------------------

_UNMENTIONED: dict[type[ast.AST], str] = {
    ast.Lambda: "a lambda",
    ast.GeneratorExp: "a generator expression",
    ast.SetComp: "a set comprehension",
    ast.DictComp: "a dictionary comprehension",
    ast.Set: "a set",
    ast.NamedExpr: "an assignment expression (:=)",
    ast.Try: "a try statement",
    ast.TryStar: "a try statement",
    ast.Yield: "yield",
    ast.YieldFrom: "yield from",
    ast.Await: "await",
    ast.AsyncFor: "async for",
    ast.AsyncWith: "async with",
    ast.AsyncFunctionDef: "an async function",
    ast.Match: "a match statement",
    ast.Global: "global",
    ast.Nonlocal: "nonlocal",
}
_TOLD = frozenset({ast.Compare, ast.Dict, ast.FunctionDef, ast.With, *_UNMENTIONED})
_LOOKED_AT = _TOLD | {ast.Name, ast.Attribute}


def _findings(tree: ast.FunctionDef, nodes: Sequence[ast.AST], code: CodeType, *, entry: bool) -> Iterator[Finding]:
    name = tree.name

    def at(node: ast.AST) -> Source:
        return Source(code.co_filename, getattr(node, "lineno", code.co_firstlineno), name)

    if entry and tree.args.kwonlyargs:
        names = ", ".join(each.arg for each in tree.args.kwonlyargs)
        yield Finding(
            KEYWORD_ONLY,
            f"The kernel {name} takes {names} by keyword only.",
            "Remove the * from the signature, and move parameters with defaults to its end.",
            at(tree),
        )
    if entry and (tree.args.vararg or tree.args.kwarg):
        yield _unmentioned(f"{name} takes a variable number of arguments", at(tree))
    for node in nodes:
        if type(node) in _TOLD:
            yield from _of_node(node, name, at(node))


def _of_node(node: ast.AST, name: str, source: Source) -> Iterator[Finding]:
    if isinstance(node, ast.Compare):
        operands = [node.left, *node.comparators]
        for index, operator in enumerate(node.ops):
            pair = operands[index : index + 2]
            if isinstance(operator, ast.Is | ast.IsNot) and not any(_is_none(each) for each in pair):
                written = "is not" if isinstance(operator, ast.IsNot) else "is"
                yield Finding(
                    IDENTITY,
                    f"{name} compares `{ast.unparse(node)}`.",
                    f"Write {'!=' if written == 'is not' else '=='} instead of {written}: identity means nothing to a "
                    "compiler.",
                    source,
                )
    elif isinstance(node, ast.Dict):
        for key in node.keys:
            if isinstance(key, ast.Constant) and not isinstance(key.value, str):
                yield Finding(
                    DICTIONARY_KEY,
                    f"{name} has a dictionary with the key {key.value!r}.",
                    "Use strings as keys, or a list where they count from 0.",
                    source,
                )
    elif isinstance(node, ast.FunctionDef) and node.decorator_list:
        yield _unmentioned(f"{name} decorates its inner function {node.name}", source)
    elif isinstance(node, ast.With):
        for item in node.items:
            called = item.context_expr.func if isinstance(item.context_expr, ast.Call) else item.context_expr
            if not ast.unparse(called).endswith("no_reorder"):
                yield _unmentioned(f"{name} has `with {ast.unparse(item.context_expr)}`", source)
    elif type(node) in _UNMENTIONED:
        yield _unmentioned(f"{name} has {_UNMENTIONED[type(node)]}", source)


def _is_none(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is None


def _unmentioned(seen: str, source: Source) -> Finding:
    return Finding(
        UNMENTIONED,
        f"{seen}, which runs here, and which the vendor's language guide does not mention.",
        "Kernels are compiled from a part of Python; write it with loops, conditions and plain functions to be safe.",
        source,
    )


# -- what it reaches --------------------------------------------------------------------------------------------------


def _reached(nodes: Sequence[ast.AST], function: FunctionType) -> Iterator[FunctionType]:
    """Functions that names and dotted names in the body stand for, and the methods of classes among them."""
    closure = inspect.getclosurevars(function).nonlocals if function.__closure__ else {}
    for node in nodes:
        if isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Load):
            yield from _functions(_resolve(node, function.__globals__, closure))


def _resolve(node: ast.expr, names: Mapping[str, Any], closure: Mapping[str, Any]) -> Any:
    if isinstance(node, ast.Name):
        return closure.get(node.id, names.get(node.id))
    if isinstance(node, ast.Attribute):
        owner = _resolve(node.value, names, closure)
        if isinstance(owner, ModuleType):
            return vars(owner).get(node.attr)
    return None


def _functions(value: Any) -> Iterator[FunctionType]:
    members = list(vars(value).values()) if isinstance(value, type) else [value]
    for each in members:
        inner = each.__func__ if isinstance(each, staticmethod | classmethod) else each
        plain = inspect.unwrap(inner) if callable(inner) else inner
        if isinstance(plain, FunctionType) and not _foreign_file(plain.__code__.co_filename):
            yield plain


@cache
def _foreign_file(file: str) -> bool:
    """Whether a file is not part of a kernel: ours, the standard library's, an installed package's."""
    path = Path(file)
    installed = "site-packages" in path.parts or path.is_relative_to(Path(inspect.__file__).parent)
    return installed or is_own(file) or not linecache.getlines(file)


@cache
def _definitions(file: str, version: int) -> dict[int, ast.FunctionDef]:
    """Functions of a file by the line that their code object names: the first decorator's, if there is one."""
    linecache.checkcache(file)
    try:
        tree = ast.parse("".join(linecache.getlines(file)))
    except (ValueError, SyntaxError):
        return {}
    found = {}
    waiting: list[ast.AST] = [tree]
    while waiting:  # statements only: most nodes are within expressions, which hold no functions
        node = waiting.pop()
        if isinstance(node, ast.FunctionDef):
            found[min([node.lineno, *(each.lineno for each in node.decorator_list)])] = node
        for block in _BLOCKS:
            inner = getattr(node, block, None)
            if isinstance(inner, list):
                waiting.extend(inner)
    return found


_BLOCKS = ("body", "orelse", "handlers", "finalbody", "cases")


def _definition(code: CodeType) -> ast.FunctionDef | None:
    found = _definitions(code.co_filename, _version(code.co_filename)).get(code.co_firstlineno)
    return found if found is not None and found.name == code.co_name else None


def _version(file: str) -> int:
    path = Path(file)
    return path.stat().st_mtime_ns if path.is_file() else 0
