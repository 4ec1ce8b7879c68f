"""Sysctls of connection tracking, and our own standing when memory ends.

Deciding (`conntrack_sysctls`) is apart from doing (`apply`). What cannot be set is told and the
proxy goes on: in a network namespace of its own some of these belong to the machine alone.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from kubeletpy_common import logs

from ..settings.configuration import Conntrack

_log = logging.getLogger(__name__)
SYSCTLS: Final = Path("/proc/sys")
HASH_SIZE: Final = Path("/sys/module/nf_conntrack/parameters/hashsize")
_NETFILTER: Final = "net/netfilter/nf_conntrack_"
_LARGEST: Final = 1024 * 1024
"""Entries that ``maxPerCore`` gives at most, on machines with many cores."""


def conntrack_max(one: Conntrack, cores: int) -> int:
    """Return how many connections are to be tracked at most; 0: leave it (pure)."""
    if one.max_per_core <= 0:
        return 0
    scaled = one.max_per_core * cores
    return _LARGEST if scaled > _LARGEST else max(scaled, one.min)


def conntrack_sysctls(one: Conntrack, cores: int) -> dict[str, int]:
    """Return the sysctls that a configuration asks for, by their path (pure)."""
    wanted = {
        "max": conntrack_max(one, cores),
        "tcp_timeout_established": int(one.tcp_established_timeout),
        "tcp_timeout_close_wait": int(one.tcp_close_wait_timeout),
        "tcp_be_liberal": int(one.tcp_be_liberal),
        "udp_timeout": int(one.udp_timeout),
        "udp_timeout_stream": int(one.udp_stream_timeout),
    }
    return {_NETFILTER + name: value for name, value in wanted.items() if value > 0}


def apply(wanted: Mapping[str, int], root: Path = SYSCTLS) -> list[str]:
    """Set sysctls that are otherwise; return what could not be set and why."""
    failed = []
    for name, value in wanted.items():
        try:
            _set(root / name, value)
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            failed.append(f"{name} could not be set to {value}: {reason}")
    return failed


def _set(path: Path, value: int) -> None:
    before = path.read_text().strip()
    if before == str(value):
        return
    path.write_text(str(value))
    logs.event(_log, logging.INFO, "sysctl set", name=path.name, before=before, value=value)


def set_up(one: Conntrack) -> None:
    """Set what the configuration says of connection tracking."""
    wanted = conntrack_sysctls(one, os.cpu_count() or 1)
    failed = apply(wanted)
    most = wanted.get(_NETFILTER + "max", 0)
    try:
        # A table of buckets that is too short makes every packet walk a list.
        if most and int(HASH_SIZE.read_text()) < most // 4:
            _set(HASH_SIZE, most // 4)
    except (OSError, ValueError) as error:
        failed.append(f"{HASH_SIZE} could not be set to {most // 4}: {error}")
    for each in failed:
        logs.event(
            _log, logging.ERROR, "a setting of connection tracking is not as configured",
            reason=each, remedy="set it on the host, or conntrack.* to 0 to leave it as it is",
        )  # fmt: skip


def set_oom_score(score: int) -> None:
    """Set how likely the kernel ends this process when memory ends."""
    try:
        Path("/proc/self/oom_score_adj").write_text(str(score))
    except OSError as error:
        logs.event(
            _log, logging.WARNING, "oomScoreAdj could not be set", value=score,
            reason=error.strerror,
        )  # fmt: skip
