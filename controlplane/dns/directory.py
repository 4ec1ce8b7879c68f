"""What is known of the cluster: Services, EndpointSlices and namespaces, followed by informers.

While the API server is away, what was known last is what is said.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from ipaddress import ip_address
from typing import Final

from controlplane.controllers.serviceendpoints.writing import of_service_name, service_key
from controlplane.engine.informer import Informer
from controlplane.engine.resources import NAMESPACES, NODES, PODS, SERVICES, SLICES, Object
from kubeletpy_common.apiclient.client import ApiClient

from .clients import Clients, follower, trim_node
from .zone import Endpoint, Port, Service, dashed

DISABLED: Final = "disabled"
INSECURE: Final = "insecure"
VERIFIED: Final = "verified"
POD_MODES: Final = (DISABLED, INSECURE, VERIFIED)
"""For which ``1-2-3-4.NAMESPACE.pod`` there is a record: none; any; those of pods that are."""


class ClusterDirectory:
    """The `zone.Directory` of a cluster.

    Args:
        client: of the API server.
        pods: one of `POD_MODES`.
        clients: gets the networks of nodes and their pods.
    """

    def __init__(
        self, client: ApiClient, pods: str = INSECURE, clients: Clients | None = None
    ) -> None:
        self._mode = pods
        self._services = Informer(client, SERVICES, trim=_trim_service)
        self._slices = Informer(client, SLICES, trim=_trim_slice)
        self._namespaces = Informer(client, NAMESPACES, trim=_trim)
        self._services.index("ip", cluster_addresses)
        self._slices.index("service", of_service_name)
        self._slices.index("ip", _slice_addresses)
        self._informers = [self._services, self._slices, self._namespaces]
        self._pods = Informer(client, PODS, trim=_trim_pod)
        if pods == VERIFIED:
            self._pods.index("ip", _pod_addresses)
            self._informers.append(self._pods)
        # No name depends on these.
        self._followed = list(self._informers)
        if clients is not None:
            nodes = Informer(client, NODES, trim=trim_node)
            nodes.listen(follower(clients))
            self._followed.append(nodes)

    def listen(self, changed: Callable[[Object | None, Object | None], None]) -> None:
        """Have a function called whenever something changes that names are made of."""
        for each in self._informers:
            each.listen(changed)

    async def run(self) -> None:
        """Follow the cluster, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for each in self._followed:
                tasks.create_task(each.run())

    async def synced(self) -> None:
        """Wait until everything is known for the first time."""
        for each in self._followed:
            await each.synced.wait()

    @property
    def is_synced(self) -> bool:
        """Whether everything was known once."""
        return all(each.synced.is_set() for each in self._followed)

    def errors(self) -> list[str]:
        """Return what cannot be followed at the moment."""
        pairs = ((each.resource.plural, each.error) for each in self._followed)
        return [f"{plural}: {error}" for plural, error in pairs if error is not None]

    def has_namespace(self, name: str) -> bool:
        """Whether there is a namespace."""
        return self._namespaces.get(name) is not None

    def service(self, namespace: str, name: str) -> Service | None:
        """Return a Service, None if there is none, or none that has a name yet."""
        found = self._services.find(namespace, name)
        return service_of(found) if found is not None else None

    def endpoints(self, service: Service) -> list[Endpoint]:
        """Return the ready endpoints of a Service."""
        slices = self._slices.indexed("service", f"{service.namespace}/{service.name}")
        return [one for each in slices for one in endpoints_of(each)]

    def names_of(self, address: str) -> list[tuple[str, Service]]:
        """Return the Services of an address; hostnames only where they are headless."""
        found: list[tuple[str, Service]] = []
        for value in self._services.indexed("ip", address):
            service = service_of(value)
            if service is not None:
                found.append(("", service))
        if found:
            return found
        for slice_ in self._slices.indexed("ip", address):
            value_ = self._services.get(service_key(slice_))
            service = service_of(value_) if value_ is not None else None
            if service is None or not service.headless:
                continue
            for one in endpoints_of(slice_):
                if address in one.addresses and (one.hostname, service) not in found:
                    found.append((one.hostname, service))
        return found

    def has_pod(self, namespace: str, address: str) -> bool:
        """Whether there is a record for an address of a pod."""
        if self._mode == INSECURE:
            return self.has_namespace(namespace)
        if self._mode == DISABLED:
            return False
        pods = self._pods.indexed("ip", address)
        return any(pod["metadata"]["namespace"] == namespace for pod in pods)


