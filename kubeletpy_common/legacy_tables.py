"""The legacy tables of iptables: what the kernel tells of them without a program.

It tells nobody of changes (that is what nftables brought), but the size of a table costs one system
call. Source: linux/netfilter_ipv4/ip_tables.h, linux/netfilter_ipv6/ip6_tables.h.
"""

from __future__ import annotations

import ctypes
import os
import socket
import struct
from typing import Final

from kubeletpy_common.linux.libc import check, libc

_GET_INFO: Final = 64
"""IPT_SO_GET_INFO and IP6T_SO_GET_INFO."""
_INFO: Final = struct.Struct("=32sI5I5III")


def sizes(version: int, tables: tuple[str, ...]) -> tuple[tuple[int, int], ...]:
    """Return the number of entries and bytes of each table of an address family, 4 or 6.

    The kernel makes a table that is not there, and may load a module for that.

    Raises:
        OSError: there is no such table, or the kernel refused.
    """
    level = socket.IPPROTO_IP if version == 4 else socket.IPPROTO_IPV6
    domain = socket.AF_INET if version == 4 else socket.AF_INET6
    found = []
    with socket.socket(domain, socket.SOCK_RAW, socket.IPPROTO_RAW) as sock:
        for table in tables:
            # The name of the table goes in by the same bytes, which socket.getsockopt cannot do.
            buffer = ctypes.create_string_buffer(table.encode(), _INFO.size)
            length = ctypes.c_uint32(_INFO.size)
            result = libc.getsockopt(sock.fileno(), level, _GET_INFO, buffer, ctypes.byref(length))
            check(result, "getsockopt", "IPT_SO_GET_INFO", table)
            *_, entries, size = _INFO.unpack(buffer.raw)
            found.append((entries, size))
    return tuple(found)


def are_written_by(program: str | None) -> bool:
    """Whether a program, as ``/usr/sbin/iptables-restore``, writes them rather than nftables'."""
    # Links, of Debian's alternatives and of iptables itself, end at one binary for each back end.
    return program is not None and "legacy" in os.path.basename(os.path.realpath(program))
