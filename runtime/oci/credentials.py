"""Who a process is: user, groups, capabilities, limits; the same for start and exec."""

from __future__ import annotations

import os
import resource

from kubeletpy_common.linux import processes
from kubeletpy_common.record import Record

# Type checkers take this name for true; see kubeletpy_common/record.py.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Final

    Sets = tuple[frozenset[int], frozenset[int], frozenset[int]]

_LIMITS: Final[dict[str, int]] = {
    name: getattr(resource, name) for name in dir(resource) if name.startswith("RLIMIT_")
}


def set_limits(process: dict[str, Any]) -> None:
    """Set ``rlimits`` and ``oomScoreAdj`` of an OCI ``process``, while still privileged.

    Raises:
        OSError: the kernel refused; without CAP_SYS_RESOURCE no hard limit can be raised.
        ValueError: the limit's name is unknown.
    """
    for number, soft, hard in limits_of(process):
        resource.setrlimit(number, (soft, hard))
    score = process.get("oomScoreAdj")
    if score is not None:
        write_oom_score(score)


def limits_of(process: dict[str, Any]) -> list[tuple[int, int, int]]:
    """Return the ``rlimits`` of an OCI ``process`` as (RLIMIT_* number, soft, hard).

    Raises:
        ValueError: the limit's name is unknown.
    """
    found = []
    for limit in process.get("rlimits", []):
        number = _LIMITS.get(limit["type"])
        if number is None:
            raise ValueError(f"unknown resource limit {limit['type']!r}")
        found.append((number, _limit(limit["soft"]), _limit(limit["hard"])))
    return found


def _limit(value: int) -> int:
    return resource.RLIM_INFINITY if value >= 1 << 63 or value < 0 else value


def write_oom_score(score: int) -> None:
    """Set this process's oom_score_adj, as near as allowed.

    Lowering it needs CAP_SYS_RESOURCE. Where that is missing the process keeps what it has, as
    containerd's ``restrict_oom_score_adj`` does; the daemon has said so in its log.
    """
    with open("/proc/self/oom_score_adj", "r+") as stream:
        if int(stream.read()) == score:
            return
        try:
            stream.write(str(score))
            stream.flush()
        except PermissionError:
            pass


class Identity(Record):
    """User, groups, capabilities and no_new_privs of an OCI ``process``, as the kernel wants them.

    The inheritable set holds what is ambient and nothing else, whatever the configuration says:
    otherwise execve of a file with inheritable capabilities would gain them (CVE-2022-24769).

    Attributes:
        uid, gid, groups, umask: as they are.
        dropped: capabilities to take out of the bounding set.
        ambient: likewise to raise.
        before_ambient: effective, permitted and inheritable sets while that is done.
        first: these sets after it.
        final: these sets in the end, without what was held on to.
        no_new_privs: whether nothing may be gained by execve.
    """

    uid: int
    gid: int
    groups: tuple[int, ...]
    umask: int
    dropped: tuple[int, ...]
    ambient: frozenset[int]
    before_ambient: Sets
    first: Sets
    final: Sets
    no_new_privs: bool

    @classmethod
    def of(cls, process: dict[str, Any], *, keep_admin: bool = False) -> Identity:
        """Return that of an OCI ``process``.

        Args:
            process: the OCI ``process``.
            keep_admin: hold on to CAP_SYS_ADMIN until the end.

        Raises:
            ValueError: a capability is unknown.
        """
        user, wanted = process["user"], process.get("capabilities", {})
        bounding, effective, permitted, ambient = (
            _known(wanted.get(kind, []))
            for kind in ("bounding", "effective", "permitted", "ambient")
        )
        held = frozenset({processes.CAPABILITIES["CAP_SYS_ADMIN"]} if keep_admin else ())
        everything = permitted | held
        every = range(processes.last_capability() + 1)
        return cls(
            uid=user["uid"],
            gid=user["gid"],
            groups=tuple(user.get("additionalGids", ())),
            umask=user.get("umask", 0o022),
            dropped=tuple(number for number in every if number not in bounding),
            ambient=ambient,
            # A capability can only be ambient while it is inheritable (capabilities(7)).
            before_ambient=(everything, everything, ambient),
            first=(effective | held, everything, ambient),
            final=(effective, permitted, ambient),
            no_new_privs=bool(process.get("noNewPrivileges")),
        )


def become(identity: Identity) -> None:
    """Take on an identity, but for ``final``.

    Raises:
        OSError: the kernel refused.
    """
    processes.drop_from_bounding_set(identity.dropped)
    processes.set_keep_capabilities(True)
    os.setgroups(identity.groups)
    os.setresgid(identity.gid, identity.gid, identity.gid)
    os.setresuid(identity.uid, identity.uid, identity.uid)
    processes.set_keep_capabilities(False)
    os.umask(identity.umask)
    if identity.ambient:
        processes.set_capabilities(*identity.before_ambient)
        processes.set_ambient_capabilities(identity.ambient)
    processes.set_capabilities(*identity.first)
    if identity.no_new_privs:
        processes.set_no_new_privs()


def _known(names: list[str]) -> frozenset[int]:
    last = processes.last_capability()
    # A capability newer than the kernel cannot be had; peers drop it likewise.
    return frozenset(n for n in processes.capability_numbers(names) if n <= last)
