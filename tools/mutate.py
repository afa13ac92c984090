"""Mutation testing: change one thing in a module, run its tests, and list the changes that no test notices.

    python tools/mutate.py outcrop.trust.policy.decide --tests tests/unit/trust/policy

Each mutant runs in a forked child, in which an import hook hands out the changed module; the tests run in the order
given, until one fails. ``--quick FILE`` names a test file whose function ``quick()`` raises when something is wrong: it
is called first, without pytest, and notices most mutants in a tenth of the time. A mutant that no test notices is a
survivor, unless ``--explained FILE`` (TOML) says why it changes nothing that can be seen. The exit status is 1 when a
survivor is left unexplained.

Mutated are comparisons, ``and``/``or``/``not``, conditions, constants, arithmetic, ``any``/``all``/``min``/``max``,
returned values, statements (left out one by one) and members of displays (likewise). Not mutated: annotations,
decorators, docstrings, and texts of errors (what stands in ``raise`` and in calls of ``check``).
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import copy
import importlib.abc
import importlib.machinery
import importlib.util
import io
import os
import runpy
import signal
import sys
import time
import tomllib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[1]
LIMIT_S = 60
PYTEST = ("-q", "-p", "no:xdist", "-p", "no:cacheprovider", "--assert=plain")
"""Plain assertions: to rewrite them, pytest imports a plugin's package with a hook of its own, before ours."""
COMPARISONS: dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]] = {
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
}
ARITHMETIC: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Add,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
    ast.RShift: ast.LShift,
    ast.LShift: ast.RShift,
}
CALLS = {"any": "all", "all": "any", "min": "max", "max": "min"}
STATEMENTS = (ast.Expr, ast.Assign, ast.AugAssign, ast.Return, ast.Raise, ast.Continue, ast.Break, ast.Delete)


@dataclass(frozen=True, slots=True)
class Mutant:
    """One changed module: ``was`` and ``now`` are the changed part's lines, stripped."""

    module: str
    line: int
    was: str
    now: str
    code: str

    @property
    def name(self) -> str:
        return f"{self.module.rpartition('.')[2]}: {self.was} => {self.now}"


def mutants_of(module: str) -> Iterator[Mutant]:
    """Every mutant of ``module``, in the order of its lines."""
    source = _source(module)
    for place, node in enumerate(ast.walk(ast.parse(source))):
        for number in range(len(list(_changes(node)))):
            tree = ast.parse(source)
            _mark(tree)
            target = list(ast.walk(tree))[place]
            if getattr(target, "kept", False):
                continue
            whole = _statement_around(tree, target)
            was = ast.unparse(whole)
            _apply(tree, target, list(_changes(target))[number])
            now = ast.unparse(whole) if _is_in(tree, whole) else "(left out)"
            if now != was:
                yield Mutant(
                    module, getattr(target, "lineno", 0), _short(was, now), _short(now, was), ast.unparse(tree)
                )


def _source(module: str) -> str:
    found = importlib.machinery.PathFinder.find_spec(module, _search(module))
    if found is None or found.origin is None:
        raise SystemExit(f"there is no module {module}")
    return Path(found.origin).read_text()


def _search(module: str) -> list[str]:
    return [str((ROOT / "src").joinpath(*module.split(".")[:-1]))]


def _short(text: str, other: str) -> str:
    """The lines of ``text`` that are not in ``other``."""
    mine, theirs = text.splitlines(), other.splitlines()
    kept = [line.strip() for line in mine if line not in theirs] or [line.strip() for line in mine[:1]]
    return " / ".join(kept)


def _mark(tree: ast.Module) -> None:
    """Mark what is not mutated."""
    for node in ast.walk(tree):
        parts: list[ast.AST | None] = []
        if isinstance(node, ast.AnnAssign | ast.arg):
            parts.append(node.annotation)
        if isinstance(node, ast.FunctionDef):
            parts += [node.returns, *node.decorator_list]
        if isinstance(node, ast.ClassDef):
            parts += node.decorator_list
        if isinstance(node, ast.Raise):
            parts += [node.exc, node.cause]
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "check":
            parts += node.args[1:]
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            parts.append(node)
        for part in parts:
            for inner in ast.walk(part) if part is not None else ():
                inner.kept = True  # type: ignore[attr-defined]


def _changes(node: ast.AST) -> Iterator[ast.AST | None]:
    """What can stand in the place of ``node``; ``None`` leaves it out."""
    made: ast.AST
    if isinstance(node, ast.Compare):
        for place, operation in enumerate(node.ops):
            for other in COMPARISONS[type(operation)]:
                made = copy.deepcopy(node)
                made.ops[place] = other()
                yield made
    elif isinstance(node, ast.BoolOp):
        made = copy.deepcopy(node)
        made.op = ast.Or() if isinstance(node.op, ast.And) else ast.And()
        yield made
        yield from node.values
    elif isinstance(node, ast.UnaryOp):
        yield node.operand
    elif isinstance(node, ast.BinOp) and type(node.op) in ARITHMETIC:
        made = copy.deepcopy(node)
        made.op = ARITHMETIC[type(node.op)]()
        yield made
    elif isinstance(node, ast.Constant):
        yield from _other_constants(node)
    elif isinstance(node, ast.Name) and node.id in CALLS:
        yield ast.Name(CALLS[node.id], ast.Load())
    elif isinstance(node, ast.IfExp | ast.If | ast.While):
        for value in (True, False):
            made = copy.deepcopy(node)
            made.test = ast.Constant(value)
            yield made
    elif isinstance(node, ast.comprehension) and node.ifs:
        made = copy.deepcopy(node)
        made.ifs = []
        yield made
    elif isinstance(node, ast.List | ast.Set) or (isinstance(node, ast.Tuple) and isinstance(node.ctx, ast.Load)):
        for place in range(len(node.elts) if len(node.elts) > 1 else 0):
            made = copy.deepcopy(node)
            del made.elts[place]
            yield made
    if isinstance(node, ast.Return) and node.value is not None:
        yield ast.Return(None)
    if isinstance(node, STATEMENTS):
        yield None


