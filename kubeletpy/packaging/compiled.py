"""Modules that are compiled when the package is built, so that no machine has to when it installs.

Compiling takes most of an installation's processor time, minutes on a small machine. What it gives
depends on the version of Python only, so that an archive for each version is in the package: a zip
file with what was compiled of each wheel, below the SHA-256 of the wheel.

Standard library only: it is run by each Python that the package is for, and read on the machine
that installs.
"""

from __future__ import annotations

import importlib.util
import marshal
import sys
import warnings
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Final

MAGIC: Final = importlib.util.MAGIC_NUMBER.hex()
"""What tells the versions of Python apart that can run each other's compiled modules."""
# PEP 552: compiled of a source that never changes. Nobody compares them.
_UNCHECKED: Final = (1).to_bytes(4, "little")
# Of each file in the archive: the same input gives the same bytes.
_DATE: Final = (1980, 1, 1, 0, 0, 0)


def compile_module(source: bytes, name: str) -> bytes | None:
    """Return the content of a ``.pyc`` file for a module; None if it does not compile.

    Args:
        source: the module.
        name: what tracebacks call it until the interpreter, when it loads it, puts the real path
            there.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            code = compile(source, name, "exec", dont_inherit=True)
    except (SyntaxError, ValueError):
        # Some libraries carry files for other versions.
        return None
    digest = importlib.util.source_hash(source)
    return importlib.util.MAGIC_NUMBER + _UNCHECKED + digest + marshal.dumps(code)


def compile_wheels(output: Path, wheels: Iterable[tuple[str, Path]]) -> None:
    """Write the archive for the Python that runs this.

    Args:
        output: the archive.
        wheels: the SHA-256 and the file of each.

    Raises:
        OSError: it cannot be written, or a wheel cannot be read.
        zipfile.BadZipFile: a wheel is none.
    """
    with zipfile.ZipFile(output, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for digest, path in sorted(wheels):
            with zipfile.ZipFile(path) as wheel:
                for name in sorted(filter(_is_module, wheel.namelist())):
                    if (content := compile_module(wheel.read(name), name)) is not None:
                        info = zipfile.ZipInfo(f"{digest}/{name}c", _DATE)
                        info.compress_type = zipfile.ZIP_DEFLATED
                        archive.writestr(info, content)


def members(archive: zipfile.ZipFile) -> dict[str, dict[str, zipfile.ZipInfo]]:
    """Return what an archive has: by the SHA-256 of the wheel, by the name of the source in it."""
    found: dict[str, dict[str, zipfile.ZipInfo]] = {}
    for entry in archive.infolist():
        digest, _, name = entry.filename.partition("/")
        found.setdefault(digest, {})[name.removesuffix("c")] = entry
    return found


def _is_module(name: str) -> bool:
    return name.endswith(".py")


if __name__ == "__main__":
    compile_wheels(Path(sys.argv[1]), [(given[:64], Path(given[65:])) for given in sys.argv[2:]])
