"""``and``, ``or`` and ``not`` inside ``mask=`` and ``pred=``: read as the older language's own front end reads them.

Python decides ``a and b`` by the truth of ``a`` and never shows both to the called function. The vendor's tracer saw
the source and made an intersection of it. So a kernel whose source has such an argument is compiled once more with
``&``, ``|`` and ``~`` in its place, at the same lines; every other kernel runs as it is.

Not covered: masks with ``and`` that are made outside of the argument, and kernels whose source is not at hand; those
are refused where the predicate is used as a truth value.
"""

from __future__ import annotations

import ast
import functools
import inspect
import textwrap
import types
from collections.abc import Callable
from typing import Any, cast

_ARGUMENTS = ("mask", "pred")


class _Operators(ast.NodeTransformer):
    """Inside one argument: words to operators."""

    def visit_BoolOp(self, node: ast.BoolOp) -> ast.AST:
        self.generic_visit(node)
        op: ast.operator = ast.BitAnd() if isinstance(node.op, ast.And) else ast.BitOr()
        made = node.values[0]
        for each in node.values[1:]:
            made = ast.copy_location(ast.BinOp(made, op, each), node)
        return made

    def visit_UnaryOp(self, node: ast.UnaryOp) -> ast.AST:
        self.generic_visit(node)
        if isinstance(node.op, ast.Not):
            return ast.copy_location(ast.UnaryOp(ast.Invert(), node.operand), node)
        return node


class _Arguments(ast.NodeTransformer):
    """Finds the arguments to change."""

    found = False

    def visit_keyword(self, node: ast.keyword) -> ast.AST:
        self.generic_visit(node)
        words = any(
            isinstance(each, ast.BoolOp) or (isinstance(each, ast.UnaryOp) and isinstance(each.op, ast.Not))
            for each in ast.walk(node.value)
        )
        if node.arg in _ARGUMENTS and words:
            self.found = True
            node.value = _Operators().visit(node.value)
        return node


@functools.lru_cache(maxsize=512)
def rewritten(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function itself, or one with operators for words in its masks."""
    if not isinstance(function, types.FunctionType):
        return function
    try:
        lines, first = inspect.getsourcelines(function)
        tree = ast.parse(textwrap.dedent("".join(lines)))
    except (OSError, TypeError, SyntaxError):
        return function
    visitor = _Arguments()
    visitor.visit(tree)
    if not visitor.found or not isinstance(tree.body[0], ast.FunctionDef):
        return function
    definition = tree.body[0]
    definition.decorator_list = []
    definition.args.defaults, definition.args.kw_defaults = [], [None] * len(definition.args.kwonlyargs)
    names = function.__code__.co_freevars
    if names:  # the same free variables again, from a function around it
        outer = ast.parse(f"def _outer({', '.join(names)}):\n    pass\n    return {definition.name}").body[0]
        assert isinstance(outer, ast.FunctionDef)
        outer.body[0] = definition
        tree.body = [outer]
    ast.increment_lineno(tree, first - 1)
    ast.fix_missing_locations(tree)
    code = compile(tree, function.__code__.co_filename, "exec", dont_inherit=True, flags=_future_flags(function))
    inner = _code_named(code, definition.name)
    if inner is None:
        return function
    made = types.FunctionType(
        inner, function.__globals__, function.__name__, function.__defaults__, function.__closure__
    )
    made.__kwdefaults__ = function.__kwdefaults__
    made.__dict__.update(function.__dict__)
    made.__doc__ = function.__doc__
    return cast("Callable[..., Any]", made)


def _future_flags(function: types.FunctionType) -> int:
    import __future__  # noqa: PLC0415

    return function.__code__.co_flags & __future__.annotations.compiler_flag


def _code_named(code: types.CodeType, name: str) -> types.CodeType | None:
    for each in code.co_consts:
        if isinstance(each, types.CodeType):
            if each.co_name == name:
                return each
            found = _code_named(each, name)
            if found is not None:
                return found
    return None