def _other_constants(node: ast.Constant) -> Iterator[ast.AST]:
    value = node.value
    if isinstance(value, bool):
        yield ast.Constant(not value)
    elif isinstance(value, int):
        yield ast.Constant(value + 1)
        yield ast.Constant(value - 1)
    elif isinstance(value, str):
        yield ast.Constant(value + "x" if value else "mutated")


def _apply(tree: ast.Module, target: ast.AST, new: ast.AST | None) -> None:
    for parent in ast.walk(tree):
        for name, value in ast.iter_fields(parent):
            if value is target and new is not None:
                setattr(parent, name, ast.copy_location(new, target))
            elif isinstance(value, list):
                for place, entry in enumerate(value):
                    if entry is target:
                        value[place] = ast.copy_location(new if new is not None else ast.Pass(), target)
    ast.fix_missing_locations(tree)


def _statement_around(tree: ast.Module, target: ast.AST) -> ast.AST:
    """The innermost statement that holds ``target`` strictly inside, for the report."""
    around: ast.AST = tree
    for node in ast.walk(tree):
        inside = any(each is target for each in ast.walk(node)) and node is not target
        if inside and isinstance(node, ast.stmt):
            around = node  # ast.walk goes outside in
    return around


def _is_in(tree: ast.Module, node: ast.AST) -> bool:
    return any(each is node for each in ast.walk(tree))


class _Hook(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Hands out the mutant in the place of its module."""

    def __init__(self, mutant: Mutant) -> None:
        self._mutant = mutant

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        return importlib.util.spec_from_loader(fullname, self) if fullname == self._mutant.module else None

    def exec_module(self, module: ModuleType) -> None:
        exec(compile(self._mutant.code, f"<{self._mutant.name}>", "exec"), module.__dict__)


def _forget(package: str, tests: Sequence[str]) -> None:
    places = [(ROOT / each).resolve() for each in tests]
    folders = tuple(str(place if place.is_dir() else place.parent) for place in places)
    for name, module in list(sys.modules.items()):
        origin = getattr(module, "__file__", None) or ""
        if name == package or name.startswith(f"{package}.") or origin.startswith(folders):
            del sys.modules[name]


def _run(tests: Sequence[str], quick: Path | None, mutant: Mutant | None) -> int:
    """The tests' exit status in a forked child; 124 when they ran too long."""
    child = os.fork()
    if child == 0:
        status = 70
        try:
            signal.signal(signal.SIGALRM, lambda *_: os._exit(124))
            signal.alarm(LIMIT_S)
            quiet = os.open(os.devnull, os.O_WRONLY)
            os.dup2(quiet, 1)
            os.dup2(quiet, 2)
            if mutant is not None:
                sys.meta_path.insert(0, _Hook(mutant))
            if quick is not None:
                sys.path.insert(0, str(quick.parent))
                runpy.run_path(str(quick))["quick"]()
            status = int(pytest.main([*PYTEST, "-x", "--tb=no", *tests]))
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("modules", nargs="+")
    parser.add_argument("--tests", nargs="+", required=True, help="files or folders, the quickest first")
    parser.add_argument("--quick", type=Path, help="a file with a function quick() to be called first")
    parser.add_argument("--explained", type=Path, help="TOML: mutants that change nothing, each with the reason")
    parser.add_argument("--jobs", type=int, default=2)
    asked = parser.parse_args()
    explained = tomllib.loads(asked.explained.read_text()) if asked.explained else {}
    os.chdir(ROOT)
    with contextlib.redirect_stdout(io.StringIO()):  # loads pytest's plugins and what the tests import, once
        pytest.main([*PYTEST, "--collect-only", *asked.tests])
    _forget(asked.modules[0].rpartition(".")[0], asked.tests)
    if _run(asked.tests, asked.quick, None) != 0:
        raise SystemExit("the tests fail without any mutation")
    unexplained, began = 0, time.monotonic()
    for module in asked.modules:
        mutants = list(mutants_of(module))
        with ThreadPoolExecutor(asked.jobs) as pool:
            statuses = list(pool.map(lambda mutant: _run(asked.tests, asked.quick, mutant), mutants))
        left = [mutant for mutant, status in zip(mutants, statuses, strict=True) if status == 0]
        left.sort(key=lambda mutant: mutant.line)
        known = [mutant for mutant in left if mutant.name in explained]
        unexplained += len(left) - len(known)
        print(
            f"{module}: {len(mutants)} mutants, {len(mutants) - len(left)} killed ({statuses.count(124)} by time), "
            f"{len(known)} explained, {len(left) - len(known)} survive; {time.monotonic() - began:.0f} s",
            flush=True,
        )
        for mutant in left:
            if mutant.name not in explained:
                print(f"  {mutant.line}: {mutant.name}", flush=True)
    return 1 if unexplained else 0


if __name__ == "__main__":
    sys.exit(main())
