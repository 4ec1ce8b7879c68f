"""Objects of the API that ``up`` makes and looks at."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, Final

import yaml
from msgspec import json

from kubeletpy.up.commands import DNS_ADDRESS, GATEWAY
from kubeletpy.up.errors import UpError
from kubeletpy_common.apiclient.client import APPLY_PATCH, ApiClient, object_path
from kubeletpy_common.apiclient.errors import ApiError
from kubeletpy_common.apiclient.kubeconfig import KubeconfigError, read_kubeconfig
from kubeletpy_common.apiclient.reflector import Changed, Reflector, Synced

Object = dict[str, Any]
_AGENT: Final = "kubeletpy-up"
_PLURALS: Final = {
    "Deployment": "deployments", "EndpointSlice": "endpointslices", "Service": "services",
}  # fmt: skip


def dns_objects(
    port: int, *, address: str = GATEWAY, cluster_ip: str = DNS_ADDRESS
) -> list[Object]:
    """Return the Service of the cluster's DNS, and where that is (pure).

    The name is that of all clusters: programs look for it.

    Args:
        port: that it listens on.
        address: that it listens on.
        cluster_ip: of the Service.
    """
    labels = {"k8s-app": "kube-dns", "kubernetes.io/cluster-service": "true",
              "kubernetes.io/name": "CoreDNS"}  # fmt: skip
    ports = (("dns", "UDP"), ("dns-tcp", "TCP"))
    return [
        {
            "apiVersion": "v1", "kind": "Service",
            "metadata": {"namespace": "kube-system", "name": "kube-dns", "labels": labels},
            "spec": {
                "clusterIP": cluster_ip,
                "ports": [
                    {"name": name, "port": 53, "targetPort": port, "protocol": protocol}
                    for name, protocol in ports
                ],
            },
        },
        {
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "metadata": {
                "namespace": "kube-system", "name": "kube-dns-node",
                "labels": {"kubernetes.io/service-name": "kube-dns",
                           "endpointslice.kubernetes.io/managed-by": _AGENT},
            },
            "addressType": "IPv6" if ":" in address else "IPv4",
            "endpoints": [{"addresses": [address], "conditions": {"ready": True}}],
            "ports": [
                {"name": name, "port": port, "protocol": protocol} for name, protocol in ports
            ],
        },
    ]  # fmt: skip


class Objects:
    """The API server's objects, as its administrator has them."""

    def __init__(self, client: ApiClient) -> None:
        self._client = client

    async def apply(self, value: Object) -> Object:
        """Have an object be as ``value`` says, whether it is there or not.

        Raises:
            UpError: the server refused it.
        """
        path = path_of(value)
        params = {"fieldManager": _AGENT, "force": "true"}
        try:
            return await self._client.patch(path, value, kind=APPLY_PATCH, params=params)
        except ApiError as error:
            raise UpError(f"cannot make {value['kind']} {value['metadata']['name']}: {error}") \
                from error  # fmt: skip

    async def apply_file(self, path: Path, change: Callable[[str], str]) -> list[Object]:
        """Apply the objects of a manifest, whose text is changed first.

        Raises:
            UpError: the file cannot be read, or the server refused something.
        """
        try:
            found = [one for one in yaml.safe_load_all(change(path.read_text())) if one]
        except (OSError, yaml.YAMLError) as error:
            raise UpError(f"cannot read {path}: {error}") from error
        for one in found:
            one["metadata"].setdefault("namespace", "default")
        return [await self.apply(one) for one in found]

    async def scale(self, deployment: Object, replicas: int) -> None:
        """Set how many pods a Deployment has.

        Raises:
            UpError: the server refused it.
        """
        try:
            await self._client.patch(path_of(deployment), {"spec": {"replicas": replicas}})
        except ApiError as error:
            raise UpError(f"cannot scale {deployment['metadata']['name']}: {error}") from error

    async def delete_pod(self, pod: Object) -> None:
        """Delete a pod, at once.

        Raises:
            UpError: the server refused it.
        """
        path = object_path("v1", "pods", pod["metadata"]["namespace"], pod["metadata"]["name"])
        try:
            await self._client.delete(path)
        except ApiError as error:
            raise UpError(f"cannot delete {pod['metadata']['name']}: {error}") from error

    async def until_pods(
        self, selector: str, fits: Callable[[list[Object]], bool], seconds: float, what: str
    ) -> list[Object]:
        """Wait until the pods of a selector, in ``default``, fit; return them.

        Raises:
            UpError: they did not in time.
        """
        path = object_path("v1", "pods", "default")
        pods: dict[str, Object] = {}
        reflector = Reflector(
            self._client, path, label_selector=selector, read=lambda _, raw: json.decode(raw)
        )  # fmt: skip
        try:
            async with asyncio.timeout(seconds):
                async for each in reflector:
                    if isinstance(each, Synced):
                        pods = {one["metadata"]["name"]: one for one in each.items}
                    elif isinstance(each, Changed) and each.kind == "DELETED":
                        pods.pop(each.object["metadata"]["name"], None)
                    else:
                        pods[each.object["metadata"]["name"]] = each.object
                    if fits(list(pods.values())):
                        return list(pods.values())
        except TimeoutError:
            pass
        states = ", ".join(
            f"{name} {pod.get('status', {}).get('phase', '?')}" for name, pod in pods.items()
        )  # fmt: skip
        raise UpError(f"{what} did not happen within {seconds:.0f} s; pods: {states or 'none'}")


def is_ready(pod: Object) -> bool:
    """Whether a pod serves: it is ready, and not on its way out (pure)."""
    conditions = pod.get("status", {}).get("conditions") or ()
    ready = any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)
    return ready and "deletionTimestamp" not in pod["metadata"]


def path_of(value: Object) -> str:
    """Return the path of an object (pure)."""
    meta = value["metadata"]
    return object_path(
        value["apiVersion"], _PLURALS[value["kind"]], meta.get("namespace", ""), meta["name"]
    )


@contextlib.asynccontextmanager
async def objects(kubeconfig: Path) -> AsyncIterator[Objects]:
    """Give the objects of the API server of a kubeconfig.

    Raises:
        UpError: the kubeconfig cannot be used.
    """
    try:
        access = read_kubeconfig(kubeconfig)
    except (KubeconfigError, OSError) as error:
        raise UpError(f"cannot use {kubeconfig}: {error}") from error
    async with ApiClient(access, rate=0, agent=_AGENT) as client:
        yield Objects(client)
