"""The wheels that a release needs, for any version of Python, found by pip.

pip's own settings decide the index. Wheels are those of machines with glibc 2.36 and later, which
Debian 12, Debian 13 and Ubuntu 24.04 have, whatever the machine is that builds.
"""

from __future__ import annotations

import email.parser
import os
import platform
import re
import sys
import tomllib
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename

from kubeletpy.console import CommandFailed, run_shown
from kubeletpy.packaging.debian_package import GLIBC
from kubeletpy.packaging.errors import PackagingError
from kubeletpy.packaging.manifest import Pinned, digest

# These have no wheel on the index; they are pure Python, so that one built here serves everywhere.
_SOURCES_ONLY: Final = ("cgroupspy",)
_LEGACY: Final = {"x86_64": ("manylinux2014", "manylinux2010", "manylinux1"),
                  "aarch64": ("manylinux2014",)}  # fmt: skip
_NONE: Final = re.compile(r"No matching distribution found for (\S+)")


def requirements(checkout: Path) -> list[str]:
    """Return what kubeletpy needs, as pyproject.toml says it."""
    project = tomllib.loads((checkout / "pyproject.toml").read_text())["project"]
    return [str(item) for item in project["dependencies"]]


def platforms(machine: str) -> list[str]:
    """Return the platform tags of wheels that run on ``machine``, the best first."""
    tags = [f"manylinux_2_{minor}_{machine}" for minor in range(GLIBC, 4, -1)]
    return [*tags, *(f"{name}_{machine}" for name in _LEGACY.get(machine, ())), f"linux_{machine}"]


def fetch(
    wanted: Sequence[str], python: str, output: Path, pool: Path, offline: Path | None
) -> list[Path]:
    """Get the wheels of ``wanted`` and of all that they need.

    Args:
        wanted: requirements.
        python: the version of Python that they are for, such as ``3.11``.
        output: an empty directory.
        pool: wheels that were got before, which are not got again; what is built is added.
        offline: take wheels from this directory, and from nowhere else.

    Returns:
        the files, all in ``output``.

    Raises:
        PackagingError: one cannot be had.
    """
    if offline is None:
        _build_from_sources(wanted, pool)
    links = offline or pool
    # pip judges conditions such as `python_version < "3.13"` by the Python that it runs on.
    missing: set[str] = set(wanted)
    while missing:
        _download(sorted(missing.union(wanted)), python, output, links, bool(offline))
        found = sorted(output.glob("*.whl"))
        added = unmet(found, python) - missing
        if not added:
            break
        missing |= added
    return sorted(output.glob("*.whl"))


def unmet(wheels: Iterable[Path], python: str) -> set[str]:
    """Return what wheels need, in an environment of another Python, and is not among them."""
    listed = list(wheels)
    present = {canonicalize_name(parse_wheel_filename(path.name)[0]) for path in listed}
    environment = {"python_version": python, "python_full_version": f"{python}.0", "extra": ""}
    found: set[str] = set()
    for path in listed:
        for line in metadata(path).get_all("Requires-Dist") or ():
            try:
                needed = Requirement(line)
            except InvalidRequirement as error:
                raise PackagingError(f"{path.name}: its metadata say {line!r}: {error}") from error
            if needed.marker is not None and not needed.marker.evaluate(environment):
                continue
            if canonicalize_name(needed.name) not in present:
                found.add(f"{needed.name}{needed.specifier}")
    return found


def pinned(path: Path) -> Pinned:
    """Return the entry of a wheel for the manifest.

    Raises:
        PackagingError: the file is not named as wheels are.
    """
    try:
        name, version, _, _ = parse_wheel_filename(path.name)
    except InvalidWheelFilename as error:
        raise PackagingError(f"{path}: {error}") from error
    return Pinned(name, str(version), path.name, digest(path), path.stat().st_size)


def metadata(wheel: Path) -> email.message.Message:
    """Return a wheel's metadata.

    Raises:
        PackagingError: it is no wheel.
    """
    try:
        with zipfile.ZipFile(wheel) as archive:
            name = next(item for item in archive.namelist() if item.endswith(".dist-info/METADATA"))
            return email.parser.Parser().parsestr(archive.read(name).decode())
    except (zipfile.BadZipFile, StopIteration, OSError) as error:
        raise PackagingError(f"{wheel}: it is no wheel ({error!r}); remove it") from error


def _build_from_sources(wanted: Sequence[str], pool: Path) -> None:
    names = {item: Requirement(item).name for item in wanted}
    needed = [
        item for item, name in names.items()
        if name in _SOURCES_ONLY and not any(pool.glob(f"{name}-*.whl"))
    ]  # fmt: skip
    if needed:
        command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--wheel-dir", str(pool)]
        _run(f"Building {' '.join(needed)}", [*command, *needed], "", None)


def _download(wanted: Sequence[str], python: str, output: Path, links: Path, offline: bool) -> None:
    command = [sys.executable, "-m", "pip", "download", "--dest", str(output)]
    command += ["--only-binary=:all:", "--python-version", python, "--implementation", "cp"]
    for name in platforms(platform.machine()):
        command += ["--platform", name]
    command += ["--find-links", str(links), *(["--no-index"] if offline else [])]
    source = links if offline else None
    _run(f"Getting wheels for Python {python}", [*command, *wanted], python, source)


def _run(title: str, command: list[str], python: str, offline: Path | None) -> None:
    environment = {**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_NO_INPUT": "1"}
    if offline is not None:
        # Settings of the machine must not lead to an index after all.
        environment |= {"PIP_FIND_LINKS": "", "PIP_CONFIG_FILE": os.devnull}
    try:
        run_shown(title, command, env=environment)
    except CommandFailed as error:
        raise PackagingError(explain(error, python, offline)) from error


def explain(error: CommandFailed, python: str, offline: Path | None) -> str:
    """Return why pip failed and what to do."""
    output = error.log.read_text(errors="replace")
    none = _NONE.search(output)
    if none and offline is not None:
        return (
            f"{offline} has no wheel of {none[1]} for Python {python}: put one there, or leave "
            "--wheels away to get it from the index"
        )
    if none and python and "Retrying" not in output:
        return (
            f"the index has no wheel of {none[1]} for Python {python} on "
            f"{platform.machine()} with glibc 2.{GLIBC}: choose another --python; pip's output is "
            f"in {error.log}"
        )
    return (
        f"pip failed: {error.reason}. Check the network and pip's settings (`pip config list`), "
        f"or give wheels by --wheels; the whole output is in {error.log}"
    )
