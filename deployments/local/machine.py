"""What this machine is: who we are on it, which distribution it runs, where its tools and its free folders lie.

Rules upheld here:
- Reading only: nothing is installed, created or changed, but for the cache folder that `cache_folder` is asked for.
- Tools are looked for on PATH and in the folders of the system administrator, which an ordinary PATH leaves out.
"""

from __future__ import annotations

import os
import platform
import shutil
import sys
import tempfile

from holdfast.errors import HoldfastError

ADMIN_FOLDERS = ("/usr/local/sbin", "/usr/sbin", "/sbin")
CAP_NET_ADMIN = 12
CAP_SYS_ADMIN = 21
REPOSITORY_ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


class CannotProvide(HoldfastError):
    """A part of the environment was not found and can neither be installed nor built: `found` is the reason."""


def progress(text: str) -> None:
    """Say on standard error what is being done, one line at a time."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def full_path() -> str:
    """PATH with the administrator's folders (dockerd, runc and iptables live there on Debian)."""
    folders = [folder for folder in os.environ.get("PATH", os.defpath).split(os.pathsep) if folder]
    return os.pathsep.join([*folders, *(folder for folder in ADMIN_FOLDERS if folder not in folders)])


def find_tool(name: str) -> str | None:
    """The absolute path of a program, or None."""
    return shutil.which(name, path=full_path())


def is_root() -> bool:
    """Whether this process runs as the superuser."""
    return os.geteuid() == 0


def has_capability(bit: int) -> bool:
    """Whether this process holds a Linux capability effectively (capabilities(7)); root in a container may not."""
    try:
        with open("/proc/self/status", encoding="ascii") as file:
            effective = [line.split()[1] for line in file if line.startswith("CapEff:")]
    except OSError:
        return False
    return any(int(mask, 16) >> bit & 1 for mask in effective)


def distribution() -> tuple[str, str]:
    """The distribution as (id, codename), such as ("debian", "bookworm"); empty where it does not say."""
    try:
        release = platform.freedesktop_os_release()
    except OSError:
        return "", ""
    return release.get("ID", ""), release.get("VERSION_CODENAME", "")


def is_debian_like() -> bool:
    """Whether packages can be had with apt-get."""
    return find_tool("apt-get") is not None


def installing_is_possible() -> str | None:
    """None when missing packages can be installed, otherwise the reason why not."""
    if not is_debian_like():
        return "this is not a Debian-like system (no apt-get)"
    if not is_root():
        return "installing packages needs root"
    return None


def architecture() -> str:
    """The machine's architecture as images name it: amd64, arm64."""
    machine = platform.machine()
    return {"x86_64": "amd64", "aarch64": "arm64"}.get(machine, machine)


def cache_folder(*, shared: bool = False) -> str:
    """The folder where built and downloaded things are kept for the next time; it is made when missing.

    Args:
        shared: other users must be able to read it (root's home is closed to them).
    """
    if shared and is_root():
        folder = "/var/cache/holdfast"
    else:
        folder = os.path.join(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "holdfast")
    os.makedirs(folder, exist_ok=True)
    return folder


def temporary_parent() -> str:
    """Where short-lived folders go: the usual place, unless it lies in memory or is too long a name for a socket."""
    usual = tempfile.gettempdir()
    if len(usual) > 40 or _is_in_memory(usual):
        return "/var/tmp"  # noqa: S108 - mkdtemp makes the folder itself, with a random name and mode 0700
    return usual


def _is_in_memory(path: str) -> bool:
    found = ""
    kind = ""
    with open("/proc/self/mounts", encoding="utf-8", errors="surrogateescape") as file:
        for line in file:
            _, mountpoint, filesystem, *_ = line.split()
            inside = os.path.commonpath([path, mountpoint]) == mountpoint
            if inside and len(mountpoint) >= len(found):
                found, kind = mountpoint, filesystem
    return kind in {"tmpfs", "ramfs"}
