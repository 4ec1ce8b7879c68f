"""What the machine says of the runtimes: CPU time and memory; and a place of our own on it."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

from kubeletpy_common.cgroups import detect
from kubeletpy_common.linux import mounts
from kubeletpy_common.linux.namespaces import CLONE_NEWNET, CLONE_NEWNS, unshare

_MIB: Final = 1 << 20
_OF_SYSTEMD: Final = (Path("/run/systemd"), Path("/run/dbus"))


def isolate() -> None:
    """Enter a network and a /run of our own; containerd keeps its shims in a fixed place.

    What systemd is reached by stays there.

    Raises:
        OSError: the kernel refused.
    """
    unshare(CLONE_NEWNET | CLONE_NEWNS)
    mounts.mount(None, "/", None, mounts.MS_REC | mounts.MS_PRIVATE)
    with ExitStack() as stack:
        kept = {path: _opened(path, stack) for path in _OF_SYSTEMD if path.is_dir()}
        mounts.mount("tmpfs", "/run", "tmpfs")
        for path, descriptor in kept.items():
            path.mkdir()
            mounts.mount(f"/proc/self/fd/{descriptor}", str(path), None, mounts.MS_BIND)
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)


def _opened(path: Path, stack: ExitStack) -> int:
    descriptor = os.open(path, os.O_PATH | os.O_DIRECTORY)
    stack.callback(os.close, descriptor)
    return descriptor


@contextmanager
def fresh_disk(directory: Path, size: str = "4G") -> Iterator[Path]:
    """Give a new ext4 of its own, in a sparse file: what earlier rounds removed has no effect.

    ext4 does not use an inode again within a minute or more of its removal, and looks at each of
    them on the way to a free one: 10,000 files made where 10,000 were removed take ten times as
    long. No runtime is to pay for the round before it.

    Raises:
        subprocess.CalledProcessError: mkfs.ext4 or mount failed.
    """
    image = directory.with_suffix(".img")
    with open(image, "wb") as file:
        file.truncate(int(size.removesuffix("G")) << 30)
    try:
        subprocess.run(["mkfs.ext4", "-q", "-F", str(image)], check=True)
        directory.mkdir(exist_ok=True)
        subprocess.run(["mount", "-o", "loop", str(image), str(directory)], check=True)
        try:
            yield directory
        finally:
            subprocess.run(["umount", str(directory)], check=True)
    finally:
        image.unlink()


def cpu_seconds(cgroup: str) -> float:
    """Return the CPU time of all that ever ran in a cgroup and below it, dead processes included.

    A runtime's daemon is started inside, its shims, runtime binaries and pods stay below: nothing
    it does escapes, and the workload's own time (a shell that sleeps, /bin/true) is in both sums.
    """
    stats = detect().cgroup(cgroup).stats().cpu
    if stats is None:
        raise SystemExit(f"{cgroup}: this machine does not account CPU time")
    return stats.usage_ns / 1e9


def memory_mib(cgroup: str) -> float:
    """Return the memory of a runtime and its pods, in MiB: proportional set size.

    Of what is anonymous or shared memory, each process's share (smaps_rollup). Of mapped files,
    each page once for the whole runtime: plain PSS would also divide it by processes that are none
    of the runtime's, such as this benchmark, which maps the same interpreter. What runs in the pods
    counts by its plain PSS: the same workload, and whatever the runtime keeps there beside it.
    """
    own = os.readlink("/proc/self/ns/mnt")
    shares, files = 0, dict[tuple[str, str], int]()
    for pid in detect().cgroup(cgroup).processes():
        try:
            rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
            if os.readlink(f"/proc/{pid}/ns/mnt") != own:
                shares += _shares(rollup, "Pss")
                continue
            shares += _shares(rollup, "Pss_Anon", "Pss_Shmem")
            for key, size in _mapped(Path(f"/proc/{pid}/smaps").read_text()).items():
                files[key] = max(files.get(key, 0), size)
        except (FileNotFoundError, ProcessLookupError):
            # It has just ended.
            continue
    return (shares + sum(files.values())) / _MIB


def _shares(rollup: str, *keys: str) -> int:
    found = dict(line.split(":", 1) for line in rollup.splitlines() if ":" in line.split(" ")[0])
    return sum(int(found[key].split()[0]) << 10 for key in keys)


def _mapped(smaps: str) -> dict[tuple[str, str], int]:
    """Return the bytes in memory of each part of a file that is mapped: (file, offset) -> bytes."""
    found: dict[tuple[str, str], int] = {}
    key: tuple[str, str] | None = None
    for line in smaps.splitlines():
        name, _, rest = line.partition(":")
        if "-" in name.split(" ")[0]:
            # proc_pid_maps(5): range, permissions, offset, device, inode, path.
            words = line.split(None, 5)
            key = (f"{words[3]} {words[4]}", words[2]) if words[4] != "0" else None
        elif key is not None and name in ("Rss", "Anonymous"):
            size = int(rest.split()[0]) << 10
            found[key] = found.get(key, 0) + (size if name == "Rss" else -size)
    return found


def versions() -> dict[str, str]:
    """Return what a figure depends on: kernel, processors, Python, and the peer's programs."""
    found = {"kernel": os.uname().release, "cpus": str(os.cpu_count())}
    found["python"] = platform.python_version()
    found["cgroups"] = f"v{detect().version}"
    for program in ("containerd", "runc"):
        try:
            answer = subprocess.run([program, "--version"], capture_output=True, text=True)
            found[program] = answer.stdout.split()[2]
        except (FileNotFoundError, IndexError):
            found[program] = "missing"
    return found
