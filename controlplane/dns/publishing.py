"""A DNS daemon tells the cluster where it is: EndpointSlices of a Service without a selector.

Pods ask the Service's address; which daemons answer, on which ports, need not be written down by
anybody. Each daemon has slices of its own, named after its machine, so several are several
endpoints; at its end it takes them away.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Final

from controlplane.engine.informer import Informer
from controlplane.engine.resources import SERVICES, SLICES, Object
from kubeletpy_common import logs
from kubeletpy_common.apiclient.client import APPLY_PATCH, ApiClient
from kubeletpy_common.apiclient.errors import ApiError

_log = logging.getLogger(__name__)
MANAGER: Final = "dns.kubeletpy.io"
_AGAIN: Final = 5.0
_FAREWELL: Final = 3.0
"""Seconds that taking the slices away may take at the end."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a daemon is.

    Attributes:
        namespace, service: that it is an endpoint of.
        machine: part of the names of its slices.
        addresses: that it answers at.
        port: UDP and TCP.
    """

    namespace: str
    service: str
    machine: str
    addresses: tuple[str, ...]
    port: int


def wanted(place: Place, service: Object) -> list[Object]:
    """Return the slices of a daemon: one of each family (pure).

    Args:
        place: where it is.
        service: the Service, which owns them.
    """
    found: list[Object] = []
    for version in (4, 6):
        addresses = [one for one in place.addresses if ip_address(one).version == version]
        if not addresses:
            continue
        owner = {"apiVersion": "v1", "kind": "Service", "name": place.service,
                 "uid": service["metadata"]["uid"]}  # fmt: skip
        found.append({
            "apiVersion": SLICES.group_version, "kind": SLICES.kind,
            "metadata": {
                "name": slice_name(place, version), "namespace": place.namespace,
                "labels": {
                    "kubernetes.io/service-name": place.service,
                    "endpointslice.kubernetes.io/managed-by": MANAGER,
                },
                "ownerReferences": [owner],
            },
            "addressType": f"IPv{version}",
            "endpoints": [
                {"addresses": [one], "conditions": {"ready": True}} for one in addresses
            ],
            "ports": _ports(service, place.port),
        })  # fmt: skip
    return found


def slice_name(place: Place, version: int) -> str:
    """Return the name of a daemon's slice of an IP version (pure)."""
    return f"{place.service}-{place.machine}-ipv{version}".lower()


def _ports(service: Object, port: int) -> list[Object]:
    """Return a port for each of the Service, by its name, for that is how proxies find them."""
    listed = (service.get("spec") or {}).get("ports") or ()
    return [
        {"name": one.get("name", ""), "protocol": one.get("protocol", "TCP"), "port": port}
        for one in listed
        if one.get("protocol", "TCP") in ("TCP", "UDP")
    ]


def reached(bound: Iterable[str]) -> tuple[str, ...]:
    """Return those of the addresses that are listened on which others can use (pure)."""
    found = [ip_address(text) for text in bound]
    usable = [str(one) for one in found if not (one.is_loopback or one.is_unspecified)]
    return tuple(dict.fromkeys(usable))


class Publisher:
    """Keeps the slices of a daemon right until it ends.

    Args:
        client: of the API server.
        place: where the daemon is.
    """

    def __init__(self, client: ApiClient, place: Place) -> None:
        self._client = client
        self._place = place
        own = f"metadata.name={place.service},metadata.namespace={place.namespace}"
        self._services = Informer(client, SERVICES, field_selector=own)
        self._slices = Informer(
            client, SLICES, label_selector=f"kubernetes.io/service-name={place.service},"
            f"endpointslice.kubernetes.io/managed-by={MANAGER}",
        )  # fmt: skip
        self._bell = asyncio.Event()
        for each in (self._services, self._slices):
            each.listen(lambda *_: self._bell.set())

    async def run(self) -> None:
        """Publish, until cancelled; then take it back."""
        try:
            async with asyncio.TaskGroup() as tasks:
                for each in (self._services, self._slices):
                    tasks.create_task(each.run())
                tasks.create_task(self._keep())
        finally:
            await asyncio.shield(self._take_back())

    async def _keep(self) -> None:
        for each in (self._services, self._slices):
            await each.synced.wait()
        while True:
            self._bell.clear()
            try:
                await self._look()
            except ApiError as error:
                logs.event(_log, logging.WARNING, "cannot publish where the DNS is",
                           service=self._place.service, reason=str(error))  # fmt: skip
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_AGAIN):
                        await self._bell.wait()
                continue
            await self._bell.wait()

    async def _look(self) -> None:
        place = self._place
        service = self._services.find(place.namespace, place.service)
        if service is None:
            return
        shall = wanted(place, service)
        names = {one["metadata"]["name"] for one in shall}
        for one in shall:
            found = self._slices.find(place.namespace, one["metadata"]["name"])
            if found is None or any(found.get(key) != one[key] for key in ("endpoints", "ports")):
                path = SLICES.path(place.namespace, one["metadata"]["name"])
                params = {"fieldManager": MANAGER, "force": "true"}
                await self._client.patch(path, one, kind=APPLY_PATCH, params=params)
        for version in (4, 6):
            # It had an address of this family before.
            name = slice_name(place, version)
            if name not in names and self._slices.find(place.namespace, name) is not None:
                await self._client.delete(SLICES.path(place.namespace, name))

    async def _take_back(self) -> None:
        for version in (4, 6):
            name = slice_name(self._place, version)
            if self._slices.find(self._place.namespace, name) is None:
                continue
            with contextlib.suppress(ApiError):
                await self._client.delete(
                    SLICES.path(self._place.namespace, name), timeout=_FAREWELL
                )