def service_of(value: Object) -> Service | None:
    """Return a Service as DNS sees it; None: it has neither address nor name yet (pure)."""
    meta, spec = value["metadata"], value["spec"]
    name = (meta["namespace"], meta["name"])
    if spec.get("type") == "ExternalName":
        external = spec.get("externalName") or ""
        return Service(*name, external=external) if external else None
    if spec.get("clusterIP") == "None":
        return Service(*name)
    addresses = tuple(cluster_addresses(value))
    return Service(*name, addresses=addresses, ports=_ports(spec)) if addresses else None


def cluster_addresses(value: Object) -> list[str]:
    """Return the addresses of the cluster that a Service has (pure)."""
    spec = value["spec"]
    if spec.get("type") == "ExternalName":
        return []
    found = spec.get("clusterIPs") or [spec.get("clusterIP") or "None"]
    return [str(ip_address(one)) for one in found if one not in ("", "None")]


def endpoints_of(slice_: Object) -> list[Endpoint]:
    """Return the ready endpoints of a slice (pure)."""
    if slice_.get("addressType") not in ("IPv4", "IPv6"):
        return []
    ports = _ports(slice_)
    found: list[Endpoint] = []
    for one in slice_.get("endpoints") or ():
        if (one.get("conditions") or {}).get("ready") is False:
            continue
        addresses = tuple(one["addresses"])
        found.append(Endpoint(one.get("hostname") or dashed(addresses[0]), addresses, ports))
    return found


def _ports(holder: Object) -> tuple[Port, ...]:
    return tuple(
        Port(one["name"].lower(), (one.get("protocol") or "TCP").lower(), one["port"])
        for one in holder.get("ports") or () if one.get("name") and one.get("port")
    )  # fmt: skip


def _slice_addresses(slice_: Object) -> Iterable[str]:
    return {
        address for one in slice_.get("endpoints") or () for address in one.get("addresses") or ()
    }  # fmt: skip


def _pod_addresses(pod: Object) -> Iterable[str]:
    return [one["ip"] for one in (pod.get("status") or {}).get("podIPs") or ()]


_META: Final = ("name", "namespace", "uid", "resourceVersion", "deletionTimestamp")
_SPEC: Final = ("type", "clusterIP", "clusterIPs", "externalName", "ports")
TRIGGER_TIME: Final = "endpoints.kubernetes.io/last-change-trigger-time"


def _trim(value: Object) -> None:
    """Leave of an object what is asked of it: there may be many."""
    meta = value["metadata"]
    value["metadata"] = {name: meta[name] for name in _META if name in meta}
    for name in ("spec", "status"):
        value.pop(name, None)


def _trim_service(value: Object) -> None:
    spec = value["spec"]
    _trim(value)
    value["spec"] = {name: spec[name] for name in _SPEC if name in spec}


def _trim_slice(value: Object) -> None:
    meta = value["metadata"]
    key, moment = service_key(value), (meta.get("annotations") or {}).get(TRIGGER_TIME)
    _trim(value)
    if key:
        name = key.partition("/")[2]
        value["metadata"]["labels"] = {"kubernetes.io/service-name": name}
    if moment:
        value["metadata"]["annotations"] = {TRIGGER_TIME: moment}
    for one in value.get("endpoints") or ():
        for name in ("targetRef", "nodeName", "zone", "hints", "deprecatedTopology"):
            one.pop(name, None)


def _trim_pod(value: Object) -> None:
    addresses = (value.get("status") or {}).get("podIPs")
    _trim(value)
    value["status"] = {"podIPs": addresses}
