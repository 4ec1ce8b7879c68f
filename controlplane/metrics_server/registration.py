"""APIServices, the Service and its endpoint, by which the API server finds this one.

The server runs on a host, so its Service has no selector: this process keeps the one endpoint.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any, Final

from controlplane.engine.resources import SERVICES, SLICES, Object, Resource
from kubeletpy_common.apiclient.client import MERGE_PATCH, ApiClient
from kubeletpy_common.apiclient.errors import ApiError

API_SERVICES: Final = Resource(
    "apiregistration.k8s.io/v1", "apiservices", "APIService", namespaced=False
)
NAMESPACE: Final = "kube-system"
NAME: Final = "metrics-server"
PORT: Final = 443
_LABELS: Final = {"k8s-app": "metrics-server"}
_MANAGER: Final = "kubeletpy-metrics"
_VERSIONS: Final = (
    ("metrics.k8s.io", "v1beta1", 100), ("custom.metrics.k8s.io", "v1beta2", 200),
    ("custom.metrics.k8s.io", "v1beta1", 100), ("external.metrics.k8s.io", "v1beta1", 100),
)  # fmt: skip


def server_name() -> str:
    """Return the name that the certificate must hold."""
    return f"{NAME}.{NAMESPACE}.svc"


def wanted(address: str, port: int, bundle: bytes) -> list[tuple[Resource, Object]]:
    """Return what must be there (pure).

    Args:
        address: that this server is reached by.
        port: likewise.
        bundle: PEM of the authority of its certificate.
    """
    meta = {"namespace": NAMESPACE, "name": NAME, "labels": dict(_LABELS)}
    ports = [{"name": "https", "port": PORT, "protocol": "TCP", "targetPort": port}]
    of_service = {
        "kubernetes.io/service-name": NAME, "endpointslice.kubernetes.io/managed-by": _MANAGER,
    }  # fmt: skip
    found: list[tuple[Resource, Object]] = [
        (SERVICES, {"metadata": meta, "spec": {"ports": ports}}),
        (SLICES, {
            "metadata": {**meta, "labels": {**_LABELS, **of_service}},
            "addressType": "IPv6" if ":" in address else "IPv4",
            "endpoints": [{"addresses": [address], "conditions": {"ready": True}}],
            "ports": [{"name": "https", "port": port, "protocol": "TCP"}],
        }),
    ]  # fmt: skip
    for group, version, priority in _VERSIONS:
        spec = {
            "group": group, "version": version, "groupPriorityMinimum": 100,
            "versionPriority": priority, "insecureSkipTLSVerify": False,
            "caBundle": base64.b64encode(bundle).decode(),
            "service": {"namespace": NAMESPACE, "name": NAME, "port": PORT},
        }  # fmt: skip
        labels = dict(_LABELS)
        found.append(
            (API_SERVICES, {"metadata": {"name": f"{version}.{group}", "labels": labels},
                            "spec": spec})
        )  # fmt: skip
    return found


async def register(client: ApiClient, address: str, port: int, bundle: bytes) -> None:
    """Make what is missing, and put right what is other than it must be.

    Raises:
        ApiError: something was refused.
    """
    for resource, value in wanted(address, port, bundle):
        meta = value["metadata"]
        namespace = meta.get("namespace", "")
        path = resource.path(namespace, meta["name"])
        try:
            known = await client.get(path)
        except ApiError as error:
            if not error.not_found:
                raise
            body = {"apiVersion": resource.group_version, "kind": resource.kind, **value}
            await client.create(resource.path(namespace), body)
            continue
        if not is_part(value, known):
            await client.patch(path, value, kind=MERGE_PATCH)


def is_part(wanted: Any, known: Any) -> bool:
    """Whether an object has all that is wanted of it; ``False`` may be absent (pure)."""
    if isinstance(wanted, Mapping):
        return isinstance(known, Mapping) and all(
            is_part(one, known.get(key)) for key, one in wanted.items()
        )
    if isinstance(wanted, list):
        return isinstance(known, list) and len(known) == len(wanted) and all(
            is_part(one, other) for one, other in zip(wanted, known, strict=True)
        )  # fmt: skip
    return bool(wanted == known or (wanted is False and known is None))
