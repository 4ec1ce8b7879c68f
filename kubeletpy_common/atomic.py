"""Files that are either wholly old or wholly new, whatever happens while they are written."""

from __future__ import annotations

import os

# Type checkers take this name for true; see kubeletpy_common/record.py.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from os import PathLike


def write_atomic(
    path: str | PathLike[str], data: bytes | str, *, mode: int = 0o600, sync: bool = False
) -> None:
    """Replace ``path`` by a file with the content ``data`` in one step.

    Args:
        path: the file to write; its directory must exist.
        data: the whole new content; text is encoded as UTF-8.
        mode: permission bits of the new file.
        sync: also flush file and directory to the disk, for what must survive a power cut.

    Raises:
        OSError: the file cannot be written; the old content is still there.
    """
    target = os.fspath(path)
    content = data.encode() if isinstance(data, str) else data
    temporary = f"{target}.{os.urandom(6).hex()}.tmp"
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        try:
            view = memoryview(content)
            while view:
                view = view[os.write(descriptor, view) :]
            if sync:
                os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.replace(temporary, target)
    except BaseException as error:
        os.unlink(temporary)
        if isinstance(error, OSError) and error.filename is None:
            # write(2) knows no names, but who reads of a full disk wants one.
            error.filename = target
        raise
    if sync:
        directory = os.open(os.path.dirname(target) or ".", os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
