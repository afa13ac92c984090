"""The vendor's import names on request: what is installed, for how long, and what is refused."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

import outcrop
from outcrop.base.errors import UserError
from outcrop.silicon.chip import TARGET_VARIABLE
from outcrop.silicon.nki import isa, language
from outcrop.silicon.nki.activate import LIBRARY_TARGET_VARIABLE, VENDOR_PACKAGES

NAMES = [
    "nki", "nki.language", "nki.isa", "nki.isa.constants", "nki.collectives", "nki.typing", "nki.compiler", "nki.dtype",
    "nki.tensor", "nki_cpu_simulator", "nki_cpu_simulator.nki", "nki_cpu_simulator.nki.builtin",
    "nki_cpu_simulator.nki.compiler", "nki_cpu_simulator.nki.isa.constants", "nki_cpu_simulator.nki.language.dtypes",
    "nki_cpu_simulator.nki.tensor", "nki_cpu_simulator.nki.typing", "neuronxcc", "neuronxcc.nki",
    "neuronxcc.nki.language", "neuronxcc.nki.isa", "neuronxcc.nki.typing",
]  # fmt: skip

KERNEL = """
import numpy as np
import nki
import nki.isa as nisa
import nki.language as nl

@nki.jit
def double(x):
    out = nl.ndarray(x.shape, x.dtype, buffer=nl.shared_hbm)
    nl.store(out, nl.multiply(nl.load(x), 2.0))
    return out
"""


def installed() -> list[str]:
    return [name for name in sys.modules if name.partition(".")[0] in VENDOR_PACKAGES]


@pytest.mark.parametrize("name", NAMES)
def test_every_name_is_importable_within_the_block_and_gone_after_it(name: str):
    with outcrop.nki.activate():
        assert importlib.import_module(name) is sys.modules[name]
    assert installed() == []
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module(name)


def test_the_names_are_the_real_modules():
    with outcrop.nki.activate():
        import nki
        import nki.isa.constants
        import nki.language as nl
        from nki.isa import oob_mode

        assert nl is language
        assert nki.isa is isa
        assert nki.jit is outcrop.nki.jit
        assert nki.isa.constants.oob_mode is oob_mode
        with pytest.raises(ModuleNotFoundError):
            importlib.import_module("nki.nothing")


def test_a_kernel_written_for_the_vendor_runs_within_the_block_and_after_it():
    scope: dict[str, object] = {"__name__": "kernels"}
    with outcrop.nki.activate():
        exec(compile(KERNEL, "kernels.py", "exec"), scope)
    x = np.ones((4, 4), np.float32)
    np.testing.assert_array_equal(scope["double"](x), 2 * x)  # type: ignore[operator]


def test_blocks_nest_and_set_defaults(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv(TARGET_VARIABLE, raising=False)
    scope: dict[str, object] = {"__name__": "kernels"}
    x = np.ones((4, 4), np.float32)
    with outcrop.nki.activate("trn1"), outcrop.nki.recording() as runs:
        exec(compile(KERNEL, "kernels.py", "exec"), scope)
        double = scope["double"]
        double(x)  # type: ignore[operator]
        with outcrop.nki.activate("trn3", relaxed={"divide"}):
            double(x)  # type: ignore[operator]
        assert "nki" in sys.modules
        double(x)  # type: ignore[operator]
    assert [run.target.name for run in runs] == ["trn1", "trn3", "trn1"]
    assert [run.machine.settings.relaxed for run in runs] == [frozenset(), {"divide"}, frozenset()]


def test_what_was_imported_before_comes_back():
    mine = ModuleType("nki")
    sys.modules["nki"] = mine
    try:
        with pytest.raises(UserError, match="nki is installed here"), outcrop.nki.activate():
            pass
        assert sys.modules["nki"] is mine
        with outcrop.nki.activate(shadow=True):
            assert sys.modules["nki"] is not mine
        assert sys.modules["nki"] is mine
    finally:
        del sys.modules["nki"]


@pytest.mark.parametrize("package", VENDOR_PACKAGES)
def test_an_installed_package_of_the_vendor_is_not_hidden_unless_asked(
    package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / package).mkdir()
    (tmp_path / package / "__init__.py").write_text("real = True\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(UserError, match=f"{package} is installed here"), outcrop.nki.activate():
        pass
    with outcrop.nki.activate(shadow=True):
        assert not hasattr(importlib.import_module(package), "real")
    assert importlib.import_module(package).real
    del sys.modules[package]


def test_the_block_ends_when_it_fails():
    with pytest.raises(ZeroDivisionError), outcrop.nki.activate():
        raise ZeroDivisionError
    assert installed() == []


def test_the_kernel_librarys_door_takes_the_target_from_its_own_variable(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv(TARGET_VARIABLE, raising=False)
    scope: dict[str, object] = {"__name__": "kernels"}
    x = np.ones((4, 4), np.float32)
    targets = []
    with outcrop.nki.recording() as runs, outcrop.nki.activate():
        exec(compile(KERNEL, "kernels.py", "exec"), scope)
        from nki_cpu_simulator import nki as simulated

        simulate = simulated.cpu_simulate
        for variable in ("gen2", "gen4"):
            monkeypatch.setenv(LIBRARY_TARGET_VARIABLE, variable)
            np.testing.assert_array_equal(simulate(scope["double"])[1](x=x), 2 * x)
        monkeypatch.setenv(TARGET_VARIABLE, "trn2")
        simulate(scope["double"])[2](x=x)
        targets = [run.target.name for run in runs]
    assert targets == ["trn1", "trn3", "trn2"]
    assert len(runs[2].traces) == 2


def test_importing_outcrop_does_not_import_numpy_and_offers_the_language():
    program = (
        "import sys, outcrop, outcrop.silicon.nki.pytest_plugin\n"
        "assert 'numpy' not in sys.modules\n"
        "assert outcrop.nki.run.__name__ == 'run' and 'numpy' in sys.modules\n"
        "import outcrop.silicon.nki.run, outcrop.silicon.nki.activate\n"
        "assert callable(outcrop.nki.run) and callable(outcrop.nki.activate)\n"
        "assert 'torch' not in sys.modules\n"
        "try: outcrop.nothing\n"
        "except AttributeError: print('fine')\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "fine\n"


SUITE = """
import nki.language as nl
from kernels import double
import numpy as np

