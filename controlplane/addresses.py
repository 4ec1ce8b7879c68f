"""Which addresses the server has and is told to others by."""

from __future__ import annotations

import ipaddress
import socket
from pathlib import Path
from typing import Final

from controlplane.options import Options, OptionsError

# Documentation addresses (RFC 5737, RFC 3849): routed as anything far away; nothing is sent.
_FAR = ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1"))


_DEVICES: Final = Path("/sys/class/net")


def lan_addresses() -> list[str]:
    """Return the addresses of this machine's network cards; bridges of pods and the like have none.

    Those that only this machine or one cable reaches (loopback, link-local) are left out.
    """
    import psutil

    found: list[str] = []
    for name, listed in psutil.net_if_addrs().items():
        try:
            virtual = "/devices/virtual/" in str((_DEVICES / name).resolve(strict=True))
        except OSError:
            continue
        for one in [] if virtual else listed:
            if one.family in (socket.AF_INET, socket.AF_INET6):
                address = ipaddress.ip_address(one.address.partition("%")[0])
                if not (address.is_loopback or address.is_link_local):
                    found.append(str(address))
    return sorted(set(found))


def advertised(options: Options) -> str:
    """Return the address of the ``kubernetes`` Service's endpoint.

    It is what the options say; or the one that is listened on; or, where that is any, this
    machine's address towards the default route; or the loopback address.
    """
    if options.advertise_address:
        return options.advertise_address
    if not ipaddress.ip_address(options.bind_address).is_unspecified:
        return options.bind_address
    for family, far in _FAR:
        with socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as probe:
            try:
                probe.connect((far, 9))
                return str(probe.getsockname()[0])
            except OSError:
                continue
    return "127.0.0.1"


def service_addresses(options: Options) -> list[str]:
    """Return the address of the ``kubernetes`` Service in each range: the first one.

    Raises:
        OptionsError: a range is no network.
    """
    try:
        return [str(ipaddress.ip_network(text)[1]) for text in options.service_ranges]
    except (ValueError, IndexError) as error:
        raise OptionsError(f"service range: {error}") from error


def local_url(options: Options) -> str:
    """Return the URL by which programs of this machine reach the server."""
    address = ipaddress.ip_address(options.bind_address)
    if address.is_unspecified:
        address = ipaddress.ip_address("127.0.0.1" if address.version == 4 else "::1")
    host = f"[{address}]" if address.version == 6 else str(address)
    return f"https://{host}:{options.secure_port}"


def public_url(options: Options) -> str:
    """Return the URL by which other machines reach the server."""
    address = advertised(options)
    host = f"[{address}]" if ":" in address else address
    return f"https://{host}:{options.secure_port}"
