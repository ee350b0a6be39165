"""A virtual machine that runs one program with the distribution's kernel, on this machine's own files.

Rules upheld here:
- The guest reads this machine's root and writes to a disk of its own: nothing that it does stays, but for its output.
- It has no network, and no udev: LVM makes its devices itself.
- It is gone after the program, also when the process that started it is killed: a keeper ends it.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from deployments.local.kept import Command, Kept
from deployments.local.kernel import guest_kernel
from deployments.local.machine import CannotProvide, architecture, is_root
from deployments.local.packages import ensure_tool

INSIDE = "HOLDFAST_GUEST"
"""The variable that says to a program that it runs in a guest."""

SCRATCH = "/scratch"
"""A folder of the guest on ext4 (the root is an overlay, on which an engine cannot lay another)."""

_DISK_BYTES = 8 << 30
_MEMORY_MIB = 2048

_START = """export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root TMPDIR={scratch}
export LC_ALL=C.UTF-8 DM_DISABLE_UDEV=1 {inside}=1 {settings}
hostname guest
busybox ifconfig lo up
modprobe -a {modules} || echo "some of these are not in the kernel: {modules}"
cd {folder}
{command} </dev/null >/exchange/said 2>&1
echo $? >/exchange/ended.new
mv /exchange/ended.new /exchange/ended
while :; do sleep 60; done
"""


@dataclass(frozen=True)
class Ended:
    """How a program ended, and what it said on both its outputs."""

    status: int
    said: str


def guest_is_possible() -> str | None:
    """None when a guest can be started here (perhaps after fetching parts), otherwise the reason why not."""
    if not is_root():
        return "a guest that reads all files needs root"
    if architecture() != "amd64":
        return "a guest is made for amd64"
    return None


def run_in_guest(
    argv: Sequence[str],
    *,
    folder: str,
    seconds: float,
    modules: Sequence[str] = ("loop",),
    environment: Mapping[str, str] | None = None,
) -> Ended:
    """Boot a guest, run a program in it as root, and end it.

    Args:
        argv: the program, by a path that it has on this machine.
        folder: where it starts.
        seconds: after this time from the start everything is ended.
        modules: what the kernel is to have loaded.
        environment: variables that the program has besides the usual ones.

    Raises:
        CannotProvide: the guest's parts cannot be had, it did not start, or it took too long; `found` has the last
            words of the program, or of the kernel.
    """
    if reason := guest_is_possible():
        raise CannotProvide("no guest", found=reason)
    qemu = ensure_tool("qemu-system-x86_64", ("qemu-system-x86",))
    kernel = guest_kernel()
    with Kept() as kept:
        _furnish(kept, kernel, _script(argv, folder, modules, environment or {}))
        kept.start([Command("guest", (qemu, *_options(kept)), grace=0.0)])
        return _wait(kept, time.monotonic() + seconds)


def _script(argv: Sequence[str], folder: str, modules: Sequence[str], environment: Mapping[str, str]) -> str:
    return _START.format(
        scratch=SCRATCH,
        inside=INSIDE,
        settings=" ".join(f"{name}={shlex.quote(value)}" for name, value in environment.items()),
        modules=shlex.join(modules),
        folder=shlex.quote(folder),
        command=shlex.join(("setsid", "-w", *argv)),
    )


def _furnish(kept: Kept, kernel: str, script: str) -> None:
    """The guest's kernel, its disk, and the folder that it shares with us."""
    subprocess.run(["tar", "-xf", kernel, "-C", kept.folder], check=True)
    os.mkdir(kept.path("exchange"))
    os.rename(kept.path("modules"), kept.path("exchange", "modules"))
    with open(kept.path("exchange", "start"), "w", encoding="utf-8") as file:
        file.write(script)
    with open(kept.path("disk"), "wb") as file:
        file.truncate(_DISK_BYTES)
    subprocess.run([ensure_tool("mkfs.ext4", ("e2fsprogs",)), "-q", kept.path("disk")], check=True)


def _options(kept: Kept) -> list[str]:
    shared = {"host": "/", "exchange": kept.path("exchange")}
    words = [*_processor(), "-smp", "2", "-m", f"{_MEMORY_MIB}M", "-nodefaults", "-no-user-config"]
    words += ["-display", "none", "-serial", "stdio", "-no-reboot"]
    words += ["-kernel", kept.path("vmlinuz"), "-initrd", kept.path("initramfs")]
    words += ["-append", "console=ttyS0 panic=-1 quiet random.trust_cpu=on"]
    words += ["-drive", f"file={kept.path('disk')},format=raw,if=virtio,cache=unsafe"]
    for name, path in shared.items():
        options = "readonly=on,multidevs=remap" if path == "/" else "multidevs=remap"
        words += ["-fsdev", f"local,id={name},path={path},security_model=passthrough,{options}"]
        words += ["-device", f"virtio-9p-pci,fsdev={name},mount_tag={name}"]
    return words


def _processor() -> list[str]:
    """The processor's own virtualisation, else an emulated one (some 10 times slower).

    A /dev/kvm alone says little: some hosts have one that only their own kernels can run on.
    """
    hardware = any(os.path.exists(f"/sys/module/{name}") for name in ("kvm_intel", "kvm_amd"))
    if hardware and os.access("/dev/kvm", os.R_OK | os.W_OK):
        return ["-accel", "kvm", "-cpu", "host"]
    return ["-accel", "tcg,thread=multi", "-cpu", "max"]


def _wait(kept: Kept, deadline: float) -> Ended:
    while not os.path.exists(kept.path("exchange", "ended")):
        kept.require_alive()
        if time.monotonic() > deadline:
            found = _said(kept)[-2000:] or _read(kept.path("guest.log"))[-2000:]
            raise CannotProvide("a guest took too long and was ended", found=found)
        time.sleep(0.1)
    return Ended(int(_read(kept.path("exchange", "ended"))), _said(kept))


def _said(kept: Kept) -> str:
    path = kept.path("exchange", "said")
    return _read(path) if os.path.exists(path) else ""


def _read(path: str) -> str:
    with open(path, encoding="utf-8", errors="replace") as file:
        return file.read()
