"""``outcrop kernel``: runs kernels of a file on the simulated device, under the vendor's import names."""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import json
import runpy
import sys
import traceback
from collections import Counter
from collections.abc import Iterator
from importlib.machinery import SourceFileLoader
from pathlib import Path
from typing import TYPE_CHECKING, Any

from outcrop.base.errors import OutcropError, UserError
from outcrop.cli import kernel_profile, kernel_tune

if TYPE_CHECKING:
    from outcrop.silicon.hazards import Hazard
    from outcrop.silicon.nki import Kernel, Run
    from outcrop.silicon.nki.legacy import LegacyKernel

# NumPy and the device are imported when a kernel is run: other verbs do without.

_PACKAGE = Path(__file__).resolve().parent.parent


def add(subparsers: argparse._SubParsersAction[argparse.ArgumentParser], common: argparse.ArgumentParser) -> None:
    parser = subparsers.add_parser(
        "kernel",  # without `common`: its --data here would lose against the default of the verb behind
        help="run kernels of the vendor's language on the simulated device",
        description="Kernels written in NKI, on a simulated NeuronCore: values, and what the hardware would refuse.",
        epilog="example: outcrop kernel run add.py:add --arg a=float32[128,512] --arg b=float32[128,512]",
    )
    verbs = parser.add_subparsers(metavar="VERB", required=True)
    running = verbs.add_parser(
        "run",
        parents=[common],
        help="run a script that calls kernels, or one kernel of a file",
        description="Runs FILE as a script in which `import nki` (and neuronxcc.nki) finds Outcrop, and reports every "
        "kernel that it called; or, with a name, only that kernel, with arguments made here.",
        epilog="example: outcrop kernel run tutorial.py\n"
        "example: outcrop kernel run add.py:add --arg a=float32[128,512] --arg b=weights.npy --arg scale=2.5\n"
        "example: outcrop kernel run mamba.py --target trn1 --relaxed divide -- --version v1",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_running_arguments(running)
    running.set_defaults(run=run)
    kernel_profile.add(verbs, common)
    kernel_tune.add(verbs, common)


def add_running_arguments(running: argparse.ArgumentParser) -> None:
    """Which kernel to run, with what, and how."""
    running.add_argument("file", metavar="FILE[:NAME]", help="a Python file, and the name of one kernel in it")
    running.add_argument(
        "--arg",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="an argument of the kernel: float32[128,512] (random, from the seed), a .npy file, or a Python literal",
    )
    running.add_argument("--grid", type=int, metavar="N", help="cores of the logical core that run it, 1 or 2")
    running.add_argument("--target", metavar="CHIP", help="a chip's name or file (default: see `outcrop chip list`)")
    running.add_argument(
        "--relaxed",
        action="append",
        default=[],
        metavar="RULE",
        help="a rule that only warns when it is broken, or `all`; may be repeated",
    )
    running.add_argument("--seed", type=int, default=0, metavar="N", help="of random numbers and of the cores' order")
    running.add_argument(
        "--hazards",
        nargs="?",
        const="compiler",
        choices=("compiler", "manual"),
        metavar="MODE",
        help="look for races and lost results; MODE is `compiler` (default) or `manual`: only declared order counts",
    )
    running.add_argument("--shadow", action="store_true", help="hide the vendor's package where it is installed")
    running.add_argument("rest", nargs="*", metavar="-- ARGUMENTS", help="what the script finds in sys.argv")


def run(args: argparse.Namespace) -> int:
    # With --json, the document is all that goes to stdout: what the kernels print goes to stderr.
    printed = contextlib.redirect_stdout(sys.stderr) if args.json else contextlib.nullcontext()
    with printed:
        runs = executed(args)
    hazards = [[] if args.hazards is None else each.hazards(args.hazards) for each in runs]
    if args.json:
        kernels = [_document(each, found) for each, found in zip(runs, hazards, strict=True)]
        print(json.dumps({"target": runs[0].target.name, "kernels": kernels}))
    else:
        for each, found in zip(runs, hazards, strict=True):
            print("\n".join(_page(each)))
            if args.hazards is not None:
                print("\n".join(_told(found)))
    return 1 if any(each.severity.value == "error" for found in hazards for each in found) else 0


def executed(args: argparse.Namespace, *, timing_only: bool = False) -> list[Run]:
    """Run what the arguments of ``add_running_arguments`` say; every kernel that ran."""
    from outcrop.silicon import nki  # noqa: PLC0415

    path, name = _split(args.file)
    relaxed = "all" in args.relaxed or frozenset(args.relaxed)
    if not name and (args.arg or args.grid is not None):
        raise UserError(
            f"--{'arg' if args.arg else 'grid'} is for one kernel, and {path} runs as a script.",
            f"Name the kernel: {path}:NAME.",
        )
    activated = nki.activate(args.target, relaxed, args.seed, shadow=args.shadow)
    with activated, nki.defaults(timing_only=timing_only), nki.recording() as runs, _as_from_the_file():
        if name:
            _run_kernel(path, name, args, timing_only)
        else:
            _run_script(path, args.rest)
    if not runs:
        raise UserError(f"{path} ran no kernel.", f"Call one in the file, or name one: {path}:NAME.")
    return runs


def _split(file: str) -> tuple[Path, str]:
    path, colon, name = file.rpartition(":")
    if not colon or Path(file).is_file():
        path, name = file, ""
    if not Path(path).is_file():
        raise UserError(f"There is no file {path}.")
    return Path(path), name


@contextlib.contextmanager
def _importing_beside(path: Path) -> Iterator[None]:
    """As when Python runs a script: modules beside it can be imported."""
    folder = str(path.resolve().parent)
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        sys.path.remove(folder)


@contextlib.contextmanager
def _as_from_the_file() -> Iterator[None]:
    """An error of the user's Python is shown as Python shows it: from the user's first line on, without ours before.

    Between lines of the user's, those of this package and of ``runpy`` are left out; at the end they stay, for there
    they tell where it went wrong.
    """
    try:
        yield
    except OutcropError:
        raise
    except Exception as error:
        shown = traceback.TracebackException.from_exception(error)
        users = [not _is_ours(each.filename) for each in shown.stack]
        last = max((at for at, is_users in enumerate(users) if is_users), default=-1)
        if last < 0 and not isinstance(error, SyntaxError):
            raise  # ours from the first line to the last
        kept = [
            each
            for at, each in enumerate(shown.stack)
            if users[at] or (at > last and not isinstance(error, SyntaxError))
        ]
        shown.stack[:] = kept
        print("".join(shown.format()), end="", file=sys.stderr)
        raise SystemExit(1) from None


def _is_ours(file: str) -> bool:
    return file.startswith(("<frozen ", "<string>")) or Path(file).is_relative_to(_PACKAGE)


def _run_script(path: Path, rest: list[str]) -> None:
    argv, sys.argv = sys.argv, [str(path), *rest]
    try:
        with _importing_beside(path):
            runpy.run_path(str(path), run_name="__main__")
    except SystemExit as stopped:
        if stopped.code not in (None, 0):
            raise
    finally:
        sys.argv = argv


def _run_kernel(path: Path, name: str, args: argparse.Namespace, timing_only: bool) -> None:
    from outcrop.silicon.nki import Kernel  # noqa: PLC0415
    from outcrop.silicon.nki.legacy import LegacyKernel  # noqa: PLC0415

    spec = importlib.util.spec_from_file_location(path.stem, path, loader=SourceFileLoader(path.stem, str(path)))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with _importing_beside(path):
        spec.loader.exec_module(module)
    kernels = {key: value for key, value in vars(module).items() if isinstance(value, (Kernel, LegacyKernel))}
    kernel = kernels.get(name)
    if kernel is None:
        raise UserError(
            f"{path} has no kernel {name!r}.", f"Its kernels: {', '.join(kernels) or 'none; put @nki.jit above one'}."
        )
    _call(kernel if args.grid is None else kernel[args.grid], _arguments(args.arg, args.seed, timing_only))


def _call(kernel: Kernel | LegacyKernel, arguments: dict[str, Any]) -> None:
    import inspect  # noqa: PLC0415

    signature = inspect.signature(kernel.func)
    try:
        signature.bind(**arguments)
    except TypeError as error:
        raise UserError(
            f"{kernel.__name__}{signature} was given {', '.join(arguments) or 'no arguments'}: {error}.",
            "Give each parameter: --arg NAME=float32[128,512], NAME=file.npy or NAME=3.",
        ) from None
    kernel(**arguments)


def _arguments(given: list[str], seed: int, timing_only: bool) -> dict[str, Any]:
    import numpy as np  # noqa: PLC0415

    random = np.random.default_rng(seed)
    arguments: dict[str, Any] = {}
    for each in given:
        name, equals, value = each.partition("=")
        if not equals or not name.isidentifier():
            raise UserError(f"--arg {each} is not NAME=VALUE.", "Write for example --arg a=float32[128,512].")
        arguments[name] = _value(value, None if timing_only else random)
    return arguments


def _value(text: str, random: Any) -> Any:
    """What an argument's text says; without ``random``, arrays have a shape and a type, and no memory behind."""
    import ast  # noqa: PLC0415
    import re  # noqa: PLC0415

    import numpy as np  # noqa: PLC0415

    from outcrop.silicon.device.dtypes import find  # noqa: PLC0415

    shaped = re.fullmatch(r"(\w+)\[([\d, ]*)\]", text)
    if not shaped and re.match(r"[a-z]\w*\[", text):
        raise UserError(f"{text} is not an array.", "Write the type and the sizes: float32[128,512].")
    if shaped:
        dtype = find(shaped.group(1))
        shape = tuple(int(size) for size in shaped.group(2).split(",") if size.strip())
        if random is None:
            return np.broadcast_to(np.zeros((), np.bool_ if dtype == "bool" else dtype.numpy), shape)
        if dtype.is_float:
            return random.standard_normal(shape, np.float32).astype(dtype.numpy)
        return random.integers(0, 2 if dtype == "bool" else 100, shape).astype(dtype.numpy)
    if text.endswith(".npy"):
        if not Path(text).is_file():
            raise UserError(f"There is no file {text}.")
        return np.load(text, allow_pickle=False)
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def _engines(made: Run) -> dict[str, int]:
    counts = Counter(each.engine.name for trace in made.traces for each in trace)
    return dict(counts.most_common())


def _document(made: Run, hazards: list[Hazard]) -> dict[str, Any]:
    return {
        "name": made.name,
        "cores": len(made.traces),
        "instructions": sum(len(trace) for trace in made.traces),
        "engines": _engines(made),
        "memory": {
            each.region.value: {
                "peak_bytes_per_partition": each.peak_bytes_per_partition,
                "limit_bytes_per_partition": each.limit_bytes_per_partition,
            }
            for each in made.usage
        },
        "outputs": [{"shape": list(each.shape), "dtype": str(each.dtype)} for each in made.outputs],
        "warnings": [
            {"rule": each.rule, "message": each.message, "file": each.source.file, "line": each.source.line}
            for each in made.warnings
        ],
        "hazards": [
            {
                "kind": each.kind.value,
                "severity": each.severity.value,
                "message": each.what,
                "order": each.order,
                "remedy": each.remedy,
                "count": each.count,
                "lines": [{"file": source.file, "line": source.line} for source in each.sources],
            }
            for each in hazards
        ],
    }


def _page(made: Run) -> Iterator[str]:
    yield str(made)
    yield f"  instructions: {', '.join(f'{name} {count}' for name, count in _engines(made).items()) or 'none'}"
    for each in made.outputs:
        yield f"  output {list(each.shape)} {each.dtype}: {_summary(each)}"


def _told(hazards: list[Hazard]) -> Iterator[str]:
    yield f"  hazards: {len(hazards) or 'none'}"
    for each in hazards:
        yield from (f"  {line}" for line in str(each).splitlines())


def _summary(values: Any) -> str:
    import numpy as np  # noqa: PLC0415

    if values.size == 0 or values.dtype.kind in "OUS":
        return "no numbers"
    wide = values.astype(np.float64)
    return f"from {wide.min():.6g} to {wide.max():.6g}, mean {wide.mean():.6g}"
