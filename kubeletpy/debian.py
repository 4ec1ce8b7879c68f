"""Debian packages: which are missing, and how they get installed without starting services.

Standard library only: this runs before the virtual environment exists.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from kubeletpy.console import CommandFailed, run_shown


@dataclass(frozen=True)
class Package:
    """A Debian package, why we need it, and the program by which other systems prove they have it.

    ``program`` is a command on PATH, or an absolute path when a file has to exist.
    With ``any_origin`` a program of that name will do wherever it is from: another package's would
    be in the way of this one.
    """

    name: str
    why: str
    program: str
    service: str = ""  # a service that the package starts by itself, and that we do not want
    any_origin: bool = False


TOUR = (
    Package("iptables", "masquerades what pods send to other networks", "iptables-restore"),
    Package("busybox-static", "is the whole content of the example image", "busybox"),
    Package(
        "docker-registry",
        "is the registry the example image is pulled from",
        "docker-registry",
        service="docker-registry",
    ),
    Package("nginx-light", "serves Ingresses", "nginx", service="nginx", any_origin=True),
    Package(
        "ca-certificates", "lets pulls verify registries", "/etc/ssl/certs/ca-certificates.crt"
    ),
)
TESTS = (
    *TOUR,
    Package("curl", "asks Services and Ingresses as people do", "curl", any_origin=True),
    Package("iproute2", "lets tests look at links from outside", "ip"),
    Package("nftables", "shows rules by a tool that is not ours", "nft"),
    Package("skopeo", "checks our images with a tool that is not ours", "skopeo"),
    Package("util-linux", "provides unshare, nsenter and setpriv", "setpriv"),
    Package("containernetworking-plugins", "gives pods a network by CNI", "/usr/lib/cni/bridge"),
    Package("runc", "runs pods of an external runtime handler", "runc"),
    Package("podman", "loads and saves images with a tool that is not ours", "podman"),
    Package(
        "containerd",
        "is the runtime beside ours that our client is tried with",
        "containerd",
        service="containerd",
    ),
    Package("umoci", "unpacks our images with a tool that is not ours", "umoci"),
    Package("kubernetes-client", "tries our API server", "kubectl", any_origin=True),
)
VAGRANT = (
    Package("vagrant", "reads our Vagrantfile", "vagrant", any_origin=True),
    Package("shellcheck", "reads the scripts that provision virtual machines", "shellcheck"),
)
SYSTEMD = Package("systemd", "says whether it understands our units", "systemd-analyze")
VENV = Package("python3-venv", "makes the virtual environment", "python3 -m ensurepip")

_POLICY = Path("/usr/sbin/policy-rc.d")
_POLICY_MARK = "# Written by kubeletpy while it installs packages; removed right after."
_LISTS = Path("/var/lib/apt/lists")


class PackageError(Exception):
    """Packages are missing and cannot be installed from here; the message says what to do."""


def missing(packages: Iterable[Package]) -> list[Package]:
    """Return those of ``packages`` that are not installed.

    On a machine with dpkg its database decides, elsewhere the presence of each program.
    """
    wanted = [
        package
        for package in packages
        if not (package.any_origin and _program_exists(package.program))
    ]
    if shutil.which("dpkg-query") is None:
        return [package for package in wanted if not _program_exists(package.program)]
    query = subprocess.run(
        ["dpkg-query", "--show", "--showformat", "${Package} ${db:Status-Status}\n"]
        + [package.name for package in wanted],
        capture_output=True,
        text=True,
        check=False,  # exit status 1 means: some are unknown, which is what we ask
        timeout=60,
    )
    installed = {
        name
        for name, _, status in (line.partition(" ") for line in query.stdout.splitlines())
        if status == "installed"
    }
    return [package for package in wanted if package.name not in installed]


def install(packages: Iterable[Package]) -> None:
    """Install ``packages`` with apt-get; their services are neither started nor enabled.

    Raises:
        PackageError: this is no Debian, we are not root, or apt-get failed.
    """
    wanted = list(packages)
    if not wanted:
        return
    names = " ".join(package.name for package in wanted)
    if shutil.which("apt-get") is None:
        programs = ", ".join(f"{package.program} ({package.why})" for package in wanted)
        raise PackageError(
            f"missing: {programs}. This machine has no apt-get: install them with its own "
            f"package manager (their Debian names are: {names})"
        )
    if os.geteuid() != 0:
        raise PackageError(
            f"missing Debian packages: {names}. Run this as root, or: sudo apt-get install {names}"
        )
    services = [package.service for package in wanted if package.service]
    with _alone(), services_held(services):
        _apt_install([package.name for package in wanted])
    for service in services:
        _disable(service)


def _apt_install(names: list[str]) -> None:
    """Run apt-get install, refreshing the package lists first if there are none or they are old."""
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C.UTF-8"}
    command = ["apt-get", "install", "--yes", "--no-install-recommends"]
    command += ["-o", "DPkg::Lock::Timeout=120", "-o", "Dpkg::Use-Pty=0", *names]
    title = f"Installing Debian packages: {' '.join(names)}"
    have_lists = any(_LISTS.glob("*_Packages*")) or any(_LISTS.glob("*InRelease"))
    try:
        if not have_lists:
            _apt_update(environment)
        try:
            run_shown(title, command, env=environment)
        except CommandFailed:
            if not have_lists:
                raise
            _apt_update(environment)  # the lists may name versions that the mirror dropped
            run_shown(title, command, env=environment)
    except CommandFailed as error:
        raise PackageError(
            f"apt-get could not install {' '.join(names)}: {error.reason}. Check the network and "
            f"/etc/apt/sources.list, then start again; the whole output is in {error.log}"
        ) from error


def _apt_update(environment: dict[str, str]) -> None:
    command = ["apt-get", "update", "-o", "DPkg::Lock::Timeout=120"]
    run_shown("Refreshing the Debian package lists", command, env=environment)


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """Keep other installs of ours waiting meanwhile; those of others wait for dpkg's own lock."""
    # The lock is on a directory, so no lock file stays behind; dpkg locks files in it.
    lock = os.open("/var/lib/dpkg", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


@contextlib.contextmanager
def services_held(services: list[str], policy: Path = _POLICY) -> Iterator[None]:
    """Forbid invoke-rc.d to start ``services`` meanwhile (its interface is policy-rc.d).

    An existing policy is set aside, asked for all other services, and put back. What a killed
    earlier run left is mended first.
    """
    saved = policy.with_name(f"{policy.name}.before-kubeletpy")
    _restore(policy, saved)
    if not services:
        yield
        return
    if policy.exists():
        policy.rename(saved)
    try:
        policy.write_text(_policy_script(services, saved))
        policy.chmod(0o755)
        yield
    finally:
        _restore(policy, saved)


def _policy_script(services: list[str], saved: Path) -> str:
    """Return a policy that denies ``services`` (exit 101) and leaves the rest as it was."""
    return (
        f"#!/bin/sh\n{_POLICY_MARK}\n"
        f'case "$1" in {"|".join(services)}) exit 101 ;; esac\n'
        f'[ ! -x {saved} ] || exec {saved} "$@"\n'
        "exit 0\n"
    )


def _restore(policy: Path, saved: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        if _POLICY_MARK in policy.read_text(errors="replace"):
            policy.unlink()
    if saved.exists():
        saved.rename(policy)


def _disable(service: str) -> None:
    """Keep ``service`` from starting at the next boot, under systemd or SysV init."""
    if shutil.which("systemctl"):
        command = ["systemctl", "--quiet", "disable", service]
    elif shutil.which("update-rc.d"):
        command = ["update-rc.d", service, "disable"]
    else:
        return
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise PackageError(
            f"`{' '.join(command)}` failed: {reason}. The package's own service {service} may "
            "start at the next boot; disable it by hand, then start again"
        )


def _program_exists(program: str) -> bool:
    if program.startswith("/"):
        return os.path.exists(program)
    return shutil.which(program) is not None
