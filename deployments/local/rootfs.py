"""Building a root filesystem for an image from the distribution's own packages, for machines that no registry answers.

Rules upheld here:
- mmdebstrap does the work, with this machine's package sources, proxies and keys; third-party sources stay out.
- What makes a root filesystem is a value (`Rootfs`); `identity` tells two of them apart, so that caches can be keyed.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
from dataclasses import dataclass

from deployments.local.machine import CannotProvide, architecture, distribution, find_tool, full_path
from deployments.local.packages import ensure_tool

HERE = os.path.dirname(os.path.abspath(__file__))
UNREAD = (  # documentation, translations, the just-in-time compiler: a third of the bytes, and nobody reads them
    *(f"/usr/share/{folder}/*" for folder in ("doc", "man", "info", "locale", "i18n")),
    *("/usr/lib/*/libLLVM*", "/usr/lib/llvm*", "/usr/lib/*/libz3*"),
    *("/usr/lib/postgresql/*/lib/bitcode/*", "/usr/lib/postgresql/*/lib/llvmjit*"),
)
DEBIAN_LIKE = ("debian", "ubuntu")  # what mmdebstrap knows keys and defaults of


@dataclass(frozen=True)
class Rootfs:
    """A root filesystem to be: mmdebstrap's variant, the packages, and scripts of this folder that run on it.

    Attributes:
        variant: "essential" installs the smallest system, "extract" only unpacks the packages.
        packages: what to put in.
        before: a script to run before the packages are installed, or None.
        after: the script that finishes and trims it.
        files: further files of this folder that the scripts read.
    """

    variant: str
    packages: tuple[str, ...]
    after: str
    before: str | None = None
    files: tuple[str, ...] = ()

    def identity(self) -> str:
        """A digest of all that decides what the root filesystem will hold, but for the packages' own updates."""
        options = [option.replace(HERE, "") for option in _options(self, "")]
        digest = hashlib.sha256(repr((options, distribution(), architecture())).encode())
        for name in filter(None, (self.before, self.after, *self.files)):
            with open(os.path.join(HERE, name), "rb") as file:
                digest.update(hashlib.sha256(file.read()).digest())
        return digest.hexdigest()


def build(rootfs: Rootfs, target: str) -> None:
    """Write the root filesystem as a tar archive.

    Args:
        rootfs: what to build.
        target: the archive's path, ending in `.tar`.

    Raises:
        CannotProvide: this distribution cannot, mmdebstrap cannot be had, or it failed.
    """
    name, codename = distribution()
    if name not in DEBIAN_LIKE or not codename:
        found = f"images are built on Debian and Ubuntu only, this is {name or 'unknown'}"
        raise CannotProvide("cannot build an image", found=found, hint="give the engine access to a registry")
    mmdebstrap = ensure_tool("mmdebstrap", ("mmdebstrap",))
    settings = f"{target}.apt.conf"
    with open(settings, "w", encoding="utf-8", opener=_private) as file:  # a proxy's address may hold a password
        file.write(_apt_settings())
    try:
        command = [mmdebstrap, *_options(rootfs, settings), codename, target, *_sources(codename)]
        _run(command, os.path.dirname(target))
    finally:
        os.unlink(settings)


def _options(rootfs: Rootfs, settings: str) -> list[str]:
    options = [
        "--quiet",
        f"--variant={rootfs.variant}",
        f"--include={','.join(rootfs.packages)}",
        f"--aptopt={settings}",
        '--aptopt=APT::Install-Recommends "false"',
        "--dpkgopt=force-unsafe-io",
        *(f"--dpkgopt=path-exclude={unread}" for unread in UNREAD),
        # Nothing runs after unpacking in the "extract" variant but this hook.
        f"--{'extract' if rootfs.variant == 'extract' else 'customize'}-hook={os.path.join(HERE, rootfs.after)}",
    ]
    return options if rootfs.before is None else [*options, f"--essential-hook={os.path.join(HERE, rootfs.before)}"]


def _apt_settings() -> str:
    """This machine's settings of how packages are fetched: proxies, and whether old lists are accepted."""
    wanted = ("Acquire::http::", "Acquire::https::", "Acquire::Check-", "Acquire::Retries")
    return "".join(f"{line}\n" for line in _output("apt-config", "dump").splitlines() if line.startswith(wanted))


def _sources(codename: str) -> list[str]:
    """This machine's sources of the distribution itself, as lines of sources.list; empty means the usual mirror."""
    suites = {codename, f"{codename}-updates", f"{codename}-security"}
    fields = "$(REPO_URI)|$(RELEASE)|$(COMPONENT)|$(SIGNED_BY)"
    lines = []
    for line in _output("apt-get", "indextargets", "--format", fields, "Identifier: Packages").splitlines():
        uri, suite, component, key = line.split("|", 3)
        if suite in suites:
            signed = f"[signed-by={key}] " if key.startswith("/") else ""
            lines.append(f"deb {signed}{uri} {suite} {component}")
    return list(dict.fromkeys(lines))


def _output(*command: str) -> str:
    program = find_tool(command[0])
    if program is None:
        return ""
    return subprocess.run([program, *command[1:]], capture_output=True, text=True, check=False).stdout


def _run(command: list[str], workshop: str) -> None:
    """Run mmdebstrap; it works beside its result, so that what a kill leaves behind goes with it."""
    done = subprocess.run(
        command,
        env={**os.environ, "PATH": full_path(), "LC_ALL": "C.UTF-8", "TMPDIR": workshop},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
        text=True,
        errors="replace",
    )
    if done.returncode != 0:
        said = " / ".join(done.stdout.strip().splitlines()[-4:])
        raise CannotProvide("cannot build an image", which="mmdebstrap", found=f"exit status {done.returncode}: {said}")


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
