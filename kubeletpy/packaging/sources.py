"""The wheel of this checkout."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path
from typing import Final

from kubeletpy.bootstrap import CHECKOUT
from kubeletpy.console import CommandFailed, run_shown
from kubeletpy.packaging.errors import PackagingError

_FOLDERS: Final = (
    "kubeletpy", "kubeletpy_common", "runtime", "proxy", "controlplane", "proto/kubeletpy_proto",
)  # fmt: skip
_FILES: Final = ("pyproject.toml", "README.md", "LICENSE")
_NO_DATE: Final = 1577836800
"""2020-01-01: the date of what has none; a zip archive cannot hold dates before 1980."""
# PEP 517's hook itself: pip would want an environment of its own for it, from the network.
_BUILD: Final = "import sys; from setuptools import build_meta as b; b.build_wheel(sys.argv[1])"


def require_checkout(checkout: Path = CHECKOUT) -> Path:
    """Return the checkout that this program is part of.

    Raises:
        PackagingError: it was installed, and packages are built from sources.
    """
    if not (checkout / "pyproject.toml").is_file():
        raise PackagingError(
            f"{checkout} is no checkout of kubeletpy: packages are built from its sources, by "
            "`python3 -m kubeletpy package ...` in a clone of the repository"
        )
    return checkout


def epoch(checkout: Path = CHECKOUT) -> int:
    """Return the date that everything in a package gets, in seconds since 1970.

    SOURCE_DATE_EPOCH if it is set, else that of the commit: the same input gives the same bytes.

    Raises:
        PackagingError: SOURCE_DATE_EPOCH is no number.
    """
    given = os.environ.get("SOURCE_DATE_EPOCH")
    if given is not None:
        if not given.isdigit():
            raise PackagingError(f"SOURCE_DATE_EPOCH is {given!r}: it must be seconds since 1970")
        return max(int(given), 315532800)
    return int(_git(checkout, "log", "-1", "--format=%ct") or _NO_DATE)


def version(checkout: Path = CHECKOUT) -> str:
    """Return the version of kubeletpy."""
    project = tomllib.loads((checkout / "pyproject.toml").read_text())["project"]
    return str(project["version"])


def commit(checkout: Path = CHECKOUT) -> str:
    """Return what tells this state of the sources from a release: "" for a tagged one.

    With the date in front, so that later ones are later in the order of Debian's versions.
    """
    if not (checkout / ".git").exists():
        return ""
    if _git(checkout, "describe", "--exact-match", "--match", f"v{version(checkout)}", "HEAD"):
        return ""
    return _git(checkout, "log", "-1", "--date=format-local:%Y%m%d%H%M%S", "--format=%cd.%h")


def is_changed(checkout: Path = CHECKOUT) -> bool:
    """Tell whether the sources are not those of the commit."""
    return bool(_git(checkout, "status", "--porcelain", "--", *_FOLDERS, *_FILES))


def build_wheel(output: Path, checkout: Path = CHECKOUT) -> Path:
    """Build the wheel, the same bytes from the same sources.

    Args:
        output: a directory, made if needed.
        checkout: the sources.

    Raises:
        PackagingError: it cannot be built.
    """
    output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="kubeletpy-wheel-") as temporary:
        # A copy: building leaves folders in the sources, and takes what an earlier one left there.
        sources, built = Path(temporary, "sources"), Path(temporary, "built")
        built.mkdir()
        _copy(checkout, sources)
        environment = {
            **os.environ, "SOURCE_DATE_EPOCH": str(epoch(checkout)), "PYTHONHASHSEED": "0"
        }  # fmt: skip
        try:
            command = [sys.executable, "-P", "-c", _BUILD, str(built)]
            run_shown("Building the wheel", command, env=environment, cwd=sources)
        except CommandFailed as error:
            raise PackagingError(f"the wheel cannot be built: {error}") from error
        made = next(built.glob("*.whl"))
        final = output / made.name
        shutil.copyfile(made, final)
        return final


def _copy(checkout: Path, sources: Path) -> None:
    left_out = shutil.ignore_patterns("__pycache__", "*.pyc", "*.egg-info", ".*")
    for name in _FOLDERS:
        shutil.copytree(checkout / name, sources / name, ignore=left_out)
    for name in _FILES:
        shutil.copyfile(checkout / name, sources / name)
    for path in (sources, *sources.rglob("*")):
        # The umask of who cloned the repository is no part of the package.
        path.chmod(0o755 if path.is_dir() else 0o644)


def _git(checkout: Path, *arguments: str) -> str:
    """Return git's answer, "" if there is none: the sources may come from an archive."""
    command = ["git", "-c", f"safe.directory={checkout}", "-C", str(checkout), *arguments]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=30,
            env={**os.environ, "TZ": "UTC", "LC_ALL": "C"},
        )  # fmt: skip
    except OSError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
