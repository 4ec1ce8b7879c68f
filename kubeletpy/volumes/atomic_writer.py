"""Directories whose files all change in one step, with the layout that Kubernetes has for it.

::

    config.yaml -> ..data/config.yaml        what containers open
    certs -> ..data/certs                    the first component of deeper paths
    ..data -> ..2026_11_21_18_00_05.1234     replaced by rename, which is atomic
    ..2026_11_21_18_00_05.1234/              the files; removed once ..data points elsewhere

A program that has ``..data`` resolved once reads one version throughout.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path

from .cleanup import remove_tree
from .payload import ProjectedFile, checked

DATA = "..data"
_NEXT = "..data_tmp"
_DIRECTORY = 0o755
# What a link is trusted to name: a directory beside it that only a kubelet makes. A container that
# could write here must not have the kubelet read or remove what it likes (CVE-2017-1002102).
_OWN = re.compile(r"\.\.[0-9][^/]*")


def write(
    directory: Path,
    payload: Mapping[str, ProjectedFile],
    own: Callable[[], None] = lambda: None,
) -> bool:
    """Bring ``directory`` to hold just ``payload``; return whether its content changed.

    Args:
        directory: exists; containers must not be able to write to it.
        payload: files by relative path.
        own: called when the new files lie beside the old ones, to give them their owners.

    Raises:
        PayloadError: a path of the payload is refused.
        OSError: the kernel refused; what containers see is still whole, old or new.
    """
    files = checked(payload)
    _remove_leftovers(directory)
    old = _current(directory)
    if old is not None and _same(directory / old, files):
        # A kubelet that died before the links: see kubernetes/kubernetes#121472.
        _link(directory, files)
        return False
    hidden = Path(
        tempfile.mkdtemp(prefix=datetime.now(UTC).strftime("..%Y_%m_%d_%H_%M_%S."), dir=directory)
    )
    try:
        hidden.chmod(_DIRECTORY)
        _fill(hidden, files)
        own()
        (directory / _NEXT).symlink_to(hidden.name)
        (directory / _NEXT).rename(directory / DATA)
    except BaseException:
        remove_tree(hidden)
        raise
    _link(directory, files)
    _unlink_stale(directory, files)
    if old is not None:
        remove_tree(directory / old)
    return True


def written(directory: Path) -> bool:
    """Whether the volume was written before."""
    return _current(directory) is not None


def _current(directory: Path) -> str | None:
    try:
        name = os.readlink(directory / DATA)
    except OSError:
        return None
    return name if _OWN.fullmatch(name) and (directory / name).is_dir() else None


def _remove_leftovers(directory: Path) -> None:
    """Remove what a kubelet left that died while it wrote."""
    (directory / _NEXT).unlink(missing_ok=True)
    current = _current(directory)
    for entry in os.scandir(directory):
        if _OWN.fullmatch(entry.name) and entry.name != current:
            remove_tree(directory / entry.name)


def _same(hidden: Path, files: Mapping[str, ProjectedFile]) -> bool:
    found = set()
    for root, _, names in os.walk(hidden):
        for name in names:
            path = f"{root}/{name}"
            relative = path[len(str(hidden)) + 1 :]
            file = files.get(relative)
            if file is None or os.path.islink(path) or Path(path).read_bytes() != file.content:
                return False
            found.add(relative)
    return len(found) == len(files)


def _fill(hidden: Path, files: Mapping[str, ProjectedFile]) -> None:
    top, made = str(hidden), {str(hidden)}
    for relative, file in files.items():
        target = f"{top}/{relative}"
        directory = os.path.dirname(target)
        while directory not in made:
            os.makedirs(directory, exist_ok=True)
            os.chmod(directory, _DIRECTORY)
            made.add(directory)
            directory = os.path.dirname(directory)
        descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as output:
            output.write(file.content)
            if file.owner is not None:
                os.fchown(descriptor, file.owner, -1)
            os.fchmod(descriptor, file.mode)


def _link(directory: Path, files: Mapping[str, ProjectedFile]) -> None:
    owners = {path.split("/")[0]: file.owner for path, file in files.items()}
    for first, owner in sorted(owners.items()):
        link = f"{directory}/{first}"
        if os.path.lexists(link):
            # A link of before, or a directory on which another volume is mounted.
            continue
        os.symlink(f"{DATA}/{first}", link)
        if owner is not None:
            os.chown(link, owner, -1, follow_symlinks=False)


def _unlink_stale(directory: Path, files: Mapping[str, ProjectedFile]) -> None:
    firsts = {relative.split("/")[0] for relative in files}
    for entry in os.scandir(directory):
        if entry.is_symlink() and entry.name != DATA and entry.name not in firsts:
            os.unlink(entry.path)
