"""What of this machine has to let packets between pods through: forwarding, and the chain FORWARD.

A packet from outside to a NodePort of this node may go on to a pod of another node: it passes no
bridge of pods here, so nothing else accepts it where FORWARD drops by default (as with Docker).
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from kubeletpy_common import logs

from ..backend import SyncError
from ..iptables.tools import Tools, detect
from ..model.portal import Family
from .settings import Mode, Network, Settings

_log = logging.getLogger(__name__)
CHAIN: Final = "KUBELETPY-NETWORK"
_NET: Final = Path("/proc/sys/net")
_COMMENT: Final = '-m comment --comment "kubeletpy network: pods of all nodes"'
_JUMP: Final = f"FORWARD {_COMMENT} -j {CHAIN}"


def prepare(settings: Settings) -> None:
    """Have packets between pods forwarded; what cannot be had is logged, with its remedy."""
    for version, family in ((4, Family.V4), (6, Family.V6)):
        networks = [each for each in settings.cluster if each.version == version]
        if networks:
            _forward(version)
            _accept(family, networks)
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


def rules(networks: Sequence[Network]) -> list[str]:
    """Return the rules of our chain (pure)."""
    return [
        f"-A {CHAIN} {side} {each} {_COMMENT} -j ACCEPT"
        for each in networks
        for side in ("-s", "-d")
    ]


def _accept(family: Family, networks: Sequence[Network]) -> None:
    try:
        tools = detect(family)
        jumps = _jumps(tools)
        text = [
            "*filter", f":{CHAIN} - [0:0]", *(f"-D {each}" for each in jumps[1:]), *rules(networks),
            *([] if jumps else [f"-A {_JUMP}"]), "COMMIT\n",
        ]  # fmt: skip
        tools.write("\n".join(text), "let packets between pods through")
    except SyncError as error:
        logs.event(
            _log, logging.WARNING, "packets to pods of other nodes may be dropped where the policy "
            "of FORWARD is DROP", family=family.name, reason=str(error),
        )  # fmt: skip


def _jumps(tools: Tools) -> list[str]:
    lines = tools.listed("filter", "FORWARD") or []
    return [
        line.removeprefix("-A ")
        for line in lines
        if line.startswith("-A ") and line.endswith(f"-j {CHAIN}")
    ]


def clean_up() -> list[str]:
    """Remove the rules; return what failed."""
    failed = []
    for family in Family:
        try:
            tools = detect(family)
        except SyncError:
            continue  # no programs, no rules
        try:
            if tools.listed("filter", CHAIN) is None:
                continue
            text = [
                "*filter", f":{CHAIN} - [0:0]", *(f"-D {each}" for each in _jumps(tools)),
                f"-X {CHAIN}", "COMMIT\n",
            ]  # fmt: skip
            tools.write("\n".join(text), "remove the rules of the pod network")
        except SyncError as error:
            failed.append(f"{family.name}: {error}")
    return failed
