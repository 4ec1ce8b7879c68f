"""A pod's user namespace, and the namespaces that it owns.

A process cannot come back from a user namespace, so a child makes them (user_namespaces(7): given
CLONE_NEWUSER among other flags, the user namespace is made first and owns the others), and waits
until its parent has written the id mappings and pinned what it wants.
"""

from __future__ import annotations

import errno
import os
from contextlib import contextmanager

from kubeletpy_common.linux import namespaces as ns
from runtime.oci.mappings import check_mappings, map_text
from runtime.shim.forking import fork

# Type checkers take this name for true; see kubeletpy_common/record.py.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import NoReturn

    from runtime.oci.mappings import Mapping


@contextmanager
def user_namespace(uids: Sequence[Mapping], gids: Sequence[Mapping], owned: int) -> Iterator[int]:
    """Make a user namespace with these mappings, held by a process for as long as the block runs.

    Args:
        uids: of users.
        gids: of groups.
        owned: ``CLONE_NEW*`` of further namespaces, which it is to own.

    Yields:
        the process id of the holder.

    Raises:
        MappingError: the mappings are no good.
        OSError: the kernel refused.
    """
    check_mappings(uids, "uids")
    check_mappings(gids, "gids")
    told, telling = os.pipe()
    gate, opener = os.pipe()

    def hold() -> NoReturn:
        os.close(opener)
        try:
            ns.unshare(ns.CLONE_NEWUSER | owned)
            os.write(telling, b"0")
        except OSError as error:
            os.write(telling, str(error.errno).encode())
        # Until the parent has closed its end, or has died.
        os.read(gate, 1)
        os._exit(0)

    pid = fork(hold)
    try:
        os.close(telling)
        _check_made(os.read(told, 16))
        _write(pid, "uid_map", map_text(uids))
        _write(pid, "gid_map", map_text(gids))
        yield pid
    finally:
        for descriptor in (told, gate, opener):
            os.close(descriptor)
        os.waitpid(pid, 0)


def _check_made(answer: bytes) -> None:
    number = int(answer or str(errno.ECHILD))
    if number:
        raise OSError(
            number,
            f"make a user namespace: {os.strerror(number)}; see the sysctl "
            "user.max_user_namespaces",
        )


def _write(pid: int, file: str, text: str) -> None:
    path = f"/proc/{pid}/{file}"
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        # user_namespaces(7): a map is written once, by one write(2).
        os.write(descriptor, text.encode())
    except OSError as error:
        raise OSError(error.errno, f"write {text!r} to {path}: {error.strerror}") from error
    finally:
        os.close(descriptor)
