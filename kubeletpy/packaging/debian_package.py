"""The Debian package: wheels, their manifest, and scripts that make a release of them.

dpkg owns the wheels only. What runs is made of them on the machine, so that an upgrade takes
nothing away from processes that run.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import shutil
import subprocess
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from kubeletpy.packaging.errors import PackagingError
from kubeletpy.packaging.manifest import FILE_NAME, Manifest
from kubeletpy.packaging.release import WHEELS
from kubeletpy_common.releases import ROOT

GLIBC: Final = 36
"""The minor version of glibc 2 that wheels may need: Debian 12's."""
_SCRIPTS: Final = Path(__file__).with_name("scripts")
_MAINTAINER_SCRIPTS: Final = ("postinst", "prerm", "postrm")
_COMPRESSION: Final = "none"
"""Of the package: wheels are compressed already."""
DEPENDS: Final = (
    "ca-certificates",
    "iptables",
    f"libc6 (>= 2.{GLIBC})",
    "libgcc-s1",
    "libseccomp2",
    "libstdc++6",
)
RECOMMENDS: Final = ("kmod", "nginx-light | nginx")
SUGGESTS: Final = ("containernetworking-plugins", "nfs-common")
_SUMMARY: Final = "Kubernetes node: kubelet, container runtime and service proxy"
_DESCRIPTION: Final = (
    "A kubelet, a container runtime that serves CRI v1 and a kube-proxy, for a machine that joins "
    "a cluster, and an API server with controllers and scheduler for a cluster of one's own.",
    "Set up the machine by `kubeletpy install`; upgrading this package restarts no container.",
)
_COPYRIGHT: Final = """\
Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/
Upstream-Name: kubeletpy

Files: *
Copyright: the authors of kubeletpy
License: Apache-2.0
 On Debian systems, the full text of the Apache License 2.0 is in
 /usr/share/common-licenses/Apache-2.0.
Comment: The wheels in /usr/lib/kubeletpy carry their own licenses in their .dist-info.
"""


@dataclass(frozen=True)
class Control:
    """What a control file says.

    Attributes:
        version: of the package, as Debian has them.
        architecture: Debian's name of it.
        pythons: versions of Python that there are wheels for.
        installed_size: of dpkg's files, in bytes.
    """

    version: str
    architecture: str
    pythons: Sequence[str]
    installed_size: int

    def text(self) -> str:
        """Return the file (deb-control(5))."""
        python = " | ".join(f"python{version}" for version in self.pythons)
        body = "\n .\n".join(
            textwrap.fill(text, 78, initial_indent=" ", subsequent_indent=" ")
            for text in _DESCRIPTION
        )
        return (
            f"Package: kubeletpy\nVersion: {self.version}\nArchitecture: {self.architecture}\n"
            "Maintainer: the authors of kubeletpy <kubeletpy@localhost>\n"
            f"Installed-Size: {-(-self.installed_size // 1024)}\n"
            f"Depends: {', '.join((python, 'python3', *DEPENDS))}\n"
            f"Recommends: {', '.join(RECOMMENDS)}\nSuggests: {', '.join(SUGGESTS)}\n"
            "Section: admin\nPriority: optional\n"
            f"Description: {_SUMMARY}\n{body}\n"
        )


def debian_version(version: str, commit: str, changed: str) -> str:
    """Return the version of the package.

    Args:
        version: of kubeletpy.
        commit: date and hash of a commit that is no release, "" for a release; sorts before it.
        changed: hash of sources that are not those of the commit, "" if they are.
    """
    found = version.replace("-", "~")
    if commit:
        found += f"~git{commit}"
    return f"{found}+changed.{changed[:8]}" if changed else found


def script(name: str, pythons: Sequence[str]) -> str:
    """Return a maintainer script."""
    parts = ["#!/bin/sh\nset -e\n"]
    if name != "postrm":
        # By then the package's files are gone.
        common = (_SCRIPTS / "common.sh").read_text()
        parts.append(common.replace("@PYTHONS@", " ".join(pythons)))
    parts.append((_SCRIPTS / f"{name}.sh").read_text())
    return "\n".join(parts)


def lay_out(
    tree: Path, manifest: Manifest, wheels: Path, documents: dict[str, str], control: Control
) -> None:
    """Write everything that is in the package.

    Args:
        tree: an empty directory.
        manifest: the wheels, by Python.
        wheels: where they are.
        documents: further files, by their path on the machine; those of ``.gz`` get compressed.
        control: what there is to say; its size is measured.
    """
    target = tree / WHEELS.relative_to("/")
    target.mkdir(parents=True)
    for name in manifest.files():
        shutil.copyfile(wheels / name, target / name)
    (target / FILE_NAME).write_text(manifest.to_json())
    link = tree / "usr/bin/kubeletpy"
    link.parent.mkdir()
    link.symlink_to(ROOT / "current/bin/kubeletpy")
    for place, text in {**documents, "usr/share/doc/kubeletpy/copyright": _COPYRIGHT}.items():
        file = tree / place
        file.parent.mkdir(parents=True, exist_ok=True)
        data = text.encode()
        file.write_bytes(gzip.compress(data, 9, mtime=0) if place.endswith(".gz") else data)
    size = sum(path.stat().st_size for path in tree.rglob("*") if not path.is_symlink())
    sums = _checksums(tree)
    about = tree / "DEBIAN"
    about.mkdir()
    sized = Control(control.version, control.architecture, control.pythons, size)
    (about / "control").write_text(sized.text())
    (about / "md5sums").write_text(sums)
    # /usr/bin/python3 changes when the distribution is upgraded: a release for the new one is due.
    (about / "triggers").write_text("interest-noawait /usr/bin/python3\n")
    for name in _MAINTAINER_SCRIPTS:
        (about / name).write_text(script(name, control.pythons))
    for path in (tree, *tree.rglob("*")):
        if not path.is_symlink():
            executable = path.is_dir() or path.name in _MAINTAINER_SCRIPTS
            path.chmod(0o755 if executable else 0o644)


def build(tree: Path, output: Path, epoch: int) -> None:
    """Make the package of a tree, the same bytes of the same tree.

    Raises:
        PackagingError: there is no dpkg-deb, or it failed.
    """
    for path in (tree, *tree.rglob("*")):
        os.utime(path, (epoch, epoch), follow_symlinks=False)
    command = ["dpkg-deb", "--root-owner-group", f"-Z{_COMPRESSION}", "--build"]
    _run([*command, str(tree), str(output)], {"SOURCE_DATE_EPOCH": str(epoch)})


def architecture() -> str:
    """Return Debian's name of this machine's architecture.

    Raises:
        PackagingError: there is no dpkg.
    """
    return _run(["dpkg", "--print-architecture"], {}).strip()


def _checksums(tree: Path) -> str:
    files = sorted(path for path in tree.rglob("*") if path.is_file() and not path.is_symlink())
    lines = [
        f"{hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()}  "
        f"{path.relative_to(tree)}\n"
        for path in files
    ]
    return "".join(lines)


def _run(command: Sequence[str], environment: dict[str, str]) -> str:
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False,
            env={**os.environ, **environment, "LC_ALL": "C"},
        )  # fmt: skip
    except FileNotFoundError:
        raise PackagingError(
            f"{command[0]} is missing: a Debian package is built where dpkg is (`apt-get install "
            "dpkg`), a wheel anywhere"
        ) from None
    if done.returncode != 0:
        raise PackagingError(f"`{' '.join(command)}` failed: {done.stderr.strip()}")
    return done.stdout
