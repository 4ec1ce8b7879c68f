"""Which wheels a package has for each Python, and what is compiled, pinned by their hashes.

Standard library only: read on the machine that installs.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

FILE_NAME: Final = "manifest.json"
_FORMAT: Final = 1
_HASH_DIGITS: Final = 12
"""Of the hash in a release's name: 48 bits tell the releases of one machine apart."""


class ManifestError(Exception):
    """A manifest, or what it lists, is not what it should be; the text says why."""


@dataclass(frozen=True)
class Pinned:
    """One wheel.

    Attributes:
        name: of the distribution.
        version: its version.
        file: name of the wheel's file.
        sha256: of the file, in hexadecimal.
        size: of the file, in bytes.
    """

    name: str
    version: str
    file: str
    sha256: str
    size: int

    def verify(self, path: Path) -> None:
        """Compare a file with this entry.

        Raises:
            ManifestError: it is missing, cannot be read, or is another file.
        """
        _verify(path, self.sha256)


@dataclass(frozen=True)
class Compiled:
    """The modules of all wheels for one Python, compiled; see :mod:`kubeletpy.packaging.compiled`.

    Attributes:
        file: name of the archive.
        sha256: of the archive, in hexadecimal.
        magic: what an interpreter that can run them has as its own, in hexadecimal.
    """

    file: str
    sha256: str
    magic: str

    def verify(self, path: Path) -> None:
        """Compare a file with this entry.

        Raises:
            ManifestError: it is missing, cannot be read, or is another file.
        """
        _verify(path, self.sha256)


@dataclass(frozen=True)
class Manifest:
    """The wheels of a package.

    Attributes:
        version: of kubeletpy.
        pythons: for each version of Python, such as ``3.11``, all wheels of a release.
        compiled: for versions of Python that were there when the package was built, their modules.
    """

    version: str
    pythons: dict[str, tuple[Pinned, ...]]
    compiled: dict[str, Compiled] = field(default_factory=dict)

    def release_name(self, python: str) -> str:
        """Return the name of the release for a Python: same wheels, same name."""
        listing = [f"python {python}", *sorted(wheel.sha256 for wheel in self.pythons[python])]
        found = hashlib.sha256("\n".join(listing).encode()).hexdigest()
        return f"{self.version}-{found[:_HASH_DIGITS]}"

    def files(self) -> dict[str, Pinned | Compiled]:
        """Return every file of the package once, by its name."""
        wheels = {wheel.file: wheel for wheels in self.pythons.values() for wheel in wheels}
        return {**wheels, **{compiled.file: compiled for compiled in self.compiled.values()}}

    def to_json(self) -> str:
        """Return the manifest as text, the same for the same content."""
        pythons = {
            python: [asdict(wheel) for wheel in sorted(wheels, key=lambda wheel: wheel.file)]
            for python, wheels in self.pythons.items()
        }
        compiled = {python: asdict(archive) for python, archive in self.compiled.items()}
        content = {
            "format": _FORMAT, "version": self.version, "pythons": pythons, "compiled": compiled
        }  # fmt: skip
        return json.dumps(content, indent=1, sort_keys=True) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Manifest:
        """Read what :meth:`to_json` wrote.

        Raises:
            ManifestError: it is no manifest, or one of a later format.
        """
        try:
            content: dict[str, Any] = json.loads(text)
            if content["format"] > _FORMAT:
                raise ManifestError(f"the manifest has format {content['format']}, not {_FORMAT}")
            pythons = {
                python: tuple(Pinned(**wheel) for wheel in wheels)
                for python, wheels in content["pythons"].items()
            }
            # Packages of earlier versions have none.
            given = content.get("compiled", {}).items()
            compiled = {python: Compiled(**archive) for python, archive in given}
            return cls(content["version"], pythons, compiled)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ManifestError(f"this is no manifest of kubeletpy: {error!r}") from error


def digest(path: Path) -> str:
    """Return the SHA-256 of a file.

    Raises:
        OSError: it cannot be read.
    """
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _verify(path: Path, expected: str) -> None:
    try:
        found = digest(path)
    except OSError as error:
        raise ManifestError(f"{path}: {error.strerror}; install the package again") from error
    if found != expected:
        raise ManifestError(
            f"{path}: its SHA-256 is {found}, the manifest says {expected}: the file was changed "
            "or damaged; install the package again"
        )
