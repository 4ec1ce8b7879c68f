"""An OCI image layout in a directory, sent and received as the tar that the runtime speaks.

Directories come from others: nothing is followed out of them, and nothing is written but the files
that a layout has.
"""

from __future__ import annotations

import os
import re
import shutil
import stat
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO, Final

_CHUNK: Final = 1 << 20
_BLOCK: Final = 512
_FILE = re.compile(r"oci-layout|index\.json|blobs/(?:sha256|sha512)/[0-9a-f]{64,128}", re.ASCII)
_FLAGS: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK


class LayoutError(Exception):
    """The directory is no layout, or cannot be read or written."""


def files_of(directory: Path) -> list[tuple[str, int]]:
    """Return names and sizes of a layout's files; what names the others comes first.

    Raises:
        LayoutError: it is no layout.
    """
    found = []
    for name in ("oci-layout", "index.json"):
        try:
            found.append((name, (directory / name).lstat().st_size))
        except OSError as error:
            raise LayoutError(f"{directory} is no OCI image layout: {error}") from error
    for algorithm in ("sha256", "sha512"):
        with suppress(FileNotFoundError), os.scandir(directory / "blobs" / algorithm) as entries:
            for entry in sorted(entries, key=lambda each: each.name):
                name = f"blobs/{algorithm}/{entry.name}"
                if _FILE.fullmatch(name) and entry.is_file(follow_symlinks=False):
                    found.append((name, entry.stat(follow_symlinks=False).st_size))
    return found


def tar_of(directory: Path, files: list[tuple[str, int]]) -> Iterator[bytes]:
    """Yield a tar of a layout's files, in chunks.

    Raises:
        LayoutError: a file changed meanwhile, or cannot be read.
    """
    for name, size in files:
        info = tarfile.TarInfo(name)
        info.size = size
        yield info.tobuf(tarfile.PAX_FORMAT)
        try:
            yield from _content(directory / name, size)
        except OSError as error:
            raise LayoutError(f"read {directory / name}: {error}") from error
        if size % _BLOCK:
            yield bytes(-size % _BLOCK)
    yield bytes(2 * _BLOCK)


def _content(path: Path, size: int) -> Iterator[bytes]:
    descriptor = os.open(path, _FLAGS)
    with open(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise LayoutError(f"{path} is no file")
        left = size
        while left and (chunk := file.read(min(_CHUNK, left))):
            left -= len(chunk)
            yield chunk
        if left or file.read(1):
            raise LayoutError(f"{path} changed while it was read")


def extract(archive: IO[bytes], directory: Path) -> None:
    """Write the layout that a tar holds into a new directory, whole or not at all.

    Raises:
        LayoutError: there is something at ``directory``, the archive holds what no layout has, or
            the disk failed.
    """
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise LayoutError(f"{directory} is there already, and not an empty directory")
    try:
        partial = Path(tempfile.mkdtemp(prefix=f".{directory.name}.", dir=directory.parent))
    except OSError as error:
        raise LayoutError(f"make a directory beside {directory}: {error}") from error
    try:
        _extract(archive, partial)
        partial.chmod(0o755)
        partial.rename(directory)
    except (OSError, tarfile.TarError) as error:
        raise LayoutError(f"write the layout {directory}: {error}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _extract(archive: IO[bytes], directory: Path) -> None:
    with tarfile.open(fileobj=archive, mode="r|") as reader:
        for info in reader:
            if not info.isreg() or _FILE.fullmatch(info.name) is None:
                raise LayoutError(f"the archive holds {info.name!a}, which no layout has")
            target = directory / info.name
            target.parent.mkdir(parents=True, exist_ok=True)
            content = reader.extractfile(info)
            assert content is not None
            with open(target, "xb") as file:
                shutil.copyfileobj(content, file, _CHUNK)
