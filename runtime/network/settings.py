"""Kernel settings (sysctls) of the daemon's own network namespace that forwarding needs.

/proc/sys/net shows the namespace of the thread that looks. What we change is written down
first, with the boot and the namespace it is true for, so that it can be put back even by a later
run of the daemon.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from kubeletpy_common import logs
from runtime.network.store import ChangedSetting, NetworkStore

_LOGGER: Final = logging.getLogger(__name__)
_ROOT: Final = Path("/proc/sys/net")
FORWARD_V4: Final = "ipv4/ip_forward"
FORWARD_V6: Final = "ipv6/conf/all/forwarding"


def read(setting: str) -> str | None:
    """Return the value of ``setting`` (a path below /proc/sys/net), or None if there is none."""
    try:
        return (_ROOT / setting).read_text().strip()
    except FileNotFoundError:
        return None


def write(setting: str, value: str) -> None:
    """Set ``setting``.

    Raises:
        OSError: there is no such setting, or the kernel refused the value.
    """
    with (_ROOT / setting).open("w") as file:
        file.write(value)


def accept_ra(link: str) -> str:
    """Return the setting that says whether ``link`` believes router advertisements."""
    return f"ipv6/conf/{link}/accept_ra"


def route_localnet(link: str) -> str:
    """Return the setting that lets packets from and to 127/8 pass ``link``."""
    return f"ipv4/conf/{link}/route_localnet"


def has_ipv6() -> bool:
    """Tell whether this network namespace can do IPv6 at all."""
    return read("ipv6/conf/all/disable_ipv6") == "0"


def wanted(ipv6: bool, uplinks: Iterable[str], router_adverts: dict[str, str]) -> dict[str, str]:
    """Return what the settings should be, in the order to make them.

    A kernel that forwards IPv6 no longer believes router advertisements, and drops the default
    routes it learnt from them, unless ``accept_ra`` is 2 (kernel: Documentation/networking/
    ip-sysctl.rst). So where it is 1 on a link of a default route it becomes 2, before.

    Args:
        ipv6: whether IPv6 is to be forwarded too.
        uplinks: the links of the IPv6 default routes.
        router_adverts: the present ``accept_ra`` of each.
    """
    result: dict[str, str] = {}
    if ipv6:
        for link in uplinks:
            if router_adverts.get(link) == "1":
                result[accept_ra(link)] = "2"
    result[FORWARD_V4] = "1"
    if ipv6:
        result[FORWARD_V6] = "1"
    return result


class Forwarding:
    """Switches forwarding on, and back to what it was."""

    def __init__(self, store: NetworkStore) -> None:
        self._store = store

    def enable(self, ipv6: bool, uplinks: Iterable[str]) -> None:
        """Make the settings of :func:`wanted`; each change is logged.

        Raises:
            OSError: the kernel refused.
        """
        uplinks = list(uplinks)
        adverts = {link: read(accept_ra(link)) or "" for link in uplinks}
        for setting, value in wanted(ipv6, uplinks, adverts).items():
            before = read(setting)
            if before is None or before == value:
                continue
            self._store.remember_setting(*_here(), ChangedSetting(setting, before, value))
            write(setting, value)
            logs.event(
                _LOGGER, logging.INFO, "changed a kernel setting so that pods can be routed",
                setting=f"net/{setting}", before=before, after=value,
            )  # fmt: skip

    def restore(self) -> None:
        """Put back what we changed, the last first, unless somebody changed it since.

        Raises:
            OSError: the kernel refused.
        """
        for setting in reversed(self._store.settings(*_here())):
            if read(setting.path) == setting.after:
                write(setting.path, setting.before)
                logs.event(
                    _LOGGER, logging.INFO, "put a kernel setting back",
                    setting=f"net/{setting.path}", before=setting.after, after=setting.before,
                )  # fmt: skip
        self._store.forget_settings()


def _here() -> tuple[str, int]:
    """Return what the settings of this moment belong to: the boot, the network namespace."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return boot, os.stat("/proc/thread-self/ns/net").st_ino
