"""Make the virtual environment from requirements.lock: `python3 deployments/local/bootstrap.py`.

Rules upheld here:
- Plain Python and pip are enough; every package is checked against the digest in the lock, also the build backend,
  which is part of the lock, so that installing the project itself downloads nothing more.
- The environment is made anew when the lock or Python changed, and left alone otherwise. Its stamp is written last:
  one that was interrupted is made again.
- Standard library only: nothing else is there yet.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
VENV = os.path.join(ROOT, ".venv")
PYTHON = os.path.join(VENV, "bin", "python")
STAMP = os.path.join(VENV, "provisioned")


def main() -> int:
    """Make the environment if it is not as the lock says."""
    packages, project = _digest("requirements.lock"), _digest("pyproject.toml")
    stamp = _read(STAMP)
    if os.access(PYTHON, os.X_OK) and stamp == [packages, project]:
        return 0
    whole = os.access(PYTHON, os.X_OK) and stamp[:1] == [packages]
    status = _install_project() if whole else _install_everything()  # pyproject.toml names commands and may name others
    if status == 0:
        with open(STAMP, "w", encoding="ascii") as file:
            file.write(f"{packages}\n{project}\n")
    return status


def _install_everything() -> int:
    started = time.monotonic()
    _say("Making the Python environment .venv from requirements.lock (about a minute, once) ...")
    if os.path.lexists(STAMP):
        os.unlink(STAMP)
    status = _ensure_venv_module() or _run(sys.executable, "-m", "venv", "--clear", VENV)
    # The lock is complete, so pip need not look at dependencies.
    status = status or _pip("--require-hashes", "--no-deps", "-r", os.path.join(ROOT, "requirements.lock"))
    status = status or _install_project()
    if status == 0:
        _compile_if_nobody_else_does()
        _say(f"The environment is ready ({time.monotonic() - started:.0f} s).")
    return status


def _install_project() -> int:
    return _pip("--no-deps", "--no-build-isolation", "--editable", ROOT)


def _compile_if_nobody_else_does() -> None:
    """Where Python may not keep what it compiles, every start would compile Prefect anew, which takes seconds."""
    if sys.dont_write_bytecode:
        # A file that does not compile belongs to a package that never imports it.
        _run(PYTHON, "-m", "compileall", "-qq", "-j", "0", os.path.join(VENV, "lib"), os.path.join(ROOT, "src"))


def _pip(*arguments: str) -> int:
    # Twice quiet: errors only. Modules are compiled when they are first imported, not all beforehand.
    options = ("--quiet", "--quiet", "--disable-pip-version-check", "--no-input", "--no-compile")
    return _run(PYTHON, "-m", "pip", "install", *options, *arguments)


def _ensure_venv_module() -> int:
    """Debian ships Python without what `python3 -m venv` needs."""
    if importlib.util.find_spec("ensurepip") is not None and importlib.util.find_spec("venv") is not None:
        return 0
    package = f"python{sys.version_info[0]}.{sys.version_info[1]}-venv"
    by_hand = f"apt-get install {package}"
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        return _fail("this Python cannot make virtual environments (ensurepip is missing)", f"sudo {by_hand}")
    _say(f"Installing {package} ...")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    install = ("apt-get", "-y", "-qq", "install", "--no-install-recommends", package)
    for command in (install, ("apt-get", "-qq", "update"), install):
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if command == install and done.returncode == 0:
            return 0
    return _fail(f"{package} could not be installed: {done.stderr.strip()[-300:]}", by_hand)


def _digest(name: str) -> str:
    with open(os.path.join(ROOT, name), "rb") as file:
        return hashlib.sha256(file.read()).hexdigest()


def _read(path: str) -> list[str]:
    try:
        with open(path, encoding="ascii") as file:
            return file.read().split()
    except FileNotFoundError:
        return []


def _run(*command: str) -> int:
    return subprocess.run(command, cwd=ROOT, check=False).returncode


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def _fail(problem: str, hint: str) -> int:
    _say(f"error: {problem}\nhint: {hint}")
    return 1


if __name__ == "__main__":
    sys.exit(main())
