"""Set up everything a fresh checkout needs: `tools/setup.sh demo` or `tools/setup.sh dev`. Standard library only.

1. a virtual environment in ``.venv`` (installs python3-venv first where Debian left it out and we are root)
2. the packages of the lock, each checked against its hash, wheels only
3. PyTorch, by the rule in torch_choice.py
4. Outcrop itself, editable
5. for ``dev``: the packages of the Node contract tests, by the Node.js that the lock brings; where npm cannot fetch
   them those tests are skipped, in CI the set-up fails

A stamp, written last, holds a digest of all inputs: when nothing changed the next run ends at once. A run that was
interrupted leaves a mark, and the next one starts over with an empty environment (pip's cache makes that quick).
Two runs at the same time wait for each other. Nothing outside the checkout changes, except Debian packages as said.

Not covered: PyTorch is fetched without a pinned hash, and Debian packages are trusted as apt trusts them.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import time
import tomllib
from pathlib import Path

from torch_choice import Probes, choose

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
UNFINISHED = VENV / "outcrop-setup-unfinished"
NODE_TESTS = ROOT / "tests" / "contract" / "node"
LOCKS = {"demo": "requirements-demo.lock", "dev": "requirements-dev.lock"}


class SetupFailed(Exception):
    """The set-up cannot go on; the message is one line that says what to do."""


def main(arguments: list[str]) -> int:
    if arguments not in (["demo"], ["dev"]):
        print("usage: tools/setup.sh demo|dev", file=sys.stderr)
        return 2
    profile = arguments[0]
    with (ROOT / "pyproject.toml").open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        if is_current(profile):
            return 0
        try:
            set_up(profile)
        except SetupFailed as failure:
            UNFINISHED.unlink(missing_ok=True)  # incomplete, but not broken: the next run goes on from here
            print(f"setup: {failure}", file=sys.stderr)
            return 1
        except KeyboardInterrupt:
            print("\nsetup: interrupted; the next run starts over", file=sys.stderr)
            return 130
    return 0


def set_up(profile: str) -> None:
    """Bring ``.venv`` to what ``profile`` needs; raises ``SetupFailed``."""
    started = time.monotonic()
    make_environment()
    UNFINISHED.touch()
    lock = LOCKS[profile]
    say(f"installing packages from {lock} (a minute or two the first time)")
    # The lock is complete, so nothing is looked for beyond it: what depends on PyTorch would pull in a build of it.
    pip("--require-hashes", "--no-deps", "--only-binary", ":all:", "-r", lock)
    install_torch()
    say("installing Outcrop itself (editable)")
    pip("--no-deps", "--no-build-isolation", "--editable", ".")
    complete = profile != "dev" or node_packages_are_here()
    if complete:
        stamp(profile).write_text(inputs_digest(profile), encoding="ascii")
    UNFINISHED.unlink()
    say(f"ready in {time.monotonic() - started:.0f} s")


def is_current(profile: str) -> bool:
    """Whether the last set-up for ``profile`` ended well and nothing it depends on has changed since."""
    mark = stamp(profile)
    return (
        not UNFINISHED.exists()
        and PYTHON.exists()
        and mark.exists()
        and mark.read_text(encoding="ascii") == inputs_digest(profile)
    )


def stamp(profile: str) -> Path:
    return VENV / f"outcrop-setup-{profile}"


def inputs_digest(profile: str) -> str:
    """Digest of the files that decide what is installed, and of where: a moved checkout needs a new environment."""
    digest = hashlib.sha256(f"{ROOT} ".encode())
    tools = ROOT / "tools"
    files = [ROOT / LOCKS[profile], ROOT / "pyproject.toml", tools / "bootstrap.py", tools / "torch_choice.py"]
    if profile == "dev":
        files.append(NODE_TESTS / "package-lock.json")
    for file in files:
        digest.update(file.read_bytes())
    return digest.hexdigest()


def make_environment() -> None:
    """A virtual environment that works and was set up whole, or an empty new one."""
    if not UNFINISHED.exists() and environment_works():
        return
    if not can_make_environments():
        install_debian_packages(["python3-venv"], "this Python cannot make virtual environments")
    say(f"making .venv with Python {sys.version.split()[0]}")
    done = subprocess.run([sys.executable, "-m", "venv", "--clear", VENV], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SetupFailed(f"python -m venv failed: {done.stderr.strip() or done.stdout.strip()}")


def environment_works() -> bool:
    """Whether ``.venv`` has a supported Python with pip, and was made at this very place."""
    program = "import sys, pip; sys.exit(sys.version_info < (3, 11))"
    try:
        done = subprocess.run([PYTHON, "-c", program], capture_output=True, check=False)
        pip_script = (VENV / "bin" / "pip").read_text(encoding="utf-8")
    except OSError:
        return False
    return done.returncode == 0 and f"{VENV}/bin/" in pip_script  # scripts name the place they were made for


def can_make_environments() -> bool:
    # Asked in a new process: importlib would not see a package that apt-get installs meanwhile.
    done = subprocess.run([sys.executable, "-c", "import venv, ensurepip"], capture_output=True, check=False)
    return done.returncode == 0


def install_torch() -> None:
    requirement = torch_requirement()
    choice = choose(requirement, Probes.of_machine(PYTHON, requirement))
    say(choice.line)
    if choice.pip_arguments:
        pip(*choice.pip_arguments)


def torch_requirement() -> str:
    """The range that pyproject.toml accepts, such as ``torch>=2.11,<2.14``."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    return next(str(requirement) for requirement in extras["models"] if requirement.startswith("torch>"))


