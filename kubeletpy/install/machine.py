"""What an installation changes of the machine besides files: account, modules, sysctls, links."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from kubeletpy.install import places, units
from kubeletpy.install.errors import InstallError
from kubeletpy.install.installation import NodeInstallation
from kubeletpy.install.places import Places

_SECONDS: Final = 60.0
_SYSCTLS: Final = Path("/proc/sys")
ALSO_SET: Final = (
    "net.ipv6.conf.all.forwarding",
    "net.ipv4.conf.all.route_localnet",
    "net.netfilter.nf_conntrack_max",
    "net.netfilter.nf_conntrack_tcp_timeout_established",
    "net.netfilter.nf_conntrack_tcp_timeout_close_wait",
)
"""Sysctls that daemons set by themselves."""


def directories(one: NodeInstallation) -> dict[Path, int]:
    """Return the directories of an installation and their modes, parents first (pure).

    That of all data can be passed through, not listed: the API server is no root, and has its own.
    """
    wanted = {places.ETC: 0o700, places.ETC / "pki": 0o700, places.DATA: 0o711}
    if one.runs_pods:
        wanted[places.MANIFESTS] = 0o700
    if one.server is not None:
        wanted[places.APISERVER] = 0o700
        if one.server.storage:
            wanted[places.STORAGE] = 0o711
    return wanted


def make_directories(one: NodeInstallation, at: Places) -> None:
    """Make directories, with their modes whoever made them before.

    Raises:
        InstallError: one cannot be made.
    """
    for path, mode in directories(one).items():
        real = at.of(path)
        try:
            real.mkdir(parents=True, exist_ok=True)
            real.chmod(mode)
        except OSError as error:
            raise InstallError(f"cannot make the directory {real}: {error.strerror}") from error


def links(one: NodeInstallation) -> dict[Path, Path]:
    """Return the links that have units started at boot, and what they point to (pure)."""
    wants = places.UNITS / f"{units.TARGET}.wants"
    found = {wants / name: units.unit_path(name) for name in units.names(one)}
    boot = places.UNITS / "multi-user.target.wants" / units.TARGET
    return {boot: units.unit_path(units.TARGET), **found}


def make_links(one: NodeInstallation, at: Places) -> None:
    """Make those links and remove those of services that are not wanted any more.

    Raises:
        InstallError: one cannot be made.
    """
    wanted = links(one)
    for path, target in wanted.items():
        replace_link(at.of(path), target)
    for path in _all_links():
        if path not in wanted:
            at.of(path).unlink(missing_ok=True)


def _all_links() -> Iterable[Path]:
    yield from (places.UNITS / f"{units.TARGET}.wants" / name for name in units.ALL)
    yield places.UNITS / "multi-user.target.wants" / units.TARGET


def replace_link(path: Path, target: Path) -> None:
    """Have a symbolic link point somewhere, in one step.

    Raises:
        InstallError: it cannot be made.
    """
    if path.is_symlink() and path.readlink() == target:
        return
    temporary = path.with_name(f".{path.name}.{os.urandom(6).hex()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.symlink_to(target)
        temporary.replace(path)
    except OSError as error:
        raise InstallError(f"cannot link {path} to {target}: {error.strerror}") from error


def remove_links(at: Places) -> None:
    """Remove all of these links, and the target's directory of them."""
    for path in _all_links():
        at.of(path).unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        at.of(places.UNITS / f"{units.TARGET}.wants").rmdir()


def ensure_user(name: str) -> bool:
    """Have a system account without home and shell; return whether it was made now.

    Raises:
        InstallError: it cannot be made.
    """
    with contextlib.suppress(KeyError):
        pwd.getpwnam(name)
        return False
    run(
        "useradd", "--system", "--user-group", "--no-create-home", "--home-dir", "/nonexistent",
        "--shell", "/usr/sbin/nologin", "--comment", "kubeletpy API server", name,
    )  # fmt: skip
    return True


def remove_user(name: str) -> None:
    """Remove a system account; one that is not there is no fault.

    Raises:
        InstallError: it cannot be removed.
    """
    with contextlib.suppress(KeyError):
        pwd.getpwnam(name)
        run("userdel", name)


def own(path: Path, name: str) -> None:
    """Give a directory and all in it to an account, which is the only one that writes there.

    Raises:
        InstallError: it cannot be given.
    """
    try:
        entry = pwd.getpwnam(name)
        if path.stat().st_uid == entry.pw_uid:
            return
        for directory, _, files in os.walk(path, topdown=False):
            for each in (*(os.path.join(directory, file) for file in files), directory):
                os.chown(each, entry.pw_uid, entry.pw_gid, follow_symlinks=False)
    except (KeyError, OSError) as error:
        raise InstallError(f"cannot give {path} to the user {name}: {error}") from error


def load_modules(names: Iterable[str]) -> list[str]:
    """Load kernel modules; return what could not be, for people.

    A kernel that has no modules here has all built in, or gets them from elsewhere (containers).
    """
    problems: list[str] = []
    if not Path("/lib/modules", os.uname().release).is_dir():
        return problems
    program = shutil.which("modprobe")
    for name in names:
        if Path("/sys/module", name).is_dir():
            continue
        if program is None:
            problems.append(f"kernel module {name}: modprobe is not installed (package kmod)")
            continue
        try:
            run(program, "--", name)
        except InstallError as error:
            problems.append(f"kernel module {name}: {error}")
    return problems


def read_sysctls(names: Iterable[str], root: Path = _SYSCTLS) -> dict[str, str]:
    """Return the values of sysctls; those that this kernel does not have are left out."""
    found = {}
    for name in names:
        with contextlib.suppress(OSError):
            found[name] = (root / name.replace(".", "/")).read_text().strip()
    return found


def set_sysctls(values: Mapping[str, str], root: Path = _SYSCTLS) -> list[str]:
    """Set sysctls that are otherwise, in order; return what could not be set, for people."""
    problems = []
    for name, value in values.items():
        path = root / name.replace(".", "/")
        try:
            if path.read_text().strip() != value:
                path.write_text(value)
        except OSError as error:
            problems.append(f"sysctl {name} = {value}: {error.strerror}")
    return problems


def run(*command: str, seconds: float = _SECONDS) -> str:
    """Run a program; return what it printed.

    Raises:
        InstallError: it cannot be run, failed, or took too long.
    """
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=seconds, check=False,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        raise InstallError(f"`{' '.join(command)}`: {error}") from error
    if done.returncode != 0:
        text = done.stderr.strip() or done.stdout.strip() or f"exit status {done.returncode}"
        raise InstallError(f"`{' '.join(command)}` failed: {text}")
    return done.stdout
