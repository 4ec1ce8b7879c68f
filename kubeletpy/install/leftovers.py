"""What daemons leave on a machine when they are gone: pods, mounts, cgroups, links, rules."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Final

from kubeletpy.cri.client import CriClient, CriError
from kubeletpy.install import machine
from kubeletpy.install.errors import InstallError
from kubeletpy.up.commands import BRIDGE
from kubeletpy.up.layout import mounts_below
from kubeletpy_common.linux import mounts

_GRACE: Final = 10
"""Seconds that a container has to end by itself."""
_AT_ONCE: Final = 16
LINKS: Final = (BRIDGE, "kubeletpy-vx")
CHAINS: Final = re.compile(r"KUBELETPY-[A-Z0-9-]+")
CGROUPS: Final = Path("/sys/fs/cgroup")
OF_PODS: Final = ("kubepods.slice", "kubepods", "kubeletpy.slice", "kubeletpy")
_MOST_MOUNTS: Final = 20
_DETACH: Final = 2  # MNT_DETACH of umount2(2)


async def end_pods(endpoint: str, seconds: float, only: Collection[str] | None = None) -> int:
    """End and remove all pods of a runtime; return how many there were.

    Args:
        endpoint: of the runtime.
        seconds: for all of it.
        only: UIDs of the pods that end; None: all.

    Raises:
        InstallError: the runtime does not answer, or one could not be ended.
    """
    limit = asyncio.Semaphore(_AT_ONCE)

    async def end(client: CriClient, sandbox: str, containers: Sequence[str]) -> None:
        async with limit:
            for container in containers:
                await client.stop_container(container, _GRACE)
            await client.stop_pod_sandbox(sandbox)
            await client.remove_pod_sandbox(sandbox)

    try:
        async with asyncio.timeout(seconds), CriClient(endpoint, timeout=seconds) as client:
            of: dict[str, list[str]] = {}
            for sandbox in await client.list_pod_sandboxes():
                if only is None or sandbox.metadata.uid in only:
                    of[sandbox.id] = []
            for container in await client.list_containers():
                if only is None:
                    of.setdefault(container.pod_sandbox_id, [])
                if container.pod_sandbox_id in of:
                    of[container.pod_sandbox_id].append(container.id)
            ends = (end(client, pod, containers) for pod, containers in of.items())
            found = await asyncio.gather(*ends, return_exceptions=True)
    except (CriError, TimeoutError) as error:
        raise InstallError(f"the runtime does not end its pods: {error or 'time is over'}") \
            from error  # fmt: skip
    wrong = [str(one) for one in found if isinstance(one, BaseException)]
    if wrong:
        raise InstallError(f"{len(wrong)} of {len(found)} pods did not end: {wrong[0]}")
    return len(found)


def kill_cgroups(names: Iterable[str], root: Path = CGROUPS) -> int:
    """Kill all in cgroups of these names, in any hierarchy; return how many processes."""
    count = 0
    for directory in _cgroups(names, root):
        for pid in _pids(directory):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
                count += 1
    return count


def remove_cgroups(names: Iterable[str] = OF_PODS, root: Path = CGROUPS) -> list[str]:
    """Remove cgroups of these names with all below; return those that have processes."""
    problems = []
    for directory in _cgroups(names, root):
        for path, _, _ in os.walk(directory, topdown=False):
            with contextlib.suppress(FileNotFoundError):
                try:
                    os.rmdir(path)
                except OSError as error:
                    problems.append(f"cgroup {path}: {error.strerror}")
    return problems


def _cgroups(names: Iterable[str], root: Path) -> list[Path]:
    hierarchies = [root, *(each for each in root.glob("*") if each.is_dir())]
    return [each / name for each in hierarchies for name in names if (each / name).is_dir()]


def _pids(directory: Path) -> set[int]:
    found: set[int] = set()
    for path, _, _ in os.walk(directory):
        with contextlib.suppress(OSError):
            found.update(int(line) for line in Path(path, "cgroup.procs").read_text().split())
    return found


def unmount(directory: Path) -> int:
    """Unmount all below a directory, the deepest first; return how many there were.

    What is still used goes when its last user does. A disk that somebody mounted for a part of the
    data (``/var/lib/kubeletpy/runtime``) stays: no daemon mounts anything there.

    Raises:
        InstallError: something stays mounted.
    """
    points = foreign_mounts(directory)
    problem = ""
    for point in reversed(points):
        try:
            mounts.umount(Path(point), _DETACH)
        except OSError as error:
            problem = problem or f"{point}: {error.strerror}"
    if left := foreign_mounts(directory):
        raise InstallError(f"still mounted: {', '.join(left[:_MOST_MOUNTS])}; {problem}")
    return len(points)


def foreign_mounts(directory: Path) -> list[str]:
    """Return what is mounted below a directory, but for disks of its parts."""
    return [point for point in mounts_below(directory) if Path(point).parent != directory]


def remove_tree(directory: Path) -> None:
    """Remove a directory with all in it, but never what is mounted there.

    Disks that are mounted on it, or on a part of it, are emptied and stay mounted.

    Raises:
        InstallError: something is mounted deeper in it, or cannot be removed.
    """
    if not directory.exists():
        return
    if mounted := foreign_mounts(directory):
        raise InstallError(
            f"{directory} stays, because {', '.join(mounted[:_MOST_MOUNTS])} is mounted in it: "
            "unmount it, and run this again"
        )
    try:
        for entry in list(directory.iterdir()):
            if entry.is_dir() and not entry.is_symlink():
                _remove_or_empty(entry)
            else:
                entry.unlink()
        if not os.path.ismount(directory) and not any(directory.iterdir()):
            directory.rmdir()
    except OSError as error:
        raise InstallError(f"cannot remove {directory}: {error}") from error


def _remove_or_empty(directory: Path) -> None:
    if not os.path.ismount(directory):
        shutil.rmtree(directory)
        return
    for entry in directory.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()


def remove_links(names: Iterable[str] = LINKS) -> list[str]:
    """Remove network links of these names; return those that there were."""
    there = {name for _, name in socket.if_nameindex()}
    found = [name for name in names if name in there]
    for name in found:
        machine.run("ip", "link", "delete", "dev", name)
    return found


def removal_of(saved: str) -> str:
    """Return the input of ``iptables-restore --noflush`` that removes our chains (pure).

    Args:
        saved: output of ``iptables-save``.

    Jumps go first, then rules, then the chains, by table; "" if there is nothing of ours.
    """
    parts, table = [], ""
    jumps: list[str] = []
    chains: list[str] = []
    for line in saved.splitlines():
        if line.startswith("*"):
            table, jumps, chains = line, [], []
        elif line.startswith(":") and CHAINS.fullmatch(name := line[1:].split()[0]):
            chains.append(name)
        elif line.startswith("-A "):
            words = line.split()
            leads = any(
                words[index] in ("-j", "-g") and CHAINS.fullmatch(words[index + 1])
                for index in range(len(words) - 1)
            )
            if leads and not CHAINS.fullmatch(words[1]):
                jumps.append("-D" + line[2:])
        elif line == "COMMIT" and (jumps or chains):
            emptied = [f":{name} - [0:0]" for name in chains]
            removed = [f"-X {name}" for name in chains]
            parts += [table, *emptied, *jumps, *removed, "COMMIT"]
    return "".join(f"{part}\n" for part in parts)


def remove_rules() -> list[str]:
    """Remove chains of ours from iptables and ip6tables; return what went wrong, for people."""
    problems = []
    for program in ("iptables", "ip6tables"):
        if shutil.which(f"{program}-save") is None:
            continue
        try:
            script = removal_of(machine.run(f"{program}-save"))
            if script:
                subprocess.run(
                    [f"{program}-restore", "--noflush"], input=script, text=True, check=True,
                    capture_output=True, timeout=60,
                )  # fmt: skip
        except subprocess.CalledProcessError as error:
            problems.append(f"rules of {program}: {error.stderr.strip()}")
        except (InstallError, OSError, subprocess.TimeoutExpired) as error:
            problems.append(f"rules of {program}: {error}")
    return problems
