"""Which ids of the node the pods with a user namespace of their own get (KEP-127).

A pod with ``hostUsers: false`` gets a range of 65536 ids (``userNamespaces.idsPerPod``) that no
other pod has. It is written to ``<root-dir>/pods/<uid>/userns`` before anything uses it, in the Go
kubelet's format, so that a range is never given twice, whichever kubelet runs. All ids from the
first multiple on are given out, unless the machine has a user ``kubelet`` with subordinate ids:
then these alone.

https://kubernetes.io/docs/tasks/administer-cluster/kubelet-in-userns/#configuring-user-namespaces
"""

from __future__ import annotations

import json
import logging
import pwd
import threading
from dataclasses import dataclass
from pathlib import Path

from kubeletpy.volumes.paths import PodPaths, pods_directory
from kubeletpy_common import logs
from kubeletpy_common.atomic import write_atomic

_log = logging.getLogger(__name__)
IDS_PER_POD = 65536
ALL_IDS = 2**32
KUBELET_USER = "kubelet"
FILE = "userns"


class UserNamespaceError(Exception):
    """A pod cannot have a user namespace of its own."""


@dataclass(frozen=True, slots=True)
class IdRange:
    """Ids of the node that are 0, 1, 2 ... in a pod."""

    first: int
    length: int


def available_ids(
    ids_per_pod: int = IDS_PER_POD, subordinate: tuple[Path, Path] | None = None
) -> IdRange:
    """Return the ids that may be given to pods.

    Args:
        ids_per_pod: a multiple of 65536.
        subordinate: the files of subordinate user and group ids, each tried first for the user
            ``kubelet``; None: those of the machine, if it has that user.

    Raises:
        UserNamespaceError: the user has subordinate ids that cannot be used.
    """
    whole = IdRange(ids_per_pod, (ALL_IDS - ids_per_pod) // ids_per_pod * ids_per_pod)
    if subordinate is None:
        try:
            pwd.getpwnam(KUBELET_USER)
        except KeyError:
            return whole
        subordinate = (Path("/etc/subuid"), Path("/etc/subgid"))
    users, groups = (_subordinate(path) for path in subordinate)
    if not users and not groups:
        return whole
    if users != groups or len(users) != 1:
        raise UserNamespaceError(
            f"user {KUBELET_USER} has subordinate user ids {users} and group ids {groups}: give it "
            f"one range, the same in {subordinate[0]} and {subordinate[1]}, or none"
        )
    first, length = users[0]
    if first < ids_per_pod or first % ids_per_pod or length % ids_per_pod or not length:
        raise UserNamespaceError(
            f"subordinate ids {first}:{length} of user {KUBELET_USER}: begin and length must be "
            f"multiples of {ids_per_pod}, beginning at {ids_per_pod}"
        )
    return IdRange(first, length)


def _subordinate(path: Path) -> list[tuple[int, int]]:
    """Read the ranges of the user ``kubelet`` (see subuid(5)); a line is ``name:first:count``."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return []
    except OSError as error:
        raise UserNamespaceError(f"{path} cannot be read: {error}") from error
    found = []
    for line in text.splitlines():
        fields = line.strip().split(":")
        if fields[0] == KUBELET_USER:
            if len(fields) != 3 or not (fields[1].isdecimal() and fields[2].isdecimal()):
                raise UserNamespaceError(f"{path}: {line!r} is not name:first:count")
            found.append((int(fields[1]), int(fields[2])))
    return found


class UserNamespaces:
    """The ranges of all pods.

    Args:
        root_dir: of the kubelet.
        available: the ids that may be given.
        ids_per_pod: length of a range.
    """

    def __init__(
        self, root_dir: Path, available: IdRange | None = None, ids_per_pod: int = IDS_PER_POD
    ) -> None:
        self._root = root_dir
        self._available = available or available_ids(ids_per_pod)
        self._length = ids_per_pod
        self._ranges: dict[str, IdRange] = {}
        # Volumes of several pods are made in several threads.
        self._lock = threading.Lock()
        self._load()

    def _load(self) -> None:
        directory = pods_directory(self._root)
        if not directory.is_dir():
            return
        for entry in sorted(directory.iterdir()):
            file = entry / FILE
            if not file.exists():
                continue
            try:
                found = _parse(file.read_bytes())
                taken = [uid for uid, other in self._ranges.items() if _overlap(found, other)]
                if taken:
                    raise ValueError(f"ids {found.first}:{found.length} are those of {taken[0]}")
            except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
                logs.event(
                    _log, logging.ERROR, "ids of a pod cannot be read; set aside",
                    path=str(file), reason=str(error),
                )  # fmt: skip
                file.replace(file.with_name(f"{FILE}.corrupt"))
                continue
            self._ranges[entry.name] = found

    def of(self, uid: str) -> IdRange | None:
        """Return the range of a pod, if it has one."""
        return self._ranges.get(uid)

    def ensure(self, uid: str) -> IdRange:
        """Return the range of a pod; the lowest free one becomes its own at the first call.

        Raises:
            UserNamespaceError: all are taken.
            OSError: it could not be written.
        """
        with self._lock:
            known = self._ranges.get(uid)
            if known is not None:
                return known
            one = self._free()
            directory = PodPaths(self._root, uid).directory
            directory.mkdir(mode=0o750, parents=True, exist_ok=True)
            write_atomic(directory / FILE, _format(one), sync=True)
            self._ranges[uid] = one
            return one

    def _free(self) -> IdRange:
        """Return the lowest range that no pod has."""
        taken = self._ranges.values()
        number = self._available.length // self._length
        for index in range(number):
            one = IdRange(self._available.first + index * self._length, self._length)
            if not any(_overlap(one, other) for other in taken):
                return one
        raise UserNamespaceError(
            f"could not find an empty slot to allocate a user namespace: all {number} are taken"
        )

    def release(self, uid: str) -> None:
        """Give back the range of a pod of which nothing runs and nothing is mounted any more."""
        with self._lock:
            if self._ranges.pop(uid, None) is None:
                return
            (PodPaths(self._root, uid).directory / FILE).unlink(missing_ok=True)


def _overlap(one: IdRange, other: IdRange) -> bool:
    return one.first < other.first + other.length and other.first < one.first + one.length


def _format(ids: IdRange) -> bytes:
    mapping = [{"hostId": ids.first, "containerId": 0, "length": ids.length}]
    return json.dumps({"uidMappings": mapping, "gidMappings": mapping}).encode()


def _parse(content: bytes) -> IdRange:
    """Read a file of either kubelet.

    Raises:
        ValueError, KeyError, TypeError, IndexError: it is none.
    """
    document = json.loads(content)
    users, groups = document["uidMappings"], document["gidMappings"]
    if len(users) != 1 or users != groups or users[0]["containerId"] != 0:
        raise ValueError("not one range, the same for users and groups, from id 0 on")
    first, length = users[0]["hostId"], users[0]["length"]
    if not isinstance(first, int) or not isinstance(length, int) or first <= 0 or length <= 0:
        raise ValueError(f"{first}:{length} is no range")
    return IdRange(first, length)
