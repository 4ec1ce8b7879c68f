"""The kernel's settings without which packets between pods do not get through this machine."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Final

from kubeletpy_common import logs

from .settings import Mode, Settings

_log = logging.getLogger(__name__)
_NET: Final = Path("/proc/sys/net")


def prepare(settings: Settings) -> None:
    """Have packets between pods forwarded; what cannot be had is logged, with its remedy."""
    for version in sorted({each.version for each in settings.cluster}):
        _forward(version)
    _look_at_filters(settings)


def _forward(version: int) -> None:
    if version == 4:
        _set(_NET / "ipv4/ip_forward", "1")
        return
    if not (_NET / "ipv6").exists():
        return
    if _read(_NET / "ipv6/conf/all/forwarding") != "1":
        # Who forwards believes router advertisements only with 2, and would lose its default route.
        for each in sorted((_NET / "ipv6/conf").iterdir()):
            if _read(each / "accept_ra") == "1":
                _set(each / "accept_ra", "2")
    _set(_NET / "ipv6/conf/all/forwarding", "1")


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""


def _set(path: Path, value: str) -> None:
    before = _read(path)
    if before == value:
        return
    try:
        path.write_text(value)
    except OSError as error:
        logs.event(
            _log, logging.ERROR, "packets between pods may not be forwarded",
            reason=f"{path}: {error.strerror}", remedy=f"set it to {value} on the host",
        )  # fmt: skip
        return
    logs.event(_log, logging.INFO, "sysctl set", path=str(path), before=before, value=value)


def _look_at_filters(settings: Settings) -> None:
    """Tell of strict reverse path filters: in mode auto two nodes may use different ways."""
    if settings.mode is not Mode.AUTO or _read(_NET / "ipv4/conf/all/rp_filter") != "1":
        return
    logs.event(
        _log, logging.WARNING, "net.ipv4.conf.all.rp_filter is 1: packets from pods of a node that "
        "answers by another way than it is asked are dropped", remedy="sysctl -w "
        "net.ipv4.conf.all.rp_filter=2, or one mode (vxlan) on all nodes",
    )  # fmt: skip