def node_packages_are_here() -> bool:
    """Whether the Node contract tests can run. At home the rest goes on without them; the next set-up tries again."""
    try:
        install_node_packages()
    except SetupFailed as failure:
        if os.environ.get("CI") == "true":
            raise
        say(f"{failure}\nsetup: going on; the Node contract tests will be skipped")
        return False
    return True


def install_node_packages() -> None:
    """The JavaScript clients of the contract tests, with the Node.js that the lock has brought."""
    say("installing the packages of the Node contract tests")
    npm = VENV / "bin" / "npm"
    command = [str(npm), "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel", "error"]
    # Node.js trusts its own list of authorities; the machine's list may know a private mirror or proxy besides.
    # Its cache is ours, because a home directory may be read-only.
    defaults = {"NODE_USE_SYSTEM_CA": "1", "npm_config_cache": str(VENV / "npm-cache")}
    environment = {**defaults, **os.environ, "PATH": f"{npm.parent}:{os.environ['PATH']}"}
    done = subprocess.run(command, cwd=NODE_TESTS, capture_output=True, text=True, check=False, env=environment)
    if done.returncode != 0:
        raise SetupFailed(f"npm ci failed in {NODE_TESTS.relative_to(ROOT)}: {done.stderr.strip()}")


def install_debian_packages(packages: list[str], why: str) -> None:
    names = " ".join(packages)
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        raise SetupFailed(f"{why}: run `sudo apt-get install {names}` and try again")
    say(f"{why}: installing {names} with apt-get")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for command in (["update", "-qq"], ["install", "-y", "-qq", "--no-install-recommends", *packages]):
        done = subprocess.run(
            ["apt-get", *command],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            env=environment,
        )
        if done.returncode != 0:
            raise SetupFailed(f"apt-get {command[0]} failed: {done.stderr.strip()}")


def pip(*arguments: str) -> None:
    """`pip install` with one line of progress per package on a terminal, and its whole output when it fails."""
    command = [str(PYTHON), "-m", "pip", "install", "--disable-pip-version-check", "--no-input", *arguments]
    output: list[str] = []
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        assert process.stdout is not None
        collected = 0
        for line in process.stdout:
            output.append(line)
            if line.startswith("Collecting ") and sys.stdout.isatty():
                collected += 1
                print(f"\r  {collected:3} {line.split()[1]:<60.60}", end="", flush=True)
        if collected:
            print("\r" + " " * 66 + "\r", end="", flush=True)
    if process.returncode != 0:
        raise SetupFailed(f"pip failed\n{''.join(output[-30:])}")


def say(line: str) -> None:
    print(f"setup: {line}", flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
