"""Noticing that somebody else replaced the client's certificate or the kubeconfig.

kubeadm, cert-manager and people do so. The Go kubelet follows the certificate alone: for another
authority, address or token in the kubeconfig it has to be restarted.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path

from asyncinotify import Inotify, Mask

from kubeletpy_common import logs
from kubeletpy_common.apiclient.kubeconfig import KubeconfigError

_log = logging.getLogger(__name__)
_CHANGES = Mask.CLOSE_WRITE | Mask.MOVED_TO | Mask.CREATE | Mask.DELETE


async def follow(files: Callable[[], Sequence[Path]], renew: Callable[[], None]) -> None:
    """Call ``renew`` whenever the content of ``files`` has changed; for ever.

    Directories are watched, not files: a certificate is replaced by a rename, or a link by another.

    Args:
        files: returns what is read; others may be named after a renewal.
        renew: takes them; if it raises KubeconfigError (a key that does not fit yet), the next
            change is waited for.
    """
    with Inotify() as inotify:
        watched: set[Path] = set()
        taken = _watched(inotify, watched, files())
        async for _ in inotify:
            found = _content(files())
            if found == taken or None in found:
                continue
            try:
                renew()
            except KubeconfigError as error:
                logs.event(
                    _log, logging.WARNING, "the new kubeconfig or certificate cannot be used yet",
                    reason=str(error),
                )  # fmt: skip
                continue
            taken = _watched(inotify, watched, files())
            logs.event(
                _log, logging.INFO, "kubeconfig or certificate was replaced; connecting anew",
                files=[str(path) for path in files()],
            )  # fmt: skip


def _watched(
    inotify: Inotify, watched: set[Path], files: Sequence[Path]
) -> tuple[bytes | None, ...]:
    """Watch the directories of ``files`` that are not yet; return what the files hold."""
    for directory in {path.parent for path in files} - watched:
        inotify.add_watch(directory, _CHANGES)
        watched.add(directory)
    return _content(files)


def _content(files: Sequence[Path]) -> tuple[bytes | None, ...]:
    return tuple(_read(path) for path in files)


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except OSError:
        return None