def test_double():
    x = np.ones((4, 4), np.float32)
    assert (double(x) == 2).all()
"""


def run_pytest(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [
        sys.executable, "-m", "pytest", "-p", "outcrop.silicon.nki.pytest_plugin", "-p", "no:cacheprovider",
        "--rootdir", str(folder), "-c", str(folder / "pytest.ini"), *options, str(folder),
    ]  # fmt: skip
    environment = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder, env=environment)


def test_the_pytest_plugin_is_off_unless_asked_for(tmp_path: Path):
    (tmp_path / "kernels.py").write_text(KERNEL)
    (tmp_path / "test_kernels.py").write_text(SUITE)
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    off = run_pytest(tmp_path)
    assert off.returncode == 2
    assert "No module named 'nki'" in off.stdout
    on = run_pytest(tmp_path, "--outcrop-nki", "--outcrop-target", "trn3", "--outcrop-relaxed", "divide")
    assert on.returncode == 0, on.stdout
    assert "outcrop nki: trn3, divide" in on.stdout
    (tmp_path / "pytest.ini").write_text("[pytest]\noutcrop_nki = true\n")
    assert "1 passed" in run_pytest(tmp_path).stdout


def test_annotations_are_taken_and_mean_nothing():
    from outcrop.silicon.nki import typing as nt

    def kernel(x: nt.tensor, y: nt.mutable_tensor[language.float32, (4, 4)], z: nt.tensor | None = None) -> nt.tensor:
        return copied(x)

    def copied(x: nt.NkiTensor) -> nt.NkiTensor:
        out = language.ndarray(x.shape, x.dtype, buffer=language.shared_hbm)
        isa.dma_copy(out, x)
        return out

    x = np.ones((4, 4), np.float32)
    np.testing.assert_array_equal(outcrop.nki.jit(kernel)(x, x), x)
    for written in (nt.tensor | None, None | nt.tensor, nt.mutable_tensor[language.float32, (4, 4)], nt.tensor()):
        assert type(written) is type(nt.tensor)  # as they are evaluated where annotations are
    assert repr(nt.tensor) == "nki.typing.tensor"


def test_the_librarys_simulator_takes_any_python_as_the_vendors_does() -> None:
    with outcrop.nki.activate():
        import nki_cpu_simulator.nki as simulator

        def same(x):  # type: ignore[no-untyped-def]
            return x if x is x else None

        with pytest.warns(UserWarning, match="frontend-identity"):
            assert simulator.cpu_simulate(same)[1](x=np.ones((4, 4), np.float32)).sum() == 16
