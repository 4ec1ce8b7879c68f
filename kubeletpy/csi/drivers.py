"""The CSI drivers of the node: registered by the plug-in watcher, told to the API server."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from kubeletpy.plugins.channels import PluginError
from kubeletpy.plugins.watcher import PluginRefused
from kubeletpy.volumes.errors import VolumeError

from . import NAME
from .client import DriverClient, NodeInfo

_VERSION = re.compile(r"v?(\d{1,9})\.(\d{1,9})(?:\.(\d{1,9}))?.*")
GRACE = 1.5
"""Seconds that a volume waits for its driver to register before that is told as a fault."""
Version = tuple[int, int, int]


class NodeTeller(Protocol):
    """Tells the API server which drivers there are."""

    async def install(self, driver: str, info: NodeInfo) -> None:
        """A driver came.

        Raises:
            PluginRefused: it could not be told.
        """

    async def uninstall(self, driver: str) -> None:
        """A driver went."""


@dataclass(frozen=True, slots=True)
class _Driver:
    client: DriverClient
    version: Version


def highest_version(versions: list[str]) -> Version:
    """Return the highest version that is supported: of 1.x; 0.x is not (pure).

    Raises:
        PluginRefused: there is none.
    """
    found = []
    for text in versions:
        match = _VERSION.fullmatch(text)
        if match is not None and match[1] == "1":
            found.append((1, int(match[2]), int(match[3] or 0)))
    if not found:
        raise PluginRefused(
            f"None of the versions specified {versions!r} are supported: a driver needs CSI 1.x"
        )
    return max(found)


class Drivers:
    """The registered drivers; a handler of the plug-in watcher.

    Args:
        teller: tells the API server; None: a standalone node.
    """

    def __init__(self, teller: NodeTeller | None) -> None:
        self._teller = teller
        self._drivers: dict[str, _Driver] = {}
        self._came: dict[str, asyncio.Event] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self.registered: list[Callable[[str], Coroutine[Any, Any, None]]] = []
        """Each is run with the name of a driver that has registered."""

    def validate(self, name: str, endpoint: str, versions: list[str]) -> None:
        """Check versions, and that the name is not taken by a newer driver.

        Raises:
            PluginRefused: it cannot be taken.
        """
        version = highest_version(versions)
        if not name or "/" in name or name in (".", ".."):
            raise PluginRefused(f"{name!r} is no name of a CSI driver")
        known = self._drivers.get(name)
        if known is not None and known.version > version:
            raise PluginRefused(
                f'{NAME}: for CSI driver "{name}" failed. Another driver with the same name is '
                f"already registered with a higher supported version: {known.version}"
            )

    async def register(self, name: str, endpoint: str, versions: list[str]) -> None:
        """Take a driver, and tell the API server what it calls this node.

        Raises:
            PluginRefused: it does not say, or it cannot be told.
        """
        client = DriverClient(Path(endpoint))
        try:
            info = await client.info()
            if not info.node_id:
                raise PluginRefused(
                    "error adding CSI driver node info: driverNodeID must not be empty"
                )
            if self._teller is not None:
                await self._teller.install(name, info)
        except PluginError as error:
            await client.close()
            raise PluginRefused(str(error)) from error
        except BaseException:
            await client.close()
            raise
        before = self._drivers.get(name)
        self._drivers[name] = _Driver(client, highest_version(versions))
        self._came.setdefault(name, asyncio.Event()).set()
        if before is not None:
            await before.client.close()
        for each in self.registered:
            task = asyncio.create_task(each(name), name=f"CSI driver {name} came")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def deregister(self, name: str, endpoint: str) -> None:
        """Let go of a driver."""
        known = self._drivers.get(name)
        if known is None or known.client.socket != Path(endpoint):
            return
        del self._drivers[name]
        self._came.pop(name, None)
        await known.client.close()
        if self._teller is not None:
            await self._teller.uninstall(name)

    async def close(self) -> None:
        """Close all connections; the drivers stay registered in the API server."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        drivers, self._drivers = self._drivers, {}
        for one in drivers.values():
            await one.client.close()

    async def get(self, name: str, what: str) -> DriverClient:
        """Return the client of a driver, waited for a moment.

        Args:
            name: of the driver.
            what: is being done, for the error.

        Raises:
            VolumeError: it is not registered.
        """
        if name not in self._drivers:
            try:
                async with asyncio.timeout(GRACE):
                    await self._came.setdefault(name, asyncio.Event()).wait()
            except TimeoutError:
                pass
        known = self._drivers.get(name)
        if known is None:
            raise VolumeError(
                "",
                f"{NAME}: {what} failed to get CSI client: driver name {name} not found in the "
                "list of registered CSI drivers",
            )
        return known.client
