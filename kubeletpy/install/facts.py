"""What this machine is, as far as an installation asks for it."""

from __future__ import annotations

import os
import re
import socket
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from socket import AF_INET, AF_INET6
from urllib.parse import urlsplit

from kubeletpy.install.places import CURRENT, RELEASES

_STUB = re.compile(r"^nameserver\s+127\.0\.0\.53\b", re.MULTILINE)
_RESOLVED = Path("/run/systemd/resolve/resolv.conf")
_NFTABLES_SINCE = (5, 13)
_ANYWHERE = {AF_INET: "192.0.2.1", AF_INET6: "2001:db8::1"}
"""Documentation addresses (RFC 5737, RFC 3849): only the route to them is asked for."""


@dataclass(frozen=True, kw_only=True)
class Facts:
    """A machine.

    Attributes:
        hostname: in small letters, as nodes are named.
        systemd: it is PID 1.
        cgroup_version: 1 or 2.
        resolv_conf: a file with the servers behind systemd-resolved's stub; "": /etc/resolv.conf.
        nftables: the kernel has what the proxy's mode needs.
        program: words that start the command `kubeletpy` from a service.
        address: that leads to the default route, or to the API server; "": none.
        other_address: of the other family, that leads to its default route; "": none.
    """

    hostname: str
    systemd: bool = True
    cgroup_version: int = 2
    resolv_conf: str = ""
    nftables: bool = True
    program: tuple[str, ...] = ()
    address: str = ""
    other_address: str = ""

    @property
    def cgroup_driver(self) -> str:
        """The driver that fits: systemd where it is PID 1 and owns a unified hierarchy."""
        return "systemd" if self.systemd and self.cgroup_version == 2 else "cgroupfs"


def gather(server: str = "") -> Facts:
    """Return the facts of this machine.

    Args:
        server: URL of the API server that is joined; "": none is.
    """
    address = source_address(server)
    return Facts(
        hostname=socket.gethostname().lower(),
        systemd=Path("/run/systemd/system").is_dir(),
        cgroup_version=2 if Path("/sys/fs/cgroup/cgroup.controllers").exists() else 1,
        resolv_conf=_resolv_conf(),
        nftables=_kernel() >= _NFTABLES_SINCE,
        program=own_program(Path(sys.executable)),
        address=address,
        other_address=source_address(families=[AF_INET if ":" in address else AF_INET6]),
    )


def own_program(executable: Path) -> tuple[str, ...]:
    """Return how services start us: of a release by the link to the current one, else as we are."""
    if RELEASES in executable.parents:
        return (str(CURRENT / "bin/kubeletpy"),)
    script = executable.parent / "kubeletpy"
    return (str(script),) if script.exists() else ()


def source_address(
    server: str = "", families: Iterable[socket.AddressFamily] = (AF_INET, AF_INET6)
) -> str:
    """Return the address that this machine has towards a server, or the default route; "": none.

    Args:
        server: URL of an API server; "": the default route.
        families: that it may be of.
    """
    parts = urlsplit(server if "://" in server else f"https://{server}")
    for family in families:
        anywhere = _ANYWHERE[family]
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            try:
                # Nothing is sent: connecting a datagram socket chooses route and address.
                probe.connect((parts.hostname if server else anywhere, parts.port or 6443))
            except (OSError, ValueError):
                continue
            address = str(probe.getsockname()[0])
            if not address.startswith(("127.", "::1", "0.0.0.0")):
                return address
    return ""


def _resolv_conf() -> str:
    try:
        stub = bool(_STUB.search(Path("/etc/resolv.conf").read_text(errors="replace")))
    except OSError:
        return ""
    return str(_RESOLVED) if stub and _RESOLVED.exists() else ""


def _kernel() -> tuple[int, int]:
    found = re.match(r"(\d+)\.(\d+)", os.uname().release)
    return (int(found[1]), int(found[2])) if found else (0, 0)
