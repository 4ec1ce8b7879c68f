"""Who a process is: user, groups, capabilities, limits; the same for start and exec."""

from __future__ import annotations

import os
import resource

from kubeletpy_common.linux import processes

# Type checkers take this name for true; see kubeletpy_common/record.py.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Final

_LIMITS: Final[dict[str, int]] = {
    name: getattr(resource, name) for name in dir(resource) if name.startswith("RLIMIT_")
}


def set_limits(process: dict[str, Any]) -> None:
    """Set ``rlimits`` and ``oomScoreAdj`` of an OCI ``process``, while still privileged.

    Raises:
        OSError: the kernel refused; without CAP_SYS_RESOURCE no hard limit can be raised.
        ValueError: the limit's name is unknown.
    """
    for limit in process.get("rlimits", []):
        number = _LIMITS.get(limit["type"])
        if number is None:
            raise ValueError(f"unknown resource limit {limit['type']!r}")
        resource.setrlimit(number, (_limit(limit["soft"]), _limit(limit["hard"])))
    score = process.get("oomScoreAdj")
    if score is not None:
        write_oom_score(score)


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


def become_user(process: dict[str, Any], *, keep_admin: bool = False) -> None:
    """Take on the user, groups, capabilities and no_new_privs of an OCI ``process``.

    The inheritable set holds what is ambient and nothing else, whatever the configuration says:
    otherwise execve of a file with inheritable capabilities would gain them (CVE-2022-24769).

    Args:
        process: the OCI ``process``.
        keep_admin: hold on to CAP_SYS_ADMIN, until :func:`drop_to_final_capabilities`.

    Raises:
        OSError: the kernel refused.
        ValueError: a capability is unknown.
    """
    user = process["user"]
    wanted = process.get("capabilities", {})
    bounding, effective, permitted, ambient = (
        _known(wanted.get(kind, [])) for kind in ("bounding", "effective", "permitted", "ambient")
    )
    held = frozenset({processes.CAPABILITIES["CAP_SYS_ADMIN"]} if keep_admin else ())
    processes.limit_bounding_set(bounding)
    processes.set_keep_capabilities(True)
    os.setgroups(user.get("additionalGids", []))
    os.setresgid(user["gid"], user["gid"], user["gid"])
    os.setresuid(user["uid"], user["uid"], user["uid"])
    processes.set_keep_capabilities(False)
    os.umask(user.get("umask", 0o022))
    if ambient:
        # A capability can only be ambient while it is inheritable (capabilities(7)).
        everything = permitted | held
        processes.set_capabilities(everything, everything, ambient)
        processes.set_ambient_capabilities(ambient)
    processes.set_capabilities(effective | held, permitted | held, ambient)
    if process.get("noNewPrivileges"):
        processes.set_no_new_privs()


def drop_to_final_capabilities(process: dict[str, Any]) -> None:
    """Give up what :func:`become_user` held on to.

    Raises:
        OSError: the kernel refused.
    """
    wanted = process.get("capabilities", {})
    effective, permitted, ambient = (
        _known(wanted.get(kind, [])) for kind in ("effective", "permitted", "ambient")
    )
    processes.set_capabilities(effective, permitted, ambient)


def _known(names: list[str]) -> frozenset[int]:
    last = processes.last_capability()
    # A capability newer than the kernel cannot be had; peers drop it likewise.
    return frozenset(n for n in processes.capability_numbers(names) if n <= last)
