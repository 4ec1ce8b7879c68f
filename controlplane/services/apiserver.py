"""The ``kubernetes`` Service in ``default``: how pods find the API server.

It has the first address of the primary range; its endpoints, in an Endpoints and in an
EndpointSlice, are this server. All three are looked after from time to time. A ServiceCIDR of the
same name tells the ranges.

Source: Kubernetes documentation, "Accessing the API from a Pod".
"""

from __future__ import annotations

import asyncio
import logging
from ipaddress import ip_address, ip_network
from typing import Final

from controlplane.addresses import advertised
from controlplane.api import codec, metadata
from controlplane.api.errors import ApiError
from controlplane.api.resource import Context, Object
from controlplane.plane import Plane
from kubeletpy_common import logs

_log = logging.getLogger(__name__)

NAME: Final = "kubernetes"
NAMESPACE: Final = "default"
_SECONDS: Final = 10.0
_SERVICE: Final = ("", "v1", "services")
_ENDPOINTS: Final = ("", "v1", "endpoints")
_CIDR: Final = ("networking.k8s.io", "v1", "servicecidrs")
_SLICE: Final = ("discovery.k8s.io", "v1", "endpointslices")


class ApiserverService:
    """Keeps it.

    Args:
        plane: of the server.
    """

    def __init__(self, plane: Plane) -> None:
        self._plane = plane

    async def start(self) -> None:
        """Make what is not there, before anybody asks.

        A failure is told in the log and tried again later: the server is of use without it.
        """
        for key, wanted in self._wanted():
            try:
                await self._keep(key, wanted)
            except ApiError as error:
                logs.event(
                    _log, logging.WARNING, "cannot keep the kubernetes Service",
                    kind=key[2], error=str(error),
                )  # fmt: skip

    async def run(self) -> None:
        """Look after it."""
        while True:
            await asyncio.sleep(_SECONDS)
            await self.start()

    async def _keep(self, key: tuple[str, str, str], wanted: Object) -> None:
        plane = self._plane
        resource = plane.catalog.find(*key)
        assert resource is not None
        context = Context(
            namespace=NAMESPACE, name=NAME, now=metadata.now(), manager="kube-apiserver"
        )
        item = plane.store.get(resource.key(NAMESPACE, NAME))
        if item is None:
            meta = {"name": NAME, "namespace": NAMESPACE, **wanted["metadata"]}
            value = {
                "apiVersion": resource.api_version, "kind": resource.kind,
                **wanted, "metadata": meta,
            }  # fmt: skip
            await plane.registry.create(resource, NAMESPACE, value, context)
            return
        # Networks never change; after a start with others their object tells of the first ones.
        if key == _CIDR or _has(codec.decode(item), wanted):
            return

        async def change(old: Object) -> Object:
            return _put_in(old, wanted)

        await plane.registry.update(resource, NAMESPACE, NAME, change, context)

    def _wanted(self) -> list[tuple[tuple[str, str, str], Object]]:
        options = self._plane.options
        network = ip_network(options.service_ranges[0])
        port = {"name": "https", "port": options.secure_port, "protocol": "TCP"}
        service: Object = {
            "metadata": {"labels": {"component": "apiserver", "provider": "kubernetes"}},
            "spec": {
                "type": "ClusterIP",
                "clusterIP": str(network.network_address + 1),
                "ipFamilyPolicy": "SingleStack",
                "sessionAffinity": "None",
                "ports": [
                    {"name": "https", "port": 443, "protocol": "TCP",
                     "targetPort": options.secure_port}
                ],
            },
        }  # fmt: skip
        found: list[tuple[tuple[str, str, str], Object]] = [
            (_CIDR, {"metadata": {}, "spec": {"cidrs": list(options.service_ranges)}}),
            (_SERVICE, service),
        ]
        # Endpoints on the loopback interface are nobody's else: the API takes none.
        address = advertised(options)
        if ip_address(address).is_loopback or not options.secure_port:
            return found
        endpoints: Object = {
            "metadata": {"labels": {"endpointslice.kubernetes.io/skip-mirror": "true"}},
            "subsets": [{"addresses": [{"ip": address}], "ports": [port]}],
        }
        endpoint = {"addresses": [address], "conditions": {"ready": True}}
        piece: Object = {
            "metadata": {"labels": {"kubernetes.io/service-name": NAME}},
            "addressType": f"IPv{ip_address(address).version}",
            "endpoints": [endpoint],
            "ports": [port],
        }
        return [*found, (_ENDPOINTS, endpoints), (_SLICE, piece)]


def _has(value: Object, wanted: Object) -> bool:
    """Say whether an object has all that is wanted of it."""
    return bool(_put_in(value, wanted) == value)


def _put_in(value: Object, wanted: Object) -> Object:
    """Return an object with what is wanted in it; maps are merged, lists replaced."""
    result = dict(value)
    for key, item in wanted.items():
        present = result.get(key)
        both = isinstance(item, dict) and isinstance(present, dict)
        result[key] = _put_in(present, item) if both and isinstance(present, dict) else item
    return result
