"""Wheels of what is installed in this environment: as those of the index, without a network."""

from __future__ import annotations

import zipfile
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name


def write_wheels(directory: Path, requirements: list[str]) -> None:
    """Write the wheels of ``requirements`` and of all that they need."""
    waiting, done = list(requirements), set[str]()
    while waiting:
        needed = Requirement(waiting.pop())
        name = canonicalize_name(needed.name)
        if name in done or (needed.marker and not needed.marker.evaluate({"extra": ""})):
            continue
        done.add(name)
        distribution = metadata.distribution(name)
        write_wheel(directory, distribution)
        waiting += distribution.requires or []


def write_wheel(directory: Path, distribution: metadata.Distribution) -> Path:
    """Write the wheel that a distribution was installed from, but for its compression."""
    tags = [
        line.removeprefix("Tag: ").split("-")
        for line in (distribution.read_text("WHEEL") or "").splitlines()
        if line.startswith("Tag: ")
    ]
    # PEP 425: compressed tag sets.
    tag = "-".join(".".join(sorted({parts[column] for parts in tags})) for column in range(3))
    name = distribution.metadata["Name"].replace("-", "_").replace(".", "_")
    path = directory / f"{name}-{distribution.version}-{tag}.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for file in distribution.files or ():
            if ".." in file.parts or "__pycache__" in file.parts or file.name == "direct_url.json":
                continue
            archive.write(str(distribution.locate_file(file)), str(file))
    return path
