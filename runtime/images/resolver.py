"""Name resolution for addresses that a registry's answers name.

A host name may resolve to whatever its owner likes, also to addresses that only this node can
reach. What :mod:`runtime.images.targets` refuses when it is written as a number is refused here
when it comes out of a name; the connection then goes to the address that was looked at.
"""

from __future__ import annotations

import asyncio
import socket

from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import ThreadedResolver

from runtime.images.settings import is_loopback
from runtime.images.targets import refused_address


class GuardedResolver(AbstractResolver):
    """Resolves names, and leaves out addresses that a registry must not lead this node to."""

    def __init__(self, resolver: AbstractResolver | None = None) -> None:
        """Look at the answers of ``resolver``; None: those of the C library."""
        self._resolver = resolver or ThreadedResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Return the addresses of ``host``.

        Raises:
            OSError: it has none, or none that may be asked.
        """
        found = await self._resolver.resolve(host, port, family)
        usable = [each for each in found if refused_address(each["host"]) is None]
        if not usable:
            raise OSError(
                None,
                f"{host}, which the registry named, resolves to {found[0]['host']}: "
                f"{refused_address(found[0]['host'])}; it is not followed",
            )
        return usable

    async def close(self) -> None:
        """Close it."""
        await self._resolver.close()


async def is_near(host: str) -> bool:
    """Tell whether ``host`` is this node itself, by number or by name.

    A registry there may name other services of this node, such as its token service.
    """
    if is_loopback(host):
        return True
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError:
        return False
    return all(is_loopback(str(address[0])) for *_, address in found)
