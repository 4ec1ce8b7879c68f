"""The container's image: a small Debian, made once, from packages of apt's mirror.

It is kept in ``.container/`` of the checkout, in a storage of podman's that nobody else uses, under
a tag that is a hash of what it was made from.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from kubeletpy import debian
from tests.vm import systems
from tests.vm.systems import ImageError

CHECKOUT: Final = Path(__file__).resolve().parents[2]
CACHE: Final = CHECKOUT / ".container"
NAME: Final = "localhost/kubeletpy-tests"
PACKAGES: Final = (
    debian.Package("mmdebstrap", "makes the image", "mmdebstrap"),
    debian.Package("podman", "runs the container", "podman"),
    debian.Package("runc", "runs the container where its limits may not be raised", "runc"),
)
_INSIDE: Final = (
    *("dbus", "e2fsprogs", "kmod", "libseccomp2", "mount", "nftables", "procps", "python3"),
    *("python3-venv", "nfs-common"),
    *(package.name for package in (*debian.TESTS, debian.SYSTEMD)),
)
_HOOK: Final = """\
printf '#!/bin/sh\\nexit 101\\n' > "$1/usr/sbin/policy-rc.d"
chmod 755 "$1/usr/sbin/policy-rc.d"
"""
# An environment whose packages are mounted into it: where it is one, `kubeletpy` makes no other.
_CUSTOMIZE: Final = """\
chroot "$1" python3 -m venv --without-pip /opt/venv
mkdir -p "$1/srv/checkout"
rm -rf "$1/var/lib/apt/lists"/*
"""


class Storage:
    """Images, containers and volumes in a directory of their own, apart from the machine's.

    Args:
        cache: the directory.
    """

    def __init__(self, cache: Path = CACHE) -> None:
        self.cache = cache
        # The path of a socket in it is short, whatever the checkout's is.
        token = hashlib.sha256(str(cache).encode()).hexdigest()[:8]
        self.run = Path(f"/run/kubeletpy-tests-{token}")

    def command(self, *arguments: str) -> list[str]:
        """Return a podman command for this storage; no systemd is asked for cgroups."""
        return ["podman", "--root", str(self.cache / "storage"), "--runroot", str(self.run),
                "--tmpdir", str(self.run / "libpod"), "--cgroup-manager", "cgroupfs",
                "--events-backend", "none", *arguments]  # fmt: skip

    def ensure_image(self) -> str:
        """Return the image's name; it is made now unless it is kept from an earlier run.

        Raises:
            ImageError: it could not be made; nothing half-made is kept.
        """
        release = systems.of_this_python().suite
        inputs = "\n".join((release, os.uname().machine, _HOOK, _CUSTOMIZE, *_INSIDE))
        name = f"{NAME}:{hashlib.sha256(inputs.encode()).hexdigest()[:16]}"
        self.cache.mkdir(exist_ok=True)
        with open(self.cache / "lock", "w") as lock:
            # A second run waits for the first one's image instead of making it too.
            fcntl.flock(lock, fcntl.LOCK_EX)
            listed = run(self.command("images", "--quiet", name))
            if not listed.strip():
                self._make(release, name)
        return name

    def close(self) -> None:
        """Unmount what podman mounts of its storage, once and for all, and nobody else uses."""
        mounted = self.cache / "storage/overlay"
        if mounted.is_mount():
            run(["umount", str(mounted)])

    def _make(self, release: str, name: str) -> None:
        old = run(self.command("images", "--quiet", NAME)).split()
        if old:
            run(self.command("rmi", "--force", *old))
        with tempfile.TemporaryDirectory(dir=self.cache, prefix="making-") as temporary:
            tree = Path(temporary, "tree.tar")
            _make_tree(release, tree)
            run(self.command("import", "--quiet", str(tree), name), 600)


def _make_tree(release: str, tree: Path) -> None:
    targets = ["apt-get", "indextargets", "--format", "$(REPO_URI)", f"Codename: {release}"]
    mirror = run(targets).split("\n")[0]
    command = ["mmdebstrap", "--mode=root", "--variant=minbase", "--quiet"]
    command += [f"--include={','.join(_INSIDE)}", "--dpkgopt=force-unsafe-io"]
    for folder in ("doc", "man", "locale", "info"):
        command += [f"--dpkgopt=path-exclude=/usr/share/{folder}/*"]
    command += [f"--essential-hook={_HOOK}", f"--customize-hook={_CUSTOMIZE}"]
    # Without a line of its own for this release, mmdebstrap's default mirror is Debian's.
    run([*command, release, str(tree), *([mirror] if mirror else [])], 900)


def run(command: Sequence[str], seconds: float = 120) -> str:
    """Run a command; return what it prints.

    Raises:
        ImageError: it fails, or takes too long.
    """
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=seconds)
    except (OSError, subprocess.TimeoutExpired) as reason:
        raise ImageError(f"{command[0]}: {reason}") from reason
    if done.returncode != 0:
        said = "\n".join(done.stderr.strip().splitlines()[-15:])
        raise ImageError(f"{' '.join(command[:2])} failed (exit {done.returncode}): {said}")
    return done.stdout
