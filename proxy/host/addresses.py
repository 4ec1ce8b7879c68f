"""The addresses of this machine's interfaces, by the kernel's table."""

from __future__ import annotations

import socket

import psutil


def addresses() -> list[str]:
    """Return the addresses of all interfaces in this network namespace, without link-local ones."""
    return sorted(
        each.address
        for interface in psutil.net_if_addrs().values()
        for each in interface
        if each.family in (socket.AF_INET, socket.AF_INET6) and "%" not in each.address
    )
