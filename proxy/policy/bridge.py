"""Frames between pods of one bridge go through the hooks of IP, too.

Without that, two pods of a node whose network is a bridge speak past all rules. It is what every
guide to Kubernetes has one set; who enforces policies cannot do without.

Source: Documentation/networking/ip-sysctl.rst, ``bridge-nf-call-iptables``
"""

from __future__ import annotations

import logging
import subprocess
from pathlib import Path
from typing import Final

from kubeletpy_common import logs

_log = logging.getLogger(__name__)
SETTINGS: Final = Path("/proc/sys/net/bridge")
NAMES: Final = ("bridge-nf-call-iptables", "bridge-nf-call-ip6tables")
_MODULE: Final = "br_netfilter"
_SECONDS: Final = 10.0


def prepare(settings: Path = SETTINGS) -> list[str]:
    """Have the kernel do so in this network namespace; return what could not be set and why."""
    if not settings.exists():
        _load()
    failed = []
    for name in NAMES:
        path = settings / name
        try:
            before = path.read_text().strip()
            if before != "1":
                path.write_text("1")
                logs.event(_log, logging.INFO, "sysctl set", name=name, before=before, value=1)
        except OSError as error:
            failed.append(f"{path}: {error.strerror}")
    if failed:
        logs.event(
            _log, logging.WARNING, "policies between pods of one bridge of this node may not hold",
            reason="; ".join(failed), remedy=f"modprobe {_MODULE}; needless where pods have "
            "routes of their own and no bridge",
        )  # fmt: skip
    return failed


def _load() -> None:
    try:
        done = subprocess.run(
            ["modprobe", _MODULE], capture_output=True, text=True, timeout=_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        logs.event(_log, logging.DEBUG, "modprobe failed", module=_MODULE, reason=str(error))
        return
    if done.returncode:
        logs.event(
            _log, logging.DEBUG, "modprobe failed", module=_MODULE, reason=done.stderr.strip()
        )
